"""From the timeline of hops to delays, energies, penalties and rewards; compiled, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mecsim import rules
from mecsim.arrays import Floats, Ints, raw
from mecsim.jit import compiled
from mecsim.model import Model
from mecsim.routing import HOP, Hops, OfNumbers, Records
from mecsim.trace import Rows

_penalty = cast(OfNumbers, compiled(rules.penalty))
_cost = cast(OfNumbers, compiled(rules.cost))


class Terms(NamedTuple):
    """What the compiled code must know to account for tasks."""

    tolerated_s: Floats
    """τ_m; shape (M,)."""
    beta: float
    servers: int
    uplink: int
    """Number of the first resource that does not compute."""

    @classmethod
    def of(cls, model: Model) -> Terms:
        """Return the terms of a model."""
        uplink = model.resources.uplink
        return cls(model.tolerated_s, model.scenario.reward.beta, model.servers, uplink)


class TaskColumns(NamedTuple):
    """Columns of ``/tasks`` and what else is known of a task; shape (n,) each."""

    finish_s: Floats
    total_s: Floats
    edge_s: Floats
    local_s: Floats
    energy_J: Floats
    cost: Floats
    late_blocks: NDArray[np.int32]
    status: NDArray[np.int8]

    @classmethod
    def empty(cls, count: int) -> TaskColumns:
        """Return columns to be filled in."""
        columns: list[Any] = [np.empty(count) for _ in range(6)]
        columns += [np.empty(count, np.int32), np.empty(count, np.int8)]
        return cls(*columns)

    def first(self, count: int) -> TaskColumns:
        """Return the first rows."""
        columns: list[Any] = [column[:count] for column in self]
        return TaskColumns(*columns)


class BlockColumns(NamedTuple):
    """Columns of ``/blocks`` and the cost of a block; shape (n·M,) each, or (0,): not wanted."""

    node: NDArray[np.int32]
    ready_s: Floats
    compute_start_s: Floats
    finish_s: Floats
    delay_s: Floats
    energy_J: Floats
    cost: Floats

    @classmethod
    def empty(cls, count: int) -> BlockColumns:
        """Return columns to be filled in."""
        return cls(np.empty(count, np.int32), *(np.empty(count) for _ in range(6)))


class Services(NamedTuple):
    """Sums over the hops that were entered, of every resource; shape (R,) each."""

    busy_s: Floats
    wait_s: Floats
    served: Ints

    @classmethod
    def none(cls, count: int) -> Services:
        """Return the sums of ``count`` resources before anything was served."""
        return cls(np.zeros(count), np.zeros(count), np.zeros(count, np.int64))


@compiled
def block_cost(terms: Terms, block: int, delay_s: float) -> float:
    """Return what a block with the delay L takes from the reward."""
    return _cost(delay_s, _penalty(delay_s, terms.tolerated_s[block]), terms.beta)


@compiled
def account(  # noqa: C901, PLR0915 - one pass over the hops; parts called cost twice it
    terms: Terms,
    rows: Records,
    mask: int,
    offset: Ints,
    release_s: Floats,
    to: int,
    tasks: TaskColumns,
    blocks: BlockColumns,
    enqueue_s: Floats,
    services: Services,
) -> None:
    """Fill in the columns of n tasks, from row ``to`` on, and add to the services.

    The hops of task i are those from ``offset[i]`` in ``rows``, a ring of ``mask`` + 1, or an
    array if the mask is −1. ``enqueue_s``, of a hop each, is filled in only together with the
    columns of blocks.
    """
    detailed = len(blocks.cost) > 0
    count = len(terms.tolerated_s)
    for task in range(len(release_s)):
        at, end = offset[task], offset[task + 1]
        arrived_s, ended_s = release_s[task], release_s[task]
        edge_s = local_s = energy_j = cost = 0.0
        late = 0
        for block in range(count):
            ready_s, compute_s, spent_j, place = arrived_s, np.nan, 0.0, 0
            while at < end and rows[at & mask]["block"] == block:
                hop = rows[at & mask]
                start_s, resource = hop["start_s"], hop["resource"]
                if start_s == start_s:  # entered
                    spent_j += hop["energy_j"]
                    services.busy_s[resource] += hop["service_s"]
                    services.wait_s[resource] += start_s - arrived_s
                    services.served[resource] += 1
                if resource < terms.uplink:
                    compute_s = start_s
                    place = resource + 1 if resource < terms.servers else 0
                if detailed:
                    enqueue_s[at] = arrived_s
                arrived_s = start_s + hop["service_s"] + hop["latency_s"]
                if arrived_s == arrived_s:
                    ended_s = arrived_s
                at += 1
            delay_s = arrived_s - ready_s
            price = block_cost(terms, block, delay_s)
            energy_j += spent_j
            if delay_s == delay_s:
                cost += price
                late += delay_s > terms.tolerated_s[block]
                if place == 0:
                    local_s += delay_s
                else:
                    edge_s += delay_s
            if detailed:
                row = task * count + block
                blocks.node[row] = place
                blocks.ready_s[row] = ready_s
                blocks.compute_start_s[row] = compute_s
                blocks.finish_s[row] = arrived_s
                blocks.delay_s[row] = delay_s
                blocks.energy_J[row] = spent_j
                blocks.cost[row] = price
        to_row = to + task
        tasks.finish_s[to_row] = ended_s
        tasks.total_s[to_row] = edge_s + local_s
        tasks.edge_s[to_row] = edge_s
        tasks.local_s[to_row] = local_s
        tasks.energy_J[to_row] = energy_j
        tasks.cost[to_row] = cost
        tasks.late_blocks[to_row] = late
        tasks.status[to_row] = arrived_s != arrived_s


@compiled
def gather_costs(
    terms: Terms,
    rows: Records,
    mask: int,
    begin: int,
    end: int,
    release_s: float,
    after_s: float,
    until_s: float,
    costs: Floats,
    count: int,
) -> int:
    """Add to ``costs``, of which there are ``count``, those of a task's blocks that have finished.

    In a given time: after ``after_s`` and not after ``until_s``. Return how many there are then.
    """
    at, arrived_s = begin, release_s
    while at < end:
        ready_s, block = arrived_s, rows[at & mask]["block"]
        while at < end and rows[at & mask]["block"] == block:
            hop = rows[at & mask]
            arrived_s = hop["start_s"] + hop["service_s"] + hop["latency_s"]
            at += 1
        if after_s < arrived_s <= until_s:
            costs[count] = block_cost(terms, block, arrived_s - ready_s)
            count += 1
    return count


@compiled
def exact_sum(values: Floats) -> float:
    """Return the sum, rounded once, as ``math.fsum`` does; a plain sum if it is not finite.

    Shewchuk, "Adaptive precision floating-point arithmetic", 1997, and CPython's rounding of it.
    """
    parts, count = np.empty(64), 0  # ever larger, none overlaps another
    for value in values:
        kept = 0
        for part in parts[:count]:
            large, small = (value, part) if abs(value) >= abs(part) else (part, value)
            value = large + small  # noqa: PLW2901
            if value - value != 0.0:  # infinite, or no number: nothing to be exact about
                return values.sum()
            rest = small - (value - large)
            if rest != 0.0:
                parts[kept] = rest
                kept += 1
        if value - value != 0.0:
            return values.sum()
        parts[kept] = value
        count = kept + 1
    total = rest = 0.0
    while count > 0 and rest == 0.0:
        count -= 1
        before = total
        total = before + parts[count]
        rest = parts[count] - (total - before)
    if count > 0 and (rest > 0.0) == (parts[count - 1] > 0.0):  # half-way: the next part decides
        twice = rest * 2.0
        if (total + twice) - total == twice:
            total += twice
    return total


@compiled
def _gather_all(
    terms: Terms,
    rows: Records,
    offset: Ints,
    release_s: Floats,
    after_s: float,
    until_s: float,
    costs: Floats,
) -> int:
    count = 0
    for i in range(len(release_s)):
        begin, end = offset[i], offset[i + 1]
        count = gather_costs(
            terms, rows, -1, begin, end, release_s[i], after_s, until_s, costs, count
        )
    return count


def costs_between(terms: Terms, hops: Hops, after_s: float, until_s: float) -> Floats:
    """Return the costs of the blocks that finished after ``after_s`` and until ``until_s``."""
    costs = np.empty(len(hops.tasks) * len(terms.tolerated_s))
    release_s = hops.tasks.release_s
    count = _gather_all(terms, hops.rows, hops.offset, release_s, after_s, until_s, costs)
    return costs[:count]


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
