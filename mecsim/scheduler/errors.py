"""Exceptions of a user's scheduler as input errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mecsim.errors import SchedulerError


@contextmanager
def scheduler_errors(problem: str, let: type[Exception] = SchedulerError) -> Iterator[None]:
    """Convert exceptions of a user's code, ``SystemExit`` included, to ``SchedulerError``.

    Args:
        problem: Beginning of the message; the cause follows, in one line.
        let: Exceptions that pass unchanged, as ``SchedulerError`` does.

    Raises:
        SchedulerError: The code raised something else.
    """
    try:
        yield
    except (SchedulerError, let):
        raise
    except (Exception, SystemExit) as error:
        raise SchedulerError(f"{problem} {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Return the name and the message of an exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
