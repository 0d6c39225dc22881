"""When a service on a resource with a calendar starts and ends: exact integration.

The compiled kernel compiles these functions, and the readable one calls them as they are: both
compute the same bits.
"""

from __future__ import annotations

import math

from mecsim.model.calendars import LOST, RESTARTS, Records
from mecsim.support.arrays import Floats
from mecsim.support.jit import compilable


@compilable
def last_at(rows: Floats, begin: int, end: int, column: int, value: float) -> int:
    """Return the last of the rows from ``begin`` to ``end`` whose entry is at most ``value``.

    The entries of a column increase. Returns ``begin`` − 1 if all are larger.
    """
    low, high = begin - 1, end - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if rows[middle, column] <= value:
            low = middle
        else:
            high = middle - 1
    return low


@compilable
def multiplier_at(of: Records, steps: Floats, resource: int, now_s: float) -> float:
    """Return the multiplier of a resource at a time, outages left aside."""
    begin, end, period_s = of[resource]["step"], of[resource]["step_end"], of[resource]["period_s"]
    if begin == end:
        return 1.0
    if period_s < math.inf:
        now_s -= math.floor(now_s / period_s) * period_s
    return float(steps[max(last_at(steps, begin, end, 0, now_s), begin), 1])


@compilable
def planned_rate(of: Records, steps: Floats, resource: int, slot: int) -> float:
    """Return the multiplier at which the nominal times of the tasks of a slot are counted."""
    return float(steps[of[resource]["step"] + slot, 1]) if of[resource]["by_slot"] else 1.0


@compilable
def work_until(  # noqa: C901 - one loop over steps
    of: Records, steps: Floats, resource: int, now_s: float, until_s: float, wanted_s: float
) -> tuple[float, float, float, float]:
    """Integrate the multiplier of a resource, outages left aside, until it gives enough work.

    Args:
        of: See :class:`Calendars`.
        steps: See :class:`Calendars`.
        resource: Number of the resource.
        now_s: Where to begin.
        until_s: Where to stop, or infinity.
        wanted_s: The wanted work, as nominal time of service.

    Returns:
        When the work is done, or infinity if it is not done by ``until_s``; the work done; for how
        long the multiplier was above 0; and when it first was, or infinity.
    """
    begin, end, period_s = of[resource]["step"], of[resource]["step_end"], of[resource]["period_s"]
    if begin == end:
        finish_s = now_s + wanted_s
        if finish_s <= until_s:
            return finish_s, wanted_s, wanted_s, now_s
        return math.inf, until_s - now_s, until_s - now_s, now_s
    cycle, at = 0.0, begin
    if period_s < math.inf:
        cycle = math.floor(now_s / period_s)
        at = last_at(steps, begin, end, 0, now_s - cycle * period_s)
    else:
        at = last_at(steps, begin, end, 0, now_s)
    at = max(at, begin)
    left_s, done_s, active_s, first_s = wanted_s, 0.0, 0.0, math.inf
    while True:
        next_s = math.inf
        if at + 1 < end:
            next_s = steps[at + 1, 0]
        elif period_s < math.inf:
            next_s = period_s
        if period_s < math.inf:
            next_s += cycle * period_s
        next_s, factor = min(next_s, until_s), steps[at, 1]
        if factor > 0.0 and next_s > now_s:
            if first_s == math.inf:
                first_s = now_s
            finish_s = now_s + left_s / factor
            if finish_s <= next_s:
                return finish_s, wanted_s, active_s + (finish_s - now_s), first_s
            active_s += next_s - now_s
            done_s += factor * (next_s - now_s)
            left_s = max(left_s - factor * (next_s - now_s), 0.0)
        if next_s >= until_s:
            return math.inf, done_s, active_s, first_s
        now_s = max(now_s, next_s)
        at += 1
        if at == end:
            at = begin
            cycle += 1.0


def visit(  # noqa: C901 - one loop over outages
    of: Records,
    steps: Floats,
    outages: Floats,
    resource: int,
    now_s: float,
    free_s: float,
    service_s: float,
    rate: float,
) -> tuple[float, float, float, float, bool]:
    """Return what happens to a job that joins a resource with a calendar.

    A service starts when the server is free and the multiplier is above 0. It lasts until it ends
    or is lost, interruptions included.

    Args:
        of: See :class:`Calendars`.
        steps: See :class:`Calendars`.
        outages: See :class:`Calendars`.
        resource: Number of the resource.
        now_s: When the job joins.
        free_s: When the first of the resource's servers is free.
        service_s: Nominal time of service.
        rate: The multiplier at which it is counted; see :func:`planned_rate`.

    Returns:
        The start of the service; for how long it lasts; the energy that it takes, as a multiple of
        that of a nominal service; when the server is free next; and whether the job is lost, at the
        start plus that time.
    """
    begin, end = of[resource]["outage"], of[resource]["outage_end"]
    loss = last_at(outages, begin, end, 0, now_s) + 1  # the first outage that begins later
    down = loss > begin and now_s < outages[loss - 1, 1]
    if down and outages[loss - 1, 3] > 0.0:  # it refuses jobs
        return now_s, 0.0, 0.0, free_s, True
    at_s = max(now_s, free_s)
    outage = last_at(outages, begin, end, 0, at_s)
    if outage >= begin and at_s < outages[outage, 1]:
        at_s = outages[outage, 1]
    outage += 1
    while outage < end and outages[outage, 0] <= at_s:  # it begins when the one before ends
        at_s = outages[outage, 1]
        outage += 1
    while loss < outage and outages[loss, 2] != LOST:
        loss += 1
    if loss < outage:
        return outages[loss, 0], 0.0, 0.0, outages[loss, 1], True
    wanted_s = service_s * rate
    start_s, left_s, work_s, active_s = math.inf, wanted_s, 0.0, 0.0
    restarts = False
    while True:
        until_s = outages[outage, 0] if outage < end else math.inf
        finish_s, done_s, busy_s, first_s = work_until(of, steps, resource, at_s, until_s, left_s)
        start_s = min(start_s, first_s)
        work_s += done_s
        active_s += busy_s
        if finish_s < math.inf:
            break
        if outages[outage, 2] == LOST:
            break
        if outages[outage, 2] == RESTARTS:
            restarts, left_s = True, wanted_s
        else:
            left_s = max(left_s - done_s, 0.0)
        at_s = outages[outage, 1]
        outage += 1
    lost = finish_s == math.inf
    if lost:
        finish_s = outages[outage, 0]
        start_s = min(start_s, finish_s)
    served_s = finish_s - start_s
    share = 1.0
    if of[resource]["by_time"]:
        share = active_s / service_s if service_s > 0.0 else 1.0
    elif lost or restarts:
        share = work_s / wanted_s if wanted_s > 0.0 else 1.0
    next_free_s = outages[outage, 1] if lost else start_s + served_s
    return start_s, served_s, share, next_free_s, lost


def backlog(
    of: Records,
    steps: Floats,
    outages: Floats,
    resource: int,
    now_s: float,
    free_s: float,
) -> float:
    """Return the work that is ahead of a job that joins now, in seconds at the present rate.

    It is what can be known now: outages to come are left out, and rates to come are that of now
    (the nominal one while the multiplier is 0). It is 0 at infinity, in the drained network.
    """
    if now_s >= free_s:
        return 0.0
    work_s = 0.0
    outage, end = of[resource]["outage"], of[resource]["outage_end"]
    outage = max(last_at(outages, outage, end, 0, now_s), outage)
    at_s = now_s
    while at_s < free_s:
        until_s = free_s
        if outage < end:
            until_s = min(max(outages[outage, 0], at_s), free_s)
        if at_s < until_s:
            work_s += work_until(of, steps, resource, at_s, until_s, math.inf)[1]
        at_s = until_s
        if outage < end:
            at_s = max(at_s, outages[outage, 1])
        outage += 1
    factor = multiplier_at(of, steps, resource, now_s)
    return work_s / factor if factor > 0.0 else work_s
