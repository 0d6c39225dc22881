"""Candidate placements for vine rollouts, and the states in which these begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import numpy as np

from mecsim.learning import Replicas
from schedulers.rl.layers import Batch, Floats, Ints
from schedulers.rl.policy_network import TaskClasses
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
        classes: The classes of tasks, if there are several.
    """

    def __init__(
        self, settings: VineSettings, envs: int, places: int, classes: TaskClasses | None = None
    ) -> None:
        self._settings, self._places, self._classes = settings, places, classes
        count, most = 1 if classes is None else len(classes.used), max(1, REPLAYED // envs)
        self._best: list[deque[Ints]] = [deque(maxlen=most) for _ in range(count)]

    def clear(self) -> None:
        """Forget the best placements, at the beginning of an iteration."""
        for each in self._best:
            each.clear()

    def remember(self, x: Batch, best: Ints) -> None:
        """Keep the best placement of every environment's state; shapes (B, inputs), (B, M)."""
        for number, mine in self._by_class(x):
            self._best[number].append(best[mine])

    def _by_class(self, x: Batch) -> Iterator[tuple[int, Ints]]:
        """Yield the classes of observations, and the rows of each."""
        if self._classes is None:
            yield 0, np.arange(len(x))
            return
        class_ = self._classes.numbers(x)
        for number in np.unique(class_).tolist():
            yield number, np.flatnonzero(class_ == number)

    def candidates(self, x: Batch, greedy: Ints, sampled: Ints, rng: np.random.Generator) -> Ints:
        """Return the placements to compare.

        Args:
            x: The encoded states; shape (B, inputs).
            greedy: The policy's greedy placements; shape (B, M).
            sampled: Placements that the policy sampled; shape (B, C, M).
            rng: Random numbers.

        Returns:
            Greedy, mutated, replayed and sampled placements, in this order; shape (B, C, M).
        """
        s, found = self._settings, sampled.copy()
        found[:, 0] = greedy
        mutated = round(s.mutated_share * (s.candidates - 1))
        blocks: Ints | int = greedy.shape[1]
        if self._classes is not None:
            blocks = self._classes.blocks(x).sum(axis=-1, keepdims=True)
        found[:, 1 : 1 + mutated] = mutations(greedy, mutated, self._places, rng, blocks)
        replayed = min(round(s.replayed_share * (s.candidates - 1)), s.candidates - 1 - mutated)
        for number, mine in self._by_class(x):
            if self._best[number] and replayed:
                known = np.concatenate(self._best[number])
                rows = rng.integers(len(known), size=(len(mine), replayed))
                found[mine, 1 + mutated : 1 + mutated + replayed] = known[rows]
        return found


def mutations(
    placements: Ints, count: int, places: int, rng: np.random.Generator, blocks: Ints | int
) -> Ints:
    """Return placements with one or two blocks moved to a random place, or two swapped.

    Two at once, since a placement may be the best of all that differ in one block and still be
    far from the best.

    Args:
        placements: Shape (B, M).
        count: Mutations of each.
        places: N + 1.
        rng: Random numbers.
        blocks: M or, where tasks have fewer blocks than others, those of each; shape (B, 1).

    Returns:
        Shape (B, count, M).
    """
    shape = len(placements), count
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
