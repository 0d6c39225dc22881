"""Output files: there as a whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path

from mecsim.errors import OutputError


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Tell an ``OSError`` in one line, as output that cannot be written (``OutputError``)."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(*paths: Path, out: Path | None = None) -> Iterator[list[Path]]:
    """Yield temporary names; the files take their own names if all goes well, or vanish.

    Makes the folder. Raises ``OutputError`` about ``out`` (by default the first path) where
    something cannot be written.
    """
    partial = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        with told(out or paths[0]):
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            yield partial
            for temporary, path in zip(partial, paths, strict=True):
                temporary.replace(path)
    finally:
        for temporary in partial:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file, text as UTF-8; on disk before it takes its name. Raises ``OutputError``."""
    with replacing(path) as (partial,), partial.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def remove_unfinished(*paths: Path) -> None:
    """Remove what a process that was killed had begun to write in place of these files.

    Raises ``OutputError``.
    """
    for path in paths:
        with told(path):
            for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                left.unlink()
