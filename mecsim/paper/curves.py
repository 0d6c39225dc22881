"""Numbers of learning curves, which are points (episode, reward) in the order of episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

Curve: TypeAlias = Sequence[tuple[float, float]]

LAST: Final = 5
"""The final level of a curve is the mean of its last 1/LAST."""
WITHIN: Final = 0.05
"""A curve has converged where it stays within this fraction of its final level."""


def value_at(curve: Curve, episode: float) -> float:
    """Return the latest reward at or before an episode.

    >>> value_at([(0, -9.0), (10, -3.0)], 4)
    -9.0
    """
    return [reward for each, reward in curve if each <= episode][-1]


def final_reward(curve: Curve) -> float:
    """Return the mean reward of the last fifth of a curve, or of its last point if that is more."""
    last = curve[-max(1, len(curve) // LAST) :]
    return sum(reward for _, reward in last) / len(last)


def episodes_to_converge(curve: Curve) -> float:
    """Return the first episode from which a curve stays near its final level.

    Infinity if the curve gets there only in the last fifth, which defines the level.
    """
    level, converged = final_reward(curve), math.inf
    for episode, reward in reversed(curve):
        if abs(reward - level) > WITHIN * abs(level):
            break
        converged = episode
    last = curve[-max(1, len(curve) // LAST)][0]
    return converged if converged < last else math.inf
