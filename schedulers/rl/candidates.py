"""What learners simulate in branched rounds: many placements from each state of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from mecsim.learning import Replicas
from schedulers.rl.layers import Floats, Ints
from schedulers.rl.settings import BranchSettings

Decide: TypeAlias = Callable[[Floats], Ints]
"""From features to the placements that the policy decides for."""

LONG: Final = 5.0
"""Slots of backlog that no good policy leaves behind."""
RECALLED: Final = 64
"""Placements that were the best of their state lately, remembered within a round."""


class Proposals:
    """Makes candidates of what a policy draws: its best, variations of it, what was best lately."""

    def __init__(self, settings: BranchSettings, replicas: int, places: int) -> None:
        self._settings, self._places = settings, places
        self._best: deque[Ints] = deque(maxlen=max(1, RECALLED // replicas))

    def forget(self) -> None:
        """Begin a round."""
        self._best.clear()

    def remember(self, best: Ints) -> None:
        """Remember what was the best of every replica's state; shape (B, M)."""
        self._best.append(best)

    def candidates(self, mode: Ints, drawn: Ints, rng: np.random.Generator) -> Ints:
        """Return placements to be compared, the mode first, drawn ones last; shape (B, C, M)."""
        s, found = self._settings, drawn.copy()
        found[:, 0] = mode
        varied = round(s.varied * (s.candidates - 1))
        found[:, 1 : 1 + varied] = neighbours(mode, varied, self._places, rng)
        recalled = min(round(s.recalled * (s.candidates - 1)), s.candidates - 1 - varied)
        if self._best and recalled:
            known = np.concatenate(self._best)
            rows = rng.integers(len(known), size=(len(mode), recalled))
            found[:, 1 + varied : 1 + varied + recalled] = known[rows]
        return found


def neighbours(mode: Ints, count: int, places: int, rng: np.random.Generator) -> Ints:
    """Return placements with one or two blocks moved anywhere, or two swapped.

    Shape (B, M) to (B, count, M). Two at once, as a placement may be the best of all that differ in
    one block, and yet far from the best.
    """
    shape, blocks = (len(mode), count), mode.shape[1]
    found = np.repeat(mode[:, None], count, axis=1)
    row, column = np.indices(shape)
    one, other = rng.integers(blocks, size=(2, *shape))
    kind = rng.integers(3, size=shape)
    was_one, was_other = found[row, column, one], found[row, column, other]
    moved_one, moved_other = rng.integers(places, size=(2, *shape))
    found[row, column, other] = np.choose(kind, [was_other, moved_other, was_one])
    found[row, column, one] = np.choose(kind, [moved_one, moved_one, was_other])
    return found


def led_on(
    replicas: Replicas,
    features: Floats,
    epochs: int,
    decide: Decide,
    backlogs: Callable[[Floats], Floats],
) -> Floats:
    """Let a policy run for some epochs, so that branches begin in states that it leads to.

    No further than to where queues seem to explode. Returns what is seen then.
    """
    for _ in range(epochs):
        if replicas.ended.any() or backlogs(features).max() > LONG:
            break
        features, _, _ = replicas.step(decide(features))
    return features
