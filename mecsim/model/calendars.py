"""Calendars: how fast a resource works over time, and when it is down.

A calendar has two layers. *Steps* multiply the nominal rate of a resource: a piecewise-constant
function of time, repeated with a period or held for good. *Outages* are intervals in which the
resource does not work. A service ends when the integral of the multiplier from its start, outages
left out, equals its nominal time; see :mod:`mecsim.model.calendar_visits`.

Calendars are known ahead for the whole run. So it is known when a job joins a queue when its
service will end, or in which outage it will be lost, and a first-come-first-served resource still
needs no queue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.support.arrays import Floats, read_only

RESUMES: Final = 0
"""An outage interrupts a service, which continues after it."""
RESTARTS: Final = 1
"""An outage interrupts a service, which starts from its beginning after it."""
LOST: Final = 2
"""When an outage begins, all jobs that are in service or wait are lost."""

CALENDAR: Final = np.dtype(
    [
        ("timed", "i4"),  # whether the resource has a calendar at all
        ("rule", "i4"),  # RESUMES, RESTARTS or LOST
        ("refuses", "i4"),  # whether jobs that come during an outage are lost
        ("by_time", "i4"),  # whether energy is spent by time, as on the air, or by work done
        ("step", "i8"),  # rows of the steps from ``step`` to ``step_end``
        ("step_end", "i8"),
        ("outage", "i8"),  # rows of the outages from ``outage`` to ``outage_end``
        ("outage_end", "i8"),
        ("period_s", "f8"),  # after which the steps are repeated, or infinity
    ],
    align=True,
)
Records: TypeAlias = NDArray[np.void]


class Calendars(NamedTuple):
    """The calendars of R resources."""

    of: Records
    """Of type ``CALENDAR``; shape (R,), or (0,) if no resource has a calendar."""
    steps: Floats
    """Begin of each step in s within its period, from 0, and the multiplier; shape (P, 2)."""
    outages: Floats
    """Begin and end of each outage in s, in order and apart; shape (O, 2)."""


NO_CALENDARS: Final = Calendars(
    read_only(np.zeros(0, dtype=CALENDAR)),
    read_only(np.zeros((0, 2))),
    read_only(np.zeros((0, 2))),
)


@dataclass(frozen=True)
class Calendar:
    """The calendar of one resource, or of several that share it."""

    steps: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Begin in s and multiplier of each step; the first begins at 0; shape (P, 2)."""
    period_s: float = math.inf
    outages: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Begin and end in s of each outage; shape (O, 2)."""
    rule: int = RESUMES
    refuses: bool = False


def calendars(
    resources: int, given: Mapping[int, Calendar], by_time: Iterable[int] = ()
) -> Calendars:
    """Return the calendars of all resources.

    Args:
        resources: R.
        given: Calendars by the number of a resource; arrays that are the same object are stored
            once.
        by_time: Resources whose energy is spent by time.

    Returns:
        The calendars; arrays are read-only.
    """
    if not given:
        return NO_CALENDARS
    of = np.zeros(resources, dtype=CALENDAR)
    of["period_s"] = math.inf
    of["by_time"][list(by_time)] = 1
    pools: tuple[_Pool, _Pool] = _Pool(), _Pool()
    for resource, calendar in given.items():
        row = of[resource]
        row["timed"], row["rule"], row["refuses"] = 1, calendar.rule, calendar.refuses
        row["period_s"] = calendar.period_s
        for pool, rows, name in zip(
            pools, (calendar.steps, calendar.outages), ("step", "outage"), strict=True
        ):
            row[name] = pool.add(rows)
            row[f"{name}_end"] = row[name] + len(rows)
    steps, outages = (read_only(pool.rows()) for pool in pools)
    return Calendars(read_only(of), steps, outages)


class _Pool:
    """Arrays of two columns one after the other, each once."""

    def __init__(self) -> None:
        self._pieces: list[Floats] = []
        self._at: dict[int, int] = {}
        self._end = 0

    def add(self, rows: Floats) -> int:
        """Return the first row of some rows."""
        if id(rows) not in self._at:
            self._at[id(rows)] = self._end
            self._pieces.append(rows)
            self._end += len(rows)
        return self._at[id(rows)]

    def rows(self) -> Floats:
        """Return all rows."""
        return np.concatenate([np.zeros((0, 2)), *self._pieces])
