"""The replay buffer of Q-learning."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import TrainingError
from schedulers.rl.layers import Arrays, Batch, Ints


class Transitions(NamedTuple):
    """n steps of environments."""

    x: Batch
    """Encoded observations; shape (n, inputs)."""
    placements: Ints
    """Shape (n, M)."""
    rewards: NDArray[np.float32]
    """Shape (n,)."""
    next_x: Batch
    """Encoded observations after the step; shape (n, inputs)."""
    terminated: NDArray[np.bool_]
    """Whether the episode ended with the step; shape (n,)."""

    def rows(self, which: NDArray[Any]) -> Transitions:
        """Return some of them."""
        return Transitions(*(column[which] for column in self))


class ReplayBuffer:
    """The latest transitions.

    Args:
        size: Capacity, in transitions.
        inputs: Length of an encoded observation.
        blocks: M.
    """

    def __init__(self, size: int, inputs: int, blocks: int) -> None:
        self._rows = Transitions(
            np.zeros((size, inputs), np.float32),
            np.zeros((size, blocks), np.int64),
            np.zeros(size, np.float32),
            np.zeros((size, inputs), np.float32),
            np.zeros(size, np.bool_),
        )
        self._size, self._added = size, 0

    def __len__(self) -> int:
        return min(self._added, self._size)

    def add(self, new: Transitions) -> None:
        """Add transitions, which replace the oldest ones."""
        rows = np.arange(self._added, self._added + len(new.rewards)) % self._size
        columns: tuple[Any, ...] = self._rows
        for column, values in zip(columns, new, strict=True):
            column[rows] = values
        self._added += len(new.rewards)

    def sample(self, count: int, rng: np.random.Generator) -> Transitions:
        """Sample transitions uniformly, with replacement."""
        return self._rows.rows(rng.integers(len(self), size=count))

    def minibatch(self, count: int, rng: np.random.Generator) -> Transitions:
        """Sample transitions uniformly: different ones if there are as many."""
        few = len(self) < count
        return self._rows.rows(rng.choice(len(self), size=count, replace=few))

    def state(self) -> Arrays:
        """Return the content and the position of the oldest transition, for a checkpoint."""
        columns: dict[str, NDArray[Any]] = self._rows._asdict()
        found = {name: x[: len(self)].astype(np.float32) for name, x in columns.items()}
        full = self._added > self._size
        added = self._size + self._added % self._size if full else self._added
        return found | {"added": np.array([added], np.float32)}

    def restore(self, state: Arrays) -> None:
        """Continue from what :meth:`state` returned. Raises ``TrainingError`` if it misfits."""
        columns: dict[str, NDArray[Any]] = self._rows._asdict()
        needed = {name: x.shape[1:] for name, x in columns.items()} | {"added": ()}
        if needed != {name: state[name].shape[1:] for name in needed if name in state}:
            raise TrainingError("the checkpoint belongs to a memory of another shape")
        for name, column in columns.items():
            column[: len(state[name])] = state[name]
        self._added = int(state["added"][0])
