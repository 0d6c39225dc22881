"""Search over placements by simulation (rollouts)."""

import numpy as np

from mecsim import Ints, Observation, Placement, Scheduler, SchedulerSpec
from schedulers.single_cut import SingleCut

MAX_BUDGET = 1_000_000
"""Number of candidates that still fit into memory."""


class Lookahead(Scheduler):
    """The best placement found by simulating many: coordinate descent from several starts.

    Each candidate is simulated from the present state of the network until all tasks have ended;
    the candidate of least cost (Eq. 14) is taken. If the budget covers all placements, all are
    simulated.

    Args:
        spec: The network.
        budget: Number of candidates that are simulated at each epoch.
    """

    uses_rollouts = True

    def __init__(self, spec: SchedulerSpec, *, budget: int = 300) -> None:
        super().__init__(spec)
        if not 1 <= budget <= MAX_BUDGET:
            raise ValueError(f"budget: {budget} should be at least 1 and at most {MAX_BUDGET:,}")
        self.budget = budget
        self._single_cut = SingleCut(spec)
        self._best = [np.zeros(each.blocks, dtype=np.int64) for each in spec.classes]
        self._costs: dict[bytes, tuple[float, float]] = {}

    def decide(self, observation: Observation) -> Placement:
        """Return the simulated placement of fewest failures and, of these, least cost."""
        self._costs = {}
        self._simulate(observation, self._starts(observation))
        if not self._is_exhaustive(observation.spec):
            for start in sorted(self._costs, key=self._costs.__getitem__):
                self._descend(observation, np.frombuffer(start, dtype=np.int64))
        best = np.frombuffer(min(self._costs, key=self._costs.__getitem__), dtype=np.int64)
        self._best[observation.class_number] = best
        return best

    def _is_exhaustive(self, spec: SchedulerSpec) -> bool:
        """Return whether the budget covers all placements of a class of tasks."""
        return (spec.servers + 1) ** spec.blocks <= self.budget

    def _descend(self, observation: Observation, placement: Ints) -> None:
        """Move to the best neighbour, in one block or a swap of two, until none is better."""
        while len(self._costs) < self.budget:
            near = self._neighbours(placement)
            self._simulate(observation, near)
            known = [row for row in near if row.tobytes() in self._costs]
            best = min(known, key=self._cost, default=placement)
            if self._cost(best) >= self._cost(placement):
                return
            placement = best

    def _cost(self, placement: Ints) -> tuple[float, float]:
        return self._costs[placement.tobytes()]

    def _simulate(self, observation: Observation, placements: Ints) -> None:
        """Simulate those placements that are new, up to the budget."""
        new = {row.tobytes(): row for row in placements if row.tobytes() not in self._costs}
        rows = list(new)[: self.budget - len(self._costs)]
        if rows:
            cost, failed = observation.what_if(np.stack([new[key] for key in rows]))
            found = zip(failed.tolist(), cost.tolist(), strict=True)
            self._costs |= dict(zip(rows, found, strict=True))

    def _starts(self, observation: Observation) -> Ints:
        """Return all placements if the budget covers them; otherwise the placements to start from.

        These are the last decision, greedy ones in both orders of the blocks, and random ones. A
        budget that does not cover a step from the best of them has the one of `single-cut` first:
        unlike greedy ones it takes the times of transfers into account.
        """
        spec, random = observation.spec, max(2, self.budget // 50)
        if self._is_exhaustive(spec):
            return np.indices([spec.servers + 1] * spec.blocks).reshape(spec.blocks, -1).T
        drawn = spec.rng.integers(spec.servers + 1, size=(random, spec.blocks))
        neighbours = spec.blocks * spec.servers + spec.blocks * (spec.blocks - 1) // 2
        order = np.arange(spec.blocks)
        greedy = [self._greedy(observation, blocks) for blocks in (order, order[::-1])]
        starts = np.concatenate([[self._best[observation.class_number]], greedy, drawn])
        if self.budget < len(starts) + neighbours:
            cut = np.array(self._single_cut.decide(observation), dtype=np.int64)
            starts = np.concatenate([[cut], starts])
        return starts

    def _greedy(self, observation: Observation, blocks: Ints) -> Ints:
        """Place block after block where it would finish first."""
        backlog = observation.place_backlog_s.copy()
        placement = np.zeros(len(blocks), dtype=np.int64)
        for block in blocks:
            load = observation.load_s[:, block]
            placement[block] = (backlog + load).argmin()
            backlog[placement[block]] += load[placement[block]]
        return placement

    def _neighbours(self, placement: Ints) -> Ints:
        """Return all placements that differ in one block, and all with two blocks swapped."""
        blocks, places = len(placement), self.spec.servers + 1
        moved = np.tile(placement, (blocks, places, 1))
        moved[np.arange(blocks), :, np.arange(blocks)] = np.arange(places)
        first, second = np.triu_indices(blocks, 1)
        swapped = np.tile(placement, (len(first), 1))
        rows = np.arange(len(first))
        swapped[rows, first], swapped[rows, second] = placement[second], placement[first]
        return np.concatenate([moved.reshape(-1, blocks), swapped])
