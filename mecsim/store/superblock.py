"""Keeps an HDF5 file that is being written openable, so that a killed run leaves a whole file.

In SWMR mode HDF5 orders its writes so that the file is consistent at every moment, but it marks
the file as being written, and a plain open refuses a file so marked. Taking the mark off after each
flush leaves a file that any reader opens. Layout: HDF5 File Format Specification 3.0, II.A
(superblock version 3) and the checksum of Bob Jenkins' lookup3, which it prescribes.
"""

from __future__ import annotations

import ctypes
import io
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_VERSION: Final = 3
_FLAGS: Final = 11
_LENGTH: Final = 44
_MASK: Final = 0xFFFFFFFF
_pread: Final = ctypes.PyDLL(None).pread
"""Unlike :func:`os.pread` it lets no other thread run, for which one would wait afterwards."""
_pread.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long)


def clear_write_mark(descriptor: int) -> None:
    """Mark the open file as not being written. Does nothing to a superblock it does not know.

    Quick, because a run that is killed before this leaves the mark.
    """
    read = ctypes.create_string_buffer(_LENGTH + 4)
    length = _pread(descriptor, read, len(read), 0)
    block = _without_mark(read.raw[: max(length, 0)])
    if block is not None:
        os.pwrite(descriptor, block, 0)


def _without_mark(block: bytes) -> bytes | None:
    """Return a superblock without its mark, None for one that has none or is not known."""
    body, checksum = bytearray(block[:_LENGTH]), block[_LENGTH:]
    known = len(block) > _LENGTH and block[:8] == _SIGNATURE and block[8] == _VERSION
    if not (known and body[_FLAGS] and checksum == struct.pack("<I", lookup3(bytes(body)))):
        return None
    body[_FLAGS] = 0
    return bytes(body) + struct.pack("<I", lookup3(bytes(body)))


class Unmarked(io.FileIO):
    """A file, read as if it had no mark: for a run that was killed in the midst of a flush."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._block = _without_mark(os.pread(self.fileno(), _LENGTH + 4, 0)) or b""

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what fits into the buffer, and put the unmarked superblock over it."""
        begin, view = self.tell(), memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        over = self._block[begin : begin + count]
        view[: len(over)] = over
        return count


def lookup3(data: bytes) -> int:
    """Return Jenkins' ``hashlittle`` of ``data`` with the initial value 0."""
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    while len(data) > 12:
        x, y, z = struct.unpack_from("<III", data)
        a, b, c = _mix((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)
        data = data[12:]
    if not data:
        return c
    x, y, z = struct.unpack("<III", data.ljust(12, b"\0"))
    return _final((a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK)


def _turn(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _turn(c, bits)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turn(b, bits)) & _MASK
        a, b, c = b, c, a
    return b
