"""Encode chunks as HDF5's shuffle and deflate filters do, in less time.

Shuffling turns a column of numbers into planes: all first bytes, then all second bytes, and so on.
Many planes are constant. The low bytes of times are noise, on which zlib spends most of its time. A
deflate stream may consist of pieces, and any piece may be stored without compression: so the code
of a constant plane is cached, a plane that does not compress is stored, and only the other planes
are compressed. Any HDF5 reader reads the result as an ordinary chunk. Measured: a traced run of
``vgg16_loaded`` takes 2.4 times as long with h5py's gzip filter, for files a tenth smaller.
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
"""A plane is compressed if a sample of it shrinks below this share."""
_TRUST: Final = 16
"""Chunks for which one sample is valid."""
_ADLER: Final = 65521


class Encoder:
    """Encodes chunks of one column: ``items`` numbers of ``size`` bytes, padded with ``fill``."""

    def __init__(self, size: int, items: int, fill: bytes) -> None:
        self._size, self._items, self._fill = size, items, fill
        self._worth: list[bool] = []
        self._made = 0

    def encode(self, values: NDArray[Any], stream: Stream) -> memoryview:
        """Encode a chunk.

        Args:
            values: First numbers of the chunk; shape (n,), n ≤ ``items``.
            stream: Buffer for the result.

        Returns:
            A zlib stream, valid until ``stream`` is used again.
        """
        raw = values.view(np.uint8).reshape(-1, self._size)
        rest = self._items - len(values)
        constant = _constant(values)
        worth = self._sampled(raw, constant)
        kinds = [None if same else kind for same, kind in zip(constant, worth, strict=True)]
        stream.begin(self._items * self._size)
        for begin, end in _runs(kinds, apart=rest > 0):
            if kinds[begin] is None:
                for byte in raw[0, begin:end].tolist():
                    stream.repeat(byte, len(raw))
            else:
                stream.add(raw[:, begin:end].T, compress=worth[begin])
            if rest:
                stream.repeat(self._fill[begin], rest)
        return stream.end()

    def _sampled(self, raw: NDArray[np.uint8], constant: Sequence[bool]) -> Sequence[bool]:
        """Return for each plane whether to compress it, by the last sample or a new one.

        A chunk that is not full takes the answer of those before it.
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
    """Return which planes are constant."""
    words = values.view(f"u{values.itemsize}")
    differing = np.bitwise_or.reduce(words) ^ np.bitwise_and.reduce(words)
    return [byte == 0 for byte in differing.tobytes()]


def _shrinks(sample: NDArray[np.uint8]) -> bool:
    compressor = zlib.compressobj(LEVEL, memLevel=4)  # smaller tables, quicker to set up
    piece = compressor.compress(sample.tobytes()) + compressor.flush()
    return len(piece) < _WORTH * len(sample)


def _runs(kinds: Sequence[bool | None], *, apart: bool) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of equal kinds, or of every item if ``apart``."""
    begin = 0
    for end in range(1, len(kinds) + 1):
        if apart or end == len(kinds) or kinds[end] != kinds[begin]:
            yield begin, end
            begin = end


class Stream:
    """A zlib stream made of pieces, in a buffer that is reused."""

    def __init__(self) -> None:
        self._planes = np.empty(0, np.uint8)
        self._out = memoryview(b"")
        self._end = 0
        self._adler = 1

    def begin(self, size: int) -> None:
        """Begin a new stream for at most ``size`` bytes."""
        if len(self._planes) < size:
            self._planes = np.empty(size, np.uint8)
            self._out = memoryview(bytearray(size + size // 64 + 1024))
        self._end, self._adler = 0, 1
        self._put(_HEADER)

    def add(self, planes: NDArray[np.uint8], *, compress: bool) -> None:
        """Add planes of shape (k, n); compressed if asked for and smaller, else stored."""
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
        """Add ``times`` copies of a byte."""
        low, high = self._adler & 0xFFFF, self._adler >> 16
        high += times * low + byte * (times * (times + 1) // 2)
        self._adler = high % _ADLER << 16 | (low + times * byte) % _ADLER
        self._put(_repeated(byte, times))

    def end(self) -> memoryview:
        """Return the stream, ended by an empty stored block and the checksum."""
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
