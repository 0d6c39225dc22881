"""Compiling with numba: where what was compiled is kept, and what the user is told of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from filelock import FileLock
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])

COMPILE_S: Final = 10
"""What compiling takes, roughly."""
PATIENCE_S: Final = 60
"""How long another process that compiles is waited for."""

TOLD: Final = "MECSIM_COMPILING_TOLD"
"""Set where the user has been told, for the processes that this one starts."""

SOURCES: Final = (
    *(f"model/{name}" for name in ("equations", "random_streams")),
    "scheduler/features",
    *(
        f"kernels/{name}"
        for name in (
            *("tables", "epochs", "hops", "state", "reward", "accounting"),
            *("event_loop", "advance", "rollout"),
        )
    ),
)
"""The modules of which something is compiled."""


def _stamp() -> tuple[int, ...]:
    """Return two numbers for every source: its size and when it was last changed."""
    stats = [(Path(__file__).parents[1] / f"{name}.py").stat() for name in SOURCES]
    return tuple(number for stat in stats for number in (stat.st_size, stat.st_mtime_ns))


_STAMP: Final = _stamp()


def compiled(function: _Function) -> _Function:
    """Compile a function at its first call, free of the GIL; keep the result on disk if possible.

    With ``NUMBA_DISABLE_JIT=1`` it stays as it is, which gives the same results.
    """
    try:
        made: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder that it can write to
        made = numba.njit(nogil=True)(function)
    kept: Any = getattr(made, "_cache", None)
    if hasattr(kept, "_cache_file"):
        # numba looks only at the file of the function itself, and not at those of what it calls.
        kept._cache_file._source_stamp = _STAMP
        kept.save_overload = _forgiving(kept.save_overload)
        _teller.folder = _teller.folder or made.stats.cache_path
        made.compile = _one_at_a_time(made.compile)
    return cast("_Function", made)


@cache
def _lock(process: int) -> FileLock:
    """Return the one lock that a process has, as compiling a function compiles others.

    One that a fork inherits is of no use.
    """
    del process
    return FileLock(Path(_teller.folder or "") / "compiling.lock", timeout=PATIENCE_S)


_alone: Final[set[int]] = set()
"""Processes that wait for no other any more."""


def _one_at_a_time(compile_: Callable[..., Any]) -> Callable[..., Any]:
    """Let one process compile at a time, so that the others find on disk what it made."""

    def compiled_alone(signature: Any) -> Any:
        process = os.getpid()
        # numba's own lock first, as whoever compiles something that calls this holds it already.
        with global_compiler_lock, ExitStack() as held:
            if process not in _alone:
                try:
                    held.enter_context(_lock(process))
                except (OSError, NotImplementedError):  # no locks here, or held for too long
                    _alone.add(process)  # it may be made twice then
            return compile_(signature)

    return compiled_alone


def _forgiving(save: Callable[..., None]) -> Callable[..., None]:
    """Let a run go on where the disk is full or the like."""

    def saved(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError as error:
            _teller.tell(f"what is compiled cannot be kept on disk: {error}")

    return saved


class _Teller(event.Listener):
    """Tells the user, once, why the first run takes longer, and whether the next one will."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.compile_s = 0.0
        self._begun: list[float] = []  # of nested compilations
        self._told: set[str] = set()

    def tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            _log.warning("%s", message)

    def on_start(self, event: event.Event) -> None:
        self._begun.append(time.perf_counter())
        function = event.data["dispatcher"].py_func
        if not function.__module__.startswith("mecsim."):
            return  # a user's own
        if TOLD not in os.environ:
            os.environ[TOLD] = "1"
            self.tell(f"compiling what is needed here, once on this machine; about {COMPILE_S} s")
        wanted = getattr(numba.config, "CACHE_DIR", "")
        if self.folder is None:
            self.tell(
                "the compiled kernel cannot be kept on disk: no folder for it can be written to; "
                "set NUMBA_CACHE_DIR to one"
            )
        elif wanted and not Path(self.folder).is_relative_to(wanted):
            self.tell(f"NUMBA_CACHE_DIR: cannot write to {wanted}; using {self.folder}")

    def on_end(self, event: event.Event) -> None:
        """Add up the time, of the outermost of nested compilations."""
        begun_s = self._begun.pop()
        if not self._begun:
            self.compile_s += time.perf_counter() - begun_s


def compile_seconds() -> float:
    """Return the time that numba has spent on compiling in this process, in seconds."""
    return _teller.compile_s


_teller: Final = _Teller()
event.register("numba:compile", _teller)  # type: ignore[no-untyped-call]
