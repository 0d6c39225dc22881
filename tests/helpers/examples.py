"""How many examples property-based tests try."""

from __future__ import annotations

import os
from typing import Final

THOROUGH: Final = "MECSIM_THOROUGH"
"""The variable that `make verify` sets: it tries all examples."""


def thorough() -> bool:
    """Return whether this run tries all examples."""
    return THOROUGH in os.environ


def examples(count: int) -> int:
    """Return ``count`` in a thorough run, else a quarter of it, and at least 10."""
    return count if thorough() else max(count // 4, 10)
