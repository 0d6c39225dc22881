"""From the timeline of hops to delays, energies and costs of tasks and blocks; compiled."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.hops import HOP, Records
from mecsim.kernels.reward import block_cost, missed_deadline, tardiness
from mecsim.kernels.tables import KernelTables
from mecsim.model.task_status import BATTERY_SPENT, COMPLETED, DROPPED, LOST
from mecsim.support.arrays import Bools, Floats, Ints, raw
from mecsim.support.jit import compiled

# Entries of ``RunLog.filled``.
HOPS: Final = 0
TASKS: Final = 1
BATCHES: Final = 2


class TaskTable(NamedTuple):
    """Columns of ``/tasks`` that follow from the hops, and further ones; shape (n,) each."""

    finish_s: Floats
    total_s: Floats
    edge_s: Floats
    local_s: Floats
    energy_J: Floats
    cost: Floats
    late_blocks: NDArray[np.int32]
    class_: NDArray[np.int32]
    status: NDArray[np.int8]
    missed: NDArray[np.int8]
    """1 for a task that did not complete by its deadline."""

    @classmethod
    def empty(cls, count: int) -> TaskTable:
        """Return ``count`` rows, to be filled in."""
        columns: list[Any] = [np.empty(count) for _ in range(6)]
        columns += [np.empty(count, np.int32) for _ in range(2)]
        columns += [np.empty(count, np.int8) for _ in range(2)]
        return cls(*columns)

    def first(self, count: int) -> TaskTable:
        """Return the first rows."""
        return self.of(slice(count))

    def of(self, rows: slice | Bools) -> TaskTable:
        """Return some rows."""
        columns: list[Any] = [column[rows] for column in self]
        return TaskTable(*columns)


class BlockTable(NamedTuple):
    """Columns of ``/blocks`` and the cost of a block; (0,) each if not wanted.

    The blocks of n tasks, task after task.
    """

    node: NDArray[np.int32]
    ready_s: Floats
    compute_start_s: Floats
    finish_s: Floats
    delay_s: Floats
    energy_J: Floats
    cost: Floats

    @classmethod
    def empty(cls, count: int) -> BlockTable:
        """Return ``count`` rows, to be filled in."""
        return cls(np.empty(count, np.int32), *(np.empty(count) for _ in range(6)))


class ServiceTotals(NamedTuple):
    """Sums over the hops that were entered, per resource; shape (R,) each."""

    busy_s: Floats
    wait_s: Floats
    served: Ints

    @classmethod
    def zeros(cls, resources: int) -> ServiceTotals:
        """Return the sums before anything was served."""
        return cls(np.zeros(resources), np.zeros(resources), np.zeros(resources, np.int64))


class RunLog(NamedTuple):
    """What a compiled run records. Columns that are not wanted are empty.

    Empty arrays have the type of full ones, so all kinds of runs share one compiled loop, and the
    choice costs one test per epoch.
    """

    rewards: Floats
    """Reward of every epoch (Eq. 14); shape (E,)."""
    backlog_s: Floats
    """Backlog of every resource when an epoch begins; shape (E, R)."""
    battery_j: Floats
    """Batteries when an epoch begins, filled in where they are limited; shape (E, D)."""
    tasks: TaskTable
    """Tasks that have ended, in order."""
    blocks: BlockTable
    """Always empty: passed to :func:`account`."""
    services: ServiceTotals
    hops: Records
    """Hops of tasks that have ended, in order; of type ``HOP``. Then tasks are not accounted for.
    """
    offset: Ints
    """The hops of ended task i are those from ``offset[i]`` to ``offset[i + 1]``."""
    filled: Ints
    """Number of hops, tasks and batches that have been filled in; shape (3,)."""

    @classmethod
    def empty(cls) -> RunLog:
        """Return a log that records nothing; replace the columns that are wanted."""
        return cls(
            rewards=np.empty(0),
            backlog_s=np.empty((0, 0)),
            battery_j=np.empty((0, 0)),
            tasks=TaskTable.empty(0),
            blocks=BlockTable.empty(0),
            services=ServiceTotals.zeros(0),
            hops=np.empty(0, dtype=HOP),
            offset=np.zeros(1, dtype=np.int64),
            filled=np.zeros(3, dtype=np.int64),
        )

    def with_more_hops(self, count: int) -> RunLog:
        """Return the same log with room for at least ``count`` more hops, and twice as many."""
        hops = np.empty(len(self.hops) + max(count, len(self.hops)), dtype=HOP)
        raw(hops)[: len(self.hops)] = raw(self.hops)
        return self._replace(hops=hops)


@compiled
def account(  # noqa: C901, PLR0915 - one pass over the hops; split into parts it took twice as long
    tables: KernelTables,
    rows: Records,
    mask: int,
    offset: Ints,
    release_s: Floats,
    ready_s: Floats,
    first_s: Floats,
    weight: Floats,
    to: int,
    tasks: TaskTable,
    blocks: BlockTable,
    enqueue_s: Floats,
    services: ServiceTotals,
) -> None:
    """Fill in the columns of n tasks, and of their blocks if wanted; add up their services.

    Args:
        tables: Constants of the model.
        rows: Hops, in a ring buffer of ``mask`` + 1 rows, or in an array if the mask is −1.
        mask: See ``rows``.
        offset: The hops of task i are those from ``offset[i]`` to ``offset[i + 1]``.
        release_s: Releases of the tasks; shape (n,).
        ready_s: From when their first blocks count; shape (n,).
        first_s: From when their deadlines count; shape (n,).
        weight: Weights of their costs in the reward; shape (n,).
        to: Row of the first task in ``tasks``.
        tasks: Filled in.
        blocks: Filled in from row 0 on, unless it is empty.
        enqueue_s: Filled in with the time when each hop joined its queue, together with the blocks.
        services: The services are added here.
    """
    detailed = len(blocks.cost) > 0
    tolerated_s, deadline_s, beta = tables.tolerated_s, tables.deadline_s, tables.beta
    first_block, class_of_block = tables.first_block, tables.class_of_block
    uplink, servers = tables.uplink, tables.servers
    busy_s, wait_s, served = services
    row = 0
    for task in range(len(release_s)):
        at, end = offset[task], offset[task + 1]
        arrived_s, ended_s, counted_s = release_s[task], release_s[task], ready_s[task]
        edge_s = local_s = energy_j = cost = 0.0
        late, status = 0, COMPLETED
        kind = class_of_block[rows[at & mask]["block"]]
        for block in range(first_block[kind], first_block[kind + 1]):
            began_s, compute_s, spent_j, place = counted_s, np.nan, 0.0, 0
            while at < end and rows[at & mask]["block"] == block:
                hop = rows[at & mask]
                start_s, resource = hop["start_s"], hop["resource"]
                if start_s == start_s:  # entered
                    spent_j += hop["energy_j"]
                    busy_s[resource] += hop["service_s"]
                    wait_s[resource] += start_s - arrived_s
                    served[resource] += 1
                if resource < uplink:
                    compute_s = start_s
                    place = resource + 1 if resource < servers else 0
                if detailed:
                    enqueue_s[at] = arrived_s
                arrived_s = start_s + hop["service_s"] + hop["latency_s"]
                if arrived_s == arrived_s:
                    ended_s = arrived_s
                elif start_s == start_s:
                    ended_s, status = start_s + hop["service_s"], LOST
                elif hop["service_s"] != hop["service_s"]:
                    ended_s, status = max(ended_s, first_s[task] + deadline_s[kind]), DROPPED
                at += 1
            delay_s, counted_s = arrived_s - began_s, arrived_s
            price = block_cost(delay_s, tolerated_s[block], arrived_s, beta, weight[task])
            energy_j += spent_j
            if delay_s == delay_s:
                cost += price
                late += tardiness(delay_s, tolerated_s[block], arrived_s) > 0.0
                if place == 0:
                    local_s += delay_s
                else:
                    edge_s += delay_s
            if detailed:
                blocks.node[row] = place
                blocks.ready_s[row] = began_s
                blocks.compute_start_s[row] = compute_s
                blocks.finish_s[row] = arrived_s
                blocks.delay_s[row] = delay_s
                blocks.energy_J[row] = spent_j
                blocks.cost[row] = price
                row += 1
        to_row = to + task
        tasks.finish_s[to_row] = ended_s
        tasks.total_s[to_row] = edge_s + local_s
        tasks.edge_s[to_row] = edge_s
        tasks.local_s[to_row] = local_s
        tasks.energy_J[to_row] = energy_j
        tasks.cost[to_row] = cost
        tasks.late_blocks[to_row] = late
        if status == COMPLETED and arrived_s != arrived_s:
            status = BATTERY_SPENT
        tasks.class_[to_row] = kind
        tasks.status[to_row] = status
        tasks.missed[to_row] = missed_deadline(
            ended_s - first_s[task], deadline_s[kind], ended_s, status == COMPLETED
        )
