"""The readable reference: SimPy's event loop, one event a hop.

A FIFO resource needs no queue: it suffices to know when each of its servers is next free. A task
in flight is one SimPy event, scheduled again for every hop.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable
from heapq import heappush, heapreplace
from typing import Any

import numpy as np
import simpy
from simpy.events import EventPriority

from mecsim.kernels.base import COMPLETION, DECISION, RELEASE
from mecsim.kernels.hops import Hops, Records
from mecsim.model import equations
from mecsim.model.calendar_visits import backlog, planned_rate, visit
from mecsim.model.model import Model
from mecsim.scheduler.observation import ALL, UnderWay
from mecsim.support.arrays import Floats, Ints


class _Clock(simpy.Environment):
    """SimPy's environment with events at absolute times and in the total order of events."""

    def at(self, time_s: float, rank: int, number: int, event: simpy.Event) -> None:
        heappush(self._queue, (time_s, EventPriority(rank), number, event))


class _Batch:
    """The tasks of an epoch in flight, as lists, which Python reads faster than arrays."""

    def __init__(self, hops: Hops) -> None:
        self.hops = hops
        self.resource = hops.column("resource").tolist()
        self.service_s = hops.column("service_s").tolist()
        self.latency_s = hops.column("latency_s").tolist()
        self.energy_j = hops.column("energy_j").tolist()
        self.start_s = array("d", [math.nan]) * len(self.resource)
        self.changed = False
        self.unfinished = len(hops.tasks)
        self.active = False

    def filled_in(self) -> Hops:
        self.hops.column("start_s")[:] = self.start_s
        if self.changed:  # by a calendar, or because a task was dropped
            for name in ("service_s", "latency_s", "energy_j"):
                self.hops.column(name)[:] = getattr(self, name)
        return self.hops


class _Task(simpy.Event):
    """A task in flight, with its remaining hops from ``hop`` to ``end``."""

    __slots__ = (
        *("_ok", "_value", "batch", "callbacks", "device", "drop_s", "dropped", "end", "hop"),
        *("lost", "number"),
    )

    def __init__(self, batch: _Batch, number: int, device: int, hop: int, end: int) -> None:
        self.batch, self.number, self.device, self.hop, self.end = batch, number, device, hop, end
        self.lost = self.dropped = False
        self.drop_s = math.inf
        self._ok, self._value = True, None


class SimpyKernel:
    """The kernel on SimPy; see :class:`mecsim.kernels.base.Kernel`."""

    def __init__(self, model: Model) -> None:
        self._clock = _Clock()
        self._free = array("d", bytes(8 * len(model.resources)))
        self._cores = {r: [0.0] * int(cores) for r, cores in enumerate(model.capacity) if cores > 1}
        self._calendars = model.calendars
        timed = np.flatnonzero(model.calendars.of["timed"]).tolist()
        self._timed = frozenset[int](timed)
        self._drop_after_s = model.drop_after_s.tolist()
        self._stops, self._until_s = len(model.retries) > 0, math.inf
        self._lost_tasks: list[_Task] = []  # since the last call that advances
        self._metered, self._capacity_j = model.metered, model.battery_j.tolist()
        self._battery_j = model.battery_j.tolist()
        self._spent = [False] * model.devices
        self._batches: deque[_Batch] = deque()
        self._arrived: list[Callable[[Any], None]] = []
        self._arrived.append(self._make_arrival())

    def submit(self, hops: Hops) -> None:
        batch = _Batch(hops)
        self._batches.append(batch)
        tasks, offset = hops.tasks, hops.offset.tolist()
        numbers = range(tasks.first, tasks.first + len(tasks))
        for number, class_, device, release, first, hop, end in zip(
            numbers,
            tasks.class_.tolist(),
            tasks.device.tolist(),
            tasks.release_s.tolist(),
            tasks.first_s.tolist(),
            offset,
            offset[1:],
            strict=False,
        ):
            task = _Task(batch, number, device, hop, end)
            task.callbacks = self._arrived
            if self._drop_after_s:
                task.drop_s = first + self._drop_after_s[class_]
            self._clock.at(release, RELEASE, number, task)

    def advance(self, until_s: float) -> float:
        if self._stops:
            return self._advance_to_loss(until_s)
        epoch = simpy.Event(self._clock)
        epoch._ok, epoch._value = True, None
        self._clock.at(until_s, DECISION, -1, epoch)
        self._clock.run(until=epoch)
        return until_s

    def drain(self) -> float:
        if self._stops:
            return self._advance_to_loss(math.inf)
        self._clock.run()
        return math.inf

    def _advance_to_loss(self, until_s: float) -> float:
        """Process every event before the decision epoch, which comes early if a task is lost."""
        clock, decision = self._clock, EventPriority(DECISION)
        self._until_s = until_s
        self._lost_tasks.clear()
        while clock._queue and clock._queue[0][:2] < (self._until_s, decision):
            clock.step()
        if self._until_s < math.inf:
            clock._now = self._until_s
        return self._until_s

    def lost_tasks(self) -> dict[int, Records]:
        lost = {}
        for task in self._lost_tasks:
            hops = task.batch.filled_in()
            row = task.number - hops.tasks.first
            lost[task.number] = hops.rows[hops.offset[row] : hops.offset[row + 1]]
        return lost

    def backlog_s(self, resources: slice = ALL) -> Floats:
        free = np.array(self._free)  # a copy of its buffer
        for resource, cores in self._cores.items():
            free[resource] = cores[0]
        now = self._clock.now
        backlog_s = np.maximum(free[resources] - now, 0.0)
        if self._timed:
            for row, resource in enumerate(range(len(free))[resources]):
                if resource in self._timed:
                    until_s = float(free[resource])
                    backlog_s[row] = backlog(*self._calendars, resource, now, until_s)
        return backlog_s

    def queue_length(self) -> Ints:
        queue_length, now = np.zeros(len(self._free), dtype=np.int64), self._clock.now
        for task in self._pending(COMPLETION):
            batch, hop = task.batch, task.hop - 1
            if task.dropped:  # it waits nowhere
                continue
            if batch.start_s[hop] + batch.service_s[hop] > now:
                queue_length[batch.resource[hop]] += 1
        return queue_length

    def committed_s(self) -> Floats:
        committed_s = np.zeros(len(self._free))
        for task in self._pending(RELEASE):
            for hop in range(task.hop, task.end):
                committed_s[task.batch.resource[hop]] += task.batch.service_s[hop]
        return committed_s

    def under_way(self) -> UnderWay:
        tasks, now = self._pending(COMPLETION), self._clock.now
        release_s, class_, resource = np.empty(len(tasks)), *np.full((2, len(tasks)), -1)
        for row, task in enumerate(tasks):
            batch, hop = task.batch, task.hop - 1
            given = batch.hops.tasks
            release_s[row] = given.first_s[task.number - given.first]
            class_[row] = given.class_[task.number - given.first]
            if not task.dropped and batch.start_s[hop] + batch.service_s[hop] > now:
                resource[row] = batch.resource[hop]
        device = np.array([task.device for task in tasks], dtype=np.int64)
        return UnderWay(release_s, class_, device, resource)

    def _pending(self, rank: int) -> list[_Task]:
        """Return the tasks whose next event has a rank, in order of their numbers."""
        events = (event for _, of, _, event in self._clock._queue if of == rank)
        tasks = (event for event in events if isinstance(event, _Task))
        return sorted(tasks, key=lambda task: task.number)

    def battery_j(self) -> Floats:
        if not self._metered:
            return np.full(len(self._battery_j), np.inf)
        return np.array(self._battery_j)

    def active(self) -> dict[int, Hops]:
        active = {row: batch for row, batch in enumerate(self._batches) if batch.active}
        for batch in active.values():
            batch.active = False
        return {row: batch.filled_in() for row, batch in active.items()}

    def collect(self) -> list[Hops]:
        ended = []
        while self._batches and not self._batches[0].unfinished:
            ended.append(self._batches.popleft().filled_in())
        return ended

    def _make_arrival(self) -> Callable[[_Task], None]:
        """Return the only callback of the simulation: a task reaches its next hop, or ends.

        A closure, because attribute look-ups would be a large part of the cost of an event.
        """
        clock, free, cores = self._clock, self._free, self._cores
        queue, metered, afford = clock._queue, self._metered, self._afford
        arrived, completion = self._arrived, EventPriority(COMPLETION)
        timed, arrive_timed = self._timed, self._arrive_timed
        drops, drop_late = bool(self._drop_after_s), self._drop_late

        def arrive(task: _Task) -> None:
            batch, hop = task.batch, task.hop
            batch.active = True
            if drops and drop_late(task):
                return
            if timed and arrive_timed(task):
                return
            if hop == task.end or (metered and not afford(task.device, batch.energy_j[hop])):
                batch.unfinished -= 1
                return
            resource = batch.resource[hop]
            now = clock._now
            if resource in cores:
                servers = cores[resource]
                start = max(now, servers[0])
                finish = start + batch.service_s[hop]
                heapreplace(servers, finish)
            else:
                start = free[resource]
                if start < now:
                    start = now
                finish = free[resource] = start + batch.service_s[hop]
            batch.start_s[hop] = start
            task.hop = hop + 1
            task.callbacks = arrived
            heappush(queue, (finish + batch.latency_s[hop], completion, task.number, task))

        return arrive

    def _drop_late(self, task: _Task) -> bool:
        """Let a task end that was dropped; drop one whose next service would begin too late."""
        batch, hop, now = task.batch, task.hop, self._clock._now
        if task.dropped:
            batch.unfinished -= 1
            return True
        if task.lost or hop == task.end or self._start_s(batch, hop, now) <= task.drop_s:
            return False
        batch.service_s[hop], batch.changed, task.dropped = math.nan, True, True
        task.callbacks = self._arrived
        self._clock.at(max(now, task.drop_s), COMPLETION, task.number, task)
        return True

    def _start_s(self, batch: _Batch, hop: int, now: float) -> float:
        """Return when the service of a hop would start if its task joined the resource now."""
        resource = batch.resource[hop]
        servers = self._cores.get(resource)
        free_s = servers[0] if servers else self._free[resource]
        if resource in self._timed:
            return self._visit(batch, hop, now, free_s)[0]
        return max(now, free_s)

    def _visit(
        self, batch: _Batch, hop: int, now: float, free_s: float
    ) -> tuple[float, float, float, float, bool]:
        """Return what happens to a task that joins a resource with a calendar."""
        resource, (of, steps, outages) = batch.resource[hop], self._calendars
        rate = planned_rate(of, steps, resource, batch.hops.tasks.slot)
        return visit(of, steps, outages, resource, now, free_s, batch.service_s[hop], rate)

    def _arrive_timed(self, task: _Task) -> bool:
        """Let a task end that is lost, or join a resource that has a calendar, if it does so."""
        batch, hop, now = task.batch, task.hop, self._clock._now
        if task.lost:
            batch.unfinished -= 1
            if self._stops:
                self._until_s = now
                self._lost_tasks.append(task)
            return True
        if hop == task.end or batch.resource[hop] not in self._timed:
            return False
        resource, batch.changed = batch.resource[hop], True
        servers = self._cores.get(resource)
        free_s = servers[0] if servers else self._free[resource]
        start, served, share, free_s, lost = self._visit(batch, hop, now, free_s)
        batch.service_s[hop] = served
        batch.energy_j[hop] *= share
        if self._metered and not self._afford(task.device, batch.energy_j[hop]):
            batch.unfinished -= 1
            return True
        if servers:
            heapreplace(servers, free_s)
        else:
            self._free[resource] = free_s
        batch.start_s[hop] = start
        if lost:
            batch.latency_s[hop], task.lost, when = math.nan, True, start + served
        else:
            when = start + served + batch.latency_s[hop]
        task.hop = hop + 1
        task.callbacks = self._arrived
        self._clock.at(when, COMPLETION, task.number, task)
        return True

    def _afford(self, device: int, energy_j: float) -> bool:
        """Charge a hop to the device's battery; a battery that cannot pay is spent for good."""
        remaining_j, full_j = self._battery_j[device], self._capacity_j[device]
        if self._spent[device] or not equations.affords(remaining_j, energy_j, full_j):
            self._spent[device] = True
            return False
        self._battery_j[device] = max(remaining_j - energy_j, 0.0)
        return True
