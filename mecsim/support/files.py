"""Files that are named by users, and output files that are complete or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from mecsim.errors import InputError, OutputError


def packaged(name: str, in_checkout: str = "") -> Path:
    """Return a folder that comes with mecsim: inside the package, or next to it in a checkout.

    Args:
        name: Its name inside an installed package.
        in_checkout: Its path in a checkout; by default the name.
    """
    package = Path(str(resources.files("mecsim")))
    inside = package / name
    return inside if inside.is_dir() else package.parent / (in_checkout or name)


def check_exists(path: Path, expected: str) -> None:
    """Raise ``InputError`` if there is neither a file nor a folder; say what is expected."""
    if not os.path.exists(path):  # noqa: PTH110 - also for names that are too long
        raise InputError(f"{path}: there is no such file or folder. Expected: {expected}")


def check_target(path: Path) -> None:
    """Check that a file can be made; make nothing, not even its folder.

    Raises:
        OutputError: The path is a folder, or nothing can be written next to it.
    """
    with as_output_error(path):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name too long
            raise IsADirectoryError(None, "it is a folder")
        if _special(path):
            return
        folder = path.resolve().parent
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Convert an ``OSError`` to a one-line ``OutputError`` about ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def as_temporary_error(what: str) -> Iterator[None]:
    """Convert an ``OSError`` to an ``OutputError`` about the folder of temporary files."""
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or os.environ.get("TMPDIR", "folder of temporary files")
        raise OutputError(
            f"{folder}: {what} cannot be written: {error.strerror or error}. "
            "Try: set TMPDIR to a folder with free space"
        ) from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for temporary files and delete it at the end.

    Raises:
        OutputError: If it cannot be made.
    """
    with as_temporary_error("a temporary folder"):
        folder = tempfile.TemporaryDirectory(prefix="mecsim-", ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def replacing(*paths: Path, out: Path | None = None) -> Iterator[list[Path]]:
    """Write files under temporary names; rename them, one after the other, if nothing fails.

    Makes the folder. The target of a link is replaced, not the link. A pipe or a device is written
    to directly.

    Args:
        *paths: The final names, all in one folder.
        out: The path that messages name; by default the first path.

    Yields:
        The temporary names, in the same order.

    Raises:
        OutputError: If a file cannot be written.
    """
    finals = [path if _special(path) else Path(os.path.realpath(path)) for path in paths]
    partial = [path if _special(path) else _partial(path) for path in finals]
    try:
        with as_output_error(out or paths[0]):
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
    """Write a file that is complete or absent.

    Args:
        path: Its name, which it takes once the data is on disk.
        data: Its content; a text becomes UTF-8.

    Raises:
        OutputError: If it cannot be written.
    """
    with replacing(path) as (partial,), partial.open("wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode(errors="backslashreplace"))
        file.flush()
        with contextlib.suppress(OSError):  # a pipe has no disk
            os.fsync(file.fileno())


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete temporary files left by dead processes.

    Args:
        folder: Where to look.
        name: The final name of the files, with wildcards as in a shell.

    Raises:
        OutputError: If one cannot be deleted.
    """
    with as_output_error(folder):
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
        pass  # a process of another user
    return True
