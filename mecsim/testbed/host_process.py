"""The host process of this machine, as the controller starts, asks and ends it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from mecsim.errors import InputError, NodeFailedError
from mecsim.support import signals
from mecsim.testbed.settings import ENVIRONMENT, NodeConfig

if TYPE_CHECKING:
    from mecsim.dnn.modules import ModuleSource

_BUILD_S: Final = 600.0
"""How long a host may import PyTorch, build and time the blocks."""
_END_S: Final = 5.0
"""How long a host and its nodes may take to end by themselves."""
_STEP_S: Final = 0.1
_LAST_LINES: Final = 20


class BlocksOfClass(NamedTuple):
    """The blocks of a class of tasks."""

    source: ModuleSource
    cuts: tuple[str, ...]


class Built(NamedTuple):
    """What a host has built and measured."""

    block_ms: list[list[float]]
    """How long each block of each class takes on this machine alone."""
    machine: dict[str, Any]
    """Cores, processor and versions."""


def settings_of(classes: Sequence[BlocksOfClass]) -> list[dict[str, Any]]:
    """Return classes as a host reads them, in JSON values."""
    return [{"source": dataclasses.asdict(each.source), "cuts": each.cuts} for each in classes]


def _fate(status: int) -> str:
    """Return how a process ended, from its exit code or, below 0, its signal.

    >>> _fate(1), _fate(-9)
    ('has ended with exit code 1', 'was killed by SIGKILL, perhaps for lack of memory')
    """
    if status >= 0:
        return f"has ended with exit code {status}"
    known = [each.name for each in signal.Signals if each == -status]
    why = ", perhaps for lack of memory" if known == ["SIGKILL"] else ""
    return f"was killed by {known[0] if known else f'signal {-status}'}{why}"


class HostProcess:
    """Starts a host on this machine, in its own session: Ctrl-C reaches only the controller."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mecsim.testbed.host_start", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | ENVIRONMENT,
        )
        self._built = False
        self._answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._statuses: dict[str, int] = {}
        self._silent = False  # the host and its nodes have closed their output
        self._changed = threading.Condition()
        self._complaints: deque[str] = deque(maxlen=_LAST_LINES)
        self._threads = [
            threading.Thread(target=work, args=(stream,), daemon=True)
            for work, stream in (
                (self._listen, self._process.stdout),
                (self._keep_complaints, self._process.stderr),
            )
        ]
        for thread in self._threads:
            thread.start()

    def build(self, classes: Sequence[BlocksOfClass]) -> Built:
        """Let the host build and time the blocks.

        Raises:
            InputError: They cannot be built.
            NodeFailedError: The host has ended, or takes too long.
        """
        return self.build_settings(settings_of(classes))

    def build_settings(self, classes: list[dict[str, Any]]) -> Built:
        """Do the same with `settings_of` the classes."""
        self._write({"classes": classes, "measure": True})
        key, value = self._answer(_BUILD_S)
        if key != "built":
            raise InputError(f"testbed: the blocks cannot be built: {value}")
        self._built = True
        return Built(value.pop("block_ms"), value)

    def fork(self, config: NodeConfig) -> None:
        """Let the host fork a node.

        Raises:
            NodeFailedError: The host has ended, or cannot do it.
        """
        self._write(config.model_dump(mode="json"))
        key, value = self._answer(_BUILD_S)
        if key != "forked":
            raise NodeFailedError(f"node {config.name}: cannot be started: {value}")

    def reason(self, name: str) -> str:
        """Return why a node has ended, after a short wait; empty if that is not known."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._statuses or self._silent, timeout=1.0)
            status = self._statuses.get(name)
        if status is None:
            fate = self._fate()
            return f"its host process {fate}" if fate else ""
        return f"{_fate(status)}{self._last_words() if status >= 0 else ''}"

    def close(self) -> None:
        """End the host and its nodes; kill those that do not end by themselves."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(_END_S if self._built else 0.0)  # it reads no input while it builds
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    # ------------------------------------------------------------ lines

    def _write(self, line: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise NodeFailedError("the host has no input")
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def _answer(self, limit_s: float) -> tuple[str, Any]:
        """Wait for the next answer of the host."""
        waited_s = 0.0
        with signals.between_steps(shared=True) as check:
            while waited_s < limit_s:
                with contextlib.suppress(Empty):
                    key, value = self._answers.get(timeout=_STEP_S)
                    check()  # Ctrl-C may have come in this step
                    if key:
                        return key, value
                    raise self._ended()
                waited_s += _STEP_S
                check()
        raise NodeFailedError(f"the host has not answered for {limit_s:.0f} s")

    def _ended(self) -> NodeFailedError:
        return NodeFailedError(
            f"the host process {self._fate() or 'has ended'}{self._last_words()}"
        )

    def _fate(self) -> str:
        """Return how the host has ended, after a short wait; empty if it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return _fate(self._process.wait(1.0))
        return ""

    def _last_words(self) -> str:
        return f": {self._complaints[-1]}" if self._complaints else ""

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                ((key, value),) = json.loads(line).items()
            except (ValueError, AttributeError):
                continue  # printed by a module
            if key != "exited":
                self._answers.put((key, value))
                continue
            with self._changed:
                self._statuses[value["name"]] = value["status"]
                self._changed.notify_all()
        with self._changed:
            self._silent = True
            self._changed.notify_all()
        self._answers.put(("", None))

    def _keep_complaints(self, stream: IO[bytes]) -> None:
        for line in stream:
            if text := line.decode(errors="replace").strip():
                self._complaints.append(text)
