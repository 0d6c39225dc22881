"""Many epochs in one compiled call: what a run without a trace does, but for the decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mecsim.kernels.accounting import (
    BlockColumns,
    Services,
    TaskColumns,
    Terms,
    account,
    exact_sum,
    gather_costs,
)
from mecsim.kernels.epochs import Epochs
from mecsim.kernels.event_loop import run
from mecsim.kernels.hops import HOP, Records, Ways, lay_out
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
    room_of,
)
from mecsim.support.arrays import Floats, Ints, raw
from mecsim.support.jit import compiled


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
def play_epochs(
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


class Turns(NamedTuple):
    """What every one of B replicas is to do next, up to K epochs, and what came of it."""

    epoch: Ints
    """The epoch to be acted on next, as a row of the epochs; shape (B,)."""
    end: Ints
    """Where the replica's epochs end; shape (B,)."""
    next_s: Floats
    """When the epoch after those comes, or infinity: drain the network; shape (B,)."""
    done: Ints
    """Epochs acted on, of K; shape (B,)."""
    needed: Ints
    """How much more room for hops is needed before it can go on, else 0; shape (B,)."""
    placements: Ints
    """Shape (K, B, M)."""
    rewards: Floats
    """Of the epochs acted on (Eq. 14); shape (K, B)."""
    backlog_s: Floats
    """Shape (B, R)."""


@compiled
def state_of(states: State, b: int) -> State:
    """Return the state of replica b, as views."""
    return State(
        states.marks[b],
        states.first[b],
        states.free_s[b],
        states.last[b],
        states.battery_j[b],
        states.spent[b],
        states.metered,
        states.heap[b],
        states.tasks[b],
        states.hops[b],
        states.batches[b],
    )


@compiled
def ways_of(ways: Ways, speed: Floats, serving_server: Ints) -> Ways:
    """Return the ways of a replica with its own speeds and associations."""
    return Ways(
        ways.cycles,
        ways.bits,
        ways.route,
        ways.next_link,
        ways.link_target,
        ways.link_latency_s,
        speed,
        serving_server,
        ways.device,
        ways.uplink,
        ways.downlink,
        ways.link,
        ways.literal,
        ways.returns,
        ways.kappa,
        ways.power_w,
    )


@compiled
def _reward(s: State, terms: Terms, acted_s: float, until_s: float) -> float:
    """Return the reward of the epoch submitted last (Eq. 14), and forget what was active."""
    costs, count = np.empty(len(s.tasks) * len(terms.tolerated_s)), 0
    task, hop, mask = s.marks[FIRST_TASK], s.marks[FIRST_HOP], len(s.hops) - 1
    for number in range(s.marks[FIRST_BATCH], s.marks[END_BATCH]):
        batch = s.batches[number & (len(s.batches) - 1)]
        if batch["active"]:
            batch["active"] = 0
            after_s = -math.inf if number == s.marks[END_BATCH] - 1 else acted_s
            while task < batch["end_task"]:
                row = s.tasks[task & (len(s.tasks) - 1)]
                end, release_s = row["end"], row["release_s"]
                count = gather_costs(
                    terms, s.hops, mask, hop, end, release_s, after_s, until_s, costs, count
                )
                hop = end
                task += 1
        task, hop = batch["end_task"], batch["end_hop"]
    return 0.0 - exact_sum(costs[:count])


@compiled
def take_turns(
    begin: int,
    end: int,
    states: State,
    ways: Ways,
    terms: Terms,
    epochs: Epochs,
    turns: Turns,
) -> None:
    """Let the replicas from ``begin`` to ``end`` act on their epochs, one after the other.

    All of ``states`` and, of ``ways``, speed and serving_server have one row a replica.
    """
    for b in range(begin, end):
        s = state_of(states, b)
        own, until_s = ways_of(ways, ways.speed[b], ways.serving_server[b]), -math.inf
        turns.needed[b] = 0
        while turns.done[b] < len(turns.placements) and turns.epoch[b] < turns.end[b]:
            epoch, k = turns.epoch[b], turns.done[b]
            turns.needed[b] = 1
            if is_room_for(s, epochs, epoch):
                placement = turns.placements[k, b : b + 1]
                turns.needed[b] = submit_epoch(s, own, epochs, epoch, placement)
            if turns.needed[b]:
                break
            last = epoch + 1 == turns.end[b]
            until_s = turns.next_s[b] if last else epochs.time_s[epoch + 1]
            run(s, until_s)
            turns.rewards[k, b] = _reward(s, terms, epochs.time_s[epoch], until_s)
            while drop_first(s):
                pass
            turns.epoch[b] += 1
            turns.done[b] += 1
        if until_s > -math.inf:
            for r in range(len(s.last)):
                turns.backlog_s[b, r] = max(s.free_s[s.first[r]] - until_s, 0.0)


def restart(states: State, rows: Sequence[int], battery_j: float) -> None:
    """Empty the queues of some replicas and charge their batteries; the rings stay as they are."""
    at = np.array(rows, dtype=np.int64)
    states.marks[at], states.free_s[at], states.last[at] = 0, 0.0, -1
    states.battery_j[at], states.spent[at] = battery_j, False


def stacked(states: list[State]) -> State:
    """Return the states of replicas as one, a row each, with room for the largest."""
    sizes = [tuple(len(ring) for ring in (s.tasks, s.hops, s.batches)) for s in states]
    largest = tuple(max(column) for column in zip(*sizes, strict=True))
    states = [s.with_size(*largest) for s in states]
    columns: dict[str, Any] = {
        name: np.stack([getattr(s, name) for s in states])
        for name in State._fields
        if name != "metered"
    }
    return states[0]._replace(**columns)


def unstacked(states: State) -> list[State]:
    """Return the state of every replica, as views."""
    count = len(states.marks)
    columns = {name: x for name, x in states._asdict().items() if name != "metered"}
    rows: list[dict[str, Any]] = [{n: x[b] for n, x in columns.items()} for b in range(count)]
    return [states._replace(**row) for row in rows]
