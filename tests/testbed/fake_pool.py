"""Nodes in the same process, for tests of the controller: they answer as real nodes do."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable

from mecsim.testbed.messages import Dropped, Lost, Message, Poll, Record, Release, State
from mecsim.testbed.pool import Event, NodeEnded, ScenarioClock


class FakePool:
    """Stations with the planned services, task after task, whose clock jumps.

    ``change`` may change, or leave out, the reports of a task.
    """

    def __init__(
        self,
        names: Iterable[str],
        change: Callable[[list[Message]], list[Message]] = lambda reports: reports,
        stretch: float = 10.0,
    ) -> None:
        self.names, self._change, self.at = list(names), change, 1000.0
        self.clock = ScenarioClock(self.at + 1.0, stretch, lambda: self.at)
        self.sent: list[tuple[str, Message]] = []
        self.dead: set[str] = set()
        self._free_at: dict[int, float] = {}
        self._later: list[tuple[float, int, Event]] = []
        self._now: deque[Event] = deque()
        self._count = itertools.count()

    def end(self, name: str, reason: str = "was killed by SIGKILL", at: float = 0.0) -> None:
        """Let a node end at a time; what it would report later is gone."""
        self.put(at, Event(name, NodeEnded(reason)))

    def send(self, names: Iterable[str], message: Message) -> None:
        """Take a message for nodes."""
        for name in names:
            if name in self.dead:
                continue
            self.sent.append((name, message))
            if isinstance(message, Poll):
                self._now.append(Event(name, State(number=message.number, at=0.0, resources={})))
            elif isinstance(message, Release) and message.hops[0].owner == name:
                self._release(message)

    def take(self, limit_s: float) -> Event | None:
        """Return the next event."""
        if self._now:
            return self._now.popleft()
        if self._later and self._later[0][0] <= self.at + limit_s:
            self.at = max(self.at, self._later[0][0])
            event = heapq.heappop(self._later)[2]
            if event.name in self.dead:
                return self.take(limit_s)
            if isinstance(event.what, NodeEnded):
                self.dead.add(event.name)
            return event
        self.at += limit_s
        return None

    def here(self, name: str, at: float) -> float:
        """Return a reading of the clock of a node as one of the controller."""
        return at

    def _release(self, release: Release) -> None:
        """Serve a task at once, and report it when its time has come."""
        arrival_at, reports = self.clock.reading(release.release_s), list[Message]()
        for number, hop in enumerate(release.hops):
            start_at = max(arrival_at, self._free_at.get(hop.resource, 0.0))
            finish_at = start_at + hop.service_s * self.clock.stretch
            self._free_at[hop.resource] = finish_at
            reports.append(
                Record(
                    task=release.task,
                    hop=number,
                    joined_at=arrival_at,
                    start_at=start_at,
                    begun_at=start_at,
                    finish_at=finish_at,
                )
            )
            arrival_at = finish_at + hop.latency_s * self.clock.stretch
        for report in self._change(reports):
            assert isinstance(report, Record | Lost | Dropped)
            at = report.finish_at if isinstance(report, Record) else report.at
            self.put(at, Event(release.hops[report.hop].owner, report))

    def put(self, at: float, event: Event) -> None:
        """Report something at a time."""
        heapq.heappush(self._later, (at, next(self._count), event))
