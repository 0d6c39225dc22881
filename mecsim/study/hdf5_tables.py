"""Small tables in HDF5: one group per table, one dataset per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mecsim.support.files import replacing


def write_tables(
    path: Path, tables: Mapping[str, Mapping[str, Sequence[Any]]], attributes: Mapping[str, str]
) -> None:
    """Write tables of numbers (None becomes NaN) and texts atomically.

    Equal tables give byte-identical files. Raises ``OutputError``.
    """
    with replacing(path) as (partial,), h5py.File(partial, "w", locking=False) as file:
        file.attrs.update(attributes)
        for name, columns in tables.items():
            group = file.create_group(name)
            for column, values in columns.items():
                group.create_dataset(column, data=_array(values))


def _array(values: Sequence[Any]) -> Any:
    if any(isinstance(value, str) for value in values):
        texts = ["" if value is None else str(value) for value in values]
        return np.array(texts, dtype=h5py.string_dtype())
    if values and all(isinstance(value, int) for value in values):
        return np.array(values, dtype=np.int64)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
