"""Nodes on several machines, whose clocks differ from that of the controller."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from mecsim.errors import NodeFailedError
from mecsim.testbed.messages import Lost, Message, Ping, Pong, Ready
from mecsim.testbed.offsets import Measurement, Offset, best, measurement
from mecsim.testbed.pool import Event, NodeEnded

PINGS: Final = 20
"""Pings of a measurement; the one with the least round trip counts."""
PERIOD_S: Final = 0.25
"""During a run each machine is pinged once in this time: a measurement takes 5 s."""
_ANSWER_S: Final = 2.0
"""How long to wait for the answer to a ping before and after the run."""
_log = logging.getLogger(__name__)


class Channel(Protocol):
    """Sends messages to nodes and returns what they report."""

    def send(self, names: Iterable[str], message: Message) -> None:
        """Send a message to nodes; those that have ended are left out."""
        ...

    def take(self, limit_s: float) -> Event | None:
        """Return the next event; None if none comes in time."""
        ...


class SynchronizedPool:
    """The nodes, whose readings of their clocks are converted to the controller's.

    Nodes with the controller's clock have offset 0. Of those that share another clock, one is
    pinged.

    Args:
        channel: The connections with the nodes.
        ready: What the nodes have said of themselves, by name.
        own: Identity of the controller's clock.
    """

    def __init__(self, channel: Channel, ready: Mapping[str, Ready], own: str) -> None:
        self._channel, self.send = channel, channel.send
        self._own = own
        self._clocks = {name: each.clock for name, each in ready.items()}
        self._hosts = {each.address[0]: each.clock for each in ready.values()}
        self._offsets: dict[str, Offset] = {}  # by clock, like the next two
        self._alive: dict[str, list[str]] = {}
        self._window: dict[str, list[Measurement]] = {}
        for name, clock in self._clocks.items():
            if clock != own:
                self._alive.setdefault(clock, []).append(name)
                self._window[clock] = []
        self._held: deque[Event] = deque()
        self._ping_at = time.monotonic()
        self._warned = False

    # ------------------------------------------------------------ for the kernel

    def take(self, limit_s: float) -> Event | None:
        """Return the next event, in the order of each node; None if none comes in time."""
        now = time.monotonic()
        until_at = now + limit_s
        if now >= self._ping_at and self._offsets:
            self._ping_at = now + PERIOD_S
            for names in self._alive.values():
                self._channel.send(names[:1], Ping(sent_at=time.monotonic()))
        if self._held:
            return self._held.popleft()
        while (event := self._next(until_at)) is not None:
            if isinstance(event.what, Lost) and not self._warned:
                self._warned = True
                _log.warning(
                    "testbed: task %d was lost: %s. Later ones are not reported",
                    event.what.task,
                    event.what.reason,
                )
            if not isinstance(event.what, Pong):
                return event
            self._answered(event.name, event.what)
        return None

    def here(self, name: str, at: float) -> float:
        """Return the reading of the controller's clock at a reading of a node's clock."""
        offset = self._offsets.get(self._clocks[name])
        return at if offset is None else offset.here(at)

    # ------------------------------------------------------------ for the launcher

    def there(self, name: str, at: float) -> float:
        """Return the reading of a node's clock at a reading of the controller's clock."""
        offset = self._offsets.get(self._clocks[name])
        return at if offset is None else offset.there(at)

    def measure(self) -> None:
        """Measure the offsets of all clocks, before and after a run.

        Raises:
            NodeFailedError: No node with a clock answers before the run.
        """
        for clock, names in self._alive.items():
            found = next(filter(None, map(self._burst, list(names))), None)
            if found is not None:
                self._take_over(clock, found)
            elif clock not in self._offsets:
                raise NodeFailedError(f"node {self._name_of(clock)}: does not answer pings")

    def facts(self) -> dict[str, Any]:
        """Return offset and error of each machine, by its address, for the trace."""
        same = {"offset_s": 0.0, "error_s": 0.0}
        measured = {
            address: self._offsets[clock].facts() if clock in self._offsets else same
            for address, clock in self._hosts.items()
            if clock == self._own or clock in self._offsets
        }
        return {"clocks": measured}

    # ------------------------------------------------------------ pings

    def _next(self, until_at: float) -> Event | None:
        """Return the next event of any kind until a time."""
        event = self._channel.take(max(0.0, until_at - time.monotonic()))
        if event is not None and isinstance(event.what, NodeEnded):
            names = self._alive.get(self._clocks[event.name], [])
            if event.name in names:
                names.remove(event.name)
        return event

    def _answered(self, name: str, pong: Pong) -> None:
        """Take an answer that came during a run; the latest 20 make a measurement."""
        clock, found = self._clocks[name], _measured(pong)
        if found is None or clock not in self._offsets:
            return
        window = self._window[clock]
        window.append(found)
        if len(window) == PINGS:
            self._take_over(clock, best(window))
            window.clear()

    def _take_over(self, clock: str, found: Measurement) -> None:
        if clock in self._offsets:
            self._offsets[clock].update(found)
        else:
            self._offsets[clock] = Offset(found)

    def _burst(self, name: str) -> Measurement | None:
        """Ping a node, one ping after the other; return none if it does not answer."""
        found = []
        for _ in range(PINGS):
            self._channel.send([name], Ping(sent_at=time.monotonic()))
            one = self._answer(name)
            if one is None:
                break
            found.append(one)
        return best(found) if found else None

    def _answer(self, name: str) -> Measurement | None:
        """Wait for an answer of a node; keep the other events for later."""
        until_at = time.monotonic() + _ANSWER_S
        while (event := self._next(until_at)) is not None:
            if isinstance(event.what, Pong):
                found = _measured(event.what)
                if event.name == name and found is not None:
                    return found
                continue
            self._held.append(event)
            if event.name == name and isinstance(event.what, NodeEnded):
                break
        return None

    def _name_of(self, clock: str) -> str:
        return min(name for name, each in self._clocks.items() if each == clock)


def _measured(pong: Pong) -> Measurement | None:
    """Return what an answer that has just come shows; none if no such ping can have been sent."""
    back_at = time.monotonic()
    return measurement(pong.sent_at, pong.received_at, back_at) if pong.sent_at <= back_at else None
