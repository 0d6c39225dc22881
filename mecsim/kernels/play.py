"""Many epochs in one compiled call: what a run without a trace does, but for the decisions."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mecsim.accounts import BlockColumns, Services, TaskColumns, Terms, account
from mecsim.arrays import Floats, Ints, raw
from mecsim.jit import compiled
from mecsim.kernels.events import run
from mecsim.kernels.rings import (
    END_BATCH,
    END_HOP,
    END_TASK,
    FIRST_BATCH,
    FIRST_HOP,
    FIRST_TASK,
    State,
    drop_first,
    enter,
    room_of,
)
from mecsim.model import Model
from mecsim.routing import HOP, Records, Ways, lay_out
from mecsim.workload import Chunk


class Epochs(NamedTuple):
    """Epochs to come, E of them, and their n tasks."""

    time_s: Floats
    """Shape (E,)."""
    bounds: Ints
    """The tasks of epoch e are those from ``bounds[e]`` to ``bounds[e + 1]``; shape (E + 1,)."""
    rates: Ints
    """The row of ``rate_bps`` that holds in an epoch; shape (E,)."""
    release_s: Floats
    device: Ints
    size: Floats
    rate_bps: Floats

    @classmethod
    def of(cls, chunk: Chunk) -> Epochs:
        """Return the epochs of a chunk, a slot each."""
        each = len(chunk.rate_bps) > 1
        rates = np.arange(len(chunk.start_s)) * each
        tasks = chunk.release_s, chunk.device, chunk.size
        return cls(chunk.start_s, chunk.bounds, rates, *tasks, chunk.rate_bps)


@compiled
def is_room_for(s: State, epochs: Epochs, epoch: int) -> bool:
    """Return whether there is room for an epoch's tasks and batch (and perhaps for its hops)."""
    tasks = s.marks[END_TASK] - s.marks[FIRST_TASK]
    more = epochs.bounds[epoch + 1] - epochs.bounds[epoch]
    batches = s.marks[END_BATCH] - s.marks[FIRST_BATCH]
    return tasks + more <= len(s.tasks) and batches < len(s.batches)


@compiled
def submit_epoch(s: State, ways: Ways, epochs: Epochs, epoch: int, placements: Ints) -> int:
    """Submit the tasks of an epoch; return how much more room for hops it needs, 0 if it is done.

    There must be room for its tasks and its batch. ``placements``: see ``lay_out``.
    """
    begin, end = epochs.bounds[epoch], epochs.bounds[epoch + 1]
    device, size = epochs.device[begin:end], epochs.size[begin:end]
    offset, room = np.empty(end - begin + 1, np.int64), room_of(s)
    rate_bps = epochs.rate_bps[epochs.rates[epoch]]
    end_hop = lay_out(room, s.marks[END_HOP], offset, ways, device, size, rate_bps, placements)
    if end_hop > room.end:
        return end_hop - s.marks[END_HOP]
    enter(s, offset, epochs.release_s[begin:end], device)
    return 0


@compiled
def account_ended(
    s: State, terms: Terms, done: int, tasks: TaskColumns, blocks: BlockColumns, services: Services
) -> int:
    """Account for the leading batches that have ended, and drop them.

    Rows of tasks are written from ``done`` on; return where they end. ``blocks`` is empty.
    """
    while True:
        task, hop = s.marks[FIRST_TASK], s.marks[FIRST_HOP]
        if not drop_first(s):
            return done
        count = s.marks[FIRST_TASK] - task
        offset, release_s = np.empty(count + 1, np.int64), np.empty(count)
        offset[0] = hop
        for i in range(count):
            row = s.tasks[(task + i) & (len(s.tasks) - 1)]
            offset[i + 1] = row["end"]
            release_s[i] = row["release_s"]
        mask, none = len(s.hops) - 1, release_s[:0]
        account(terms, s.hops, mask, offset, release_s, done, tasks, blocks, none, services)
        done += count


@compiled
def _play(
    s: State,
    ways: Ways,
    terms: Terms,
    epochs: Epochs,
    first: int,
    placements: Ints,
    done: int,
    tasks: TaskColumns,
    blocks: BlockColumns,
    services: Services,
) -> tuple[int, int, int]:
    """Play the epochs from ``first`` on; ``placements`` as in ``lay_out``.

    Return the first that was not played, because it needs more room for hops, how much, and how
    many rows of ``tasks`` are filled in.
    """
    for epoch in range(first, len(epochs.time_s)):
        run(s, epochs.time_s[epoch])
        done = account_ended(s, terms, done, tasks, blocks, services)
        if not is_room_for(s, epochs, epoch):
            return epoch, 1, done
        needed = submit_epoch(s, ways, epochs, epoch, placements)
        if needed:
            return epoch, needed, done
    return len(epochs.time_s), 0, done


class Ended(NamedTuple):
    """Hops of tasks that have ended, handed over in order."""

    rows: Records
    """Of type ``HOP``."""
    offset: Ints
    """The hops of task i are those from ``offset[i]``, up to ``offset[i + 1]``."""
    filled: Ints
    """How many hops, tasks and batches there are; shape (3,)."""

    @classmethod
    def empty(cls, tasks: int, hops: int) -> Ended:
        """Return room for so many."""
        offset = np.zeros(tasks + 1, dtype=np.int64)
        return cls(np.empty(hops, dtype=HOP), offset, np.zeros(3, dtype=np.int64))

    def with_room(self, hops: int) -> Ended:
        """Return the same with room for so many hops more, and for as many as there are now."""
        rows = np.empty(len(self.rows) + max(hops, len(self.rows)), dtype=HOP)
        raw(rows)[: len(self.rows)] = raw(self.rows)
        return self._replace(rows=rows)


@compiled
def hand_over(s: State, ended: Ended) -> int:
    """Hand over the leading batches that have ended; return how many hops have no room, or 0."""
    rows, offset, filled = ended
    while s.marks[FIRST_BATCH] < s.marks[END_BATCH]:
        batch = s.batches[s.marks[FIRST_BATCH] & (len(s.batches) - 1)]
        task, hop = s.marks[FIRST_TASK], s.marks[FIRST_HOP]
        count = batch["end_hop"] - hop
        if batch["unfinished"] == 0 and filled[0] + count > len(rows):
            return filled[0] + count - len(rows)
        if not drop_first(s):
            break
        for row in range(count):
            rows[filled[0] + row] = s.hops[(hop + row) & (len(s.hops) - 1)]
        for number in range(task, s.marks[FIRST_TASK]):
            end = s.tasks[number & (len(s.tasks) - 1)]["end"]
            filled[1] += 1
            offset[filled[1]] = filled[0] + end - hop
        filled[0] += count
        filled[2] += 1
    return 0


@compiled
def play_noted(
    s: State,
    ways: Ways,
    epochs: Epochs,
    first: int,
    placements: Ints,
    backlog_s: Floats,
    battery_j: Floats,
    ended: Ended,
) -> tuple[int, int]:
    """Play the epochs from ``first`` on and hand over what ends; ``placements`` as in ``lay_out``.

    What is seen at each is noted in its row of ``backlog_s``, shape (E, R), and, where there are
    batteries, of ``battery_j``, shape (E, D). Return the first that was not played, and how much
    room for hops it needs in the ring or, if negative, among those that have ended.
    """
    for epoch in range(first, len(epochs.time_s)):
        now = epochs.time_s[epoch]
        run(s, now)
        lacking = hand_over(s, ended)
        if lacking:
            return epoch, -lacking
        for r in range(len(s.last)):
            backlog_s[epoch, r] = max(s.free_s[s.first[r]] - now, 0.0)
        if s.metered:
            battery_j[epoch] = s.battery_j
        if not is_room_for(s, epochs, epoch):
            return epoch, 1
        needed = submit_epoch(s, ways, epochs, epoch, placements)
        if needed:
            return epoch, needed
    return len(epochs.time_s), 0


class Player:
    """Plays a run under given placements on the compiled kernel, chunk by chunk."""

    def __init__(self, model: Model, services: Services, size: int = 4096) -> None:
        self._state, self._services = State.of(model, size), services
        self._ways, self._terms = Ways.of(model), Terms.of(model)
        self._blocks = BlockColumns.empty(0)

    def play(self, chunk: Chunk, placements: Ints) -> TaskColumns:
        """Play the slots of a chunk; return the tasks that have ended, in order.

        ``placements`` has one row for all tasks or one for each device; shape (1, M) or (D, M).
        """
        epochs, marks = Epochs.of(chunk), self._state.marks
        tasks = TaskColumns.empty(int(marks[END_TASK] - marks[FIRST_TASK]) + len(chunk.device))
        epoch = done = 0
        while epoch < len(epochs.time_s):
            epoch, needed, done = _play(
                self._state,
                self._ways,
                self._terms,
                epochs,
                epoch,
                placements,
                done,
                tasks,
                self._blocks,
                self._services,
            )
            if needed:
                more = int(epochs.bounds[epoch + 1] - epochs.bounds[epoch])
                self._state = self._state.with_room(more, needed)
        return tasks.first(done)

    def drain(self) -> TaskColumns:
        """Let what is left run to its end; return the tasks."""
        run(self._state, math.inf)
        marks = self._state.marks
        tasks = TaskColumns.empty(int(marks[END_TASK] - marks[FIRST_TASK]))
        account_ended(self._state, self._terms, 0, tasks, self._blocks, self._services)
        return tasks
