"""Numbers of learning curves: points of (episode, reward), in the order of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

Curve: TypeAlias = Sequence[tuple[float, float]]

LAST: Final = 5
"""The level that a curve reaches is the mean of its last fifth."""
WITHIN: Final = 0.05
"""A curve has converged where it stays within this part of its whole gain from that level."""


def value_at(curve: Curve, episode: float) -> float:
    """Return the latest reward until then, of which there is one."""
    return [reward for each, reward in curve if each <= episode][-1]


def final_reward(curve: Curve) -> float:
    """Return the mean reward of the last fifth of a curve (at least of its last point)."""
    last = curve[-max(1, len(curve) // LAST) :]
    return sum(reward for _, reward in last) / len(last)


def episodes_to_converge(curve: Curve) -> float:
    """Return the first episode from which the mean of the rest of the curve has its final level.

    At each point the mean of it and its two followers is taken, since single points scatter.
    """
    level, start = final_reward(curve), curve[0][1]
    band = WITHIN * abs(level - start)
    converged = curve[-1][0]
    for place in range(len(curve) - 1, -1, -1):
        near = [reward for _, reward in curve[place : place + 3]]
        if len(near) == 3 and abs(sum(near) / 3 - level) > band:
            break
        converged = curve[place][0]
    return converged
