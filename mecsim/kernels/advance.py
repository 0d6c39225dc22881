"""Advance many decision epochs in one compiled call, given their placements.

One loop for all compiled runs: without a trace, with one, and of replicas. They differ only in the
columns of :class:`mecsim.kernels.accounting.RunLog` that they want.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mecsim.kernels.accounting import BATCHES, HOPS, TASKS, RunLog, account
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.event_loop import run
from mecsim.kernels.hops import build_hops
from mecsim.kernels.reward import epoch_reward
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
        s: state of the network.
        tables: constants of the model.
        epochs: table of epochs.
        epoch: row of the epoch.
        placements: see :func:`mecsim.kernels.hops.build_hops`.

    Returns:
        0, or the number of hops that need room before the epoch can be submitted.
    """
    begin, end = epochs.bounds[epoch], epochs.bounds[epoch + 1]
    device, size = epochs.device[begin:end], epochs.size[begin:end]
    offset, out = np.empty(end - begin + 1, np.int64), output_slice(s)
    rate_bps, network = epochs.rate_bps[epochs.rates[epoch]], epochs.network[epoch]
    first_hop = s.counters[END_HOP]
    end_hop = build_hops(
        out, first_hop, offset, tables, network, device, size, rate_bps, placements
    )
    if end_hop > out.end:
        return end_hop - first_hop
    enter(s, offset, epochs.release_s[begin:end], device)
    return 0


@compiled
def account_ended(s: State, tables: KernelTables, log: RunLog) -> None:
    """Account for the leading batches that have ended, and remove them."""
    while True:
        task, hop = s.counters[FIRST_TASK], s.counters[FIRST_HOP]
        if not drop_first(s):
            return
        count = s.counters[FIRST_TASK] - task
        offset, release_s = np.empty(count + 1, np.int64), np.empty(count)
        offset[0] = hop
        for i in range(count):
            row = s.tasks[(task + i) & (len(s.tasks) - 1)]
            offset[i + 1] = row["end"]
            release_s[i] = row["release_s"]
        account(tables, s.hops, len(s.hops) - 1, offset, release_s, log)


@compiled
def hand_over(s: State, log: RunLog) -> int:
    """Copy the hops of the leading batches that have ended to the log, and remove the batches.

    Returns:
        0, or the number of hops that have no room in the log.
    """
    rows, offset, filled = log.hops, log.offset, log.filled
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


@compiled
def _collect(s: State, tables: KernelTables, log: RunLog) -> int:
    """Log the leading batches that have ended, and remove them; see :func:`hand_over`."""
    if len(log.hops):
        return hand_over(s, log)
    if len(log.tasks.status):
        account_ended(s, tables, log)
    else:
        while drop_first(s):
            pass
    return 0


@compiled
def advance(
    s: State,
    tables: KernelTables,
    epochs: EpochTable,
    first: int,
    end: int,
    next_s: float,
    placements: Ints,
    log: RunLog,
    row: int,
) -> tuple[int, int]:
    """Submit each epoch from ``first`` to ``end``, run to the time of the next one, and collect.

    Args:
        s: state of the network at the time of epoch ``first``.
        tables: constants of the model.
        epochs: table of epochs.
        first: row of the first epoch.
        end: row after the last epoch.
        next_s: time of the epoch after those, or infinity: drain the network.
        placements: for each epoch, or for all, one row for all tasks or one for each device;
            shape (E or 1, D or 1, M).
        log: filled in.
        row: row of ``placements`` and of the log's columns of epochs for epoch ``first``.

    Returns:
        The epoch to continue with, and the room that is missing: 0 if everything is done, else
        the number of hops in the state or, if negative, in the log.
    """
    for epoch in range(first, end):
        lacking = _collect(s, tables, log)
        if lacking:
            return epoch, -lacking
        at = row + epoch - first
        if len(log.backlog_s):
            read_backlog(s, epochs.time_s[epoch], log.backlog_s[at])
            if s.metered:
                log.battery_j[at] = s.battery_j
        if not has_room(s, epochs, epoch):
            return epoch, 1
        needed = submit_epoch(
            s, tables, epochs, epoch, placements[at if len(placements) > 1 else 0]
        )
        if needed:
            return epoch, needed
        until_s = epochs.time_s[epoch + 1] if epoch + 1 < end else next_s
        run(s, until_s)
        if len(log.rewards):
            log.rewards[at] = epoch_reward(s, tables, epochs.time_s[epoch], until_s)
    return end, -_collect(s, tables, log)


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
    """Missing room, see :func:`advance`; shape (B,)."""
    backlog_s: Floats
    """Backlogs at the next epoch; shape (B, R)."""


@compiled
def advance_replicas(
    begin: int,
    end: int,
    states: State,
    tables: KernelTables,
    epochs: EpochTable,
    placements: Ints,
    step: BatchStep,
    log: RunLog,
) -> None:
    """Advance the replicas from ``begin`` to ``end`` by K epochs, or to the end of their epochs.

    ``placements`` has the shape (B·K, 1, M); so do the columns of the log have B·K rows.
    """
    count = len(placements) // len(step.epoch)
    for b in range(begin, end):
        s, first, done = replica(states, b), step.epoch[b], step.done[b]
        last = min(step.end[b], first + count - done)
        step.needed[b] = 0
        if last > first:
            until_s = step.next_s[b] if last == step.end[b] else epochs.time_s[last]
            epoch, step.needed[b] = advance(
                s, tables, epochs, first, last, until_s, placements, log, b * count + done
            )
            step.epoch[b] = epoch
            step.done[b] = done + epoch - first
            if epoch > first:
                now = until_s if epoch == last else epochs.time_s[epoch]
                read_backlog(s, now, step.backlog_s[b])
