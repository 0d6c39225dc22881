"""Numbers of learning curves: points of (episode, reward), in the order of episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

Curve: TypeAlias = Sequence[tuple[float, float]]

LAST: Final = 5
"""The level that a curve reaches is the mean of its last fifth."""
WITHIN: Final = 0.05
"""A curve has converged where it stays within this part of that level."""


def value_at(curve: Curve, episode: float) -> float:
    """Return the latest reward until then, of which there is one."""
    return [reward for each, reward in curve if each <= episode][-1]


def final_reward(curve: Curve) -> float:
    """Return the mean reward of the last fifth of a curve (at least of its last point)."""
    last = curve[-max(1, len(curve) // LAST) :]
    return sum(reward for _, reward in last) / len(last)


def episodes_to_converge(curve: Curve) -> float:
    """Return the first episode from which a curve stays near its final level; infinity if none.

    It must do so before the last fifth, which makes the level.
    """
    level, converged = final_reward(curve), math.inf
    for episode, reward in reversed(curve):
        if abs(reward - level) > WITHIN * abs(level):
            break
        converged = episode
    last = curve[-max(1, len(curve) // LAST)][0]
    return converged if converged < last else math.inf
