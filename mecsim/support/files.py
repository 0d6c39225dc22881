"""Output files: there as a whole or not at all."""

from __future__ import annotations

import contextlib
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
    """Yield temporary names; the files take their own, one after the other, or none of them.

    Makes the folder. What a link points to is replaced, not the link, and what is no file (a pipe,
    a device) is written to as it is. Raises ``OutputError`` about ``out`` (by default the first
    path) where something cannot be written.
    """
    finals = [path if _special(path) else Path(os.path.realpath(path)) for path in paths]
    partial = [path if _special(path) else _partial(path) for path in finals]
    try:
        with told(out or paths[0]):
            finals[0].parent.mkdir(parents=True, exist_ok=True)
            yield partial
            for temporary, final in zip(partial, finals, strict=True):
                if temporary != final:
                    temporary.replace(final)
    finally:
        for temporary, final in zip(partial, finals, strict=True):
            if temporary != final:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)


def _special(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file, text as UTF-8; on disk before it takes its name. Raises ``OutputError``."""
    with replacing(path) as (partial,), partial.open("wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode(errors="backslashreplace"))
        file.flush()
        with contextlib.suppress(OSError):  # a pipe has no disk
            os.fsync(file.fileno())


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what processes that are dead had begun to write in a folder.

    That is, in place of files of some name, which may have wildcards. Raises ``OutputError``.
    """
    with told(folder):
        for left in folder.glob(f".{name}.*.part"):
            _, _, number = left.name.removesuffix(".part").rpartition(".")
            if number.isdecimal() and not _alive(int(number)):
                left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True
