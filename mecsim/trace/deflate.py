"""What HDF5's shuffle and deflate filters make of a chunk, made faster.

Shuffled, a column of numbers is planes of bytes: all the first bytes, then all the second ones, …
Many planes are one byte throughout; the low ones of measured times are noise, on which zlib would
spend most of its time. Deflate may be cut into pieces, and may store any piece as it is: what a
constant plane becomes is known beforehand, a plane that does not compress is stored, and only the
rest is compressed. Every HDF5 reader takes the result for an ordinary chunk.
Format: RFC 1950 (zlib, with its checksum), RFC 1951 (deflate, section 3.2.4: stored blocks).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 1
_HEADER: Final = b"\x78\x01"
_STORED_BYTES: Final = 0xFFFF
_SAMPLE_ROWS: Final = 1024
_WORTH: Final = 0.75
"""A plane is compressed if that makes a sample of it smaller than this."""
_TRUST: Final = 16
"""So many chunks are made by one sample."""
_ADLER: Final = 65521


class Encoder:
    """Makes the chunks of one column: ``items`` numbers of ``size`` bytes, ``fill`` at the end."""

    def __init__(self, size: int, items: int, fill: bytes) -> None:
        self._size, self._items, self._fill = size, items, fill
        self._worth: list[bool] = []
        self._made = 0

    def encode(self, values: NDArray[Any], stream: Stream) -> memoryview:
        """Return the chunk that begins with ``values``, shape (≤ items,), as a zlib stream.

        The result is valid until the next chunk is put into ``stream``.
        """
        raw = values.view(np.uint8).reshape(-1, self._size)
        rest = self._items - len(values)
        constant = _constant(values)
        worth = self._sampled(raw, constant)
        kinds = [None if same else kind for same, kind in zip(constant, worth, strict=True)]
        stream.begin(self._items * self._size)
        for begin, end in _alike(kinds, apart=rest > 0):
            if kinds[begin] is None:
                for byte in raw[0, begin:end].tolist():
                    stream.repeat(byte, len(raw))
            else:
                stream.add(raw[:, begin:end].T, compress=worth[begin])
            if rest:
                stream.repeat(self._fill[begin], rest)
        return stream.end()

    def _sampled(self, raw: NDArray[np.uint8], constant: Sequence[bool]) -> Sequence[bool]:
        """Return which planes are worth compressing: by the last sample, or by another one.

        A chunk that is not full is believed to be like those before it.
        """
        whole = len(raw) == self._items
        worth = self._worth
        if not worth or (whole and self._made % _TRUST == 0):
            sample = raw[:_SAMPLE_ROWS].T
            worth = [same or _shrinks(plane) for plane, same in zip(sample, constant, strict=True)]
        if whole:
            self._worth = worth
            self._made += 1
        return worth


def _constant(values: NDArray[Any]) -> list[bool]:
    """Return which planes are one byte throughout."""
    words = values.view(f"u{values.itemsize}")
    differing = np.bitwise_or.reduce(words) ^ np.bitwise_and.reduce(words)
    return [byte == 0 for byte in differing.tobytes()]


def _shrinks(sample: NDArray[np.uint8]) -> bool:
    compressor = zlib.compressobj(LEVEL, memLevel=4)  # begins sooner than with tables of full size
    piece = compressor.compress(sample.tobytes()) + compressor.flush()
    return len(piece) < _WORTH * len(sample)


def _alike(kinds: Sequence[bool | None], *, apart: bool) -> Iterator[tuple[int, int]]:
    """Yield begin and end of neighbours of one kind, or of every one ``apart``."""
    begin = 0
    for end in range(1, len(kinds) + 1):
        if apart or end == len(kinds) or kinds[end] != kinds[begin]:
            yield begin, end
            begin = end


class Stream:
    """A zlib stream, put together from pieces in memory that is used again and again."""

    def __init__(self) -> None:
        self._planes = np.empty(0, np.uint8)
        self._out = memoryview(b"")
        self._end = 0
        self._adler = 1

    def begin(self, size: int) -> None:
        """Begin another stream, for at most ``size`` bytes."""
        if len(self._planes) < size:
            self._planes = np.empty(size, np.uint8)
            self._out = memoryview(bytearray(size + size // 64 + 1024))
        self._end, self._adler = 0, 1
        self._put(_HEADER)

    def add(self, planes: NDArray[np.uint8], *, compress: bool) -> None:
        """Add planes of shape (k, n), compressed if that makes them smaller, or as they are."""
        self._planes[: planes.size].reshape(planes.shape)[:] = planes
        data = self._planes[: planes.size].data
        self._adler = zlib.adler32(data, self._adler)
        piece = _deflated(data) if compress else b""
        if 0 < len(piece) < len(data):
            self._put(piece)
            return
        for begin in range(0, len(data), _STORED_BYTES):
            block = data[begin : begin + _STORED_BYTES]
            self._put(struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF))
            self._put(block)

    def repeat(self, byte: int, times: int) -> None:
        """Add a byte so many times."""
        low, high = self._adler & 0xFFFF, self._adler >> 16
        high += times * low + byte * (times * (times + 1) // 2)
        self._adler = high % _ADLER << 16 | (low + times * byte) % _ADLER
        self._put(_repeated(byte, times))

    def end(self) -> memoryview:
        """Return the whole: an empty stored block is the last one, and the checksum follows."""
        self._put(struct.pack("<BHH", 1, 0, 0xFFFF) + struct.pack(">I", self._adler))
        return self._out[: self._end]

    def _put(self, piece: bytes | memoryview) -> None:
        begin, self._end = self._end, self._end + len(piece)
        self._out[begin : self._end] = piece


def _deflated(data: bytes | memoryview) -> bytes:
    compressor = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


@lru_cache(maxsize=256)
def _repeated(byte: int, times: int) -> bytes:
    return _deflated(bytes([byte]) * times)
