"""A node: the stations of a device or a server, and the ways of the tasks that visit them."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from mecsim.testbed import clock
from mecsim.testbed.computation import Computation, Tensors, pack, unpack
from mecsim.testbed.frames import Decoder, MessageError, receive, send
from mecsim.testbed.messages import (
    TO_NODE,
    Dropped,
    Error,
    Hello,
    Hop,
    Lost,
    Map,
    Message,
    Peer,
    Ping,
    Poll,
    Pong,
    Ready,
    Record,
    Release,
    Start,
    State,
    Stop,
    Tensor,
)
from mecsim.testbed.settings import NodeConfig, StationConfig
from mecsim.testbed.stations import Job, LostError, Served, Station, computing
from mecsim.testbed.transfer import Receiver, Sender, listen

MOST_EARLY: Final = 1000
"""Most maps that wait for the way of their task."""


@dataclass(slots=True)
class Way:
    """A task on its way."""

    release: Release
    drop_at: float
    """When it is dropped if its next service has not begun."""
    reached: int = -1
    """Last hop whose map was received here."""


class Node:
    """Runs tasks through its stations and hands them over to other nodes."""

    def __init__(
        self, config: NodeConfig, computation: Computation, control: socket.socket
    ) -> None:
        """Make a node.

        Args:
            config: Its settings.
            computation: The blocks.
            control: Connection to the controller.
        """
        self._config, self._computation, self._control = config, computation, control
        self._sending, self._lock = threading.Lock(), threading.Lock()
        self._ways: dict[int, Way] = {}
        self._gone: set[int] = set()  # tasks that were lost or dropped, here or elsewhere
        self._early: dict[int, list[tuple[Map, bytearray, float]]] = {}  # maps without a way
        self._start: Start | None = None
        self._peers: dict[str, Peer] = {}
        self._clock = clock.identity()
        self._agenda = clock.Agenda()
        self._senders: list[Sender] = []
        self._stations = {each.resource: self._station(each) for each in config.stations}
        self._kinds = {each.resource: each.kind for each in config.stations}

    def run(self) -> None:
        """Serve until the controller stops the node or closes the connection.

        Raises:
            MessageError: If the controller sends what is not allowed. It has got an error, too.
            OSError: If the node cannot listen, or the connection breaks.
        """
        name, receiver = self._config.name, None
        try:
            self.tell(Hello(token=self._config.token, name=name))
            listener = listen(self._config.bind)
            receiver = Receiver(listener, self._config.token, self._arrived)
            for resource, kind in self._kinds.items():
                if kind == "cpu":
                    self._stations[resource].start()
            host, port = listener.getsockname()[:2]
            ready = Ready(
                name=name,
                address=(host, port),
                clock=self._clock,
                pid=os.getpid(),
                realtime=clock.has_priority(),
            )
            self.tell(ready)
            self._obey()
        except (MessageError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else ""
            self.tell(Error(message=f"{name}: {reason or error}"[:2000]))
            raise
        finally:
            self._close()
            if receiver is not None:
                receiver.close()

    def tell(self, message: Message) -> None:
        """Send a message to the controller. If it is gone, `run` ends."""
        with self._sending, contextlib.suppress(OSError):
            send(self._control, message)

    def _close(self) -> None:
        self._agenda.close()
        for station in self._stations.values():
            station.close()
        for sender in self._senders:
            sender.close()

    def _obey(self) -> None:
        """Handle messages of the controller until it stops the node."""
        decoder = Decoder(TO_NODE)
        while (received := receive(self._control, decoder)) is not None:
            match received.message:
                case Start() as start:
                    if self._start is not None:
                        raise MessageError("frame start came twice")
                    self._peers.update(start.peers)
                    self._start = start
                case Release() as release:
                    self._release(release)
                case Poll(number=number):
                    self.tell(self._state(number))
                case Ping(sent_at=sent_at):
                    self.tell(Pong(sent_at=sent_at, received_at=time.monotonic()))
                case Lost(task=task) | Dropped(task=task):
                    self._give_up(task)
                case Stop():
                    return

    @property
    def _started(self) -> Start:
        if self._start is None:
            raise MessageError("a frame came before the start. Expected: start first")
        return self._start

    def _state(self, number: int) -> State:
        now, stretch = time.monotonic(), self._started.stretch
        states = {resource: each.state(now) for resource, each in self._stations.items()}
        resources = {str(r): (wait_s / stretch, jobs) for r, (wait_s, jobs) in states.items()}
        return State(number=number, at=now, resources=resources)

    # ------------------------------------------------------------ the stations

    def _station(self, station: StationConfig) -> Station:
        name = f"{station.kind} {station.resource}"
        if station.kind == "cpu":
            serve = computing(self._compute, padded=self._config.nodes == "padded")
            return Station(name, station.workers, serve, self, self._computation.warm_up)
        sender = Sender(self._config.name, self._config.token, self._peers, self._clock)
        self._senders.append(sender)
        return Station(name, station.workers, partial(self._transfer, sender), self)

    def _compute(self, job: Job) -> Tensors:
        return self._computation.compute(self._hop(job).block, job.content)

    def _transfer(self, sender: Sender, job: Job, start_at: float) -> Served:
        hop = self._hop(job)
        assert hop.target is not None
        tensors, payload = pack(job.content)
        header = Map(task=job.task, hop=job.hop, tensors=tensors)
        shaped, bytes_per_s = self._config.links == "tbf", hop.rate_bps / 8 / self._started.stretch
        return sender.send(
            hop.target, header, payload, start_at, job.service_s, bytes_per_s, shaped
        )

    def _hop(self, job: Job) -> Hop:
        if job.task in self._gone:
            raise LostError("the task was given up elsewhere")
        return _way(job).release.hops[job.hop]

    # ------------------------------------------------------------ the ways of tasks

    def _release(self, release: Release) -> None:
        """Learn the way of a task; release the task if it begins here."""
        start, first = self._started, release.hops[0]
        self._check(release)
        drop_s = math.inf if release.drop_s is None else release.drop_s
        way = Way(release, start.origin_at + drop_s * start.stretch)
        with self._lock:
            self._ways[release.task] = way
            early = self._early.pop(release.task, [])
        if first.owner == self._config.name:
            release_at = start.origin_at + release.release_s * start.stretch
            self._agenda.at(release_at, partial(self._begin, way, release_at))
        for header, payload, finish_at in early:
            try:
                self._take(way, header, payload, finish_at)
            except MessageError as error:  # its sender has got an acknowledgement
                self._report_lost(header.task, header.hop, time.monotonic(), str(error))

    def _check(self, release: Release) -> None:
        """Raise if the node lacks a station or a block of the task."""
        where = f"task {release.task}"
        if not self._computation.has_class(release.task_class):
            raise MessageError(f"{where}: there is no task class {release.task_class}")
        for index, hop in enumerate(release.hops):
            if not self._computation.has_block(hop.block):
                raise MessageError(f"{where}: hop {index}: there is no block {hop.block}")
            kind = "cpu" if hop.target is None else "link"
            if hop.owner == self._config.name and self._kinds.get(hop.resource) != kind:
                raise MessageError(
                    f"{where}: hop {index}: {hop.owner} has no {kind} {hop.resource}"
                )

    def _begin(self, way: Way, release_at: float) -> None:
        self._enter(way, 0, self._computation.raw_input(way.release.task_class), release_at)

    def _enter(self, way: Way, index: int, tensors: Tensors, at: float) -> None:
        """Put a task that arrives at a time into the queue of a hop's station."""
        hop = way.release.hops[index]
        service_s = hop.service_s * self._started.stretch
        job = Job(way.release.task, index, way, service_s, way.drop_at, tensors, at)
        station = self._stations[hop.resource]
        station.join(job)
        if way.drop_at < math.inf:
            self._agenda.at(way.drop_at, partial(station.expire, job))

    def _leave(self, way: Way, index: int, finish_at: float, tensors: Tensors) -> None:
        """Let a task that has finished a hop, or whose map has arrived, enter its next hop."""
        hops = way.release.hops
        if index + 1 < len(hops):
            latency_s = hops[index].latency_s * self._started.stretch
            at = finish_at + latency_s
            if latency_s:
                self._agenda.at(at, partial(self._enter, way, index + 1, tensors, at))
            else:
                self._enter(way, index + 1, tensors, at)

    def _arrived(self, header: Map, payload: bytearray, finish_at: float) -> None:
        """Take a map from another node."""
        with self._lock:
            if header.task in self._gone:
                return
            way = self._ways.get(header.task)
            if way is None:  # its release is on the way to us
                if len(self._early) >= MOST_EARLY:
                    raise MessageError(f"task {header.task} is unknown, as are {MOST_EARLY} others")
                self._early.setdefault(header.task, []).append((header, payload, finish_at))
                return
        self._take(way, header, payload, finish_at)

    def _take(self, way: Way, header: Map, payload: bytearray, finish_at: float) -> None:
        """Take a map of a known task; raise `MessageError` if it is not the expected one."""
        hops, index = way.release.hops, header.hop
        if index >= len(hops) or hops[index].target != self._config.name:
            raise MessageError(f"hop {index} of task {header.task} does not lead here")
        expected = self._expected(way, index)
        if header.tensors != expected:
            raise MessageError(
                f"map of hop {index} of task {header.task}: {_listed(header.tensors)}. "
                f"Expected: {_listed(expected)}"
            )
        with self._lock:
            if index <= way.reached:
                raise MessageError(f"the map of hop {index} of task {header.task} came twice")
            way.reached = index
        self._leave(way, index, finish_at, unpack(header.tensors, payload))
        self._forget(way, index)

    def _expected(self, way: Way, index: int) -> tuple[Tensor, ...]:
        """Return the tensors that cross at a transfer: what the next block reads, or the result."""
        hops = way.release.hops
        for hop in hops[index + 1 :]:
            if hop.target is None:
                return self._computation.inputs(hop.block)
        return self._computation.outputs(hops[index].block)

    def _forget(self, way: Way, index: int) -> None:
        """Forget a task that does not come back after a hop."""
        name = self._config.name
        if all(name not in (hop.owner, hop.target) for hop in way.release.hops[index + 1 :]):
            self._ways.pop(way.release.task, None)

    def _give_up(self, task: int) -> bool:
        """Forget a task that is lost or dropped; return whether that is new."""
        with self._lock:
            new = task not in self._gone
            self._gone.add(task)
            self._early.pop(task, None)
            self._ways.pop(task, None)
        return new

    # ------------------------------------------------------------ what stations report

    def finished(self, job: Job, start_at: float, served: Served) -> None:
        """Let a task move on, then report its hop.

        After a transfer the task may have moved on, and even have come back, before.
        """
        if job.task in self._gone:
            return
        way, tensors, job.content = _way(job), job.content, None
        if way.release.hops[job.hop].target is None:
            self._leave(way, job.hop, served.finish_at, tensors)
        self._forget(way, job.hop)
        self.tell(
            Record(
                task=job.task,
                hop=job.hop,
                joined_at=job.joined_at,
                start_at=start_at,
                begun_at=job.begun_at,
                finish_at=served.reported_at,
            )
        )

    def dropped(self, job: Job, at: float) -> None:
        """Report a task that was dropped, unless it was given up already."""
        if self._give_up(job.task):
            self.tell(Dropped(task=job.task, hop=job.hop, at=at))

    def lost(self, job: Job, at: float, reason: str) -> None:
        """Report a task that was lost, unless it was given up already."""
        self._report_lost(job.task, job.hop, at, reason)

    def _report_lost(self, task: int, hop: int, at: float, reason: str) -> None:
        if self._give_up(task):
            self.tell(Lost(task=task, hop=hop, at=at, reason=reason[:2000]))


def _way(job: Job) -> Way:
    way = job.way
    assert isinstance(way, Way)
    return way


def _listed(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{each.dtype} {list(each.shape)}" for each in tensors)
