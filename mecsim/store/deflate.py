"""What HDF5's shuffle and deflate filters make of a chunk, made faster.

Shuffled, a column of floats is eight planes of bytes: the high ones compress well, the low ones are
noise on which zlib would spend most of its time. Deflate may store any piece as it is, so a plane
that does not compress is stored. Every HDF5 reader takes the result for an ordinary chunk.
Format: RFC 1950 (zlib), RFC 1951 (deflate, section 3.2.4: stored blocks).
"""

from __future__ import annotations

import struct
import zlib
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 1
_HEADER: Final = b"\x78\x01"
_STORED_BYTES: Final = 0xFFFF
_SAMPLE_ROWS: Final = 1024
_WORTH: Final = 0.9
"""A plane is compressed if that makes a sample of it smaller than this."""


def compressible(values: NDArray[Any]) -> list[bool]:
    """Return which planes of a column's bytes are worth compressing, from a sample of its rows."""
    sample = _planes(values[:_SAMPLE_ROWS])
    return [len(zlib.compress(plane.tobytes(), LEVEL)) < _WORTH * len(plane) for plane in sample]


def shuffle_deflate(chunk: NDArray[Any], worth: list[bool]) -> bytes:
    """Return a chunk's bytes, shuffled, as a zlib stream; planes ``worth`` it are compressed."""
    planes = _planes(chunk)
    data, length = planes.tobytes(), planes.shape[1]
    pieces, begin = [_HEADER], 0
    for compress, run in groupby(worth):
        end = begin + length * len(list(run))
        pieces.append((_compressed if compress else _stored)(data[begin:end]))
        begin = end
    pieces.append(struct.pack("<BHH", 1, 0, 0xFFFF))  # an empty stored block ends the stream
    pieces.append(struct.pack(">I", zlib.adler32(data)))
    return b"".join(pieces)


def _planes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the first byte of every number, then the second one, …; shape (item size, numbers)."""
    raw = np.frombuffer(values.tobytes(), dtype=np.uint8)
    return np.ascontiguousarray(raw.reshape(-1, values.dtype.itemsize).T)


def _compressed(piece: bytes) -> bytes:
    compressor = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS)
    return compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)


def _stored(piece: bytes) -> bytes:
    blocks = []
    for begin in range(0, len(piece), _STORED_BYTES):
        block = piece[begin : begin + _STORED_BYTES]
        blocks += [struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF), block]
    return b"".join(blocks)
