"""Ctrl-C, deferred to places where it does no harm."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C to the calls of a function.

    At any other place Ctrl-C could fall into the callback of a weak reference, where Python loses
    it, or between two lines of a library that belong together. A second Ctrl-C raises at once, in
    case that a step does not end.

    Yields:
        ``check()``, which raises ``KeyboardInterrupt`` if Ctrl-C was pressed.
    """
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # a job in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
