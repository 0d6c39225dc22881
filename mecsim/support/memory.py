"""How much memory a run may take."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from mecsim.errors import InputError

VARIABLE: Final = "MECSIM_MEMORY_LIMIT"
"""Environment variable: bytes that the work in flight of a run may take."""
SHARE: Final = 0.25
"""Share of the available memory that the work in flight of a run may take."""
_MEMINFO: Final = Path("/proc/meminfo")
_CONTAINER: Final = Path("/sys/fs/cgroup/memory.max")


def limit_bytes(used_bytes: float = 0.0) -> float:
    """Return how many bytes the work in flight of a run may take.

    Args:
        used_bytes: Bytes that it takes now, which are therefore not available.

    Returns:
        The value of ``MECSIM_MEMORY_LIMIT``; else a quarter of the memory that is available to this
        process; infinity if the system does not report it.

    Raises:
        InputError: The variable is not a positive number.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        return SHARE * min(_available_bytes() + used_bytes, _container_bytes())
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise InputError(f"{VARIABLE}: {given!r}. Expected: a number of bytes, such as 4e9")
    return limit


def _available_bytes() -> float:
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * float(line.split()[1])
    return math.inf


def _container_bytes() -> float:
    """Return the limit of the process's container (cgroup v2)."""
    limit = _CONTAINER.read_text(encoding="ascii").strip() if _CONTAINER.exists() else "max"
    return math.inf if limit == "max" else float(limit)
