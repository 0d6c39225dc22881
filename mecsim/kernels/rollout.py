"""Rollouts: simulate placements of an epoch on copies of the network until it has drained."""

from __future__ import annotations

import math

import numpy as np

from mecsim.kernels.advance import has_room, submit_epoch
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.event_loop import run
from mecsim.kernels.reward import gather_epoch_costs
from mecsim.kernels.state import (
    END_HOP,
    END_TASK,
    FIRST_HOP,
    FIRST_TASK,
    QUEUED,
    State,
    replica,
    stacked,
    unstacked,
)
from mecsim.kernels.tables import KernelTables
from mecsim.model.model import Model
from mecsim.scheduler.observation import Outcomes
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled


@compiled
def _restore(s: State, base: State) -> None:
    """Reset ``s``, a copy of ``base``, to ``base``, except fields that rollouts never read."""
    s.counters[:] = base.counters
    s.free_s[:] = base.free_s
    s.last[:] = base.last
    s.heap[: base.counters[QUEUED]] = base.heap[: base.counters[QUEUED]]
    for number in range(base.counters[FIRST_TASK], base.counters[END_TASK]):
        row = number & (len(s.tasks) - 1)
        s.tasks[row] = base.tasks[row]
    if len(s.capacity_j):
        s.battery_j[:] = base.battery_j
        s.spent[:] = base.spent
        for number in range(base.counters[FIRST_HOP], base.counters[END_HOP]):
            row = number & (len(s.hops) - 1)
            s.hops[row]["start_s"] = base.hops[row]["start_s"]
    if len(s.calendar) or len(s.drop_after_s):
        for number in range(base.counters[FIRST_HOP], base.counters[END_HOP]):
            row = number & (len(s.hops) - 1)
            s.hops[row] = base.hops[row]


@compiled
def _copy(s: State, base: State) -> None:
    """Make ``s``, whose buffers have the same sizes, a copy of ``base``."""
    _restore(s, base)
    for number in range(base.counters[FIRST_HOP], base.counters[END_HOP]):
        row = number & (len(s.hops) - 1)
        s.hops[row] = base.hops[row]
    s.batches[:] = base.batches
    s.calendar[:] = base.calendar
    s.outages[:] = base.outages


@compiled
def _failed(s: State) -> int:
    """Return how many tasks in flight did not reach their last hop, or failed there."""
    failed = 0
    for number in range(s.counters[FIRST_TASK], s.counters[END_TASK]):
        task = s.tasks[number & (len(s.tasks) - 1)]
        lost = task["ready_s"] != task["ready_s"]
        failed += task["hop"] < task["end"] or lost
    return failed


@compiled
def rollout(
    begin: int,
    end: int,
    states: State,
    s: State,
    tables: KernelTables,
    epochs: EpochTable,
    rows: Ints,
    placements: Ints,
    needed: Ints,
    out: Outcomes,
) -> None:
    """Simulate P placements of one epoch of each of the replicas from ``begin`` to ``end``.

    Args:
        begin: The first replica.
        end: The replica after the last.
        states: States of B replicas, left as they are.
        s: Scratch space, the state of one replica with buffers of the same size.
        tables: Constants of the model.
        epochs: Table of epochs.
        rows: Row of each replica's epoch; shape (B,).
        placements: For each replica P times places for the tasks of each class; shape
            (B, P, C, M).
        needed: Filled in with 0, or with the room for hops that is missing; then the replica's
            outcomes are incomplete.
        out: Filled in; shape (B, P).
    """
    costs = np.empty(len(s.tasks) * len(tables.tolerated_s))
    for b in range(begin, end):
        base, epoch = replica(states, b), rows[b]
        needed[b] = 1
        if has_room(base, epochs, epoch):
            needed[b] = 0
            _copy(s, base)
            now, slot = epochs.time_s[epoch], epochs.slot[epoch]
            expected = epochs.expected_in_slot[epoch]
            for row in range(placements.shape[1]):
                _restore(s, base)
                needed[b] = submit_epoch(s, tables, epochs, epoch, placements[b, row])
                if needed[b]:
                    break
                run(s, math.inf)
                cost = 0.0
                count = gather_epoch_costs(s, tables, now, math.inf, slot, expected, costs)
                for i in range(count):
                    cost += costs[i]
                out.cost[b, row], out.failed[b, row] = cost, _failed(s)


class Rollouts:
    """Simulates placements of one epoch from a copy of the network's state.

    Args:
        base: The state.
        tables: Constants of the model.
        epochs: The epoch, with the tasks of other classes that have been placed at this instant.
        placed: Places for the tasks of each class; shape (C, M). Placements to be simulated replace
            those of ``task_class``.
        task_class: The class of the epoch.
    """

    def __init__(
        self,
        base: State,
        tables: KernelTables,
        epochs: EpochTable,
        placed: Ints,
        task_class: int = 0,
    ) -> None:
        self._tables, self._epochs = tables, epochs
        self._placed, self._class = placed, task_class
        tasks = len(epochs.device)
        room = tasks, 2 * tasks * len(tables.tolerated_s)
        self._states = stacked([base.with_room(*room).copy()])  # the run continues

    def __call__(self, placements: Ints) -> Outcomes:
        """Return the outcome of each of P placements, of shape (P, M), if nothing else comes."""
        out, needed, row = (
            empty_outcomes(1, len(placements)),
            np.ones(1, np.int64),
            np.zeros(1, int),
        )
        each = np.tile(self._placed, (1, len(placements), 1, 1))
        each[0, :, self._class, : placements.shape[1]] = placements
        while needed[0]:
            (base,) = unstacked(self._states)
            scratch = base.copy()  # several threads may call this
            rollout(0, 1, self._states, scratch, self._tables, self._epochs, row, each, needed, out)
            if needed[0]:
                self._states = stacked([base.with_room(len(self._epochs.device), int(needed[0]))])
        return Outcomes(out.cost[0], out.failed[0])


def empty_outcomes(replicas: int, placements: int) -> Outcomes:
    """Return outcomes to be filled in; shape (replicas, placements)."""
    shape = replicas, placements
    return Outcomes(np.empty(shape), np.empty(shape, dtype=np.int64))


def expected_arrivals(epochs: EpochTable, rows: Ints, model: Model) -> tuple[EpochTable, Ints]:
    """Return what a scheduler may know of the tasks of some epochs, for rollouts.

    Tasks that are all released when their epoch comes are known. Otherwise the expected number of
    tasks is spread evenly over the slot and dealt to the devices in turn.

    Args:
        epochs: Table of epochs with all tasks that will come.
        rows: Rows of some epochs, one per replica; shape (B,).
        model: The scenario.

    Returns:
        A table with the known or expected tasks, and the rows of the epochs in it.
    """
    begin, end = epochs.bounds[rows], epochs.bounds[rows + 1]
    known = begin < end
    known[known] = epochs.release_s[end[known] - 1] == epochs.time_s[rows[known]]
    known |= (begin == end) & (np.rint(epochs.load[rows, 0]) == 0)
    if known.all():
        return epochs, rows
    pieces = [
        (epochs.release_s[i:j], epochs.class_[i:j], epochs.device[i:j], epochs.size[i:j])
        if is_known
        else _spread(epochs, row, model)
        for row, i, j, is_known in zip(
            rows.tolist(), begin.tolist(), end.tolist(), known.tolist(), strict=True
        )
    ]
    release_s, class_, device, size = (
        np.concatenate(column) for column in zip(*pieces, strict=True)
    )
    columns = {name: getattr(epochs, name)[rows] for name in _OF_EPOCHS}
    bounds = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
    expected = epochs._replace(
        bounds=bounds, release_s=release_s, class_=class_, device=device, size=size, **columns
    )
    return expected, np.arange(len(rows))


_OF_EPOCHS = (
    "time_s",
    "rates",
    "associations",
    "network",
    "slot",
    "load",
    "expected_size",
    "placed",
    "in_slot",
    "expected_in_slot",
)


def _spread(epochs: EpochTable, row: int, model: Model) -> tuple[Floats, Ints, Ints, Floats]:
    """Return releases, classes, devices and size factors of the expected tasks of a slot."""
    numbers = np.arange(round(float(epochs.load[row, 0])), dtype=np.int64)
    count = max(len(numbers), 1)
    gap_s = model.scenario.slot_length / count
    release_s = epochs.time_s[row] + gap_s * numbers.astype(np.float64)
    device = model.dealing.in_turn(epochs.slot[row] * count + numbers)
    class_ = np.zeros_like(device)
    return release_s, class_, device, np.tile(epochs.expected_size[row], (len(numbers), 1))
