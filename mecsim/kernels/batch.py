"""Independent replicas side by side: an epoch of each in one compiled call, free of the GIL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mecsim.accounts import Terms, exact_sum, gather_costs
from mecsim.arrays import Floats, Ints
from mecsim.jit import compiled
from mecsim.kernels.events import run
from mecsim.kernels.play import Epochs, is_room_for, submit_epoch
from mecsim.kernels.rings import (
    END_BATCH,
    FIRST_BATCH,
    FIRST_HOP,
    FIRST_TASK,
    State,
    drop_first,
)
from mecsim.routing import Ways


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
def ways_of(ways: Ways, speed: Floats, access: Ints) -> Ways:
    """Return the ways of a replica with its own speeds and associations."""
    return Ways(
        ways.cycles,
        ways.bits,
        ways.route,
        ways.next_link,
        ways.link_target,
        ways.link_latency_s,
        speed,
        access,
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

    All of ``states`` and, of ``ways``, speed and access have one row a replica.
    """
    for b in range(begin, end):
        s = state_of(states, b)
        own, until_s = ways_of(ways, ways.speed[b], ways.access[b]), -math.inf
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
