"""The clock of a node: readings, and waiting for absolute times.

All times are readings of the monotonic clock in s. It is common to all processes of one boot of a
machine, in all namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_PR_SET_TIMERSLACK: Final = 29
_SPIN_S: Final = 1e-4
"""The end of a wait, without sleep: sleeps of idle processors end some 50 µs late."""
_SWITCH_S: Final = 5e-4
"""A thread that runs Python code makes room for another after this time; by default 5 ms."""


def sharpen() -> None:
    """Let sleeps of this thread, and of threads that it starts from now on, end precisely."""
    sys.setswitchinterval(_SWITCH_S)
    with contextlib.suppress(AttributeError, OSError):  # no Linux: sleeps are less precise
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def prioritise() -> bool:
    """Give this thread real-time priority, and threads that it starts from now on.

    Such threads are for waiting and sending. Where more processes compute than there are cores,
    waits then end within some 20 µs, and several ms late without. Computing is `ordinary`.

    Returns:
        Whether the system allows it; root is allowed.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        return False
    return True


def has_priority() -> bool:
    """Return whether this thread has real-time priority."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_FIFO


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Let this thread compute with ordinary priority."""
    if not has_priority():
        yield
        return
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        prioritise()


def identity() -> str:
    """Return a text that is equal for all processes that share the monotonic clock."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        import platform  # noqa: PLC0415 - not on Linux

        return platform.node()


def wait_until(at: float) -> bool:
    """Return at a time.

    Args:
        at: The time.

    Returns:
        Whether the time was in the future.
    """
    left_s = at - time.monotonic()
    if left_s <= 0:
        return False
    if left_s > _SPIN_S:
        time.sleep(left_s - _SPIN_S)
    while time.monotonic() < at:
        time.sleep(0)  # lets other threads of the process run
    return True


class Agenda:
    """Calls functions at absolute times, one after the other, in a thread."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="agenda", daemon=True).start()

    def at(self, at: float, call: Callable[[], None]) -> None:
        """Call a function at a time, or at once if it has passed. It must return quickly.

        Args:
            at: The time. Functions of one time are called in the order in which they came.
            call: The function.
        """
        with self._changed:
            heapq.heappush(self._entries, (at, next(self._number), call))
            self._changed.notify()

    def close(self) -> None:
        """Call nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            at, call = entry
            wait_until(at)
            call()

    def _next(self) -> tuple[float, Callable[[], None]] | None:
        """Return the first entry shortly before its time; none if the agenda is closed."""
        with self._changed:
            while not self._closed:
                left_s = self._entries[0][0] - time.monotonic() if self._entries else math.inf
                if left_s <= 2 * _SPIN_S:
                    at, _, call = heapq.heappop(self._entries)
                    return at, call
                self._changed.wait(None if left_s == math.inf else left_s - _SPIN_S)
        return None
