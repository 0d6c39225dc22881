"""The published levels that a setting has to meet, and the fit of its cycles a FLOP."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mecsim.paper.calibration.levels import SLOTS, STARTS, Levels, PlacementSearch, levels
from mecsim.paper.calibration.settings import Setting
from mecsim.support.arrays import Ints

REWARD: Final = -18_300.0
"""Reward of MTL-A3C in the paper (section 5.2)."""
GAP_PERCENT: Final = 7.53
"""By how much its total delay is below greedy's with six servers (section 5.4)."""
MARGIN: Final = 0.03
"""How much more a trained policy costs than the best placement found: 1 to 7% in trials."""
TARGET_REWARD: Final = REWARD / (1 + MARGIN)
TARGET_GAP: Final = 100 - (100 - GAP_PERCENT) / (1 + MARGIN)
REWARD_TOLERANCE: Final = 0.02
"""Fraction by which a reward may be off its target."""
GAP_TOLERANCE: Final = 1.0
"""Percentage points by which a gap may be off its target."""
CYCLES: Final = range(15, 47)
"""Cycles a FLOP that are tried."""
ROUNDS: Final = 3
"""Most searches for the placement whose reward is fitted."""


@dataclass(frozen=True)
class Candidate:
    """A setting with fitted cycles a FLOP, and its levels."""

    setting: Setting
    four: Levels
    """With four servers, where the paper gives rewards."""
    six: Levels
    """With six, where it gives the gap to greedy."""

    @property
    def distance(self) -> float:
        """The larger of the two distances from the targets, in tolerances."""
        reward = abs(self.four.best.reward / TARGET_REWARD - 1) / REWARD_TOLERANCE
        return max(reward, abs(self.six.gap_percent - TARGET_GAP) / GAP_TOLERANCE)

    @property
    def meets_levels(self) -> bool:
        """Whether both levels are within their tolerances."""
        return self.distance <= 1

    @property
    def uses_devices(self) -> bool:
        """Whether the best placements leave work to devices.

        The paper compares local delays in per cent, also with four and six servers.
        """
        return min(self.four.best.local_delay_s, self.six.best.local_delay_s) > 0

    @property
    def implied_margins(self) -> tuple[float, float]:
        """The margin with which the reward, and that with which the gap, would be the paper's."""
        delay = 1 - self.six.gap_percent / 100
        return REWARD / self.four.best.reward - 1, (1 - GAP_PERCENT / 100) / delay - 1


def fitted(setting: Setting) -> Candidate:
    """Return a setting with the cycles a FLOP that bring its reward nearest to the target."""
    hints: list[Ints] = []
    cycles, before = CYCLES[len(CYCLES) // 2], 0
    for _ in range(ROUNDS):
        at = replace(setting, cycles_per_flop=float(cycles))
        hints.append(PlacementSearch(at.scenario()).best(hints, 0 if hints else STARTS)[1])
        cycles, before = nearest_cycles(setting, hints[-1]), cycles
        if cycles == before:
            break
    chosen = replace(setting, cycles_per_flop=float(cycles))
    four = levels(chosen, hints)
    six = levels(replace(chosen, edge_servers=6), [np.array(four.placement)])
    return Candidate(chosen, four, six)


def nearest_cycles(setting: Setting, placement: Ints) -> int:
    """Return the cycles a FLOP with which the reward of a placement is nearest to the target."""

    def excess(cycles: int) -> float:
        """Return the cost above the target, which grows with the cycles."""
        scenario = replace(setting, cycles_per_flop=float(cycles)).scenario()
        return float(PlacementSearch(scenario).costs(placement[None])[0]) + TARGET_REWARD / SLOTS

    high = bisect_right(CYCLES, 0.0, hi=len(CYCLES) - 1, key=excess)
    pair = CYCLES[max(high - 1, 0)], CYCLES[high]
    return min(pair, key=lambda cycles: abs(excess(cycles)))
