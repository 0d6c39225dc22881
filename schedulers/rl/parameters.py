"""Network parameters in memory that workers share, and their updates."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from multiprocessing.sharedctypes import RawArray
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Arrays, TrainingError

Flat: TypeAlias = NDArray[np.float32]
"""All parameters, or a gradient, as one vector."""
Layout: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shapes of parameters by name, in the order of the vector."""
SharedMemory: TypeAlias = "ctypes.Array[ctypes.c_float]"

MAX_PARAMETER: Final = 1e6
"""Largest parameter; networks overflow with larger ones."""
TOO_LARGE: Final = (
    f"the training diverged: a parameter exceeds {MAX_PARAMETER:g} or is not a number. "
    "Try: lower learning rates"
)
NOT_FINITE: Final = "the training diverged: a gradient is not finite. Try: lower learning rates"


class SharedParameters:
    """Parameters and the RMS accumulators of their gradients, in memory that workers share.

    Args:
        layout: Shapes of the parameters by name.
        memory: Memory of :meth:`memory_for` the same layout.

    Attributes:
        values: All parameters.
        square_avg: The running mean of squared gradients (g of Eq. 23).
    """

    def __init__(self, layout: Layout, memory: SharedMemory) -> None:
        self._layout = layout
        both: Flat = np.ctypeslib.as_array(memory)
        self.values, self.square_avg = both[: len(both) // 2], both[len(both) // 2 :]

    @classmethod
    def memory_for(cls, layout: Layout) -> SharedMemory:
        """Return memory for parameters of some layout, all 0."""
        return RawArray(ctypes.c_float, 2 * sum(int(np.prod(each)) for each in layout.values()))

    def pull(self) -> Arrays:
        """Return a copy of the current parameters."""
        return named(self._layout, self.values.copy())

    def push(
        self,
        gradient: Flat,
        learning_rate: float | Flat,
        *,
        decay: float = 0.99,
        epsilon: float = 1e-5,
    ) -> None:
        """Apply a gradient by RMSProp (Eqs. 23 and 24).

        Raises ``TrainingError`` if parameters become too large or no numbers.
        """
        rmsprop(self.values, self.square_avg, gradient, learning_rate, decay, epsilon)
        if not np.abs(self.values).max() <= MAX_PARAMETER:
            raise TrainingError(TOO_LARGE)


def rmsprop(
    values: Flat,
    square_avg: Flat,
    gradient: Flat,
    learning_rate: float | Flat,
    decay: float = 0.99,
    epsilon: float = 1e-5,
) -> None:
    """Update parameters and the running mean of squared gradients in place (Eqs. 23 and 24)."""
    with np.errstate(over="ignore", invalid="ignore"):  # reported by the caller
        square_avg *= decay
        square_avg += (1.0 - decay) * gradient * gradient
        values -= learning_rate * gradient / np.sqrt(square_avg + epsilon)


def flat(arrays: Mapping[str, NDArray[np.float32]]) -> Flat:
    """Return arrays as one vector."""
    return np.concatenate([array.ravel() for array in arrays.values()])


def named(layout: Layout, vector: Flat) -> Arrays:
    """Return the parts of a vector by name, as views; the inverse of :func:`flat`.

    A vector of shape (…, P) gives arrays with the same leading axes.
    """
    found, begin = {}, 0
    for name, shape in layout.items():
        end = begin + int(np.prod(shape))
        found[name] = vector[..., begin:end].reshape(*vector.shape[:-1], *shape)
        begin = end
    return found


def clipped(gradient: Flat, max_norm: float) -> Flat:
    """Return a gradient scaled to a norm of at most ``max_norm``.

    Raises ``TrainingError`` if it is not finite.
    """
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(gradient))
    if not np.isfinite(norm):
        raise TrainingError(NOT_FINITE)
    return gradient * np.float32(min(1.0, max_norm / max(norm, 1e-12)))
