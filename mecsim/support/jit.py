"""Compile functions with numba, keep the result on disk, and notify the user once.

numba loads all that it can compile before it reads a compiled function from disk, which takes
longer than a short run. :class:`_KernelCache` reads a compiled function without that, and refuses
damaged files.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numba
from numba.core import caching, event
from numba.core.compiler_lock import global_compiler_lock
from numba.core.runtime.nrt import rtsys
from numba.extending import register_jitable

if TYPE_CHECKING:
    from filelock import FileLock

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])

LOCK_TIMEOUT_S: Final = 60
"""How long to wait for another process that compiles."""

COMPILE_NOTICE: Final = "compiling numba kernels (first run on this machine, about 10 s)"
COMPILE_NOTICE_SHOWN: Final = "MECSIM_COMPILE_NOTICE_SHOWN"
"""Environment variable that keeps child processes from repeating the notice."""

_PACKAGE: Final = Path(__file__).parents[1]
_DIGEST_BYTES: Final = 32


def sources() -> list[Path]:
    """Return the files that compiled code depends on, sorted."""
    others = (
        *("model/arrivals", "model/association", "model/calendars", "model/calendar_visits"),
        *(
            "model/detours",
            "model/equations",
            "model/random_streams",
            "model/task_status",
            "scheduler/features",
            "support/jit",
            "support/portable_math",
        ),
    )
    files = [_PACKAGE / f"{name}.py" for name in others]
    return sorted([*files, *(_PACKAGE / "kernels").glob("*.py")])


@cache
def _source_stamp() -> tuple[tuple[str, int, int], ...]:
    """Return name, size and time of change of every source."""
    stats = [(path.name, path.stat()) for path in sources()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def compiled(function: _Function) -> _Function:
    """Compile a function at its first call, without the GIL; keep the result on disk if possible.

    With ``NUMBA_DISABLE_JIT=1`` the function stays as it is, with equal results.
    """
    made: Any = numba.njit(nogil=True)(function)
    if made is not function:
        try:
            made._cache = _KernelCache(function)
        except RuntimeError:  # numba finds no writable folder
            return cast("_Function", made)
        _notifier.folder = _notifier.folder or made.stats.cache_path
        made.compile = _one_process_at_a_time(made)
    return cast("_Function", made)


def compilable(function: _Function) -> _Function:
    """Let compiled functions call a function that stays as it is for all other callers."""
    made: _Function = register_jitable(function)
    return made


_CacheFile: Any = caching.IndexDataCacheFile  # numba has no types
_FunctionCache: Any = caching.FunctionCache


class _CacheFiles(_CacheFile):  # type: ignore[misc]
    """Index and data files of one function; a digest at the end of each finds damage.

    LLVM ends the process on damaged machine code, so nothing unchecked may reach it. The pickles
    that numba reads ignore what follows them.
    """

    def _dump(self, obj: object) -> bytes:
        data: bytes = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except Exception:  # noqa: BLE001 - a damaged pickle raises anything
            _notifier.report_damage()
            return {}

    def _load_data(self, name: str) -> Any:
        data = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
            _notifier.report_damage()
            raise OSError(f"{name} is damaged")  # numba compiles again and replaces the file
        return super()._load_data(name)


class _KernelCache(_FunctionCache):  # type: ignore[misc]
    """The compiled code of one function on disk; becomes stale when any of the sources changes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _CacheFiles(
            cache_path=locator.get_cache_path(),
            filename_base=self._impl.filename_base,
            source_stamp=_source_stamp(),
        )
        self._found: tuple[Any, Any] | None = None

    def holds(self, signature: Any, context: Any) -> bool:
        """Return whether the code of a signature is on disk, and keep it for ``load_overload``."""
        self._found = signature, self.load_overload(signature, context)
        return self._found[1] is not None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load compiled code; unlike numba, without all that only compiling needs."""
        found, self._found = self._found, None
        if found is not None and found[0] == sig and found[1] is not None:
            return found[1]
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save compiled code; continue without where the disk is full or read-only."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _notifier.report(f"the compiled kernels cannot be saved: {error}")


@cache
def _lock(process: int) -> FileLock:
    """Return the one lock of a process, as compiling a function compiles others.

    A lock inherited through a fork does not work.
    """
    from filelock import FileLock  # noqa: PLC0415 - 30 ms, and a run that only loads needs no lock

    del process
    return FileLock(Path(_notifier.folder or "") / "compiling.lock", timeout=LOCK_TIMEOUT_S)


_unlocked: Final[set[int]] = set()
"""Processes that have given up waiting for others."""


def _one_process_at_a_time(made: Any) -> Callable[[Any], Any]:
    """Let one process compile at a time, so that the others find its result on disk."""
    compile_ = made.compile

    def compile_in_turn(signature: Any) -> Any:
        process = os.getpid()
        # numba's own lock first: a thread that compiles a caller of this function holds it already.
        with global_compiler_lock, ExitStack() as held:
            known = signature in made.overloads or made._cache.holds(signature, made.targetctx)
            if not known and process not in _unlocked:
                try:
                    held.enter_context(_lock(process))
                except (OSError, NotImplementedError):  # no locks here, or held for too long
                    _unlocked.add(process)  # two processes may compile the same function then
            return compile_(signature)

    return compile_in_turn


class CompileNotifier(event.Listener):
    """Reports, once, why the first run takes longer, and whether the next one will."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.compile_s = 0.0
        self._begun: list[float] = []  # of nested compilations
        self._reported: set[str] = set()

    def report(self, message: str) -> None:
        """Log a warning, unless this process has logged it before."""
        if message not in self._reported:
            self._reported.add(message)
            _log.warning("%s", message)

    def report_damage(self) -> None:
        """Report damaged files in place of the usual notice."""
        os.environ[COMPILE_NOTICE_SHOWN] = "1"
        self.report("the compiled numba kernels on disk are damaged; compiling them again")

    def on_start(self, event: event.Event) -> None:
        """Report that one of our functions is being compiled."""
        self._begun.append(time.perf_counter())
        function = event.data["dispatcher"].py_func
        if not function.__module__.startswith("mecsim."):
            return  # a user's own
        if COMPILE_NOTICE_SHOWN not in os.environ:
            os.environ[COMPILE_NOTICE_SHOWN] = "1"
            self.report(COMPILE_NOTICE)
        wanted = getattr(numba.config, "CACHE_DIR", "")
        if self.folder is None:
            self.report(
                "the compiled kernels cannot be saved: no writable folder. "
                "Try: set NUMBA_CACHE_DIR to one"
            )
        elif wanted and not Path(self.folder).is_relative_to(wanted):
            self.report(f"NUMBA_CACHE_DIR: cannot write to {wanted}; using {self.folder}")

    def on_end(self, event: event.Event) -> None:
        """Add up the time of the outermost of nested compilations."""
        begun_s = self._begun.pop()
        if not self._begun:
            self.compile_s += time.perf_counter() - begun_s


def compile_seconds() -> float:
    """Return the time that numba has spent on compiling in this process, in seconds."""
    return _notifier.compile_s


_notifier: Final = CompileNotifier()
event.register("numba:compile", _notifier)  # type: ignore[no-untyped-call]
