"""Network parameters in memory that workers share."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from multiprocessing.sharedctypes import RawArray
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Arrays, TrainingError

Flat: TypeAlias = NDArray[np.float32]


Memory: TypeAlias = "ctypes.Array[ctypes.c_float]"


LARGEST: Final = 1e6
"""Parameters that training may lead to; with larger ones networks overflow."""


class Shared:
    """Parameters, and their running mean squares of gradients, in memory that workers share."""

    def __init__(self, layout: Mapping[str, tuple[int, ...]], memory: Memory) -> None:
        self._layout = layout
        both: Flat = np.ctypeslib.as_array(memory)
        self.values, self.squares = both[: len(both) // 2], both[len(both) // 2 :]

    @classmethod
    def memory_for(cls, layout: Mapping[str, tuple[int, ...]]) -> Memory:
        """Return memory for parameters of the given names and shapes."""
        return RawArray(ctypes.c_float, 2 * sum(int(np.prod(each)) for each in layout.values()))

    def pull(self) -> Arrays:
        """Return a copy of the parameters as they are now."""
        return named(self._layout, self.values.copy())

    def push(
        self, gradient: Flat, rate: float | Flat, *, decay: float = 0.99, epsilon: float = 1e-5
    ) -> None:
        """Follow a gradient downhill by RMSProp (Eqs. 23 and 24).

        Raises ``TrainingError`` if that leads beyond all sense.
        """
        self.squares *= decay
        self.squares += (1.0 - decay) * gradient * gradient
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            self.values -= rate * gradient / np.sqrt(self.squares + epsilon)
        if not np.abs(self.values).max() <= LARGEST:
            problem = f"a parameter is larger than {LARGEST:g}, or no number"
            raise TrainingError(f"the training diverged: {problem}; use lower rates")


def flat(arrays: Mapping[str, NDArray[np.float32]]) -> Flat:
    """Return arrays as one vector."""
    return np.concatenate([array.ravel() for array in arrays.values()])


def named(layout: Mapping[str, tuple[int, ...]], vector: Flat) -> Arrays:
    """Return the parts of a vector as arrays, as views."""
    found, begin = {}, 0
    for name, shape in layout.items():
        end = begin + int(np.prod(shape))
        found[name], begin = vector[begin:end].reshape(shape), end
    return found


def clipped(gradient: Flat, limit: float) -> Flat:
    """Return a gradient whose norm is at most ``limit``. Raises ``TrainingError`` if it is none."""
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(gradient))
    if not np.isfinite(norm):
        raise TrainingError("the training diverged: a gradient is not finite; use lower rates")
    return gradient * np.float32(min(1.0, limit / max(norm, 1e-12)))
