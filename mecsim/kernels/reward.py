"""The reward (Eq. 14): minus the cost L + β·max(L − τ, 0) of the blocks that finish in an epoch.

The cost of a block is divided by the number of tasks released in its task's slot, unless the
scenario asks for the sum over tasks.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from mecsim.kernels.hops import Hops, Records, ScalarRule
from mecsim.kernels.state import END_BATCH, FIRST_BATCH, FIRST_HOP, FIRST_TASK, State
from mecsim.kernels.tables import KernelTables
from mecsim.model import equations
from mecsim.model.workload import Tasks
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled

tardiness = cast(ScalarRule, compiled(equations.penalty))
_cost = cast(ScalarRule, compiled(equations.cost))


weight_of = cast(ScalarRule, compiled(equations.reward_weight))


@compiled
def block_cost(
    delay_s: float, tolerated_s: float, finish_s: float, beta: float, weight: float
) -> float:
    """Return the cost of a block with the delay L, the deadline τ and the given finish.

    ``weight`` is that of its task; see :func:`mecsim.model.equations.reward_weight`.
    """
    return weight * _cost(delay_s, tardiness(delay_s, tolerated_s, finish_s), beta)


@compiled
def missed_deadline(delay_s: float, deadline_s: float, finish_s: float, completed: bool) -> bool:
    """Return whether a task of a total delay did not complete by its deadline, if it has one."""
    if deadline_s == math.inf:
        return False
    return not completed or tardiness(delay_s, deadline_s, finish_s) > 0.0


@compiled
def gather_costs(
    tolerated_s: Floats,
    beta: float,
    weight: float,
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
    """Append the costs of a task's blocks that finish in (after_s, until_s].

    Args:
        tolerated_s: Deadline τ of every block; shape (B,).
        beta: Weight of the penalty in Eq. 14.
        weight: Weight of the task.
        rows: Hops, in a ring buffer of ``mask`` + 1 rows, or in an array if the mask is −1.
        mask: See ``rows``.
        begin: The task's first hop.
        end: The row after its last hop.
        release_s: From when its first block counts.
        after_s: Costs of blocks that finished by then are left out.
        until_s: And those of blocks that finish later.
        costs: The costs so far; must have room for M more.
        count: How many costs there are so far.

    Returns:
        How many costs there are now.
    """
    at, arrived_s = begin, release_s
    while at < end:
        ready_s, block = arrived_s, rows[at & mask]["block"]
        while at < end and rows[at & mask]["block"] == block:
            hop = rows[at & mask]
            arrived_s = hop["start_s"] + hop["service_s"] + hop["latency_s"]
            at += 1
        if after_s < arrived_s <= until_s:
            delay_s = arrived_s - ready_s
            costs[count] = block_cost(delay_s, tolerated_s[block], arrived_s, beta, weight)
            count += 1
    return count


@compiled
def gather_epoch_costs(
    s: State,
    tables: KernelTables,
    acted_s: float,
    until_s: float,
    slot: int,
    expected: float,
    costs: Floats,
) -> int:
    """Fill in the costs that count for the epoch submitted last, up to ``until_s``.

    Those are the blocks of its own tasks, and blocks of earlier tasks that finish after
    ``acted_s``. Epochs without events since the last call are skipped, and all marks of events are
    removed.

    Args:
        s: State of the network.
        tables: Constants of the model.
        acted_s: Time of the epoch.
        until_s: Time of the next epoch, or infinity.
        slot: A slot whose number of tasks is not known, or −1.
        expected: The number of tasks expected in that slot.
        costs: Filled in; must have room for M costs of every task in flight.

    Returns:
        How many costs there are.
    """
    tolerated_s, beta, count = tables.tolerated_s, tables.beta, 0
    tasks, hops, batches = s.tasks, s.hops, s.batches
    task, hop, end_batch = s.counters[FIRST_TASK], s.counters[FIRST_HOP], s.counters[END_BATCH]
    task_mask, mask = len(tasks) - 1, len(hops) - 1
    for number in range(s.counters[FIRST_BATCH], end_batch):
        batch = batches[number & (len(batches) - 1)]
        if batch["active"]:
            batch["active"] = 0
            after_s = -math.inf if number == end_batch - 1 else acted_s
            weight = weight_of(
                expected if batch["slot"] == slot else batch["in_slot"], tables.averages
            )
            while task < batch["end_task"]:
                row = tasks[task & task_mask]
                end, release_s = row["end"], row["release_s"]
                count = gather_costs(
                    tolerated_s,
                    beta,
                    weight,
                    hops,
                    mask,
                    hop,
                    end,
                    release_s,
                    after_s,
                    until_s,
                    costs,
                    count,
                )
                hop = end
                task += 1
        task, hop = batch["end_task"], batch["end_hop"]
    return count


@compiled
def epoch_reward(s: State, tables: KernelTables, acted_s: float, until_s: float) -> float:
    """Return the reward of the epoch submitted last; see :func:`gather_epoch_costs`."""
    costs = np.empty(len(s.tasks) * len(tables.tolerated_s))
    count = gather_epoch_costs(s, tables, acted_s, until_s, -1, 0.0, costs)
    return 0.0 - exact_sum(costs[:count])


@compiled
def _plain_sum(values: Floats) -> float:
    """Return the sum; code that calls numpy's takes longer to load than a short run takes."""
    total = 0.0
    for value in values:
        total += value
    return total


@compiled
def exact_sum(values: Floats) -> float:
    """Return the sum, rounded once, as ``math.fsum`` does; a plain sum if it is not finite.

    Shewchuk, "Adaptive precision floating-point arithmetic", 1997, and CPython's rounding of it.
    """
    parts, count = np.empty(64), 0  # of increasing magnitude, without overlapping bits
    for value in values:
        kept = 0
        for part in parts[:count]:
            large, small = (value, part) if abs(value) >= abs(part) else (part, value)
            value = large + small  # noqa: PLW2901
            if value - value != 0.0:  # infinite or NaN: no exact sum
                return _plain_sum(values)
            rest = small - (value - large)
            if rest != 0.0:
                parts[kept] = rest
                kept += 1
        if value - value != 0.0:
            return _plain_sum(values)
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
    tables: KernelTables,
    rows: Records,
    offset: Ints,
    release_s: Floats,
    class_: Ints,
    only: int,
    weight: Floats,
    after_s: float,
    until_s: float,
    costs: Floats,
) -> int:
    count = 0
    for i in range(len(release_s)):
        if only >= 0 and class_[i] != only:
            continue
        begin, end = offset[i], offset[i + 1]
        count = gather_costs(
            tables.tolerated_s,
            tables.beta,
            weight[i],
            rows,
            -1,
            begin,
            end,
            release_s[i],
            after_s,
            until_s,
            costs,
            count,
        )
    return count


def task_weights(tables: KernelTables, tasks: Tasks) -> Floats:
    """Return the weights of the costs of some tasks; shape (n,)."""
    if tasks.attempts is None:
        return np.full(len(tasks), weight_of(float(tasks.in_slot), tables.averages))
    in_slot = tasks.attempts.in_slot.tolist()
    return np.array([weight_of(float(n), tables.averages) for n in in_slot], dtype=np.float64)


def costs_between(
    tables: KernelTables, hops: Hops, after_s: float, until_s: float, only: int | None = None
) -> Floats:
    """Return the costs of the blocks that finish in (after_s, until_s], whatever the kernel.

    With ``only``, those of the tasks of one class.
    """
    costs = np.empty(len(hops.tasks) * len(tables.tolerated_s))
    weight = task_weights(tables, hops.tasks)
    columns = hops.rows, hops.offset, hops.tasks.ready_s, hops.tasks.class_
    which = -1 if only is None else only
    count = _gather_all(tables, *columns, which, weight, after_s, until_s, costs)
    return costs[:count]
