"""What if: runs of the compiled kernel that branch off, each under another placement."""

from __future__ import annotations

import math

import numpy as np

from mecsim.kernels.accounting import Terms, gather_costs
from mecsim.kernels.advance import is_room_for, state_of, submit_epoch, ways_of
from mecsim.kernels.epochs import Epochs
from mecsim.kernels.event_loop import run
from mecsim.kernels.hops import Ways
from mecsim.kernels.state import END_HOP, END_TASK, FIRST_HOP, FIRST_TASK, QUEUED, State
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.scheduler.observation import Outcomes
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled


@compiled
def _restore(s: State, base: State) -> None:
    """Put a state back to the one that it was copied from, but for what no branch reads."""
    s.marks[:] = base.marks
    s.free_s[:] = base.free_s
    s.last[:] = base.last
    s.heap[: base.marks[QUEUED]] = base.heap[: base.marks[QUEUED]]
    for number in range(base.marks[FIRST_TASK], base.marks[END_TASK]):
        row = number & (len(s.tasks) - 1)
        s.tasks[row] = base.tasks[row]
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
    epoch: int,
    now: float,
    placements: Ints,
    first: int,
    out: Outcomes,
) -> tuple[int, int]:
    """Run the branches from ``first`` on in ``s``, a copy of ``base`` with room for the tasks.

    Return the first that needs more room for hops, and how much.
    """
    costs = np.empty(len(terms.tolerated_s))
    for branch in range(first, len(placements)):
        _restore(s, base)
        needed = submit_epoch(s, ways, epochs, epoch, placements[branch : branch + 1])
        if needed:
            return branch, needed
        run(s, math.inf)
        cost, failed = _outcome(s, terms, base.marks[END_TASK], now, costs)
        out.cost[branch], out.failed[branch] = cost, failed
    return len(placements), 0


@compiled
def _adopt(s: State, base: State) -> None:
    """Make a state with rings of the same size the same as another one."""
    _restore(s, base)
    for number in range(base.marks[FIRST_HOP], base.marks[END_HOP]):
        row = number & (len(s.hops) - 1)
        s.hops[row] = base.hops[row]


@compiled
def explore_all(
    begin: int,
    end: int,
    states: State,
    s: State,
    ways: Ways,
    terms: Terms,
    epochs: Epochs,
    rows: Ints,
    placements: Ints,
    needed: Ints,
    out: Outcomes,
) -> None:
    """Explore placements, of shape (B, C, M), of the epochs ``rows`` of replicas begin to end.

    ``s`` has rings of the size of theirs. Where ``needed`` is not 0 afterwards, it says how much
    more room for hops is needed, and nothing is known.
    """
    for b in range(begin, end):
        base, own = state_of(states, b), ways_of(ways, ways.speed[b], ways.serving_server[b])
        needed[b] = 1
        if is_room_for(base, epochs, rows[b]):
            _adopt(s, base)
            found = Outcomes(out.cost[b], out.failed[b])
            now = epochs.time_s[rows[b]]
            _, needed[b] = _explore(
                base, s, own, terms, epochs, rows[b], now, placements[b], 0, found
            )


class Explorer:
    """Explores what placements of an epoch's tasks lead to, from a state of the network."""

    def __init__(self, base: State, ways: Ways, terms: Terms, epochs: Epochs, now: float) -> None:
        self._ways, self._terms, self._epochs, self._now = ways, terms, epochs, now
        tasks = len(epochs.device)
        room = tasks, 2 * tasks * len(terms.tolerated_s)
        self._base = base.with_room(*room).copy()  # the run goes on, observations may be kept

    def __call__(self, placements: Ints) -> Outcomes:
        """Return what each of C placements leads to, if nothing else comes; shape (C, M)."""
        out = Outcomes(np.empty(len(placements)), np.empty(len(placements), dtype=np.int64))
        base, branch = self._base, 0
        scratch = base.copy()  # of this call: several threads may ask
        while branch < len(placements):
            branch, needed = _explore(
                base,
                scratch,
                self._ways,
                self._terms,
                self._epochs,
                0,
                self._now,
                placements,
                branch,
                out,
            )
            if needed:
                base = self._base = base.with_room(len(self._epochs.device), needed)
                scratch = base.copy()
        return out


def supposed(model: Model, slot: Slot, tasks: Tasks, now: float) -> Epochs:
    """Return the tasks of an epoch as far as a scheduler may know them.

    Tasks that are not all released now are not known: as many as expected come evenly over the
    slot, dealt to the devices in turn.
    """
    release_s, device, size = tasks.release_s, tasks.device, tasks.size
    if not len(tasks) or release_s[-1] != now:
        numbers = np.arange(round(slot.expected_tasks), dtype=np.int64)
        count = max(len(numbers), 1)
        gap_s = model.scenario.slot_length / count
        release_s = slot.start_s + gap_s * numbers.astype(np.float64)
        device = (slot.number * count + numbers) % model.devices
        size = np.tile(slot.expected_size, (len(numbers), 1))
    return Epochs(
        time_s=np.array([now]),
        bounds=np.array([0, len(device)]),
        rates=np.zeros(1, dtype=np.int64),
        release_s=release_s,
        device=device,
        size=size,
        rate_bps=slot.rate_bps[None, :],
    )
