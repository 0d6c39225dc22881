"""Advance many decision epochs in one compiled call, given their placements.

One loop for all compiled runs: without a trace, with one, and of replicas. They differ only in the
columns of :class:`mecsim.kernels.accounting.RunLog` that they want.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mecsim.kernels.accounting import (
    BATCHES,
    HOPS,
    TASKS,
    BlockTable,
    RunLog,
    ServiceTotals,
    TaskTable,
    account,
)
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.event_loop import run
from mecsim.kernels.hops import OutputSlice, Records, build_hops
from mecsim.kernels.reward import epoch_reward, weight_of
from mecsim.kernels.state import (
    END_BATCH,
    END_HOP,
    END_TASK,
    FIRST_BATCH,
    FIRST_HOP,
    FIRST_TASK,
    State,
    drop_first,
    enter,
    output_slice,
    read_backlog,
    read_committed,
    replica,
)
from mecsim.kernels.tables import KernelTables
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled


@compiled
def has_room(s: State, epochs: EpochTable, epoch: int) -> bool:
    """Return whether the buffers of tasks and batches have room for an epoch."""
    tasks = s.counters[END_TASK] - s.counters[FIRST_TASK]
    more = epochs.bounds[epoch + 1] - epochs.bounds[epoch]
    batches = s.counters[END_BATCH] - s.counters[FIRST_BATCH]
    return tasks + more <= len(s.tasks) and batches < len(s.batches)


@compiled
def submit_epoch(
    s: State, tables: KernelTables, epochs: EpochTable, epoch: int, placements: Ints
) -> int:
    """Submit the tasks of an epoch; there must be room for them and their batch.

    Args:
        s: State of the network.
        tables: Constants of the model.
        epochs: Table of epochs.
        epoch: Row of the epoch.
        placements: See :func:`mecsim.kernels.hops.build_hops`.

    Returns:
        0, or the number of hops that need room before the epoch can be submitted.
    """
    begin, end = epochs.bounds[epoch], epochs.bounds[epoch + 1]
    class_, device = epochs.class_[begin:end], epochs.device[begin:end]
    size = epochs.size[begin:end]
    offset, out = np.empty(end - begin + 1, np.int64), output_slice(s)
    rate_bps, network = epochs.rate_bps[epochs.rates[epoch]], epochs.network[epoch]
    server, first_hop = epochs.serving_server[epochs.associations[epoch]], s.counters[END_HOP]
    release_s, calendar, outages = epochs.release_s[begin:end], s.calendar, s.outages
    end_hop = build_hops(
        out, first_hop, offset, tables, network, calendar, outages, release_s,
        class_, device, size, rate_bps, server, placements,
    )  # fmt: skip
    if end_hop > out.end:
        return end_hop - first_hop
    slot, in_slot = epochs.slot[epoch], epochs.in_slot[epoch]
    enter(s, offset, release_s, release_s, class_, device, slot, in_slot)
    return 0


@compiled
def add_services(
    states: State,
    tables: KernelTables,
    epochs: EpochTable,
    placements: Ints,
    rows: Records,
    services_s: Floats,
) -> int:
    """Add up the services of the tasks of an epoch of each of B replicas, if they were placed.

    Args:
        states: States of the replicas.
        tables: Constants of the model.
        epochs: Table with one epoch for each replica.
        placements: Places for the tasks of each class; shape (B, C, M).
        rows: Scratch space.
        services_s: Added to, by resource; 0 before; shape (B, R).

    Returns:
        0, or the number of rows that the scratch space must have; then nothing is added.
    """
    needed = 0
    for adds in (False, True):
        for b in range(len(services_s)):
            begin, end = epochs.bounds[b], epochs.bounds[b + 1]
            if begin == end:
                continue
            offset, s = np.empty(end - begin + 1, np.int64), replica(states, b)
            out, rate_bps = OutputSlice(rows, -1, len(rows)), epochs.rate_bps[epochs.rates[b]]
            server = epochs.serving_server[epochs.associations[b]]
            count = build_hops(
                out, 0, offset, tables, epochs.network[b], s.calendar, s.outages,
                epochs.release_s[begin:end], epochs.class_[begin:end], epochs.device[begin:end],
                epochs.size[begin:end], rate_bps, server, placements[b],
            )  # fmt: skip
            needed = max(needed, count)
            for row in range(count if adds else 0):
                services_s[b, rows[row]["resource"]] += rows[row]["service_s"]
        if needed > len(rows):
            return needed
    return 0


@compiled
def account_ended(
    s: State,
    tables: KernelTables,
    tasks: TaskTable,
    blocks: BlockTable,
    services: ServiceTotals,
    filled: Ints,
) -> None:
    """Account for the leading batches that have ended, and remove them; ``blocks`` is empty."""
    while True:
        task, hop = s.counters[FIRST_TASK], s.counters[FIRST_HOP]
        batch = s.batches[s.counters[FIRST_BATCH] & (len(s.batches) - 1)]
        if not drop_first(s):
            return
        count = s.counters[FIRST_TASK] - task
        offset, release_s = np.empty(count + 1, np.int64), np.empty(count)
        weight = np.full(count, weight_of(batch["in_slot"], tables.averages))
        offset[0] = hop
        for i in range(count):
            row = s.tasks[(task + i) & (len(s.tasks) - 1)]
            offset[i + 1] = row["end"]
            release_s[i] = row["release_s"]
        mask, to, none = len(s.hops) - 1, filled[TASKS], release_s[:0]
        account(
            tables, s.hops, mask, offset, release_s, release_s, release_s, weight, to, tasks,
            blocks, none, services,
        )  # fmt: skip
        filled[TASKS] += count


@compiled
def hand_over(s: State, rows: Records, offset: Ints, filled: Ints) -> int:
    """Copy the hops of the leading batches that have ended to ``rows``, and remove the batches.

    Returns:
        0, or the number of hops that have no room.
    """
    while s.counters[FIRST_BATCH] < s.counters[END_BATCH]:
        batch = s.batches[s.counters[FIRST_BATCH] & (len(s.batches) - 1)]
        task, hop = s.counters[FIRST_TASK], s.counters[FIRST_HOP]
        count = batch["end_hop"] - hop
        if batch["unfinished"] == 0 and filled[HOPS] + count > len(rows):
            return filled[HOPS] + count - len(rows)
        if not drop_first(s):
            break
        for row in range(count):
            rows[filled[HOPS] + row] = s.hops[(hop + row) & (len(s.hops) - 1)]
        for number in range(task, s.counters[FIRST_TASK]):
            end = s.tasks[number & (len(s.tasks) - 1)]["end"]
            filled[TASKS] += 1
            offset[filled[TASKS]] = filled[HOPS] + end - hop
        filled[HOPS] += count
        filled[BATCHES] += 1
    return 0


class BatchStep(NamedTuple):
    """Which epochs each of B replicas acts on next, and how far it has come."""

    epoch: Ints
    """Row of the next epoch; shape (B,)."""
    end: Ints
    """Row after the replica's last epoch in the table; shape (B,)."""
    next_s: Floats
    """Time of the epoch after those, or infinity: drain the network; shape (B,)."""
    done: Ints
    """Epochs acted on in this step; shape (B,)."""
    needed: Ints
    """Room that is missing before a replica can continue: 0 if none, else the number of hops in
    its state or, if negative, in the log; shape (B,)."""
    backlog_s: Floats
    """Filled in with the backlogs at the next epoch; shape (B, R)."""
    committed_s: Floats
    """Filled in with the services, by resource, of tasks that are not released then; shape (B, R),
    or (0, R) if they are not wanted."""


@compiled
def advance(  # noqa: C901 - one loop: a call for each replica took a fifth of a step
    begin: int,
    end: int,
    states: State,
    tables: KernelTables,
    epochs: EpochTable,
    count: int,
    placements: Ints,
    step: BatchStep,
    log: RunLog,
) -> None:
    """Advance replicas, one after the other: submit an epoch, run to the next one, collect.

    Args:
        begin: The first replica.
        end: The replica after the last.
        states: States of all B replicas, at the times of their next epochs.
        tables: Constants of the model.
        epochs: Table of epochs of all replicas.
        count: K, the number of epochs to act on in this step, at most.
        placements: For epoch k of replica b row b·K + k, or one row for all: places for the tasks
            of each class, or of each device and class; shape (B·K or 1, C or D·C, M).
        step: Where the replicas are; updated. Call again while ``needed`` is not 0.
        log: Filled in; columns of epochs have a row b·K + k.
    """
    time_s, each = epochs.time_s, len(placements) > 1
    rewards, backlog_s, battery_j = log.rewards, log.backlog_s, log.battery_j
    tasks, blocks, services = log.tasks, log.blocks, log.services
    hops, offset, filled = log.hops, log.offset, log.filled
    observes, rewarded = len(backlog_s) > 0, len(rewards) > 0
    hands_over, accounts = len(hops) > 0, len(tasks.status) > 0
    for b in range(begin, end):
        s, first, done = replica(states, b), step.epoch[b], step.done[b]
        epoch, last, needed, now = first, step.end[b], 0, -math.inf
        while True:
            if hands_over:
                needed = -hand_over(s, hops, offset, filled)
                if needed:
                    break
            elif accounts:
                account_ended(s, tables, tasks, blocks, services, filled)
            else:
                while drop_first(s):
                    pass
            if done == count or epoch == last:
                break
            row, acted_s = b * count + done, time_s[epoch]
            if observes:
                read_backlog(s, acted_s, backlog_s[row])
                if len(s.capacity_j):
                    battery_j[row] = s.battery_j
            needed = 1
            if has_room(s, epochs, epoch):
                needed = submit_epoch(s, tables, epochs, epoch, placements[row if each else 0])
            if needed:
                break
            epoch += 1
            done += 1
            now = step.next_s[b] if epoch == last else time_s[epoch]
            run(s, now)
            if rewarded:
                rewards[row] = epoch_reward(s, tables, acted_s, now)
        step.epoch[b], step.done[b], step.needed[b] = epoch, done, needed
        if epoch > first:
            read_backlog(s, now, step.backlog_s[b])
            if len(step.committed_s):
                read_committed(s, step.committed_s[b])
