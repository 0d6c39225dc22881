"""Rows of a trace about tasks that have ended, and rewards of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.accounting import BlockTable, ServiceTotals, TaskTable, account
from mecsim.kernels.hops import HOP, Hops
from mecsim.kernels.reward import exact_sum, task_weights
from mecsim.kernels.tables import KernelTables
from mecsim.model.attempts import Attempts
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints, raw
from mecsim.trace.schema import COLUMNS, Rows

_OF_TASKS: Final = frozenset(COLUMNS["tasks"])


class Accounts:
    """Delays, energies and costs of the tasks of ended epochs: n tasks, their blocks, h hops.

    Times of events that did not happen, because the task failed, are NaN. Where lost tasks are
    placed again, each attempt counts as a task here; see
    :class:`mecsim.simulation.joined_tasks.JoinedTasks`.

    Args:
        model: The scenario.
        kernel_tables: Its constants.
        tables: Hops of the epochs, in order.
        services: The services of the hops are added here.
        detailed: Whether blocks and hops are wanted.
    """

    def __init__(
        self,
        model: Model,
        kernel_tables: KernelTables,
        tables: Sequence[Hops],
        services: ServiceTotals,
        *,
        detailed: bool,
    ) -> None:
        self._tables = tables
        rows = [np.empty(0, HOP), *(table.rows for table in tables)]
        self._rows = np.concatenate([raw(piece) for piece in rows]).view(HOP)
        counts = np.cumsum([0] + [len(table) for table in tables])
        offset = np.concatenate([np.empty(0, np.int64), *(table.offset[:-1] for table in tables)])
        self._offset = np.append(offset + np.repeat(counts[:-1], self.tasks_of), counts[-1])
        tries = [each for each in (table.tasks.attempts for table in tables) if each is not None]
        self._tries = Attempts.joined(tries) if tries else None
        release_s = self._of_tasks("release_s")
        self._first_s = release_s if self._tries is None else self._tries.first_s
        self.class_: Ints = self._of_tasks("class_")
        """Class of each task; shape (n,)."""
        self.blocks_of = np.diff(model.first_block)[self.class_]
        """Number of blocks of each task; shape (n,)."""
        self._first_block = model.first_block[self.class_]
        self._several = len(model.classes) > 1
        self._count = len(release_s)
        self._enqueue_s = np.empty(len(self._rows) * detailed)
        self.tasks = TaskTable.empty(self._count)
        self.blocks = BlockTable.empty(int(self.blocks_of.sum()) * detailed)
        account(
            kernel_tables,
            self._rows,
            -1,
            self._offset,
            release_s,
            release_s if self._tries is None else self._tries.ready_s,
            self._first_s,
            np.concatenate([task_weights(kernel_tables, table.tasks) for table in tables]),
            0,
            self.tasks,
            self.blocks,
            self._enqueue_s,
            services,
        )

    def __len__(self) -> int:
        """Return n."""
        return self._count

    def _of_tasks(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(table.tasks, name) for table in self._tables])

    @cached_property
    def numbers(self) -> Ints:
        """Number of each task in the run; shape (n,)."""
        return self._of_tasks("numbers")

    @property
    def attempts(self) -> Ints:
        """Which attempt at its task each is, from 1; shape (n,)."""
        if self._tries is None:
            return np.ones(self._count, dtype=np.int64)
        return self._tries.number

    @cached_property
    def tasks_of(self) -> list[int]:
        """Number of tasks of each epoch."""
        return [len(table.tasks) for table in self._tables]

    def part_s(self, kind: Ints, kinds: int) -> Floats:
        """Return the seconds that each task spent at each kind of resource; shape (n, kinds).

        Hops that were not entered count 0. Needs accounts that are detailed.

        Args:
            kind: Kind of every resource; shape (R,).
            kinds: Number of kinds.
        """
        rows = self._rows
        latency_s = np.nan_to_num(rows["latency_s"], nan=0.0)  # a task may be lost in the service
        seconds = rows["start_s"] - self._enqueue_s + rows["service_s"] + latency_s
        task = np.repeat(np.arange(len(self)), np.diff(self._offset))
        number = task * kinds + kind[rows["resource"]]
        sums = np.asarray(
            np.bincount(number, np.nan_to_num(seconds, nan=0.0), minlength=len(self) * kinds),
            dtype=np.float64,
        )
        return sums.reshape(-1, kinds)

    def rows(self) -> dict[str, Rows]:
        """Return the rows of all groups of a trace about tasks."""
        return {"tasks": self.task_rows(), "blocks": self.block_rows(), "hops": self.hop_rows()}

    def task_rows(self) -> Rows:
        """Return the rows of ``/tasks``."""
        size = self._of_tasks("size")
        known = {name: values for name, values in self.tasks._asdict().items() if name in _OF_TASKS}
        return {
            "release_s": self._first_s,
            "slot": self._of_tasks("slots"),
            "device": self._of_tasks("device").astype(np.int32),
            "size_factor": size[:, 0] if size.shape[1] == 1 else size,
            **known,
            **({"class": self.tasks.class_} if self._several else {}),
        }

    def block_rows(self) -> Rows:
        """Return the rows of ``/blocks``."""
        known = self.blocks._asdict()
        del known["cost"]
        return {
            "task": np.repeat(self.numbers, self.blocks_of),
            "block": _numbered(self.blocks_of),
            **known,
            **self._attempt_column(self.blocks_of),
        }

    def hop_rows(self) -> Rows:
        """Return the rows of ``/hops``: the hops that were entered."""
        start_s, hops_of = self._rows["start_s"], np.diff(self._offset)
        rows = {
            "task": np.repeat(self.numbers, hops_of),
            "block": self._rows["block"] - np.repeat(self._first_block, hops_of).astype(np.int32),
            "resource": self._rows["resource"],
            "enqueue_s": self._enqueue_s,
            "start_s": start_s,
            "finish_s": start_s + self._rows["service_s"],
            **self._attempt_column(hops_of),
        }
        entered = ~np.isnan(start_s)
        return rows if entered.all() else {name: x[entered] for name, x in rows.items()}

    def _attempt_column(self, counts: Ints) -> Rows:
        """Return the column of attempts for rows of each task; none without retries."""
        if self._tries is None:
            return {}
        return {"attempt": np.repeat(self._tries.number, counts).astype(np.int32)}


def _numbered(counts: Ints) -> NDArray[np.int32]:
    """Return 0, 1, … for each of the counts; shape (sum(counts),).

    >>> _numbered(np.array([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    first = np.cumsum(counts) - counts
    return (np.arange(counts.sum()) - np.repeat(first, counts)).astype(np.int32)


@dataclass
class RewardLedger:
    """Credits the cost of blocks to the epochs in which they finish (Eq. 14).

    Sums are rounded once, so that they do not depend on the order of credits. Where an epoch is a
    slot, the epochs of a slot, one for each class, form a batch: a block counts for its own class.
    """

    times: list[float]
    """When the batches that are not closed began, from batch ``first`` on."""
    costs: list[list[Floats]]
    """The costs of every epoch of these batches."""
    each: int = 1
    """Epochs in a batch."""
    first: int = 0

    @classmethod
    def empty(cls, each: int = 1) -> RewardLedger:
        """Return a ledger without epochs, for batches of ``each`` epochs."""
        return cls([], [], each)

    def open(self, time_s: float) -> None:
        """Begin a new epoch."""
        if len(self.costs) % self.each == 0:
            self.times.append(time_s)
        self.costs.append([])

    def credit(self, accounts: Accounts) -> None:
        """Credit the blocks of the tasks of the next batches to be closed."""
        blocks = accounts.blocks
        batches = self.first + np.arange(len(accounts.tasks_of))
        released = np.repeat(np.repeat(batches, accounts.tasks_of), accounts.blocks_of)
        done = ~np.isnan(blocks.finish_s)
        index = self.batch_of(released, blocks.finish_s)[done] - self.first
        if self.each > 1:
            index = index * self.each + np.repeat(accounts.class_, accounts.blocks_of)[done]
        order = np.argsort(index, kind="stable")
        index, cost = index[order], blocks.cost[done][order]
        bounds = np.flatnonzero(np.diff(index, prepend=-1, append=-1))
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self.costs[index[begin]].append(cost[begin:end])

    def batch_of(self, released: Ints, finish: Floats) -> Ints:
        """Return the batches in which blocks of tasks released in given batches finished.

        A block that finishes exactly when a batch begins counts for the one before, unless its
        task belongs to the new one.
        """
        found = self.first + np.searchsorted(self.times, finish, side="left") - 1
        return np.maximum(found, released)

    def close(self, batches: int) -> list[float]:
        """Return the rewards of the epochs of the next batches; remove them from the ledger."""
        epochs = batches * self.each
        rewards = [
            0.0 - exact_sum(np.concatenate([np.empty(0), *costs])) for costs in self.costs[:epochs]
        ]
        del self.costs[:epochs], self.times[:batches]
        self.first += batches
        return rewards
