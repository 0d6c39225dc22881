"""Services on resources with calendars: by hand, and against a fine computation."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.model.calendar_visits import backlog, multiplier_at, planned_rate, visit
from mecsim.model.calendars import (
    LOST,
    RESTARTS,
    RESUMES,
    Calendar,
    Calendars,
    calendars,
)
from mecsim.support.jit import compiled
from tests.helpers.examples import examples


def one(**of_calendar: Any) -> Calendars:
    """The calendar of resource 1 of two."""
    arrays: dict[str, Any] = {
        name: np.array(of_calendar.pop(name), dtype=np.float64).reshape(-1, 2)
        for name in ("steps", "outages", "pauses")
        if name in of_calendar
    }
    by_time = np.flatnonzero([False, of_calendar.pop("by_time", False)])
    return calendars(2, [(np.array([1]), Calendar(**arrays, **of_calendar))], by_time)


# ---------------------------------------------------------------- by hand


def test_rate_that_changes_during_a_service() -> None:
    """From 3 s: 1 s at rate 2, then 2 s at rate 1/2, then rate 1: 4 = 2 + 1 + 1 s of work."""
    found = one(steps=[[0, 2], [4, 0.5], [6, 1]])
    assert visit(*found, 1, 3.0, 0.0, 4.0, 1.0) == (3.0, 4.0, 1.0, 7.0, False)


def test_energy_by_time_is_that_of_the_time_at_a_rate_above_zero() -> None:
    """1 s at rate 2, 2 s at rate 0, 2 s at rate 1: 3 s on the air for 4 s of nominal service."""
    found = one(steps=[[0, 2], [1, 0], [3, 1]], by_time=True)
    assert visit(*found, 1, 0.0, 0.0, 4.0, 1.0) == (0.0, 5.0, 0.75, 5.0, False)


def test_steps_repeat_with_their_period() -> None:
    """Of each 4 s the first has rate 1: a service of 3 s from 6 s on takes 8–9, 12–13, 16–17 s."""
    found = one(steps=[[0, 1], [1, 0]], period_s=4.0)
    assert visit(*found, 1, 6.0, 0.0, 3.0, 1.0) == (8.0, 9.0, 1.0, 17.0, False)


def test_last_step_holds() -> None:
    found = one(steps=[[0, 1], [1, 4]])
    assert visit(*found, 1, 100.0, 0.0, 2.0, 1.0) == (100.0, 0.5, 1.0, 100.5, False)


def test_rates_of_slots() -> None:
    """6 s at the rate of slot 1 are 18 units: 3 until 3 s, 12 until 5 s, and 3 in 0.75 s."""
    found = one(steps=[[0, 1], [2, 3], [3, 6], [5, 4]], by_slot=True, by_time=True)
    of, steps, _ = found
    assert [planned_rate(of, steps, 1, slot) for slot in (0, 1, 3)] == [1.0, 3.0, 4.0]
    assert planned_rate(of, steps, 0, 2) == 1.0
    assert visit(*found, 1, 2.0, 0.0, 6.0, 3.0) == (2.0, 3.75, 0.625, 5.75, False)
    assert backlog(*found, 1, 2.5, 5.75) == (1.5 + 12 + 3) / 3


def test_service_that_resumes_after_an_outage() -> None:
    """Served from 8 to 10 s and from 15 to 16 s; one that comes at 12 s starts when it is free."""
    found = one(outages=[[10, 15]])
    assert visit(*found, 1, 8.0, 0.0, 3.0, 1.0) == (8.0, 8.0, 1.0, 16.0, False)
    assert visit(*found, 1, 12.0, 0.0, 3.0, 1.0) == (15.0, 3.0, 1.0, 18.0, False)
    assert visit(*found, 1, 12.0, 16.0, 3.0, 1.0) == (16.0, 3.0, 1.0, 19.0, False)


def test_service_that_ends_when_an_outage_begins_is_complete() -> None:
    for rule in (RESUMES, RESTARTS, LOST):
        found = one(outages=[[10, 15]], rule=rule)
        assert visit(*found, 1, 7.0, 0.0, 3.0, 1.0) == (7.0, 3.0, 1.0, 10.0, False)


def test_service_that_restarts_after_outages() -> None:
    """3 s of work: 2 s of it are lost at 10 s, 1 s at 16 s; the whole is done from 20 to 23 s."""
    found = one(outages=[[10, 15], [16, 20]], rule=RESTARTS)
    assert visit(*found, 1, 8.0, 0.0, 3.0, 1.0) == (8.0, 15.0, 2.0, 23.0, False)


def test_jobs_inside_are_lost_when_an_outage_begins() -> None:
    """One in service has done 2 of its 4 s; one that waits has done none; one that comes waits."""
    found = one(outages=[[10, 15]], rule=LOST)
    assert visit(*found, 1, 8.0, 0.0, 4.0, 1.0) == (8.0, 2.0, 0.5, 15.0, True)
    assert visit(*found, 1, 9.0, 15.0, 4.0, 1.0) == (10.0, 0.0, 0.0, 15.0, True)
    assert visit(*found, 1, 10.0, 15.0, 4.0, 1.0) == (15.0, 4.0, 1.0, 19.0, False)
    assert visit(*found, 1, 16.0, 15.0, 4.0, 1.0) == (16.0, 4.0, 1.0, 20.0, False)


def test_jobs_that_come_during_an_outage_are_refused() -> None:
    found = one(outages=[[10, 15]], refuses=True)
    assert visit(*found, 1, 10.0, 3.0, 4.0, 1.0) == (10.0, 0.0, 0.0, 3.0, True)
    assert visit(*found, 1, 15.0, 3.0, 4.0, 1.0) == (15.0, 4.0, 1.0, 19.0, False)


def test_backlog_leaves_out_outages_and_rates_to_come() -> None:
    """5 s of work at rate 2 and 6 s at rate 1/2: 11 s of which 2 s at rate 2 are an outage."""
    found = one(steps=[[0, 2], [10, 0.5]], outages=[[6, 8]])
    assert backlog(*found, 1, 5.0, 16.0) == (1 * 2 + 2 * 2 + 6 * 0.5) / 2
    assert backlog(*found, 1, 7.0, 16.0) == (2 * 2 + 6 * 0.5) / 2
    assert backlog(*found, 1, 16.0, 16.0) == 0.0
    assert multiplier_at(*found[:2], 1, 9.9) == 2.0
    assert multiplier_at(*found[:2], 1, 10.0) == 0.5


def test_backlog_at_infinity_is_0_also_where_steps_repeat() -> None:
    """A drained network is asked at infinity, which is in no period."""
    found = one(steps=[[0, 1], [1, 0]], period_s=4.0)
    assert backlog(*found, 1, math.inf, 17.0) == compiled(backlog)(*found, 1, math.inf, 17.0) == 0


# ---------------------------------------------------------------- against fractions


class Case(NamedTuple):
    found: Calendars
    rule: int
    outages: list[tuple[float, float]]
    """Those that are no pauses."""
    now: float
    free: float
    service: float


def grid(low: int, high: int) -> st.SearchStrategy[float]:
    """Multiples of 1/4, with which all sums and quotients here are exact."""
    return st.integers(4 * low, 4 * high).map(lambda quarters: quarters / 4)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    begins = sorted(draw(st.sets(grid(1, 12), max_size=4)))
    count = len(begins) + 1
    multiples = st.sampled_from([0.0, 0.5, 1.0, 2.0])
    factors = draw(st.lists(multiples, min_size=count, max_size=count))
    repeats = draw(st.booleans())
    if not any(factors) or not repeats:
        factors[-1] = 1.0
    steps = list(zip([0.0, *begins], factors, strict=True)) if draw(st.booleans()) else []
    bounds = sorted(draw(st.sets(grid(0, 30), max_size=8)))
    outages = list(zip(bounds[::2], bounds[1::2], strict=False))
    rule = draw(st.sampled_from([RESUMES, RESTARTS, LOST]))
    bounds = sorted(draw(st.sets(grid(0, 30), max_size=6)))
    found = one(
        steps=steps,
        outages=outages,
        pauses=list(zip(bounds[::2], bounds[1::2], strict=False)),
        period_s=13.0 if repeats else math.inf,
        rule=rule,
        by_time=draw(st.booleans()),
    )
    now = draw(grid(0, 30))
    free = draw(grid(0, 30))
    for begin, end in outages:  # a server that lost its work is free when the outage ends
        if rule == LOST and now < begin < free:
            free = min(free, end)
    return Case(found, rule, outages, now, free, draw(grid(0, 9)))


def fine(case: Case) -> tuple[Fraction, Fraction, bool]:
    """Start, finish and whether the job is lost, by counting quarters of a second.

    Within a quarter the rate, here in halves of the nominal one, is constant. Work is counted in
    eighths of a nominal second.
    """
    found, period = case.found, float(case.found.of[1]["period_s"])
    outages = [(int(4 * begin), int(4 * end)) for begin, end in found.outages[:, :2].tolist()]
    steps = [(4 * begin, int(2 * factor)) for begin, factor in found.steps.tolist()] or [(0, 2)]

    def rate(at: int) -> int:
        if any(begin <= at < end for begin, end in outages):
            return 0
        within = at % (4 * period) if period < math.inf else at
        return [halves for begin, halves in steps if begin <= within][-1]

    now, service = int(4 * case.now), int(8 * case.service)
    at, left, start = max(now, int(4 * case.free)), service, None
    begins = [int(4 * begin) for begin, _ in case.outages]
    loss = next((begin for begin in begins if begin > now and case.rule == LOST), None)
    while loss is None or at < loss:
        halves = rate(at)
        if halves:
            start = at if start is None else start
            if left <= halves:
                return Fraction(start, 4), Fraction(at, 4) + Fraction(left, 4 * halves), False
            left -= halves
        at += 1
        if case.rule == RESTARTS and at in begins:
            left = service
    return Fraction(loss if start is None else start, 4), Fraction(loss, 4), True


@given(cases())
@settings(max_examples=examples(200), deadline=None, derandomize=True)
def test_service_is_that_of_a_fine_computation(case: Case) -> None:
    start, served, _, _, lost = visit(*case.found, 1, case.now, case.free, case.service, 1.0)
    assert (Fraction(start), Fraction(start) + Fraction(served), lost) == fine(case)


compiled_visit = compiled(visit)
compiled_backlog = compiled(backlog)


@given(cases(), st.floats(0.01, 3), st.floats(0, 30))
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_compiled_and_interpreted_functions_give_the_same_bits(
    case: Case, scale: float, now: float
) -> None:
    found, service = case.found, case.service * scale
    writable = Calendars(found.of.copy(), found.steps.copy(), found.outages.copy())
    for rate in (1.0, 0.3):
        assert compiled_visit(*writable, 1, now, case.free, service, rate) == visit(
            *found, 1, now, case.free, service, rate
        )
    assert compiled_backlog(*writable, 1, now, case.free) == backlog(*found, 1, now, case.free)
