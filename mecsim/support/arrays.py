"""Names of array types, and views of arrays."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
"""An array of 64-bit floats."""

Ints: TypeAlias = NDArray[np.int64]
"""An array of 64-bit integers."""

Bools: TypeAlias = NDArray[np.bool_]
"""An array of truth values."""

_Array = TypeVar("_Array", bound=NDArray[Any])


def read_only(values: _Array) -> _Array:
    """Mark an array as read-only and return it.

    Example:
        >>> read_only(np.zeros(2))[0] = 1
        Traceback (most recent call last):
        ...
        ValueError: assignment destination is read-only
    """
    values.flags.writeable = False
    return values


def without_scale(values: Floats) -> tuple[Floats, float]:
    """Divide values by a power of two close to the largest size, so that no square overflows.

    The division is exact: sums, means and deviations times the scale have the bits of those of
    the values.

    Args:
        values: An array of any shape.

    Returns:
        The quotients, all below 2 in size, and the scale; values that are all zero or not all
        finite are returned with a scale of 1.

    Example:
        >>> without_scale(np.array([3.0, 20.0]))
        (array([0.1875, 1.25  ]), 16.0)
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not largest or not math.isfinite(largest):
        return values, 1.0
    exponent = math.frexp(largest)[1] - 1
    return np.ldexp(values, -exponent), math.ldexp(1.0, exponent)


def raw(records: NDArray[Any]) -> NDArray[Any]:
    """Return a view of records as raw bytes, which numpy copies ten times as fast."""
    return records.view(f"V{records.dtype.itemsize}")
