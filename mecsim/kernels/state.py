"""State of a network in the compiled kernel: queues, tasks in flight, events to come.

Tasks, hops and batches are in ring buffers: arrays whose length is a power of two, with item ``i``
at ``i & (length - 1)``. Full buffers double, and the rows of collected batches are reused, so
memory grows with the tasks in flight and not with the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.hops import HOP, OutputSlice, Records
from mecsim.model import calendar_visits
from mecsim.model.calendars import Calendars
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints, raw
from mecsim.support.jit import compiled

# Entries of ``State.counters``. All count since the start, except ``QUEUED`` and
# ``STOPS``.
RELEASED: Final = 0
"""Tasks released."""
QUEUED: Final = 1
"""Completions in the heap now."""
FIRST_TASK: Final = 2
"""Tasks, hops and batches collected."""
FIRST_HOP: Final = 3
FIRST_BATCH: Final = 4
END_TASK: Final = 5
"""Tasks, hops and batches submitted."""
END_HOP: Final = 6
END_BATCH: Final = 7
STOPS: Final = 8
"""Whether the event loop stops when a task is lost: 0 or 1."""

_backlog = cast(Callable[..., float], compiled(calendar_visits.backlog))

_COMPLETION: Final = np.dtype([("due_s", "f8"), ("task", "i8")])
_TASK: Final = np.dtype(
    [
        ("release_s", "f8"),
        ("drop_s", "f8"),  # when it is dropped, if its next service has not begun by then
        ("ready_s", "f8"),  # end of its present hop, latency included; NaN if it is lost or dropped
        ("hop", "i8"),  # its next hop
        ("end", "i8"),  # the row after its last hop
        ("following", "i8"),  # next task in the line of completions, or -1
        ("batch", "i8"),
        ("device", "i8"),
    ]
)
_BATCH: Final = np.dtype(
    [
        ("end_task", "i8"),
        ("end_hop", "i8"),
        ("unfinished", "i8"),  # tasks that have not ended
        ("slot", "i8"),
        ("in_slot", "i8"),  # tasks released in the slot, in this batch or others
        ("active", "i8"),  # whether a task had an event since this was last cleared
    ]
)


_COMMON: Final = ("capacity_j", "drop_after_s", "steps")
"""Fields that replicas share."""


class State(NamedTuple):
    """State of one network, or of B replicas with a leading axis of that length.

    ``capacity_j``, ``drop_after_s`` and ``steps`` are common to all replicas.
    """

    counters: Ints
    """Shape (9,); see above."""
    first: Ints
    """Row of each resource's first server in ``free_s``; shape (R + 1,)."""
    free_s: Floats
    """When each server is next free: for each resource a heap, the earliest first."""
    last: Ints
    """Task at the end of each resource's line of completions, or -1; shape (R,)."""
    battery_j: Floats
    """Shape (D,)."""
    spent: NDArray[np.bool_]
    """Devices whose battery is spent; shape (D,)."""
    capacity_j: Floats
    """Energy of each full battery, shape (D,); empty if all batteries are unlimited."""
    drop_after_s: Floats
    """See :attr:`mecsim.model.model.Model.drop_after_s`; shape (C,), or (0,)."""
    calendar: Records
    """See :class:`mecsim.model.calendars.Calendars`; shape (R,), or (0,) without calendars."""
    steps: Floats
    """Shape (P, 2)."""
    outages: Floats
    """Shape (O, 2); the rows of a replica that are not used have no meaning."""
    heap: Records
    """Completions by (time, task); it has room for one per task in flight."""
    tasks: Records
    """Ring buffer."""
    hops: Records
    """Ring buffer."""
    batches: Records
    """Ring buffer: the tasks of an epoch each."""

    @classmethod
    def of(cls, model: Model, size: int) -> State:
        """Return empty queues with room for ``size`` (a power of two) tasks and as many hops."""
        first = np.concatenate([[0], np.cumsum(model.capacity)])
        return cls(
            counters=np.zeros(9, dtype=np.int64),
            first=first,
            free_s=np.zeros(first[-1]),
            last=np.full(len(model.capacity), -1),
            battery_j=model.battery_j.copy(),
            spent=np.zeros(model.devices, dtype=np.bool_),
            capacity_j=model.battery_j[: model.devices * model.metered].copy(),
            drop_after_s=model.drop_after_s,
            calendar=model.calendars.of.copy(),
            steps=model.calendars.steps.copy(),
            outages=model.calendars.outages.copy(),
            heap=np.empty(size, dtype=_COMPLETION),
            tasks=np.empty(size, dtype=_TASK),
            hops=np.empty(size, dtype=HOP),
            batches=np.empty(size, dtype=_BATCH),
        )

    def copy(self) -> State:
        """Return a copy that shares no array."""
        arrays: dict[str, Any] = {
            n: x.copy() for n, x in self._asdict().items() if n not in _COMMON
        }
        return self._replace(**arrays)

    def with_room(self, tasks: int, hops: int, batches: int = 1) -> State:
        """Return a state with room for more items: itself, or one with larger buffers."""
        counters = self.counters.tolist()
        return self.with_size(
            counters[END_TASK] - counters[FIRST_TASK] + tasks,
            counters[END_HOP] - counters[FIRST_HOP] + hops,
            counters[END_BATCH] - counters[FIRST_BATCH] + batches,
        )

    def with_size(self, tasks: int, hops: int, batches: int) -> State:
        """Return a state with buffers of at least these sizes: itself, or an enlarged one."""
        larger: dict[str, Any] = {}
        if tasks > len(self.tasks):
            larger["tasks"] = _enlarged(self.tasks, int(self.counters[FIRST_TASK]), tasks)
            larger["heap"] = np.resize(self.heap, len(larger["tasks"]))
        if hops > len(self.hops):
            larger["hops"] = _enlarged(self.hops, int(self.counters[FIRST_HOP]), hops)
        if batches > len(self.batches):
            larger["batches"] = _enlarged(self.batches, int(self.counters[FIRST_BATCH]), batches)
        return self._replace(**larger) if larger else self


@compiled
def output_slice(s: State) -> OutputSlice:
    """Return where the hops of the next batch go."""
    return OutputSlice(s.hops, len(s.hops) - 1, s.counters[FIRST_HOP] + len(s.hops))


@compiled
def enter(
    s: State,
    offset: Ints,
    release_s: Floats,
    first_s: Floats,
    class_: Ints,
    device: Ints,
    slot: int,
    in_slot: int,
) -> None:
    """Add a batch of n tasks of a slot whose hops are in the buffer.

    ``offset`` has shape (n + 1,); ``in_slot`` tasks are released in the slot. Deadlines count from
    ``first_s``.
    """
    counters, count, tasks = s.counters, len(release_s), s.tasks
    batch, first, mask = counters[END_BATCH], counters[END_TASK], len(tasks) - 1
    drops = len(s.drop_after_s) > 0
    for i in range(count):
        task = tasks[(first + i) & mask]
        task["release_s"] = task["ready_s"] = release_s[i]
        task["drop_s"] = first_s[i] + s.drop_after_s[class_[i]] if drops else math.inf
        task["hop"] = offset[i]
        task["end"] = offset[i + 1]
        task["following"] = -1
        task["batch"] = batch
        task["device"] = device[i]
    counters[END_TASK] += count
    counters[END_HOP] = offset[count]
    counters[END_BATCH] += 1
    row = s.batches[batch & (len(s.batches) - 1)]
    row["end_task"] = counters[END_TASK]
    row["end_hop"] = counters[END_HOP]
    row["unfinished"] = count
    row["slot"] = slot
    row["in_slot"] = in_slot
    row["active"] = 0


@compiled
def submit(
    s: State,
    rows: Records,
    offset: Ints,
    release_s: Floats,
    first_s: Floats,
    class_: Ints,
    device: Ints,
    slot: int,
    in_slot: int,
) -> None:
    """Add a batch of n tasks with their hops; see :func:`enter`."""
    at, hops, mask = s.counters[END_HOP], s.hops, len(s.hops) - 1
    for row in range(len(rows)):
        hops[(at + row) & mask] = rows[row]
    enter(s, offset + at, release_s, first_s, class_, device, slot, in_slot)


@compiled
def read_hops(s: State, at: int, rows: Records) -> None:
    """Copy hops, as far as they are known, from buffer position ``at`` on into ``rows``."""
    hops, mask = s.hops, len(s.hops) - 1
    for row in range(len(rows)):
        rows[row] = hops[(at + row) & mask]


@compiled
def drop_first(s: State) -> bool:
    """Remove the oldest batch if all its tasks have ended; return whether it was removed."""
    counters = s.counters
    if counters[FIRST_BATCH] == counters[END_BATCH]:
        return False
    row = s.batches[counters[FIRST_BATCH] & (len(s.batches) - 1)]
    if row["unfinished"] > 0:
        return False
    counters[FIRST_BATCH] += 1
    counters[FIRST_TASK] = row["end_task"]
    counters[FIRST_HOP] = row["end_hop"]
    return True


@compiled
def count_ended(s: State) -> tuple[int, int]:
    """Return how many leading batches have ended, and how many hops they have."""
    first, end_hop = s.counters[FIRST_BATCH], s.counters[FIRST_HOP]
    batch = first
    while batch < s.counters[END_BATCH]:
        row = s.batches[batch & (len(s.batches) - 1)]
        if row["unfinished"] > 0:
            break
        end_hop = row["end_hop"]
        batch += 1
    return batch - first, end_hop - s.counters[FIRST_HOP]


@compiled
def take(s: State, batches: int, rows: Records) -> None:
    """Remove the leading batches, which have ended, and copy their hops to ``rows``."""
    at, hops, mask = s.counters[FIRST_HOP], s.hops, len(s.hops) - 1
    for row in range(len(rows)):
        rows[row] = hops[(at + row) & mask]
    for _ in range(batches):
        drop_first(s)


@compiled
def read_backlog(s: State, now: float, backlog_s: Floats) -> None:
    """Fill in how long a job that joined each resource now would wait; shape (R,)."""
    free_s, first = s.free_s, s.first
    for resource in range(len(first) - 1):
        backlog_s[resource] = max(free_s[first[resource]] - now, 0.0)
    calendar = s.calendar
    for resource in range(len(calendar)):
        if calendar[resource]["timed"]:
            until_s = free_s[first[resource]]
            backlog_s[resource] = _backlog(calendar, s.steps, s.outages, resource, now, until_s)


@compiled
def read_queues(s: State, now: float, queue_length: Ints) -> None:
    """Fill in how many jobs wait or are in service at each resource now; shape (R,)."""
    queue_length[:] = 0
    first = s.counters[FIRST_HOP]
    for number in range(s.counters[FIRST_TASK], s.counters[RELEASED]):
        task = s.tasks[number & (len(s.tasks) - 1)]
        at = task["hop"] - 1  # its last hop, if it has entered one
        hop = s.hops[at & (len(s.hops) - 1)]
        if at >= first and hop["start_s"] + hop["service_s"] > now:
            queue_length[hop["resource"]] += 1
        first = task["end"]


@compiled
def read_under_way(s: State, now: float, resource: Ints) -> None:
    """Fill in the resource of each task in the buffer; shape (n,).

    It is −1 for a task that is under way at no resource, and −2 for one that is not released or has
    ended.
    """
    first, hops, mask = s.counters[FIRST_TASK], s.hops, len(s.hops) - 1
    for number in range(first, s.counters[END_TASK]):
        task, found = s.tasks[number & (len(s.tasks) - 1)], -2
        if number < s.counters[RELEASED]:
            hop = hops[(task["hop"] - 1) & mask]
            until_s = hop["start_s"] + hop["service_s"]
            if task["ready_s"] > now:
                found = hop["resource"] if until_s > now else -1
            elif task["ready_s"] != task["ready_s"]:
                after = hops[task["hop"] & mask]["service_s"]
                if task["hop"] < task["end"] and after != after:  # it will be dropped
                    found = -1 if task["drop_s"] > now else -2
                elif until_s > now:  # it will be lost
                    found = hop["resource"]
        resource[number - first] = found


@compiled
def is_lost(task: Any, hops: Records, mask: int) -> bool:
    """Return whether a task that has ended was lost."""
    if task["ready_s"] == task["ready_s"]:
        return False
    after = hops[task["hop"] & mask]["service_s"]
    return not (task["hop"] < task["end"] and after != after)  # it was not dropped


@compiled
def read_lost(s: State, now: float, found: Ints) -> int:
    """Find the tasks that were lost at a time.

    Args:
        s: State of the network.
        now: The time.
        found: Filled in with the position in the buffer, the first hop and the row after the last
            hop of each; shape (n, 3) for n tasks in the buffer.

    Returns:
        How many there are.
    """
    count, hop, mask = 0, s.counters[FIRST_HOP], len(s.hops) - 1
    first = s.counters[FIRST_TASK]
    for number in range(first, s.counters[RELEASED]):
        task = s.tasks[number & (len(s.tasks) - 1)]
        if task["hop"] > hop and is_lost(task, s.hops, mask):
            last = s.hops[(task["hop"] - 1) & mask]
            if last["start_s"] + last["service_s"] == now:
                found[count, 0], found[count, 1], found[count, 2] = number, hop, task["end"]
                count += 1
        hop = task["end"]
    return count


@compiled
def read_committed(s: State, committed_s: Floats) -> None:
    """Fill in the services at each resource of tasks that are not released yet; shape (R,)."""
    committed_s[:] = 0.0
    for number in range(s.counters[RELEASED], s.counters[END_TASK]):
        task = s.tasks[number & (len(s.tasks) - 1)]
        for at in range(task["hop"], task["end"]):
            hop = s.hops[at & (len(s.hops) - 1)]
            committed_s[hop["resource"]] += hop["service_s"]


@compiled
def replica(states: State, b: int) -> State:
    """Return the state of replica b as views. Numba has no ``_replace``."""
    return State(
        states.counters[b],
        states.first[b],
        states.free_s[b],
        states.last[b],
        states.battery_j[b],
        states.spent[b],
        states.capacity_j,
        states.drop_after_s,
        states.calendar[b],
        states.steps,
        states.outages[b],
        states.heap[b],
        states.tasks[b],
        states.hops[b],
        states.batches[b],
    )


def restart(states: State, rows: Sequence[int], battery_j: Floats) -> None:
    """Empty the queues of some replicas and charge their batteries; buffers keep their size."""
    at = np.array(rows, dtype=np.int64)
    states.counters[at], states.free_s[at], states.last[at] = 0, 0.0, -1
    states.battery_j[at], states.spent[at] = battery_j, False


def stacked(states: Sequence[State]) -> State:
    """Return the states of replicas as one with a leading axis; arrays as large as the largest.

    A single state is not copied.
    """
    sizes = [tuple(len(ring) for ring in (s.tasks, s.hops, s.batches)) for s in states]
    largest = tuple(max(column) for column in zip(*sizes, strict=True))
    outages = max(len(s.outages) for s in states)
    states = [_with_outages(s.with_size(*largest), outages) for s in states]
    columns: dict[str, Any] = {
        name: _with_axis([getattr(s, name) for s in states])
        for name in State._fields
        if name not in _COMMON
    }
    return states[0]._replace(**columns)


def _with_axis(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def unstacked(states: State) -> list[State]:
    """Return the state of every replica, as views."""
    count = len(states.counters)
    columns = {name: x for name, x in states._asdict().items() if name not in _COMMON}
    rows: list[dict[str, Any]] = [{n: x[b] for n, x in columns.items()} for b in range(count)]
    return [states._replace(**row) for row in rows]


def with_calendars(states: State, b: int, calendars: Calendars) -> State:
    """Return the states with the calendars of a new run of replica b.

    Where it has drawn rates of slots, the common ``steps`` have rows for each replica in turn.
    """
    if not len(calendars.of):
        return states
    if len(calendars.outages) > states.outages.shape[1]:
        more = len(calendars.outages) - states.outages.shape[1]
        states = states._replace(outages=np.pad(states.outages, ((0, 0), (0, more), (0, 0))))
    states.calendar[b] = calendars.of
    states.outages[b, : len(calendars.outages)] = calendars.outages
    if calendars.of["by_slot"].any():
        count, replicas = len(calendars.steps), len(states.calendar)
        if len(states.steps) < replicas * count:
            states = states._replace(steps=np.resize(states.steps, (replicas * count, 2)))
        states.steps[b * count : (b + 1) * count] = calendars.steps
        for name in ("step", "step_end"):
            states.calendar[name][b] += b * count
    return states


def _with_outages(state: State, count: int) -> State:
    """Return a state with room for ``count`` outages: itself, or an enlarged one."""
    more = count - len(state.outages)
    return state._replace(outages=np.pad(state.outages, ((0, more), (0, 0)))) if more else state


def _enlarged(ring: NDArray[Any], begin: int, room: int) -> NDArray[Any]:
    """Return a ring buffer with ``room`` rows and the items of the old one, from ``begin`` on."""
    larger = np.empty(1 << int(room - 1).bit_length(), dtype=ring.dtype)
    at = begin & (len(ring) - 1)
    for first, piece in ((begin, ring[at:]), (begin + len(ring) - at, ring[:at])):
        to = first & (len(larger) - 1)
        raw(larger)[to : to + len(piece)] = raw(piece)
    return larger
