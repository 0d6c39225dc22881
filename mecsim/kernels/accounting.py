"""From the timeline of hops to delays, energies, penalties and rewards; compiled, once."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.hops import Hops, OfNumbers, Records
from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled

_penalty = cast(OfNumbers, compiled(equations.penalty))
_cost = cast(OfNumbers, compiled(equations.cost))


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
