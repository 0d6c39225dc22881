"""Delays, energies and costs of ended tasks; rewards of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.accounting import BlockColumns, Services, TaskColumns, Terms, account, exact_sum
from mecsim.kernels.hops import HOP, Hops
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints, raw
from mecsim.trace.schema import Rows


class Accounts:
    """What became of the tasks of some epochs: n tasks, n·M blocks, h hops.

    Times of what has not happened (because the task failed) are NaN. Services are added to
    ``services``. Blocks and hops are worked out only if ``detailed``.
    """

    def __init__(
        self, model: Model, tables: Sequence[Hops], services: Services, *, detailed: bool
    ) -> None:
        self._model, self._tables = model, tables
        rows = [np.empty(0, HOP), *(table.rows for table in tables)]
        self._rows = np.concatenate([raw(piece) for piece in rows]).view(HOP)
        counts = np.cumsum([0] + [len(table) for table in tables])
        pieces = [t.offset[:-1] + n for t, n in zip(tables, counts.tolist(), strict=False)]
        self._offset = np.concatenate([*pieces, counts[-1:]])
        release_s = self._of_tasks("release_s")
        self._count = len(release_s)
        self._enqueue_s = np.empty(len(self._rows) * detailed)
        self.tasks = TaskColumns.empty(self._count)
        self.blocks = BlockColumns.empty(self._count * model.blocks * detailed)
        account(
            Terms.of(model),
            self._rows,
            -1,
            self._offset,
            release_s,
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
    def _number(self) -> Ints:
        return np.concatenate([t.tasks.first + np.arange(len(t.tasks)) for t in self._tables])

    @cached_property
    def tasks_of(self) -> list[int]:
        """How many tasks each epoch has."""
        return [len(table.tasks) for table in self._tables]

    def task_rows(self) -> Rows:
        """Return the rows of ``/tasks``."""
        size = self._of_tasks("size")
        known = self.tasks._asdict()
        del known["cost"]
        return {
            "release_s": self._of_tasks("release_s"),
            "slot": np.repeat([table.tasks.slot for table in self._tables], self.tasks_of),
            "device": self._of_tasks("device").astype(np.int32),
            "size_factor": size[:, 0] if size.shape[1] == 1 else size,
            **known,
        }

    def block_rows(self) -> Rows:
        """Return the rows of ``/blocks``."""
        count = self._model.blocks
        known = self.blocks._asdict()
        del known["cost"]
        return {
            "task": np.repeat(self._number, count),
            "block": np.tile(np.arange(count, dtype=np.int32), len(self)),
            **known,
        }

    def hop_rows(self) -> Rows:
        """Return the rows of ``/hops``: the hops that were entered."""
        start_s = self._rows["start_s"]
        rows = {
            "task": np.repeat(self._number, np.diff(self._offset)),
            "block": self._rows["block"],
            "resource": self._rows["resource"],
            "enqueue_s": self._enqueue_s,
            "start_s": start_s,
            "finish_s": start_s + self._rows["service_s"],
        }
        entered = ~np.isnan(start_s)
        return rows if entered.all() else {name: x[entered] for name, x in rows.items()}


@dataclass
class RewardBook:
    """Credits what blocks cost to the epochs in which they finish (Eq. 14).

    Sums are exactly rounded, so that they do not depend on when costs are booked.
    """

    times: list[float]
    """When the epochs not settled yet began, from ``first``."""
    costs: list[list[Floats]]
    first: int = 0

    @classmethod
    def empty(cls) -> RewardBook:
        """Return a book without epochs."""
        return cls([], [])

    def open(self, time_s: float) -> None:
        """Begin a new epoch."""
        self.times.append(time_s)
        self.costs.append([])

    def book(self, accounts: Accounts) -> None:
        """Credit the blocks of the epochs that come next to be settled."""
        blocks = accounts.blocks
        each = len(blocks.cost) // max(len(accounts), 1)
        epochs = self.first + np.arange(len(accounts.tasks_of))
        released = np.repeat(epochs, [tasks * each for tasks in accounts.tasks_of])
        done = ~np.isnan(blocks.finish_s)
        index = self.epoch_of(released, blocks.finish_s)[done] - self.first
        order = np.argsort(index, kind="stable")
        index, cost = index[order], blocks.cost[done][order]
        bounds = np.flatnonzero(np.diff(index, prepend=-1, append=-1))
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self.costs[index[begin]].append(cost[begin:end])

    def epoch_of(self, released: Ints, finish: Floats) -> Ints:
        """Return the epochs in which blocks of tasks released in given epochs finished.

        What finishes at the very time of an epoch has finished before it, unless it belongs to it.
        """
        found = self.first + np.searchsorted(self.times, finish, side="left") - 1
        return np.maximum(found, released)

    def settle(self, epochs: int) -> list[float]:
        """Return the rewards of the next ``epochs`` epochs, to which nothing will be added."""
        rewards = [
            0.0 - exact_sum(np.concatenate([np.empty(0), *costs])) for costs in self.costs[:epochs]
        ]
        del self.costs[:epochs], self.times[:epochs]
        self.first += epochs
        return rewards
