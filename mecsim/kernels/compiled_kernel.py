"""The fast kernel: the compiled event loop behind the interface of kernels."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from mecsim.kernels.event_loop import run
from mecsim.kernels.hops import HOP, Hops, Records
from mecsim.kernels.state import (
    END_TASK,
    FIRST_BATCH,
    FIRST_HOP,
    FIRST_TASK,
    STOPS,
    State,
    count_ended,
    read_backlog,
    read_committed,
    read_hops,
    read_lost,
    read_queues,
    read_under_way,
    submit,
    take,
)
from mecsim.model.model import Model
from mecsim.scheduler.observation import ALL, UnderWay
from mecsim.support.arrays import Floats, Ints


class CompiledKernel:
    """The kernel compiled by numba; see :class:`mecsim.kernels.base.Kernel`.

    Epochs must be submitted in order of time, as a run does. Its buffers have room for ``size``
    tasks and hops at first.
    """

    def __init__(self, model: Model, size: int = 1024) -> None:
        self.state = State.of(model, size)
        self.state.counters[STOPS] = len(model.retries) > 0
        self._now = 0.0
        self._batches: deque[Hops] = deque()
        self._last_release_s = -math.inf

    def submit(self, hops: Hops) -> None:
        tasks = hops.tasks
        if len(tasks):
            self._check_order(tasks.release_s)
        self.state = self.state.with_room(len(tasks), len(hops))
        columns = (
            tasks.release_s,
            tasks.first_s,
            tasks.class_,
            tasks.device,
            tasks.slot,
            tasks.in_slot,
        )
        submit(self.state, hops.rows, hops.offset, *columns)
        self._batches.append(hops)

    def advance(self, until_s: float) -> float:
        last_s = run(self.state, until_s)
        self._now = last_s if self._stopped(last_s) else until_s
        return self._now

    def drain(self) -> float:
        last_s = run(self.state, math.inf)
        self._now = max(self._now, last_s)
        return last_s if self._stopped(last_s) else math.inf

    def lost_tasks(self) -> dict[int, Records]:
        tasks = {}
        for number, first, end in self._lost_at(self._now).tolist():
            tasks[number] = np.empty(end - first, dtype=HOP)
            read_hops(self.state, first, tasks[number])
        return tasks

    def _stopped(self, last_s: float) -> bool:
        """Return whether the last events were at a time at which tasks were lost."""
        return self.state.counters[STOPS] > 0 and len(self._lost_at(last_s)) > 0

    def _lost_at(self, now: float) -> Ints:
        counters = self.state.counters
        found = np.empty((counters[END_TASK] - counters[FIRST_TASK], 3), dtype=np.int64)
        return found[: read_lost(self.state, now, found)]

    def backlog_s(self, resources: slice = ALL) -> Floats:
        free_s, first = self.state.free_s, self.state.first
        if len(self.state.calendar):
            backlog_s = np.empty(len(first) - 1)
            read_backlog(self.state, self._now, backlog_s)
            return backlog_s[resources]
        several = len(free_s) >= len(first)  # some resource has several servers
        free_s = free_s[first[:-1][resources]] if several else free_s[resources]
        return np.maximum(free_s - self._now, 0.0)

    def queue_length(self) -> Ints:
        queue_length = np.empty(len(self.state.last), dtype=np.int64)
        read_queues(self.state, self._now, queue_length)
        return queue_length

    def committed_s(self) -> Floats:
        committed_s = np.empty(len(self.state.last))
        read_committed(self.state, committed_s)
        return committed_s

    def under_way(self) -> UnderWay:
        counters = self.state.counters
        resource = np.empty(counters[END_TASK] - counters[FIRST_TASK], dtype=np.int64)
        read_under_way(self.state, self._now, resource)
        mine, none = resource >= -1, resource[:0]
        given = [hops.tasks for hops in self._batches]
        return UnderWay(
            np.concatenate([np.empty(0), *(each.first_s for each in given)])[mine],
            np.concatenate([none, *(each.class_ for each in given)])[mine],
            np.concatenate([none, *(each.device for each in given)])[mine],
            resource[mine],
        )

    def battery_j(self) -> Floats:
        return self.state.battery_j.copy()

    def active(self) -> dict[int, Hops]:
        state = self.state
        at, first, found = int(state.counters[FIRST_HOP]), int(state.counters[FIRST_BATCH]), {}
        for row, hops in enumerate(self._batches):
            batch = state.batches[(first + row) & (len(state.batches) - 1)]
            if batch["active"]:
                read_hops(state, at, hops.rows)
                found[row] = hops
                batch["active"] = 0
            at += len(hops)
        return found

    def collect(self) -> list[Hops]:
        batches, hops = count_ended(self.state)
        if not batches:
            return []
        rows, at = np.empty(hops, dtype=HOP), 0
        take(self.state, batches, rows)
        ended = [self._batches.popleft() for _ in range(batches)]
        for table in ended:
            table.rows, at = rows[at : at + len(table)], at + len(table)
        return ended

    def copy(self) -> CompiledKernel:
        """Return an independent kernel in the same state.

        Both fill in the same tables of hops: collect from only one of them.
        """
        other = object.__new__(CompiledKernel)
        other.__dict__.update(self.__dict__)
        other._batches = self._batches.copy()
        other.state = self.state.copy()
        return other

    def _check_order(self, release_s: Floats) -> None:
        if release_s[0] < self._last_release_s:
            raise ValueError(
                f"a task released at {release_s[0]:g} s was submitted after one of "
                f"{self._last_release_s:g} s; submit them in order"
            )
        self._last_release_s = float(release_s[-1])
