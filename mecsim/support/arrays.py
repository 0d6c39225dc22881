"""The arrays that all modules speak of."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
_Array = TypeVar("_Array", bound=NDArray[Any])


def read_only(values: _Array) -> _Array:
    """Return the array, which nobody can write to any more."""
    values.flags.writeable = False
    return values


def raw(records: NDArray[Any]) -> NDArray[Any]:
    """Return a view of records as bytes, which numpy copies ten times as fast."""
    return records.view(f"V{records.dtype.itemsize}")
