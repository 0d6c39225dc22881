"""Names of array types, and views of arrays."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
"""An array of 64-bit floats."""

Ints: TypeAlias = NDArray[np.int64]
"""An array of 64-bit integers."""

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


def raw(records: NDArray[Any]) -> NDArray[Any]:
    """Return a view of records as raw bytes, which numpy copies ten times as fast."""
    return records.view(f"V{records.dtype.itemsize}")
