"""Ctrl-C, deferred to places where it does no harm."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class _Deferred:
    """A handler of Ctrl-C that notes the first one, and raises at the second one."""

    def __init__(self) -> None:
        self._pressed = False
        self.waits = False
        """Whether Ctrl-C was pressed and has not been raised."""

    def __call__(self, *_: object) -> None:
        if self._pressed:
            self.waits = False
            raise KeyboardInterrupt
        self._pressed = self.waits = True

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if Ctrl-C was pressed."""
        if self._pressed:
            self.waits = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def between_steps(*, shared: bool = False) -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C to the calls of a function.

    At any other place Ctrl-C could fall into the callback of a weak reference, where Python loses
    it, or between two lines of a library that belong together. A second Ctrl-C raises at once, in
    case that a step does not end. One that came after the last call is passed on at the end: to an
    outer use, or to Python, which raises ``KeyboardInterrupt`` unless another error ends the steps.

    Args:
        shared: Inside another use, share its Ctrl-C: also if it was pressed before.

    Yields:
        ``check()``, which raises ``KeyboardInterrupt`` if Ctrl-C was pressed.
    """
    deferred, before = _Deferred(), signal.getsignal(signal.SIGINT)
    ignored = before is signal.SIG_IGN  # a job in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield deferred.check
    elif shared and isinstance(before, _Deferred):
        yield before.check
    else:
        signal.signal(signal.SIGINT, deferred)
        failed = True
        try:
            yield deferred.check
            failed = False
        finally:
            signal.signal(signal.SIGINT, before)
            if deferred.waits and (isinstance(before, _Deferred) or not failed):
                signal.raise_signal(signal.SIGINT)
