"""The event loop of the compiled kernel.

Events that come in order need no heap. Releases wait in the ring buffer of tasks. The completions
of a resource form a line, a linked list, and only the first of each line is in the heap. A
completion that does not come after the last of its line, as with several servers, goes into the
heap itself, and so does the end of a task that is lost in an outage or dropped at its deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, cast

from mecsim.kernels.hops import Records
from mecsim.kernels.state import END_TASK, QUEUED, RELEASED, STOPS, State, is_lost
from mecsim.model import calendar_visits, equations
from mecsim.support.arrays import Floats
from mecsim.support.jit import compiled

_POSITIVE: Final = (1 << 63) - 1
"""Shows the compiler that a mask is not negative, so that it checks no index."""

_ENDS: Final = 0
"""What a task does when it arrives: it has ended, it leaves later without having been served, or it
joins the line of completions of a resource."""
_LEAVES: Final = 1
_JOINS: Final = 2

_visit = cast(
    Callable[..., tuple[float, float, float, float, bool]], compiled(calendar_visits.visit)
)
_planned_rate = cast(Callable[..., float], compiled(calendar_visits.planned_rate))
_affords = cast(Callable[[float, float, float], bool], compiled(equations.affords))


@compiled
def _push(heap: Records, size: int, when: float, task: int) -> None:
    """Add a completion to a heap of ``size`` completions."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        due_s = heap[above]["due_s"]
        if due_s < when or (due_s == when and heap[above]["task"] < task):
            break
        heap[at] = heap[above]
        at = above
    heap[at]["due_s"] = when
    heap[at]["task"] = task


@compiled
def _replace_top(heap: Records, size: int, when: float, task: int) -> None:
    """Replace the first completion of the heap."""
    at, below = 0, 1
    while below < size:
        other = below + 1
        due_s = heap[below]["due_s"]
        if other < size:
            other_s = heap[other]["due_s"]
            if other_s < due_s or (other_s == due_s and heap[other]["task"] < heap[below]["task"]):
                below, due_s = other, other_s
        if when < due_s or (when == due_s and task < heap[below]["task"]):
            break
        heap[at] = heap[below]
        at, below = below, 2 * below + 1
    heap[at]["due_s"] = when
    heap[at]["task"] = task


@compiled
def _occupy(free_s: Floats, first: int, end: int, finish: float) -> None:
    """Occupy the server in rows ``first`` to ``end`` that is free first, until ``finish``."""
    at, below = first, first + 1
    while below < end:
        if below + 1 < end and free_s[below + 1] < free_s[below]:
            below += 1
        if finish <= free_s[below]:
            break
        free_s[at] = free_s[below]
        at, below = below, first + 2 * (below - first) + 1
    free_s[at] = finish


@compiled
def _afford(s: State, device: int, energy_j: float) -> bool:
    """Charge a hop to the device's battery; a battery that cannot pay is spent for good."""
    remaining_j = s.battery_j[device]
    if s.spent[device] or not _affords(remaining_j, energy_j, s.capacity_j[device]):
        s.spent[device] = True
        return False
    s.battery_j[device] = max(remaining_j - energy_j, 0.0)
    return True


@compiled
def _arrive(s: State, task: Any, hop: Any, slot: int, now: float) -> tuple[int, float]:
    """Let a task of a slot arrive where calendars or times to drop may change what happens to it.

    Returns:
        What it does, and the time of its next event.
    """
    if task["hop"] == task["end"] or task["ready_s"] != task["ready_s"]:
        return _ENDS, now
    resource, first, service_s = hop["resource"], s.first[hop["resource"]], hop["service_s"]
    start, served, share, lost = max(now, s.free_s[first]), service_s, 1.0, False
    free = start + served
    if len(s.calendar) > 0 and s.calendar[resource]["timed"]:
        rate = _planned_rate(s.calendar, s.steps, resource, slot)
        start, served, share, free, lost = _visit(
            s.calendar, s.steps, s.outages, resource, now, s.free_s[first], service_s, rate
        )
    if start > task["drop_s"]:
        hop["service_s"] = task["ready_s"] = math.nan
        return _LEAVES, max(now, task["drop_s"])
    hop["service_s"] = served
    hop["energy_j"] *= share
    if len(s.capacity_j) > 0 and not _afford(s, task["device"], hop["energy_j"]):
        return _ENDS, now
    _occupy(s.free_s, first, s.first[resource + 1], free)
    hop["start_s"] = start
    task["hop"] += 1
    if lost:
        hop["latency_s"] = task["ready_s"] = math.nan
        return _LEAVES, start + served
    task["ready_s"] = start + served + hop["latency_s"]
    return _JOINS, task["ready_s"]


@compiled
def run(s: State, until_s: float) -> float:  # noqa: C901, PLR0915 - split into parts it took twice as long
    """Process every event before the decision epoch at ``until_s``; return the time of the last.

    A state that stops does so when a task is lost, as if a decision epoch came at that instant.
    """
    tasks, hops, batches = s.tasks, s.hops, s.batches
    heap, last, first_of, free_s = s.heap, s.last, s.first, s.free_s
    metered, special = len(s.capacity_j) > 0, len(s.calendar) > 0 or len(s.drop_after_s) > 0
    task_mask = (len(tasks) - 1) & _POSITIVE
    hop_mask = (len(hops) - 1) & _POSITIVE
    batch_mask = (len(batches) - 1) & _POSITIVE
    released, submitted, queued = s.counters[RELEASED], s.counters[END_TASK], s.counters[QUEUED]
    stops, last_s = s.counters[STOPS] > 0, -math.inf
    while True:
        release_s = tasks[released & task_mask]["release_s"] if released < submitted else math.inf
        top_consumed = False  # the top of the heap has been processed and must be replaced
        if queued and heap[0]["due_s"] <= release_s:
            now, number = heap[0]["due_s"], heap[0]["task"]
            if now > until_s:
                break
            task = tasks[number & task_mask]
            follower = task["following"]
            if follower >= 0:
                task["following"] = -1
                _replace_top(heap, queued, tasks[follower & task_mask]["ready_s"], follower)
            else:
                top_consumed = True
                left = hops[(task["hop"] - 1) & hop_mask]["resource"]
                if last[left] == number:
                    last[left] = -1
        elif release_s < until_s:
            now, number = release_s, released
            task = tasks[number & task_mask]
            released += 1
        else:
            break
        last_s = now
        batch = batches[task["batch"] & batch_mask]
        batch["active"] = 1
        at = task["hop"]
        hop = hops[at & hop_mask]
        fate, when = _ENDS, now
        if special:
            fate, when = _arrive(s, task, hop, batch["slot"], now)
        elif at != task["end"] and not (
            metered and not _afford(s, task["device"], hop["energy_j"])
        ):
            first = first_of[hop["resource"]]
            start = max(now, free_s[first])
            finish = start + hop["service_s"]
            _occupy(free_s, first, first_of[hop["resource"] + 1], finish)
            hop["start_s"] = start
            task["hop"] = at + 1
            fate, when = _JOINS, finish + hop["latency_s"]
            task["ready_s"] = when
        if fate == _ENDS:
            batch["unfinished"] -= 1
            if stops and is_lost(task, hops, hop_mask):
                until_s = now
        else:
            resource = hop["resource"]
            before = last[resource] if fate == _JOINS else -1
            behind = tasks[before & task_mask]
            if before >= 0 and (
                behind["ready_s"] < when or (behind["ready_s"] == when and before < number)
            ):
                behind["following"] = last[resource] = number
            else:
                if before < 0 and fate == _JOINS:
                    last[resource] = number
                if top_consumed:
                    _replace_top(heap, queued, when, number)
                    top_consumed = False
                else:
                    _push(heap, queued, when, number)
                    queued += 1
        if top_consumed:
            queued -= 1
            _replace_top(heap, queued, heap[queued]["due_s"], heap[queued]["task"])
    s.counters[RELEASED], s.counters[QUEUED] = released, queued
    return last_s
