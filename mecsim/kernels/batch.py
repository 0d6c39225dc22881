"""Independent replicas side by side: an epoch of each in one compiled call, free of the GIL."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class Turn(NamedTuple):
    """What every one of B replicas is to do next, and what came of it."""

    pending: NDArray[np.bool_]
    """Whether it is still to be done; shape (B,)."""
    epoch: Ints
    """The epoch to be acted on, as a row of the epochs; shape (B,)."""
    until_s: Floats
    """When the next one comes, or infinity: drain the network; shape (B,)."""
    placement: Ints
    """Shape (B, M)."""
    needed: Ints
    """How much more room for hops is needed before it can be done, else 0; shape (B,)."""
    reward: Floats
    """Of the epoch acted on (Eq. 14); shape (B,)."""
    backlog_s: Floats
    """Shape (B, R)."""

    @classmethod
    def of(cls, replicas: int, blocks: int, resources: int) -> Turn:
        """Return a turn to be filled in."""
        return cls(
            pending=np.zeros(replicas, dtype=np.bool_),
            epoch=np.zeros(replicas, dtype=np.int64),
            until_s=np.zeros(replicas),
            placement=np.zeros((replicas, blocks), dtype=np.int64),
            needed=np.zeros(replicas, dtype=np.int64),
            reward=np.zeros(replicas),
            backlog_s=np.zeros((replicas, resources)),
        )


@compiled
def _state_of(states: State, b: int) -> State:
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
def _ways_of(ways: Ways, speed: Floats, access: Ints) -> Ways:
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
    turn: Turn,
) -> None:
    """Let the replicas from ``begin`` to ``end`` act on an epoch and go on to the next one.

    All of ``states`` and, of ``ways``, speed and access have one row a replica.
    """
    for b in range(begin, end):
        if not turn.pending[b]:
            continue
        s, epoch, until_s = _state_of(states, b), turn.epoch[b], turn.until_s[b]
        own = _ways_of(ways, ways.speed[b], ways.access[b])
        turn.needed[b] = 1
        if is_room_for(s, epochs, epoch):
            turn.needed[b] = submit_epoch(s, own, epochs, epoch, turn.placement[b : b + 1])
        if turn.needed[b]:
            continue
        turn.pending[b] = False
        run(s, until_s)
        turn.reward[b] = _reward(s, terms, epochs.time_s[epoch], until_s)
        while drop_first(s):
            pass
        for r in range(len(s.last)):
            turn.backlog_s[b, r] = max(s.free_s[s.first[r]] - until_s, 0.0)


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
