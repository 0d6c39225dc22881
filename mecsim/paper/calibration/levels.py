"""Rewards, delays and energies of a setting: under the best placement found, and under greedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import numpy as np

from mecsim.paper.calibration.settings import Setting
from mecsim.scenario.schema import Scenario
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.run import run
from mecsim.support.arrays import Floats, Ints

SLOTS: Final = 600
"""Slots of an episode of the paper."""
DRAWN: Final = 200
"""Placements drawn at random; the search starts from the best of them."""
STARTS: Final = 3
EXHAUSTIVE: Final = 20_000
"""Most placements of which all are simulated: those of six blocks and four servers are 15,625."""


@dataclass(frozen=True)
class Outcome:
    """Means over tasks of slots of all sizes, and the reward of an episode of 600 slots."""

    reward: float
    total_delay_s: float
    edge_delay_s: float
    local_delay_s: float
    energy_J: float


@dataclass(frozen=True)
class Levels:
    """What a setting gives."""

    best: Outcome
    """Under the best placement found for each size."""
    greedy: Outcome
    placement: tuple[int, ...]
    """The best placement of slots of middle size."""

    @property
    def gap_percent(self) -> float:
        """How much less the total delay is under the best placement than under greedy."""
        return 100 * (1 - self.best.total_delay_s / self.greedy.total_delay_s)


class PlacementSearch:
    """Search for the best placement of a scenario's first slot, by simulating many."""

    def __init__(self, scenario: Scenario) -> None:
        self._slot = Replicas(scenario, replicas=1)
        self._slot.reset([0])
        self._blocks, self._places = self._slot.blocks, self._slot.places

    def costs(self, placements: Ints) -> Floats:
        """Return the mean cost of a task (Eq. 14) under each of C placements; shape (C, M)."""
        return self._slot.what_if(placements[None]).cost[0]

    def all_placements(self) -> Ints:
        """Return all (N + 1)^M placements."""
        return np.indices([self._places] * self._blocks).reshape(self._blocks, -1).T

    def best(self, hints: Sequence[Ints] = (), starts: int = STARTS) -> tuple[float, Ints]:
        """Return the least cost found and its placement.

        Without many placements all are simulated. Otherwise the search starts from the hints and
        from the best ``starts`` of some random placements; with hints alone if ``starts`` is 0.
        """
        if starts and self._places**self._blocks <= EXHAUSTIVE:
            every = self.all_placements()
            costs = self.costs(every)
            return float(costs.min()), every[costs.argmin()]
        rng = np.random.default_rng(0)
        random = rng.integers(self._places, size=(DRAWN, self._blocks))
        first = random[np.argsort(self.costs(random), kind="stable")[:starts]]
        return min((self._descend(start) for start in (*hints, *first)), key=lambda found: found[0])

    def _descend(self, placement: Ints) -> tuple[float, Ints]:
        """Change one block, then up to two, as long as that is better."""
        cost = self.costs(placement[None])[0]
        for changed in (1, 2):
            while True:
                near = neighbours(placement, self._places, min(changed, self._blocks))
                costs = self.costs(near)
                if costs.min() >= cost:
                    break
                cost, placement = costs.min(), near[costs.argmin()]
        return float(cost), placement


def neighbours(placement: Ints, places: int, changed: int) -> Ints:
    """Return all placements that differ in up to ``changed`` blocks, some of them repeatedly.

    Example:
        >>> neighbours(np.array([0, 1]), places=2, changed=1).tolist()
        [[0, 1], [1, 1], [0, 0], [0, 1]]
    """
    blocks = np.array(list(combinations(range(len(placement)), changed)))
    values = np.indices([places] * changed).reshape(changed, -1).T
    near = np.tile(placement, (len(blocks), len(values), 1))
    row = np.arange(len(blocks))[:, None, None]
    column = np.arange(len(values))[:, None]
    near[row, column, blocks[:, None]] = values
    return near.reshape(-1, len(placement))


def outcome(setting: Setting, scheduler: str, size: float, **options: object) -> Outcome:
    """Simulate one slot of a size under a scheduler."""
    summary = run(setting.scenario(size), scheduler, options, kernel="compiled").summary
    per_task = (
        summary.total_delay_s,
        summary.edge_delay_s,
        summary.local_delay_s,
        summary.energy_J,
    )
    reward = SLOTS * summary.reward
    return Outcome(size * reward, *(size * (each.mean or 0.0) for each in per_task))


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the means of outcomes."""
    rows = np.array([list(vars(each).values()) for each in outcomes])
    return Outcome(*rows.mean(axis=0).tolist())


def levels(
    setting: Setting,
    hints: Sequence[Ints] = (),
    places: Literal["all", "servers"] = "all",
    starts: int = STARTS,
) -> Levels:
    """Find the best placement for each size of a setting, and simulate it and greedy.

    Args:
        setting: The setting.
        hints: Placements from which the search starts too.
        places: The option of greedy.
        starts: Random placements from which the search starts.
    """
    found: dict[float, Ints] = {}
    middle = setting.sizes[len(setting.sizes) // 2]
    for size in sorted(setting.sizes, key=lambda each: abs(each - middle)):
        near = [*hints, *found.values()]
        search = PlacementSearch(setting.scenario(size))
        _, found[size] = search.best(near, 0 if found else starts)
    best = [
        outcome(setting, "fixed", size, placement=placement.tolist())
        for size, placement in found.items()
    ]
    greedy = [outcome(setting, "greedy", size, places=places) for size in setting.sizes]
    placement = tuple(found[middle].tolist())
    return Levels(mean_outcome(best), mean_outcome(greedy), placement)
