"""Tasks whose attempts have all ended, joined from the accounts of single attempts."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.accounting import ServiceTotals, TaskTable
from mecsim.model.model import Model
from mecsim.model.task_status import LOST
from mecsim.simulation.task_accounts import Accounts
from mecsim.support.arrays import Ints
from mecsim.trace.schema import Rows

_SUMS: Final = ("edge_s", "local_s", "energy_J", "cost", "late_blocks")
_OF_LAST: Final = ("finish_s", "status", "missed")
_Columns: TypeAlias = dict[str, NDArray[Any]]


class Joined(NamedTuple):
    """Tasks that have ended, in order, with all their attempts."""

    tasks: TaskTable
    attempts: Ints
    """Number of attempts at each task; shape (n,)."""
    rows: dict[str, Rows]
    """Rows of the groups of a trace about tasks."""


class JoinedTasks:
    """Collects attempts in the order in which they were submitted; gives tasks in their order.

    A task has ended when an attempt completes, fails otherwise than by a loss, or is the last that
    it may have. Services are added in the order of the rows of a trace.

    Args:
        model: The scenario, with retries.
        services: The services of the hops of joined tasks are added here.
    """

    def __init__(self, model: Model, services: ServiceTotals) -> None:
        self._limit, self._services = model.retries, services
        self._held: dict[str, list[_Columns]] = {"tasks": [], "blocks": [], "hops": []}
        self._shown: list[str] = []
        """The columns of the rows of tasks."""
        self._open = set[int]()
        """Tasks that were lost and may be placed again."""
        self._seen = self._next = 0
        """Number of tasks of whose attempts the first has ended, and of those that were given."""

    def add(self, accounts: Accounts) -> None:
        """Take the attempts of the next batches; accounts must be detailed."""
        task, number = accounts.numbers, accounts.attempts
        lost = (accounts.tasks.status == LOST) & (number <= self._limit[accounts.class_])
        for row in np.flatnonzero(lost | (number > 1)).tolist():
            (self._open.add if lost[row] else self._open.discard)(int(task[row]))
        self._seen = max(self._seen, int(task.max(initial=-1)) + 1)
        rows = accounts.task_rows()
        self._shown = list(rows)
        self._held["tasks"].append({"task": task, **accounts.tasks._asdict(), **rows})
        self._held["blocks"].append(dict(accounts.block_rows()))
        self._held["hops"].append(dict(accounts.hop_rows()))

    def take(self, *, every: bool = False) -> Joined | None:
        """Return the next tasks that have ended, or all; None if there are none."""
        end = self._seen if every else min(self._open, default=self._seen)
        if end == self._next:
            return None
        self._next = end
        tasks, blocks, hops = (self._cut(group, end) for group in self._held)
        tasks = merged(tasks, np.flatnonzero(np.diff(tasks["task"], prepend=-1)))
        self._serve(hops)
        rows: Rows = {name: tasks[name] for name in (*self._shown, "attempts")}
        table = TaskTable(**{name: tasks[name] for name in TaskTable._fields})
        return Joined(table, tasks["attempts"], {"tasks": rows, "blocks": blocks, "hops": hops})

    def _cut(self, group: str, end: int) -> _Columns:
        """Remove the rows of tasks before ``end``; return them by task and attempt."""
        pieces = self._held[group]
        every = {name: np.concatenate([each[name] for each in pieces]) for name in pieces[0]}
        mine = every["task"] < end
        self._held[group] = [{name: values[~mine] for name, values in every.items()}]
        order = np.flatnonzero(mine)
        order = order[np.argsort(every["task"][order], kind="stable")]
        return {name: values[order] for name, values in every.items()}

    def _serve(self, hops: _Columns) -> None:
        """Add the services one after the other, so that sums do not depend on the pieces."""
        busy_s, wait_s, served = self._services
        np.add.at(busy_s, hops["resource"], hops["finish_s"] - hops["start_s"])
        np.add.at(wait_s, hops["resource"], hops["start_s"] - hops["enqueue_s"])
        np.add.at(served, hops["resource"], 1)


def merged(attempts: _Columns, first: Ints) -> _Columns:
    """Return the columns of n tasks from those of their attempts, and the numbers of attempts.

    Args:
        attempts: Columns of ``/tasks`` and of :class:`TaskTable`, by task and attempt.
        first: Row of the first attempt at each task; shape (n,).
    """
    end = np.append(first[1:], len(attempts["task"]))
    found = {name: values[first] for name, values in attempts.items()}
    found |= {name: attempts[name][end - 1] for name in _OF_LAST}
    found |= {name: sums(attempts[name], first) for name in _SUMS}
    found["total_s"] = found["edge_s"] + found["local_s"]
    found["attempts"] = (end - first).astype(np.int32)
    return found


def sums(values: NDArray[Any], first: Ints) -> NDArray[Any]:
    """Return the sums of the parts of an array that begin at some rows, each in order."""
    if not len(first):
        return values[:0]
    return np.add.reduceat(values, first).astype(values.dtype)
