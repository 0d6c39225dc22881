"""What if: runs of the compiled kernel that branch off, each under another placement."""

from __future__ import annotations

import math

import numpy as np

from mecsim.accounts import Terms, gather_costs
from mecsim.arrays import Floats, Ints
from mecsim.jit import compiled
from mecsim.kernels.events import run
from mecsim.kernels.play import Epochs, submit_epoch
from mecsim.kernels.rings import (
    END_BATCH,
    END_HOP,
    END_TASK,
    FIRST_BATCH,
    FIRST_HOP,
    FIRST_TASK,
    QUEUED,
    State,
)
from mecsim.model import Model
from mecsim.routing import Ways
from mecsim.scenario import Slotted
from mecsim.scheduler import Outcomes
from mecsim.workload import Slot, Tasks


@compiled
def _restore(s: State, base: State) -> None:
    """Put a state back to the one that it was copied from; the hops to come need not be."""
    s.marks[:] = base.marks
    s.free_s[:] = base.free_s
    s.last[:] = base.last
    s.heap[: base.marks[QUEUED]] = base.heap[: base.marks[QUEUED]]
    for number in range(base.marks[FIRST_TASK], base.marks[END_TASK]):
        row = number & (len(s.tasks) - 1)
        s.tasks[row] = base.tasks[row]
    for number in range(base.marks[FIRST_BATCH], base.marks[END_BATCH]):
        row = number & (len(s.batches) - 1)
        s.batches[row] = base.batches[row]
    if s.metered:
        s.battery_j[:] = base.battery_j
        s.spent[:] = base.spent
        for number in range(base.marks[FIRST_HOP], base.marks[END_HOP]):
            row = number & (len(s.hops) - 1)
            s.hops[row]["start_s"] = base.hops[row]["start_s"]


@compiled
def _outcome(s: State, terms: Terms, new: int, now: float, costs: Floats) -> tuple[float, int]:
    """Return the costs of the blocks that finish after ``now``, and how many tasks failed.

    Tasks from ``new`` on are those of this epoch, of which every block counts.
    """
    hop, mask, total, failed = s.marks[FIRST_HOP], len(s.hops) - 1, 0.0, 0
    for number in range(s.marks[FIRST_TASK], s.marks[END_TASK]):
        task = s.tasks[number & (len(s.tasks) - 1)]
        after_s = -math.inf if number >= new else now
        end, release_s = task["end"], task["release_s"]
        count = gather_costs(terms, s.hops, mask, hop, end, release_s, after_s, math.inf, costs, 0)
        for i in range(count):
            total += costs[i]
        failed += task["hop"] < end
        hop = end
    return total, failed


@compiled
def _explore(
    base: State,
    s: State,
    ways: Ways,
    terms: Terms,
    epochs: Epochs,
    now: float,
    placements: Ints,
    first: int,
    out: Outcomes,
) -> tuple[int, int]:
    """Run the branches from ``first`` on in ``s``, a copy of ``base`` with room for the tasks.

    Return the first that needs more room for hops, and how much beyond those of ``base``.
    """
    costs = np.empty(len(terms.tolerated_s))
    for branch in range(first, len(placements)):
        _restore(s, base)
        for epoch in range(len(epochs.time_s)):
            needed = submit_epoch(s, ways, epochs, epoch, placements[branch : branch + 1])
            if needed:
                return branch, s.marks[END_HOP] - base.marks[END_HOP] + needed
        run(s, math.inf)
        cost, failed = _outcome(s, terms, base.marks[END_TASK], now, costs)
        out.cost[branch], out.failed[branch] = cost, failed
    return len(placements), 0


class Explorer:
    """Explores what placements of an epoch's tasks lead to, from a state of the network."""

    def __init__(self, base: State, ways: Ways, terms: Terms, epochs: Epochs, now: float) -> None:
        self._ways, self._terms, self._epochs, self._now = ways, terms, epochs, now
        count = len(epochs.time_s)
        room = len(epochs.device), len(epochs.device) * 32, count
        self._base = base.with_room(*room).copy()  # the run goes on, observations may be kept
        self._scratch = self._base.copy()

    def __call__(self, placements: Ints) -> Outcomes:
        """Return what each of C placements leads to, if nothing else comes; shape (C, M)."""
        out = Outcomes(np.empty(len(placements)), np.empty(len(placements), dtype=np.int64))
        branch = 0
        while branch < len(placements):
            branch, needed = _explore(
                self._base,
                self._scratch,
                self._ways,
                self._terms,
                self._epochs,
                self._now,
                placements,
                branch,
                out,
            )
            if needed:
                tasks, epochs = len(self._epochs.device), len(self._epochs.time_s)
                self._base = self._base.with_room(tasks, needed, epochs)
                self._scratch = self._base.copy()
        return out


def supposed(model: Model, slot: Slot, tasks: Tasks, now: float, horizon: int) -> Epochs:
    """Return the tasks of an epoch as far as a scheduler may know them, and those of later slots.

    Tasks that are not all released now are not known: as many as expected come evenly, dealt to
    the devices in turn. So do those of the next ``horizon`` − 1 slots, if epochs are slots.
    """
    known = bool(len(tasks)) and tasks.release_s[-1] == now
    count = round(slot.expected_tasks)
    first = (tasks.release_s, tasks.device, tasks.size)
    later = horizon if model.scenario.epoch == "slot" else 1
    usual = np.ones((count, tasks.size.shape[1]))
    pieces = [] if known else [_evenly(model, slot, 0, usual * slot.expected_size)]
    pieces += [_evenly(model, slot, k, usual) for k in range(len(pieces) + known, later)]
    pieces = [first, *pieces] if known else pieces
    counts = [len(device) for _, device, _ in pieces]
    release_s, device, size = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    length = model.scenario.slot_length
    return Epochs(
        time_s=now + length * np.arange(len(pieces), dtype=np.float64),
        bounds=np.concatenate([[0], np.cumsum(counts)]),
        rates=np.zeros(len(pieces), dtype=np.int64),
        release_s=release_s,
        device=device,
        size=size,
        rate_bps=slot.rate_bps[None, :],
    )


def _evenly(model: Model, slot: Slot, later: int, size: Floats) -> tuple[Floats, Ints, Floats]:
    """Return release times, devices and sizes of the tasks supposed to come in a slot."""
    count, length = len(size), model.scenario.slot_length
    numbers = np.arange(count, dtype=np.int64)
    start_s = slot.start_s + later * length
    slotted = isinstance(model.scenario.arrivals, Slotted)
    gap_s = 0.0 if slotted else length / max(count, 1)
    release_s = start_s + gap_s * numbers.astype(np.float64)
    return release_s, ((slot.number + later) * count + numbers) % model.devices, size
