"""Nodes in threads of the test, with blocks that are quick, and the test as their controller."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mecsim.testbed import frames
from mecsim.testbed.computation import Computation, Tensors
from mecsim.testbed.frames import Decoder
from mecsim.testbed.messages import TO_CONTROLLER, Hello, Hop, Message, Peer, Ready, Release, Start
from mecsim.testbed.node import Node
from mecsim.testbed.settings import NodeConfig, StationConfig
from tests.helpers.waiting import PATIENCE_S

TOKEN = "secret"


@dataclass(frozen=True)
class Spec:
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StandIn:
    """A block that applies a function to its only tensor."""

    function: Callable[[torch.Tensor], torch.Tensor]
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]

    def __call__(self, tensors: Tensors) -> Tensors:
        (x,) = tensors
        return (self.function(x),)


IMAGE, FEATURES, RESULT = Spec("uint8", (1, 4)), Spec("float32", (1, 4)), Spec("float32", (1, 2))


def computation(
    seen: Callable[[torch.Tensor], None] = lambda _: None,
) -> Computation:
    """Return two blocks: halve the image, then add up both halves of the features.

    The raw input is 2, 4, 6, 8, so the result is 3, 7.
    """

    def add(x: torch.Tensor) -> torch.Tensor:
        result = x.reshape(1, 2, 2).sum(dim=2)
        seen(result)
        return result

    first = StandIn(lambda x: x.float() / 2, (IMAGE,), (FEATURES,))
    second = StandIn(add, (FEATURES,), (RESULT,))
    raw = torch.tensor([[2, 4, 6, 8]], dtype=torch.uint8)
    return Computation([(first, second)], [(raw,)])


class Controlled:
    """A node in a thread; the test is its controller."""

    def __init__(
        self, name: str, stations: Sequence[tuple[int, Any, int]], own: Computation, **options: Any
    ) -> None:
        settings = {"nodes": "padded", "links": "pacing", "bind": ("127.0.0.1", 0)} | options
        config = NodeConfig(
            name=name,
            control={"unix": "unused"},
            token=TOKEN,
            stations=tuple(StationConfig(*each) for each in stations),
            **settings,
        )
        self.connection, theirs = socket.socketpair()
        self.connection.settimeout(PATIENCE_S)
        self._decoder = Decoder((Hello, *TO_CONTROLLER))
        self.node = Node(config, own, theirs)
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(theirs,), daemon=True)
        self._thread.start()

    def _run(self, theirs: socket.socket) -> None:
        with theirs:
            try:
                self.node.run()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.failure = error

    def ready(self) -> Ready:
        """Take the hello; return what the node says of itself."""
        assert self.next() == Hello(token=TOKEN, name=self.node._config.name)
        ready = self.next()
        assert isinstance(ready, Ready)
        return ready

    def next(self) -> Message:
        received = frames.receive(self.connection, self._decoder)
        assert received is not None, f"the node has closed the connection: {self.failure}"
        return received.message

    def send(self, message: Message) -> None:
        frames.send(self.connection, message)

    def close(self) -> None:
        self.connection.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def begin(*nodes: Controlled, stretch: float = 1.0, **wrong: tuple[str, int]) -> Start:
    """Start nodes that know each other; ``wrong`` gives other addresses."""
    peers = {}
    for node in nodes:
        ready = node.ready()
        peers[ready.name] = Peer(wrong.get(ready.name, ready.address), ready.clock)
    start = Start(origin_at=time.monotonic(), stretch=stretch, peers=peers)
    for node in nodes:
        node.send(start)
    return start


def release(task: int, hops: Sequence[Hop], **times: float | None) -> Release:
    settings: dict[str, Any] = {"release_s": 0.0, "drop_s": None} | times
    return Release(task=task, task_class=0, hops=tuple(hops), **settings)
