"""Values of a trace that no run can have written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mecsim.errors import TraceError
from mecsim.model.task_status import CAUSES, COMPLETED
from mecsim.trace.reader import TraceFile

_ATTEMPTS: Final = (("tasks", "attempts"), ("blocks", "attempt"), ("hops", "attempt"))
PIECE_ROWS: Final = 1 << 17
"""Rows that are read at once."""


def pieces(rows: int, size: int = PIECE_ROWS) -> Iterator[tuple[int, int]]:
    """Yield begin and end of consecutive pieces of a column.

    >>> list(pieces(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for begin in range(0, rows, size):
        yield begin, min(begin + size, rows)


def check_values(trace: TraceFile, resources: int | None = None) -> None:
    """Refuse columns with numbers of what does not exist, or with impossible times.

    Args:
        trace: An open trace.
        resources: Number of resources of its scenario; by default that of the rows of them.

    Raises:
        TraceError: With the column and what is allowed.
    """
    scenario, count = trace.scenario, resources or trace.length("resources")
    attempts = 1 + max(each.retries for each in scenario.classes)
    for group, name, least, most in (
        ("tasks", "device", 0, scenario.device_count - 1),
        ("tasks", "slot", 0, trace.length("slots") - 1),
        ("tasks", "status", COMPLETED, max(CAUSES)),
        ("tasks", "class", 0, len(scenario.classes) - 1),
        ("decisions", "placement", -1, scenario.server_count),  # -1 beyond the blocks of a class
        ("decisions", "class", 0, len(scenario.classes) - 1),
        ("hops", "resource", 0, count - 1),
        *((group, name, 1, attempts) for group, name in _ATTEMPTS),
    ):
        if name in trace.columns[group]:
            _check_range(trace, group, name, least, most)
    times = ("enqueue_s", "start_s", "finish_s")
    for group, names in (("tasks", ("release_s", "finish_s")), ("hops", times)):
        for name in names:
            _check_times(trace, group, name)


def _check_range(trace: TraceFile, group: str, name: str, least: int, most: int) -> None:
    for begin, end in pieces(trace.length(group)):
        found = trace.read(group, name, begin, end)
        if not least <= found.min() <= found.max() <= most:
            problem = f"holds others than {least} to {most}"
            raise TraceError(f"{trace.path}: column /{group}/{name} {problem}")


def _check_times(trace: TraceFile, group: str, name: str) -> None:
    for begin, end in pieces(trace.length(group)):
        found = trace.read(group, name, begin, end)
        if (found < 0).any() or np.isinf(found).any():
            problem = "holds times that are negative or infinite"
            raise TraceError(f"{trace.path}: column /{group}/{name} {problem}")
