"""Standard output and standard error that never raise, whatever they are connected to."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SUBSTITUTES: Final = {
    "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": "*", "±": "+-", "→": "->",
    "≤": "<=", "≥": ">=", "∈": "in", "∞": "inf", "²": "^2", "³": "^3", "⌈": "ceil(", "⌉": ")",
    "“": '"', "”": '"', "‘": "'", "’": "'", "§": "Sec.", "µ": "u", "λ": "lambda",
}  # fmt: skip
"""ASCII for the characters in our own texts; Greek letters are spelled out."""


class StandardStream(io.FileIO):
    """File descriptor 1 or 2; after a failed write, everything written to it is discarded.

    Nothing is raised, since the writer may be a library or a scheduler that takes it for an error
    of its own.
    """

    error: OSError | None = None
    """Why a write failed; None if the reader of a pipe ended, which is no error."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or discard, the data and return its number of bytes."""
        try:
            return super().write(data)
        except BrokenPipeError:
            pass
        except OSError as error:
            self.error = error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())  # also for other processes and libraries written in C
        os.close(null)
        return memoryview(data).nbytes


def protect() -> StandardStream | None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams that accept every text.

    A closed stream becomes the null device. A stream that a program put in the place of a standard
    one stays.

    Returns:
        The standard output, to ask it for an error; None if it is another stream.
    """
    codecs.register_error("mecsim", _substitute)
    sys.stdout, stdout = _protected(sys.stdout, sys.__stdout__)
    sys.stderr, _ = _protected(sys.stderr, sys.__stderr__)
    return stdout


def _protected(
    stream: TextIO | None, standard: TextIO | None
) -> tuple[TextIO, StandardStream | None]:
    if stream is None:  # closed by the parent process
        return Path(os.devnull).open("w", encoding="utf-8"), None
    if stream is not standard or not isinstance(stream, io.TextIOWrapper):
        return stream, None
    raw = StandardStream(stream.fileno(), "w", closefd=False)
    text = io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="mecsim",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    return text, raw


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that an encoding lacks, as codecs ask for it."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(as_ascii, error.object[error.start : error.end])), error.end


def as_ascii(character: str) -> str:
    r"""Return a substitute for a character, or else its escape sequence in JSON.

    >>> [as_ascii(character) for character in "…τΣö"]
    ['...', 'tau', 'Sigma', '\\u00f6']
    """
    if character in SUBSTITUTES:
        return SUBSTITUTES[character]
    script, _, name = unicodedata.name(character, "").partition(" ")
    size, _, letter = name.partition(" LETTER ")
    if script == "GREEK" and letter.isalpha():
        return letter.lower() if size == "SMALL" else letter.capitalize()
    return json.dumps(character)[1:-1]
