"""Waiting for other processes and threads: for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 120
"""How long a condition may take before the test fails; only a fault makes it take so long."""


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; fail where it does not within some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.01)
