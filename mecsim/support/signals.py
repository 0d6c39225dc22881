"""Ctrl-C, taken where it does no harm."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Take Ctrl-C only where what is yielded is called: it raises ``KeyboardInterrupt`` then.

    Elsewhere it could fall into a weak reference's callback, where Python loses it, or between two
    lines of a library that belong together. A second one is taken at once, should a step not end.
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

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as of a job in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
