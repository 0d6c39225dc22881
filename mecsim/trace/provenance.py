"""The origin of a trace: scheduler, seed, kernel and testbed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MEASURED: Final = "testbed"
"""The kernel of traces whose times were measured on real nodes."""


@dataclass(frozen=True)
class Provenance:
    """How a trace was made, apart from its scenario; stored as root attributes of the file.

    Attributes:
        scheduler: The name given on the command line: installed, ``module:Class`` or
            ``file.py:Class``.
        scheduler_options: Options of the scheduler; values that JSON can hold.
        seed: Seed of every random draw, 0 to 2^64 − 1.
        kernel: ``"simpy"``, ``"compiled"``, or ``"testbed"`` where times were measured.
        testbed: How times were measured, see :func:`mecsim.testbed.run.run_testbed`; values that
            JSON can hold. None where they were simulated.

    Example:
        >>> Provenance("greedy", {}, seed=0, kernel="simpy").scheduler
        'greedy'
    """

    scheduler: str
    scheduler_options: Mapping[str, Any]
    seed: int
    kernel: str
    testbed: Mapping[str, Any] | None = None
