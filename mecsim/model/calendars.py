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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.support.arrays import Bools, Floats, Ints, read_only

RESUMES: Final = 0
"""An outage interrupts a service, which continues after it."""
RESTARTS: Final = 1
"""An outage interrupts a service, which starts from its beginning after it."""
LOST: Final = 2
"""When an outage begins, all jobs that are in service or wait are lost."""

CALENDAR: Final = np.dtype(
    [
        ("timed", "i4"),  # whether the resource has a calendar at all
        ("by_time", "i4"),  # whether energy is spent by time, as on the air, or by work done
        ("by_slot", "i8"),  # whether the steps are one for each slot, the rates of that slot
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
    """Begin of each step in s within its period, from 0, and the multiplier; shape (P, 2). Where
    steps are by slot, the multiplier is the rate, and nominal times are those at the rate of the
    task's slot."""
    outages: Floats
    """Begin and end of each outage in s, in order; RESUMES, RESTARTS or LOST; and 1 where jobs that
    come during it are lost, else 0; shape (O, 4)."""


NO_CALENDARS: Final = Calendars(
    read_only(np.zeros(0, dtype=CALENDAR)),
    read_only(np.zeros((0, 2))),
    read_only(np.zeros((0, 4))),
)


@dataclass(frozen=True)
class Calendar:
    """The calendar of one resource, or of several that share it."""

    steps: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Begin in s and multiplier of each step; the first begins at 0; shape (P, 2)."""
    period_s: float = math.inf
    outages: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Begin and end in s of each outage, in order and apart; shape (O, 2)."""
    rule: int = RESUMES
    refuses: bool = False
    pauses: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Begin and end in s of further outages, in order and apart, after which work always resumes.
    Where an outage overlaps them, its rules hold; shape (Q, 2)."""
    by_slot: bool = False
    """Whether the steps are those of slots, one each, and the multipliers are rates."""

    def rows(self) -> Floats:
        """Return the outages and, apart from them, what is left of the pauses.

        See :attr:`Calendars.outages`.
        """
        outages, pauses = self.outages, _without(self.pauses, self.outages)
        rules = np.broadcast_to([float(self.rule), float(self.refuses)], (len(outages), 2))
        rows = np.concatenate([
            np.concatenate([outages, rules], axis=1),
            np.concatenate([pauses, np.zeros((len(pauses), 2))], axis=1),
        ])  # fmt: skip
        return rows[np.argsort(rows[:, 0], kind="stable")]


def _without(intervals: Floats, cut: Floats) -> Floats:
    """Return the parts of intervals that lie outside of others; both are in order and apart."""
    if not len(cut):
        return intervals
    parts = []
    first = np.searchsorted(cut[:, 1], intervals[:, 0], side="right").tolist()
    end = np.searchsorted(cut[:, 0], intervals[:, 1]).tolist()
    for (begin_s, end_s), a, b in zip(intervals.tolist(), first, end, strict=True):
        at_s = begin_s
        for cut_s, until_s in cut[a:b].tolist():
            if at_s < cut_s:
                parts.append((at_s, cut_s))
            at_s = max(at_s, until_s)
        if at_s < end_s:
            parts.append((at_s, end_s))
    return np.array(parts, dtype=np.float64).reshape(-1, 2)


def calendars(
    resources: int, given: Iterable[tuple[Ints, Calendar]], by_time: Ints | None = None
) -> Calendars:
    """Return the calendars of all resources.

    Args:
        resources: R.
        given: Numbers of resources, and the calendar that they follow. A resource may follow one
            with steps and one with outages.
        by_time: Resources whose energy is spent by time.

    Returns:
        The calendars; arrays are read-only.
    """
    of = np.zeros(resources, dtype=CALENDAR)
    of["period_s"] = math.inf
    if by_time is not None:
        of["by_time"][by_time] = 1
    steps, outages = _Rows(2), _Rows(4)
    for rows, calendar in given:
        of["timed"][rows] = 1
        if len(calendar.steps):
            of["step"][rows], of["step_end"][rows] = steps.add(calendar.steps)
            of["period_s"][rows] = calendar.period_s
            of["by_slot"][rows] = calendar.by_slot
        if len(calendar.outages) or len(calendar.pauses):
            of["outage"][rows], of["outage_end"][rows] = outages.add(calendar.rows())
    if not of["timed"].any():
        return NO_CALENDARS
    return Calendars(read_only(of), read_only(steps.rows()), read_only(outages.rows()))


def available(calendars: Calendars, resources: int, now_s: float) -> Bools:
    """Return which of R resources have no outage at a time; shape (R,)."""
    if not len(calendars.outages):
        return np.ones(resources, dtype=np.bool_)
    begin_s, end_s = calendars.outages[:, :2].T
    before = np.cumsum(np.append(0, (begin_s <= now_s) & (now_s < end_s)))
    return before[calendars.of["outage"]] == before[calendars.of["outage_end"]]


class _Rows:
    """Arrays of equal width, one after the other."""

    def __init__(self, columns: int) -> None:
        self._pieces = [np.zeros((0, columns))]
        self._end = 0

    def add(self, rows: Floats) -> tuple[int, int]:
        """Add rows; return the number of the first one and of the one after the last."""
        self._pieces.append(rows)
        begin, self._end = self._end, self._end + len(rows)
        return begin, self._end

    def rows(self) -> Floats:
        """Return all rows."""
        return np.concatenate(self._pieces)
