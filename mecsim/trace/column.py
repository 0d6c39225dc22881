"""Columns of a trace as HDF5 datasets that grow.

Uses h5py's low-level interface, which makes forty columns with attributes in a quarter of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5p, h5s, h5t

from mecsim.trace.deflate import LEVEL, Encoder, Stream
from mecsim.trace.schema import Column, ColumnSpec

_TEXT: Final = h5py.string_dtype()


@dataclass(frozen=True)
class Storage:
    """Storage of a column; ``width`` is the shape of a row, () for one number."""

    dtype: np.dtype[Any]
    chunk_bytes: int
    width: tuple[int, ...] = ()

    @property
    def chunk(self) -> tuple[int, ...]:
        """Return the shape of a chunk: rows, then the shape of a row."""
        row_bytes = self.dtype.itemsize * math.prod(self.width)
        return max(1, self.chunk_bytes // row_bytes), *self.width

    @property
    def fill(self) -> Column:
        """Return the fill value: NaN, or zero."""
        return (
            np.full((), np.nan, self.dtype) if self.dtype.kind == "f" else np.zeros((), self.dtype)
        )


@cache
def _creation(storage: Storage) -> h5p.PropDCID:
    how = h5p.create(h5p.DATASET_CREATE)
    how.set_chunk(storage.chunk)
    how.set_shuffle()
    how.set_deflate(LEVEL)
    how.set_obj_track_times(False)
    how.set_fill_value(storage.fill)
    return how


def make_dataset(
    folder: h5g.GroupID, name: str, spec: ColumnSpec, storage: Storage
) -> h5d.DatasetID:
    """Make an empty dataset for a column, with its units and its description."""
    width = storage.width
    rows = h5s.create_simple((0, *width), (h5s.UNLIMITED, *width))
    kind = h5t.py_create(storage.dtype, logical=True)
    dataset = h5d.create(folder, name.encode(), kind, rows, dcpl=_creation(storage))
    scalar, text = h5s.create(h5s.SCALAR), h5t.py_create(_TEXT, logical=True)
    for about, value in ((b"units", spec.units), (b"description", spec.description)):
        h5a.create(dataset, about, text, scalar).write(np.array(value, _TEXT))
    return dataset


class GrowingColumn:
    """A dataset that grows at its end, chunk by chunk.

    Rows of the last chunk stay in memory until it is full; :meth:`flush` writes a copy of them.
    """

    def __init__(self, dataset: h5d.DatasetID, storage: Storage, stream: Stream) -> None:
        self._dataset, self._storage, self._stream = dataset, storage, stream
        self._length = storage.chunk[0]
        items = math.prod(storage.chunk)
        self._encoder = Encoder(storage.dtype.itemsize, items, storage.fill.tobytes())
        self._held = np.empty((0, *storage.width), storage.dtype)
        self._begin = self._extent = self._flushed = 0
        self.rows = 0

    def append(self, pieces: Sequence[Column]) -> None:
        """Append rows; write every chunk that is full."""
        for piece in pieces:
            self._append(np.ascontiguousarray(piece, self._storage.dtype))

    def _append(self, values: Column) -> None:
        while len(values):
            held = self.rows - self._begin
            chunk, values = values[: self._length - held], values[self._length - held :]
            self.rows += len(chunk)
            if len(chunk) < self._length:
                chunk = self._hold(chunk, held)
            if len(chunk) == self._length:
                self._write(chunk)
                self._begin = self.rows

    def _hold(self, values: Column, held: int) -> Column:
        """Copy rows after the held ones; return all of them."""
        if not len(self._held):
            self._held = np.empty(self._storage.chunk, self._storage.dtype)
        self._held[held : held + len(values)] = values
        return self._held[: held + len(values)]

    def flush(self) -> None:
        """Write the rows of the last chunk, if there are new ones."""
        if self.rows > max(self._begin, self._flushed):
            self._write(self._held[: self.rows - self._begin])
        self._flushed = self.rows

    def _write(self, chunk: Column) -> None:
        self.extend(self.rows)
        offset = (self._begin, *(0 for _ in self._storage.width))
        data = self._encoder.encode(chunk.reshape(-1), self._stream)
        self._dataset.write_direct_chunk(offset, data)

    def extend(self, rows: int) -> None:
        """Extend the dataset to at least ``rows``."""
        if rows > self._extent:
            self._dataset.set_extent((rows, *self._storage.width))
            self._extent = rows
