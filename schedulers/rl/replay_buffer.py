"""The replay buffer of Q-learning."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schedulers.rl.layers import Arrays, Batch, Ints


class Transitions(NamedTuple):
    """n steps: what was seen, done and earned, and what was seen then."""

    x: Batch
    places: Ints
    reward: NDArray[np.float32]
    after: Batch
    ended: NDArray[np.bool_]
    """Terminated: nothing comes after."""

    def rows(self, which: NDArray[Any]) -> Transitions:
        """Return some of them."""
        x, places, reward, after, ended = self
        return Transitions(x[which], places[which], reward[which], after[which], ended[which])


class Memory:
    """The latest transitions."""

    def __init__(self, size: int, inputs: int, blocks: int) -> None:
        self._rows = Transitions(
            np.zeros((size, inputs), np.float32),
            np.zeros((size, blocks), np.int64),
            np.zeros(size, np.float32),
            np.zeros((size, inputs), np.float32),
            np.zeros(size, np.bool_),
        )
        self._size, self._seen = size, 0

    def __len__(self) -> int:
        return min(self._seen, self._size)

    def add(self, new: Transitions) -> None:
        """Remember transitions in place of the oldest."""
        rows = np.arange(self._seen, self._seen + len(new.reward)) % self._size
        columns: tuple[Any, ...] = self._rows
        for column, values in zip(columns, new, strict=True):
            column[rows] = values
        self._seen += len(new.reward)

    def arrays(self) -> Arrays:
        """Return all that is remembered, and how far the oldest have been replaced."""
        columns: dict[str, NDArray[Any]] = self._rows._asdict()
        found = {name: x[: len(self)].astype(np.float32) for name, x in columns.items()}
        seen = len(self) if self._seen <= self._size else self._size + self._seen % self._size
        return found | {"seen": np.array([seen], np.float32)}

    def restore(self, arrays: Arrays) -> None:
        """Remember what :meth:`arrays` returned."""
        columns: dict[str, NDArray[Any]] = self._rows._asdict()
        for name, column in columns.items():
            column[: len(arrays[name])] = arrays[name]
        self._seen = int(arrays["seen"][0])

    def sample(self, count: int, rng: np.random.Generator) -> Transitions:
        """Draw transitions uniformly."""
        rows = rng.integers(len(self), size=count)
        return self._rows.rows(rows)
