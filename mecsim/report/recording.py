"""What a report shows of a trace, read in one pass over its rows in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mecsim.model.model import KINDS, Model, resolve
from mecsim.simulation.metrics import RunSummary, completed_between
from mecsim.simulation.recorded import recorded_summary, task_count
from mecsim.support.arrays import Bools, Floats, Ints
from mecsim.trace import TraceFile
from mecsim.trace.values import PIECE_ROWS, pieces

BINS: Final = 240
"""Intervals of time in figures of a whole run, at most, up to its last slot."""
MOST_QUEUES: Final = 20
"""Resources whose queues are shown, the busiest."""
MOST_TASKS: Final = 400_000
"""Tasks of which distributions are made; of more tasks every n-th counts."""


@dataclass(frozen=True)
class Parts:
    """Delays of tasks by kind of resource; shape (tasks, kinds) each, in seconds."""

    wait_s: NDArray[np.float32]
    service_s: NDArray[np.float32]


class Recording:
    """A trace with its model and its summary."""

    def __init__(self, trace: TraceFile) -> None:
        """Resolve the scenario and read the summary. Raises ``TraceError``."""
        self.trace = trace
        self.model: Model = resolve(trace.scenario, trace.made_by.seed)
        self.summary: RunSummary = recorded_summary(trace, self.model)
        self.names = self.model.resource_names()
        self.tasks = task_count(trace, self.model)
        self.every = -(-self.tasks // MOST_TASKS) or 1
        """Of the tasks, every n-th is in a distribution."""
        slots = len(self.slot_s)
        self.end_s = slots * trace.scenario.slot_length + self.summary.drained_s

    @cached_property
    def slot_s(self) -> Floats:
        """When each recorded slot began."""
        return self.trace.read("slots", "time_s")

    @cached_property
    def busiest(self) -> Ints:
        """Numbers of the busiest resources, the busiest first."""
        number = {name: row for row, name in enumerate(self.names)}
        return np.array([number[each.name] for each in self.summary.resources[:MOST_QUEUES]], int)

    def sample(self, name: str) -> NDArray[Any]:
        """Return a column of the tasks in the distributions."""
        found = [
            self.trace.read("tasks", name, begin, end)[-begin % self.every :: self.every]
            for begin, end in pieces(self.tasks)
        ]
        return np.concatenate(found) if found else np.empty(0)

    @cached_property
    def completed(self) -> Bools:
        """Which of the sampled tasks completed and count by the scenario's ``measurement``."""
        window_s = self.trace.scenario.counted_s
        return completed_between(self.sample("status"), self.sample("release_s"), window_s)

    @cached_property
    def edges_s(self) -> Floats:
        """Ends of the intervals of time; see :func:`intervals`."""
        return intervals(len(self.slot_s), self.trace.scenario.slot_length, self.end_s, BINS)

    @cached_property
    def _pass(self) -> tuple[Floats, Floats, Parts]:
        shown = np.full(len(self.names), -1)
        shown[self.busiest] = np.arange(len(self.busiest))
        waiting, serving = (_Averages(len(self.busiest), self.edges_s) for _ in range(2))
        kind = self.model.resources.kind
        count = len(self.completed)
        parts = Parts(*(np.zeros((count, len(KINDS)), np.float32) for _ in range(2)))
        for begin, end in pieces(self.trace.length("hops")):
            task, resource, enqueue_s, start_s, finish_s = (
                self.trace.read("hops", name, begin, end)
                for name in ("task", "resource", "enqueue_s", "start_s", "finish_s")
            )
            row = shown[resource]
            here = row >= 0
            waiting.add(row[here], enqueue_s[here], start_s[here])
            serving.add(row[here], start_s[here], finish_s[here])
            sampled = (task % self.every == 0) & (task < self.tasks)
            place = task[sampled] // self.every, kind[resource[sampled]]
            np.add.at(parts.wait_s, place, (start_s - enqueue_s)[sampled])
            np.add.at(parts.service_s, place, (finish_s - start_s)[sampled])
        return waiting.result(), serving.result(), parts

    @property
    def waiting(self) -> Floats:
        """Mean number of services that wait, per busiest resource and interval."""
        return self._pass[0]

    @property
    def serving(self) -> Floats:
        """Mean number of services under way, per busiest resource and interval."""
        return self._pass[1]

    @property
    def parts(self) -> Parts:
        """Delays of the tasks in the distributions, by kind of resource."""
        return self._pass[2]


def intervals(slots: int, slot_s: float, end_s: float, most: int) -> Floats:
    """Return the ends of equal intervals of time that slots do not straddle.

    >>> intervals(6, 2.0, 13.0, 3).tolist(), intervals(2, 3.0, 6.0, 5).tolist()
    ([0.0, 4.0, 8.0, 12.0, 16.0], [0.0, 1.5, 3.0, 4.5, 6.0])

    Args:
        slots: Number of slots.
        slot_s: Length of a slot.
        end_s: The intervals reach at least as far as this.
        most: Number of intervals up to the last slot, at most.
    """
    whole = -(-slots // most)
    width_s = slot_s * whole if whole > 1 else slot_s / max(most // max(slots, 1), 1)
    count = max(math.ceil(end_s / width_s * (1 - 1e-12)), 1)
    return width_s * np.arange(min(count, 4 * most) + 1, dtype=np.float64)


class _Averages:
    """Time averages of the number of spans that cover an interval; exact up to rounding."""

    def __init__(self, rows: int, edges_s: Floats) -> None:
        self._edges_s = edges_s
        self._bins = len(edges_s) - 1
        self._width = float(edges_s[1] - edges_s[0])
        self._partial = np.zeros(rows * self._bins)
        """Seconds that spans cover of the intervals in which they begin, less those after ends."""
        self._open = np.zeros(rows * self._bins)
        """Spans that begin in an interval, less those that end in it."""

    def add(self, row: Ints, begin_s: Floats, end_s: Floats) -> None:
        """Add spans of rows; shape (n,) each."""
        for moment_s, sign in ((begin_s, 1.0), (end_s, -1.0)):
            place = np.clip((moment_s / self._width).astype(np.int64), 0, self._bins - 1)
            rest_s = self._edges_s[place + 1] - moment_s
            flat, size = row * self._bins + place, len(self._open)
            self._partial += sign * np.bincount(flat, rest_s, minlength=size)
            self._open += sign * np.bincount(flat, minlength=size)

    def result(self) -> Floats:
        """Return the averages; shape (rows, intervals)."""
        partial, begun = (x.reshape(-1, self._bins) for x in (self._partial, self._open))
        before = np.cumsum(begun, axis=1) - begun
        return np.maximum(before + partial / self._width, 0.0)


def services_between(
    recording: Recording, begin_s: float, end_s: float, most: int
) -> tuple[dict[str, NDArray[np.generic]], int]:
    """Return the services that overlap a window, by start, and how many there are in all.

    Args:
        recording: The trace.
        begin_s: Begin of the window.
        end_s: Its end.
        most: Return no more services than this: the first ones.
    """
    names = ("task", "block", "resource", "enqueue_s", "start_s", "finish_s")
    found: list[list[NDArray[np.generic]]] = []
    total = 0
    for begin, end in pieces(recording.trace.length("hops"), PIECE_ROWS):
        columns = [recording.trace.read("hops", name, begin, end) for name in names]
        inside = (columns[5] > begin_s) & (columns[4] < end_s)
        if not inside.any():
            continue
        total += int(np.count_nonzero(inside))
        found.append([column[inside] for column in columns])
        if sum(len(each[0]) for each in found) > 4 * most:
            found = [_first(found, most)]
    if not found:
        return {name: np.empty(0) for name in names}, 0
    return dict(zip(names, _first(found, most), strict=True)), total


def _first(found: list[list[NDArray[np.generic]]], most: int) -> list[NDArray[np.generic]]:
    """Return the services with the earliest starts."""
    joined = [np.concatenate(column) for column in zip(*found, strict=True)]
    order = np.argsort(joined[4], kind="stable")[:most]
    return [column[order] for column in joined]
