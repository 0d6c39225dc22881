"""Random numbers for a stack of trainings: each draws from its own generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StackedGenerator:
    """Draws along a leading axis, entry s from generator s, with the methods of NumPy's generator.

    Args:
        generators: The generator of each training.

    Examples:
        >>> alone = np.random.default_rng(7).random((2, 3))
        >>> stack = StackedGenerator([np.random.default_rng(seed) for seed in (4, 7)])
        >>> bool((stack.random((2, 2, 3))[1] == alone).all())
        True
    """

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        self.generators = generators

    def random(self, size: tuple[int, ...], dtype: type[np.floating[Any]] = np.float64) -> Any:
        """Return numbers in [0, 1)."""
        return self._each(size, lambda rng, own: rng.random(own, dtype=dtype))

    def integers(self, high: int, *, size: tuple[int, ...]) -> Any:
        """Return integers in {0, …, high − 1}."""
        return self._each(size, lambda rng, own: rng.integers(high, size=own))

    def _each(
        self,
        size: tuple[int, ...],
        draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]],
    ) -> NDArray[Any]:
        count, *own = size
        if count != len(self.generators):
            raise ValueError(f"size {size}: expected {len(self.generators)} along the first axis")
        return np.stack([draw(rng, tuple(own)) for rng in self.generators])
