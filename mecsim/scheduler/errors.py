"""Exceptions of a user's scheduler as input errors, with the place in its code."""

from __future__ import annotations

import site
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mecsim.errors import SchedulerError


@contextmanager
def scheduler_errors(
    problem: str, let: type[Exception] = SchedulerError, module: str = ""
) -> Iterator[None]:
    """Convert exceptions of a user's code, ``SystemExit`` included, to ``SchedulerError``.

    Args:
        problem: Beginning of the message; the cause follows, with file and line, in one line.
        let: Exceptions that pass unchanged, as ``SchedulerError`` does.
        module: The scheduler's module, which counts as the user's code although it is installed.

    Raises:
        SchedulerError: The code raised something else.
    """
    try:
        yield
    except (SchedulerError, let):
        raise
    except (Exception, SystemExit) as error:
        raise SchedulerError(f"{problem} {one_line(error)}{_place(error, module)}") from error


def _place(error: BaseException, module: str) -> str:
    """Return file and line of the innermost call in the user's code; empty if there is none."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        top = frame.f_globals.get("__name__", "").partition(".")[0]
        file = Path(frame.f_code.co_filename)
        if top == "mecsim" or not file.is_file():  # frozen modules and generated code have no file
            continue
        if top == module.partition(".")[0] or not is_installed(file):
            shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
            return f" ({shown}, line {line})"
    return ""


def is_installed(path: Path) -> bool:
    """Whether a file or folder belongs to the standard library or to an installed package."""
    return any(path.is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> frozenset[str]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return frozenset({*(sysconfig.get_path(name) for name in names), *site.getsitepackages()})


def one_line(error: BaseException) -> str:
    """Return the name and the message of an exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
