"""Candidate placements for vine rollouts, and the states in which these begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from mecsim.learning import Replicas
from schedulers.rl.layers import Floats, Ints
from schedulers.rl.settings import VineSettings

Decide: TypeAlias = Callable[[Floats], Ints]
"""From features, shape (B, features), to the placements of a policy, shape (B, M)."""

MAX_BACKLOG_SLOTS: Final = 5.0
"""Backlog, in slots, at which queues seem to grow without limit."""
REPLAYED: Final = 64
"""Recent best placements that are kept within an iteration."""


class CandidateSampler:
    """Mixes sampled placements with the greedy one, mutations of it, and recent best ones.

    Args:
        settings: The shares of each kind.
        envs: B, the environments of a vine rollout.
        places: N + 1.
    """

    def __init__(self, settings: VineSettings, envs: int, places: int) -> None:
        self._settings, self._places = settings, places
        self._best: deque[Ints] = deque(maxlen=max(1, REPLAYED // envs))

    def clear(self) -> None:
        """Forget the best placements, at the beginning of an iteration."""
        self._best.clear()

    def remember(self, best: Ints) -> None:
        """Keep the best placement of every environment's state; shape (B, M)."""
        self._best.append(best)

    def candidates(self, greedy: Ints, sampled: Ints, rng: np.random.Generator) -> Ints:
        """Return the placements to compare.

        Args:
            greedy: The policy's greedy placements; shape (B, M).
            sampled: Placements that the policy sampled; shape (B, C, M).
            rng: Random numbers.

        Returns:
            Greedy, mutated, replayed and sampled placements, in this order; shape (B, C, M).
        """
        s, found = self._settings, sampled.copy()
        found[:, 0] = greedy
        mutated = round(s.mutated_share * (s.candidates - 1))
        found[:, 1 : 1 + mutated] = mutations(greedy, mutated, self._places, rng)
        replayed = min(round(s.replayed_share * (s.candidates - 1)), s.candidates - 1 - mutated)
        if self._best and replayed:
            known = np.concatenate(self._best)
            rows = rng.integers(len(known), size=(len(greedy), replayed))
            found[:, 1 + mutated : 1 + mutated + replayed] = known[rows]
        return found


def mutations(placements: Ints, count: int, places: int, rng: np.random.Generator) -> Ints:
    """Return placements with one or two blocks moved to a random place, or two swapped.

    Two at once, since a placement may be the best of all that differ in one block and still be
    far from the best.

    Args:
        placements: Shape (B, M).
        count: Mutations of each.
        places: N + 1.
        rng: Random numbers.

    Returns:
        Shape (B, count, M).
    """
    shape, blocks = (len(placements), count), placements.shape[1]
    found = np.repeat(placements[:, None], count, axis=1)
    row, column = np.indices(shape)
    one, other = rng.integers(blocks, size=(2, *shape))
    kind = rng.integers(3, size=shape)
    was_one, was_other = found[row, column, one], found[row, column, other]
    moved_one, moved_other = rng.integers(places, size=(2, *shape))
    found[row, column, other] = np.choose(kind, [was_other, moved_other, was_one])
    found[row, column, one] = np.choose(kind, [moved_one, moved_one, was_other])
    return found


def burn_in(
    envs: Replicas,
    features: Floats,
    epochs: int,
    decide: Decide,
    backlogs: Callable[[Floats], Floats],
) -> Floats:
    """Step environments by a policy, so that vine rollouts begin in states that it leads to.

    Stops early when an episode ends or queues exceed :data:`MAX_BACKLOG_SLOTS`.

    Returns:
        The features of the last observations; shape (B, features).
    """
    for _ in range(epochs):
        if envs.ended.any() or backlogs(features).max() > MAX_BACKLOG_SLOTS:
            break
        features, _, _ = envs.step(decide(features))
    return features
