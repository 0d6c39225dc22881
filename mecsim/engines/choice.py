"""Engines by name."""

from __future__ import annotations

import os
from typing import Final

from mecsim.engines.base import Engine
from mecsim.engines.local import LocalEngine
from mecsim.errors import InputError

ENGINES: Final = ("local",)


def make_engine(name: str, jobs: int | None = None) -> Engine:
    """Return an engine with room for so many jobs at a time (as many as there are cores).

    Raises ``InputError`` for an unknown name or no jobs.
    """
    if name not in ENGINES:
        raise InputError(f"--engine: {name!r} is not known; allowed: {', '.join(ENGINES)}")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: {jobs}: allowed: 1 or more")
    return LocalEngine(jobs or len(os.sched_getaffinity(0)))
