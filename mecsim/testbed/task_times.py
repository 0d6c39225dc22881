"""The times of the tasks of a run by kind of resource, and how busy its resources were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from mecsim.errors import TraceError
from mecsim.model.model import KINDS, Model
from mecsim.model.task_status import COMPLETED
from mecsim.support.arrays import Bools, Floats, Ints
from mecsim.trace.schema import Column, MemoryTrace, Rows

Columns: TypeAlias = Callable[[str, str], Column]
"""Reads a column by its group and its name."""

_GROUPS: Final = ("tasks", "hops")


class KeptTimes(MemoryTrace):
    """A sink that keeps the rows of tasks and hops."""

    def append(self, group: str, rows: Rows) -> None:
        """Append rows of some columns of a group."""
        if group in _GROUPS:
            super().append(group, rows)

    def read(self, group: str, name: str) -> Column:
        """Return a column."""
        return self[f"{group}/{name}"]


@dataclass(frozen=True)
class TaskTimes:
    """The times of n tasks, in order of release, at K kinds of resources (:data:`KINDS`)."""

    release_s: Floats
    """Shape (n,)."""
    class_: Ints
    """Shape (n,)."""
    status: Ints
    """See :mod:`mecsim.model.task_status`; shape (n,)."""
    total_s: Floats
    """From the release to the end of the last block; shape (n,)."""
    wait_s: Floats
    """In queues; shape (n, K)."""
    service_s: Floats
    """In service; shape (n, K)."""
    part_s: Floats
    """Wait, service and the latency that follows; shape (n, K)."""

    @classmethod
    def of(cls, read: Columns, model: Model, where: str) -> TaskTimes:
        """Return the times in the columns of a trace.

        Args:
            read: Reads the columns.
            model: The scenario.
            where: The file, for messages.

        Raises:
            TraceError: The columns are damaged.
        """
        task, resource, enqueue_s, start_s, finish_s = (
            read("hops", name) for name in ("task", "resource", "enqueue_s", "start_s", "finish_s")
        )
        release_s, ended_s = read("tasks", "release_s"), read("tasks", "finish_s")
        status = read("tasks", "status").astype(np.int64)
        count = len(release_s)
        if len(task) and not (0 <= task[0] <= task[-1] < count and (np.diff(task) >= 0).all()):
            raise TraceError(f"{where}: column /hops/task is not in order from 0 to {count - 1}")
        last = np.diff(task, append=count) != 0
        left_s = np.where(last, ended_s[task], np.roll(enqueue_s, -1))
        cell, shape = task * len(KINDS) + model.resources.kind[resource], (count, len(KINDS))
        seconds = {
            "wait_s": start_s - enqueue_s,
            "service_s": finish_s - start_s,
            "part_s": left_s - enqueue_s,
        }
        summed: dict[str, Any] = {
            name: np.bincount(cell, values, count * len(KINDS)).reshape(shape)
            for name, values in seconds.items()
        }
        several = len(model.classes) > 1
        class_ = read("tasks", "class").astype(np.int64) if several else np.zeros(count, np.int64)
        found = cls(release_s, class_, status, read("tasks", "total_s"), **summed)
        if not np.isfinite(found.total_s[found.completed]).all():
            raise TraceError(f"{where}: column /tasks/total_s has no time for a completed task")
        if not np.isfinite(found.wait_s[found.completed] + found.service_s[found.completed]).all():
            raise TraceError(f"{where}: group /hops lacks times of a completed task")
        return found

    @property
    def completed(self) -> Bools:
        """Which tasks completed; shape (n,)."""
        return self.status == COMPLETED


def utilization(read: Columns, model: Model, begin_s: float, end_s: float) -> Floats:
    """Return the busy share of each resource's capacity in a window of time; shape (R,).

    Args:
        read: Reads the columns of a trace.
        model: The scenario.
        begin_s: Begin of the window.
        end_s: Its end, which is later.
    """
    resource, start_s, finish_s = (
        read("hops", name) for name in ("resource", "start_s", "finish_s")
    )
    inside_s = np.clip(finish_s, begin_s, end_s) - np.clip(start_s, begin_s, end_s)
    served = ~np.isnan(inside_s)
    busy_s = np.bincount(resource[served], inside_s[served], len(model.resources))
    return np.asarray(busy_s / ((end_s - begin_s) * model.capacity), dtype=np.float64)
