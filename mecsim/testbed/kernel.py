"""A kernel whose queues are those of real nodes: it submits tasks, waits, and records times.

Times are measured: a service lasts as long as the node reports, and its energy follows. Latencies
are those of the scenario, for nodes keep to them.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from mecsim.errors import NodeFailedError
from mecsim.kernels.hops import Hops, Records
from mecsim.model.model import Model
from mecsim.scheduler.observation import ALL, UnderWay
from mecsim.support import signals
from mecsim.support.arrays import Bools, Floats, Ints
from mecsim.testbed.flight import Batch, Flight
from mecsim.testbed.lateness import Lateness
from mecsim.testbed.messages import Dropped, Error, Lost, Poll, Record, State
from mecsim.testbed.pool import Event, NodeEnded, NodePool, ScenarioClock
from mecsim.testbed.way import Ways

_STEP_S: Final = 0.1
"""Ctrl-C is noticed after this time."""
PATIENCE_S: Final = 60.0
"""How long nodes may report nothing while tasks are in flight, longer services apart."""


class TestbedKernel:
    """Drives real nodes; see :class:`mecsim.kernels.base.Kernel`.

    Args:
        model: The resolved scenario.
        ways: Its nodes.
        pool: The nodes, which have been started.
        clock: The time of the scenario.
        continues: Whether the run continues when a node ends, whose tasks are lost then.

    Raises:
        NodeFailedError: From any method that waits: a node has ended, or reports nothing.
        KeyboardInterrupt: From any method that waits.
    """

    __test__ = False  # no test of pytest, in spite of its name

    def __init__(
        self, model: Model, ways: Ways, pool: NodePool, clock: ScenarioClock, *, continues: bool
    ) -> None:
        self._model, self._ways, self._pool, self._clock = model, ways, pool, clock
        self._continues = continues
        self._batches: deque[Batch] = deque()
        self._flights: dict[int, Flight] = {}
        self._submitted = 0
        self._dead: dict[str, float] = {}  # names of nodes, and when they ended
        self._lost = np.zeros(len(model.resources), dtype=np.bool_)
        self._polls = 0
        self._states: dict[str, State] = {}  # answers to the last poll
        self._seen: tuple[Floats, Ints] | None = None  # backlogs and lengths at this instant
        self._now_s = 0.0
        self._committed_s = np.zeros(len(model.resources))
        self._heard_at = self._clock.now()
        self.lateness = Lateness(clock)
        """How far decisions, releases and services were from what was planned."""

    def submit(self, hops: Hops) -> None:
        self.lateness.submitted(self._clock.now())
        batch = Batch(hops)
        self._batches.append(batch)
        self._submitted += len(hops.tasks)
        self._heard_at = self._clock.now()
        for row, first in enumerate(hops.offset[:-1].tolist()):
            release = self._ways.release(hops, row)
            flight = Flight(release, batch, first, device=int(hops.tasks.device[row]))
            self._flights[release.task] = flight
            batch.tasks.append(flight)
            passed = {name: None for hop in release.hops for name in (hop.owner, hop.target)}
            self._pool.send([name for name in passed if name is not None], release)
            if self._dead:
                self._settle(flight)
        np.add.at(self._committed_s, hops.column("resource"), hops.column("service_s"))

    def advance(self, until_s: float) -> float:
        target_at = self._clock.reading(until_s)
        self._wait_until(target_at)
        if until_s > self._now_s:
            self._now_s, self._seen = until_s, None
            self._committed_s[:] = 0.0
        self.lateness.woke(self._clock.now(), target_at)
        return until_s

    def drain(self) -> float:
        with signals.between_steps(shared=True) as check:
            while self._flights:
                self._take(_STEP_S)
                self._check_patience()
                check()
        return math.inf

    def lost_tasks(self) -> dict[int, Records]:
        return {}  # a testbed has no planned failures, and no retries without them

    def _wait_until(self, at: float) -> None:
        """Take what nodes report until a time, and all that they have reported by then."""
        with signals.between_steps(shared=True) as check:
            check()
            while (left_s := at - self._clock.now()) > 0:
                self._take(min(left_s, _STEP_S))
                check()
            while self._take(0.0):
                pass

    def _take(self, limit_s: float) -> bool:
        """Take the next event; return whether there was one."""
        event = self._pool.take(limit_s)
        if event is None:
            return False
        self._heard_at = self._clock.now()
        self._handle(event)
        return True

    def _handle(self, event: Event) -> None:
        match event.what:
            case Record() | Lost() | Dropped() as report:
                self._report(event.name, report)
            case State() as state:
                if state.number == self._polls:
                    self._states[event.name] = state
            case Error(message=message):
                self._fail(event.name, message)
            case NodeEnded(reason=reason):
                self._fail(event.name, reason)
            case _:
                self._fail(event.name, f"sent a frame {type(event.what).__name__.lower()}")

    def _report(self, name: str, report: Record | Lost | Dropped) -> None:
        flight = self._flights.get(report.task)
        if flight is None:
            if report.task >= self._submitted:
                self._fail(name, f"reported task {report.task}, which was not submitted")
            return  # of a task that was lost or dropped elsewhere
        if report.hop >= len(flight.release.hops):
            self._fail(name, f"reported hop {report.hop} of task {report.task}")
            return
        flight.batch.active = True
        if isinstance(report, Record):
            hop = flight.release.hops[report.hop]
            start_at = self._pool.here(hop.owner, report.start_at)
            finish_at = self._pool.here(hop.target or hop.owner, report.finish_at)
            start_s, finish_s = self._clock.seconds(start_at), self._clock.seconds(finish_at)
            flight.record(report.hop, start_s, finish_s)
            late_s = report.begun_at - report.start_at
            self.lateness.served(flight.release, report.hop, late_s, finish_at - start_at)
        else:
            at_s = self._clock.seconds(self._pool.here(name, report.at))
            flight.end(report.hop, *((at_s,) if isinstance(report, Lost) else ()))
            passed = {hop.owner for hop in flight.release.hops}
            self._pool.send(sorted(passed - {name}), report)
        self._settle(flight)

    def _settle(self, flight: Flight) -> None:
        """Let a task be lost that has come to a node that has ended; let a task end."""
        while (hop := flight.pending()) is not None:
            owner = flight.release.hops[hop].owner
            if owner not in self._dead:
                return
            if flight.passed(hop):
                flight.assume(hop)
            else:
                flight.end(hop, self._dead[owner])
                flight.batch.active = True
        flight.fill_in(flight.batch.hops.rows)
        flight.batch.tasks.remove(flight)
        del self._flights[flight.release.task]

    def _fail(self, name: str, reason: str) -> None:
        """Stop the run because of a node, or continue without it."""
        if not self._continues:
            raise NodeFailedError(f"node {name}: {reason}. Try: testbed.on_node_failure: continue")
        if name in self._dead:
            return
        self._dead[name] = self._clock.seconds(self._clock.now())
        self._lost |= self._ways.resources_of(name)
        self.lateness.failures[name] = {"at_s": self._dead[name], "reason": reason}
        for flight in list(self._flights.values()):
            self._settle(flight)

    def _check_patience(self) -> None:
        """Raise if no node has reported anything for longer than any service could take."""
        quiet_s = self._clock.now() - self._heard_at
        if quiet_s < PATIENCE_S:
            return
        task, flight = next(iter(self._flights.items()))
        longest_s = max(
            hop.service_s + hop.latency_s
            for each in self._flights.values()
            for hop in each.release.hops
        )
        if quiet_s < PATIENCE_S + 2.0 * longest_s * self._clock.stretch:
            return
        hop = flight.release.hops[flight.pending() or 0]
        where = self._model.resource_names()[hop.resource]
        raise NodeFailedError(
            f"node {hop.owner}: nothing was reported for {quiet_s:.0f} s, although "
            f"{len(self._flights)} tasks are in flight; task {task} has come to {where}"
        )

    # ------------------------------------------------------------ what schedulers see

    def _look(self) -> tuple[Floats, Ints]:
        """Return backlogs and queue lengths as the nodes report them, once for each instant."""
        if self._seen is None:
            resources = len(self._model.resources)
            backlog_s, length = np.zeros(resources), np.zeros(resources, dtype=np.int64)
            for state in self._poll() if self._flights else ():
                for key, (wait_s, jobs) in state.resources.items():
                    backlog_s[int(key)] += wait_s
                    length[int(key)] += jobs
            self._seen = backlog_s, length
        return self._seen

    def _poll(self) -> list[State]:
        """Ask the nodes for the state of their stations; wait until all have answered."""
        began_at = self._clock.now()
        self._polls += 1
        self._states.clear()
        self._pool.send(self._ways.names, Poll(number=self._polls))
        with signals.between_steps(shared=True) as check:
            while len(self._states) < len(self._ways.names) - len(self._dead):
                self._take(_STEP_S)
                check()
                if self._clock.now() - began_at > PATIENCE_S:
                    silent = set(self._ways.names) - set(self._states) - set(self._dead)
                    self._fail(min(silent), f"did not answer for {PATIENCE_S:.0f} s")
        self.lateness.polled(self._clock.now() - began_at)
        return [state for name, state in self._states.items() if name not in self._dead]

    def backlog_s(self, resources: slice = ALL) -> Floats:
        return self._look()[0][resources].copy()

    def queue_length(self) -> Ints:
        return self._look()[1].copy()

    def committed_s(self) -> Floats:
        return self._committed_s.copy()

    def under_way(self) -> UnderWay:
        self._look()  # nodes have then sent all that happened before
        released = [
            (flight.release, hop, flight.device)
            for flight in self._flights.values()
            if flight.release.release_s < self._now_s and (hop := flight.pending()) is not None
        ]
        return UnderWay(
            np.array([release.release_s for release, _, _ in released], dtype=np.float64),
            np.array([release.task_class for release, _, _ in released], dtype=np.int64),
            np.array([device for _, _, device in released], dtype=np.int64),
            np.array([release.hops[hop].resource for release, hop, _ in released], dtype=np.int64),
        )

    def battery_j(self) -> Floats:
        return np.full(self._model.devices, np.inf)

    def lost(self) -> Bools:
        return self._lost.copy()

    def active(self) -> dict[int, Hops]:
        self._look()  # nodes have then sent all that happened before
        active = {row: batch for row, batch in enumerate(self._batches) if batch.active}
        for batch in active.values():
            batch.active = False
        return {row: batch.seen_at(self._now_s) for row, batch in active.items()}

    def collect(self) -> list[Hops]:
        ended = []
        while self._batches and not self._batches[0].tasks:
            ended.append(self._batches.popleft().hops)
        return ended
