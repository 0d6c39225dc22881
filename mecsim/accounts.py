"""From the timeline of hops to delays, energies, penalties and rewards; vectorised, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mecsim import rules
from mecsim.arrays import Floats, Ints
from mecsim.kernels.base import Timeline
from mecsim.model import Model
from mecsim.trace import Rows


class Accounts:
    """What became of the tasks of some epochs: n tasks, n·M blocks, h hops.

    Times of what has not happened (yet, or because the task failed) are NaN.
    """

    def __init__(self, model: Model, timelines: Sequence[Timeline], epochs: Ints) -> None:
        self._model = model
        self._epochs = epochs
        self._tables = [timeline.hops for timeline in timelines]
        self._tasks = [table.tasks for table in self._tables]
        self._start = np.concatenate([timeline.start_s for timeline in timelines])
        self._hops_of = np.concatenate([np.diff(table.offset) for table in self._tables])

    def __len__(self) -> int:
        """Return n."""
        return len(self._hops_of)

    def _column(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(table, name) for table in self._tables])

    def _of_tasks(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(tasks, name) for tasks in self._tasks])

    @cached_property
    def _number(self) -> Ints:
        return np.concatenate([t.first + np.arange(len(t)) for t in self._tasks])

    @cached_property
    def _row(self) -> Ints:
        """Task of each hop, counted from 0 here."""
        return np.repeat(np.arange(len(self)), self._hops_of)

    @cached_property
    def _entered(self) -> NDArray[np.bool_]:
        return ~np.isnan(self._start)

    @cached_property
    def _finish(self) -> Floats:
        return self._start + self._column("service_s")

    @cached_property
    def _arrive(self) -> Floats:
        """When the task is ready for what follows the hop."""
        return self._finish + self._column("latency_s")

    @cached_property
    def _first_hop(self) -> Ints:
        return np.cumsum(self._hops_of) - self._hops_of

    @cached_property
    def _enqueue(self) -> Floats:
        enqueue = np.concatenate([[np.nan], self._arrive])[:-1]
        enqueue[self._first_hop] = self._of_tasks("release_s")
        return enqueue

    @cached_property
    def _node(self) -> Ints:
        """Shape (n, M)."""
        counts = [len(tasks) for tasks in self._tasks]
        return np.repeat(np.array([t.placement for t in self._tables]), counts, axis=0)

    @cached_property
    def _block_start(self) -> Ints:
        """First hop of each block."""
        key = self._row * self._model.blocks + self._column("block")
        return np.flatnonzero(np.diff(key, prepend=-1))

    @cached_property
    def _block_finish(self) -> Floats:
        last = np.append(self._block_start, len(self._start))[1:] - 1
        return self._arrive[last]

    @cached_property
    def _ready(self) -> Floats:
        return self._enqueue[self._block_start]

    @cached_property
    def _delay(self) -> Floats:
        """L_m."""
        return self._block_finish - self._ready

    @cached_property
    def _tolerated(self) -> Floats:
        return np.tile(self._model.tolerated_s, len(self))

    @cached_property
    def _block_energy(self) -> Floats:
        spent = np.where(self._entered, self._column("energy_j"), 0.0)
        return np.add.reduceat(spent, self._block_start) if len(self) else spent

    def _per_task(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(-1, self._model.blocks)

    def excess_s(self) -> Floats:
        """Return ψ of every task (Eq. 13); shape (n,)."""
        late = rules.penalty(np.nan_to_num(self._delay), self._tolerated)
        return self._per_task(np.asarray(late)).sum(axis=1)

    def block_costs(self) -> tuple[Ints, Floats, Floats]:
        """Return epoch of release, finish and L + β·max(L − τ, 0) of every block; shapes (n·M,)."""
        counts = [len(tasks) * self._model.blocks for tasks in self._tasks]
        epoch = np.repeat(self._epochs, counts)
        beta = self._model.scenario.reward.beta
        return epoch, self._block_finish, np.asarray(rules.cost(self._delay, self._tolerated, beta))

    def services(self) -> tuple[Ints, Floats, Floats]:
        """Return resource, waiting time and service time of the hops that were entered."""
        entered = self._entered
        wait = self._start[entered] - self._enqueue[entered]
        return self._column("resource")[entered], wait, self._column("service_s")[entered]

    @cached_property
    def hop_rows(self) -> Rows:
        """Return the rows of ``/hops``: the hops that were entered."""
        entered = self._entered
        return {
            "task": self._number[self._row[entered]],
            "block": self._column("block")[entered].astype(np.int32),
            "resource": self._column("resource")[entered].astype(np.int32),
            "enqueue_s": self._enqueue[entered],
            "start_s": self._start[entered],
            "finish_s": self._finish[entered],
        }

    @cached_property
    def block_rows(self) -> Rows:
        """Return the rows of ``/blocks``."""
        blocks = self._model.blocks
        computes = self._column("resource") < self._model.resources.uplink
        return {
            "task": np.repeat(self._number, blocks),
            "block": np.tile(np.arange(blocks, dtype=np.int32), len(self)),
            "node": self._node.reshape(-1).astype(np.int32),
            "ready_s": self._ready,
            "compute_start_s": self._start[computes],
            "finish_s": self._block_finish,
            "delay_s": self._delay,
            "energy_J": self._block_energy,
        }

    @cached_property
    def task_rows(self) -> Rows:
        """Return the rows of ``/tasks``."""
        delay = self._per_task(np.nan_to_num(self._delay))
        local = np.where(self._node == 0, delay, 0.0).sum(axis=1)
        edge = np.where(self._node == 0, 0.0, delay).sum(axis=1)
        late = self._per_task(self._delay > self._tolerated).sum(axis=1)
        size = self._of_tasks("size")
        finish, failed = self._task_finish()
        return {
            "release_s": self._of_tasks("release_s"),
            "slot": np.repeat([t.slot for t in self._tasks], [len(t) for t in self._tasks]),
            "device": self._of_tasks("device").astype(np.int32),
            "size_factor": size[:, 0] if size.shape[1] == 1 else size,
            "finish_s": finish,
            "total_s": edge + local,
            "edge_s": edge,
            "local_s": local,
            "energy_J": self._per_task(self._block_energy).sum(axis=1),
            "late_blocks": late.astype(np.int32),
            "status": failed.astype(np.int8),
        }

    def _task_finish(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Return when each task ended, and whether it failed (then: when it was refused a hop)."""
        finish = self._per_task(self._block_finish)[:, -1].copy()
        failed = np.isnan(finish)
        if failed.any():
            refused = np.where(self._entered, np.inf, self._enqueue)
            finish[failed] = np.fmin.reduceat(refused, self._first_hop)[failed]
        return finish, failed


@dataclass
class RewardBook:
    """Credits what blocks cost to the epochs in which they finish (Eq. 14).

    Sums are exactly rounded (``math.fsum``), so that they do not depend on when costs are booked.
    """

    times: list[float]
    """When the epochs not settled yet began, from ``first``."""
    costs: list[list[float]]
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
        """Credit the blocks that have finished."""
        epoch, finish, cost = accounts.block_costs()
        done = ~np.isnan(finish)
        index = self.epoch_of(epoch, finish)[done] - self.first
        order = np.argsort(index, kind="stable")
        index, cost = index[order], cost[done][order]
        bounds = np.flatnonzero(np.diff(index, prepend=-1, append=-1))
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self.costs[index[begin]].extend(cost[begin:end].tolist())

    def epoch_of(self, released: Ints, finish: Floats) -> Ints:
        """Return the epochs in which blocks of tasks released in given epochs finished.

        What finishes at the very time of an epoch has finished before it, unless it belongs to it.
        """
        found = self.first + np.searchsorted(self.times, finish, side="left") - 1
        return np.maximum(found, released)

    def settle(self, epochs: int) -> list[float]:
        """Return the rewards of the next ``epochs`` epochs, to which nothing will be added."""
        rewards = [0.0 - math.fsum(costs) for costs in self.costs[:epochs]]
        del self.costs[:epochs], self.times[:epochs]
        self.first += epochs
        return rewards
