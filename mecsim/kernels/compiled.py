"""The fast kernel: one compiled loop over arrays.

Tasks, hops and batches lie in rings: arrays whose length is a power of two, in which item ``i`` is
at ``i & (length - 1)``. They double when they are full, and the places of batches that have been
collected are used again, so memory grows with the tasks in flight and not with the run.

What comes in order needs no heap. Releases wait in the ring of tasks; the completions of a resource
stand in line, linked one to the next, and only the first of each line is in the heap. A completion
that would not come after the last of its line, as with several servers, goes to the heap itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numba.core import event
from numpy.typing import NDArray

from mecsim.arrays import Floats, Ints
from mecsim.kernels.base import Timeline
from mecsim.model import Model
from mecsim.routing import Hops

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])

RELEASED: Final = 0
SUBMITTED: Final = 1
QUEUED: Final = 2


class _State(NamedTuple):
    """Queues, tasks in flight and events to come, as the compiled loop takes them."""

    marks: Ints
    """Tasks released and submitted so far, completions in the heap."""
    # Of every resource: when each of its servers is next free, a heap from ``first[r]``.
    first: Ints
    free_s: Floats
    # Of every resource: the task whose completion is the last of the line, or -1.
    last: Ints
    # Of every device, if ``metered``.
    battery_j: Floats
    spent: NDArray[np.bool_]
    metered: bool
    # The heap of completions by (time, task).
    due_s: Floats
    due: Ints
    # Ring of tasks: the hop to come and the one after the last, the next of the line or -1.
    release_s: Floats
    ready_s: Floats
    following: Ints
    device: Ints
    batch: Ints
    hop: Ints
    end: Ints
    # Ring of hops.
    resource: Ints
    service_s: Floats
    latency_s: Floats
    energy_j: Floats
    start_s: Floats
    # Ring of batches: tasks that have not ended, and whether any had an event of late.
    unfinished: Ints
    active: NDArray[np.bool_]


_TASKS: Final = ("release_s", "ready_s", "following", "device", "batch", "hop", "end")
_HOPS: Final = ("resource", "service_s", "latency_s", "energy_j", "start_s")


def _compiled(function: _Function) -> _Function:
    """Compile a function at its first call and keep the result on disk, where that is possible."""
    options: dict[str, Any] = {"nogil": True}
    try:
        compiled: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it can write to
        compiled = numba.njit(**options)(function)
    return cast("_Function", compiled)


@_compiled
def _push(due_s: Floats, due: Ints, size: int, when: float, task: int) -> None:
    """Add a completion to the heap of ``size`` that there are."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if due_s[above] < when or (due_s[above] == when and due[above] < task):
            break
        due_s[at], due[at] = due_s[above], due[above]
        at = above
    due_s[at], due[at] = when, task


@_compiled
def _replace_top(due_s: Floats, due: Ints, size: int, when: float, task: int) -> None:
    """Put another completion in the place of the first one."""
    at, below = 0, 1
    while below < size:
        other = below + 1
        if other < size and (
            due_s[other] < due_s[below]
            or (due_s[other] == due_s[below] and due[other] < due[below])
        ):
            below = other
        if when < due_s[below] or (when == due_s[below] and task < due[below]):
            break
        due_s[at], due[at] = due_s[below], due[below]
        at, below = below, 2 * below + 1
    due_s[at], due[at] = when, task


@_compiled
def _occupy(free_s: Floats, first: int, end: int, finish: float) -> None:
    """Let the server from ``first`` to ``end`` that is free first be free at ``finish``."""
    at, below = first, first + 1
    while below < end:
        if below + 1 < end and free_s[below + 1] < free_s[below]:
            below += 1
        if finish <= free_s[below]:
            break
        free_s[at] = free_s[below]
        at, below = below, first + 2 * (below - first) + 1
    free_s[at] = finish


@_compiled
def _afford(battery_j: Floats, spent: NDArray[np.bool_], device: int, energy_j: float) -> bool:
    """Charge a hop to the device's battery; one that cannot pay is spent for good."""
    if spent[device] or energy_j > battery_j[device]:
        spent[device] = True
        return False
    battery_j[device] -= energy_j
    return True


@_compiled
def _run(s: _State, until_s: float) -> float:  # noqa: C901, PLR0915 - parts called cost twice it
    """Process every event before the decision epoch at ``until_s``; return when the last was."""
    marks, due_s, due, ready_s, last = s.marks, s.due_s, s.due, s.ready_s, s.last
    released, submitted, queued = marks[RELEASED], marks[SUBMITTED], marks[QUEUED]
    tasks, hops, batches = len(s.hop) - 1, len(s.start_s) - 1, len(s.unfinished) - 1
    last_s = -math.inf
    while True:
        release_s = s.release_s[released & tasks] if released < submitted else math.inf
        vacant = False  # whether the top of the heap has gone and is to be replaced
        if queued and due_s[0] <= release_s:
            now, task = due_s[0], due[0]
            if now > until_s:
                break
            row = task & tasks
            follower = s.following[row]
            if follower >= 0:
                s.following[row] = -1
                _replace_top(due_s, due, queued, ready_s[follower & tasks], follower)
            else:
                vacant = True
                left = s.resource[(s.hop[row] - 1) & hops]
                if last[left] == task:
                    last[left] = -1
        elif release_s < until_s:
            now, task = release_s, released
            row = task & tasks
            released += 1
        else:
            break
        last_s = now
        s.active[s.batch[row] & batches] = True
        hop = s.hop[row]
        at = hop & hops
        if hop == s.end[row] or (
            s.metered and not _afford(s.battery_j, s.spent, s.device[row], s.energy_j[at])
        ):
            s.unfinished[s.batch[row] & batches] -= 1
        else:
            resource = s.resource[at]
            first = s.first[resource]
            start = max(now, s.free_s[first])
            finish = start + s.service_s[at]
            _occupy(s.free_s, first, s.first[resource + 1], finish)
            s.start_s[at] = start
            s.hop[row] = hop + 1
            when = finish + s.latency_s[at]
            ready_s[row] = when
            before = last[resource]
            behind = before & tasks
            if before >= 0 and (
                ready_s[behind] < when or (ready_s[behind] == when and before < task)
            ):
                s.following[behind] = last[resource] = task
            else:
                if before < 0:
                    last[resource] = task
                if vacant:
                    _replace_top(due_s, due, queued, when, task)
                    vacant = False
                else:
                    _push(due_s, due, queued, when, task)
                    queued += 1
        if vacant:
            queued -= 1
            _replace_top(due_s, due, queued, due_s[queued], due[queued])
    marks[RELEASED], marks[QUEUED] = released, queued
    return last_s


class _Batch(NamedTuple):
    """The tasks of an epoch in flight, and where the batch after it begins in the rings."""

    hops: Hops
    end_task: int
    end_hop: int


class CompiledKernel:
    """The kernel compiled by numba; see :class:`mecsim.kernels.base.Kernel` for its face.

    Epochs must be submitted in order of time, as a run does. The rings have room for ``size``
    tasks and hops at first.
    """

    def __init__(self, model: Model, size: int = 1024) -> None:
        first = np.concatenate([[0], np.cumsum(model.capacity)])
        self._now = 0.0
        self._batches: deque[_Batch] = deque()
        self._first_batch = self._first_task = self._first_hop = 0
        self._last_release_s = -math.inf
        self._state = _State(
            marks=np.zeros(3, dtype=np.int64),
            first=first,
            free_s=np.zeros(first[-1]),
            last=np.full(len(model.capacity), -1),
            battery_j=np.full(model.devices, model.battery_j),
            spent=np.zeros(model.devices, dtype=np.bool_),
            metered=bool(model.battery_j < np.inf),
            due_s=np.empty(size),
            due=np.empty(size, dtype=np.int64),
            release_s=np.empty(size),
            ready_s=np.empty(size),
            following=np.full(size, -1),
            device=np.empty(size, dtype=np.int64),
            batch=np.empty(size, dtype=np.int64),
            hop=np.empty(size, dtype=np.int64),
            end=np.empty(size, dtype=np.int64),
            resource=np.empty(size, dtype=np.int64),
            service_s=np.empty(size),
            latency_s=np.empty(size),
            energy_j=np.empty(size),
            start_s=np.empty(size),
            unfinished=np.empty(size, dtype=np.int64),
            active=np.empty(size, dtype=np.bool_),
        )
        _load(self._state)

    def submit(self, hops: Hops) -> None:
        tasks = hops.tasks
        first_task, first_hop = self._ends()
        end_task, end_hop = first_task + len(tasks), first_hop + len(hops.resource)
        batch = self._first_batch + len(self._batches)
        if not self._has_room(end_task, end_hop, batch + 1):
            self._make_room(end_task, end_hop, batch + 1)
        if len(tasks):
            self._check_order(tasks.release_s)
        state, offset = self._state, first_hop + hops.offset
        for ring, source in _pieces(len(state.hop), first_task, end_task):
            state.release_s[ring] = tasks.release_s[source]
            state.following[ring] = -1
            state.device[ring] = tasks.device[source]
            state.batch[ring] = batch
            state.hop[ring] = offset[:-1][source]
            state.end[ring] = offset[1:][source]
        for ring, source in _pieces(len(state.start_s), first_hop, end_hop):
            state.resource[ring] = hops.resource[source]
            state.service_s[ring] = hops.service_s[source]
            state.latency_s[ring] = hops.latency_s[source]
            state.energy_j[ring] = hops.energy_j[source]
            state.start_s[ring] = np.nan
        row = batch & (len(state.unfinished) - 1)
        state.unfinished[row], state.active[row] = len(tasks), False
        state.marks[SUBMITTED] = end_task
        self._batches.append(_Batch(hops, end_task, end_hop))

    def advance(self, until_s: float) -> None:
        _run(self._state, until_s)
        self._now = until_s

    def drain(self) -> None:
        self._now = max(self._now, _run(self._state, math.inf))

    def backlog_s(self) -> Floats:
        free_s, first = self._state.free_s, self._state.first
        if len(free_s) >= len(first):  # some resource has several servers
            free_s = free_s[first[:-1]]
        return np.maximum(free_s - self._now, 0.0)

    def battery_j(self) -> Floats:
        return self._state.battery_j.copy()

    def active(self) -> dict[int, Timeline]:
        begin, timelines = self._first_hop, {}
        flags, mask = self._state.active, len(self._state.active) - 1
        for row, batch in enumerate(self._batches):
            if flags[(self._first_batch + row) & mask]:
                start_s = _get(self._state.start_s, begin, batch.end_hop)
                timelines[row] = Timeline(batch.hops, start_s)
            begin = batch.end_hop
        flags[:] = False
        return timelines

    def collect(self) -> list[Timeline]:
        unfinished, ended = self._state.unfinished, []
        while self._batches and not unfinished[self._first_batch & (len(unfinished) - 1)]:
            batch = self._batches.popleft()
            start_s = _get(self._state.start_s, self._first_hop, batch.end_hop)
            ended.append(Timeline(batch.hops, start_s))
            self._first_batch += 1
            self._first_task, self._first_hop = batch.end_task, batch.end_hop
        return ended

    def copy(self) -> CompiledKernel:
        """Return a kernel in the same state, which from now on goes its own way."""
        other = object.__new__(CompiledKernel)
        other.__dict__.update(self.__dict__)
        other._batches = self._batches.copy()
        arrays = {n: x.copy() for n, x in self._state._asdict().items() if n != "metered"}
        other._state = self._state._replace(**arrays)
        return other

    def _ends(self) -> tuple[int, int]:
        """Return where the next batch begins in the rings of tasks and hops."""
        if self._batches:
            return self._batches[-1].end_task, self._batches[-1].end_hop
        return self._first_task, self._first_hop

    def _check_order(self, release_s: Floats) -> None:
        if release_s[0] < self._last_release_s:
            raise ValueError(
                f"a task released at {release_s[0]:g} s was submitted after one of "
                f"{self._last_release_s:g} s; submit them in order"
            )
        self._last_release_s = float(release_s[-1])

    def _has_room(self, end_task: int, end_hop: int, end_batch: int) -> bool:
        state = self._state
        return (
            end_task - self._first_task <= len(state.hop)
            and end_hop - self._first_hop <= len(state.start_s)
            and end_batch - self._first_batch <= len(state.unfinished)
        )

    def _make_room(self, end_task: int, end_hop: int, end_batch: int) -> None:
        """Double the rings until all that is pending goes in."""
        state = self._state
        bounds = dict.fromkeys(_TASKS, (self._first_task, end_task))
        bounds |= dict.fromkeys(_HOPS, (self._first_hop, end_hop))
        bounds |= dict.fromkeys(("unfinished", "active"), (self._first_batch, end_batch))
        rings: dict[str, Any] = {
            name: _doubled(getattr(state, name), begin, end)
            for name, (begin, end) in bounds.items()
            if end - begin > len(getattr(state, name))
        }
        if "hop" in rings:
            for name in ("due_s", "due"):  # a heap of one entry a task
                rings[name] = np.resize(getattr(state, name), len(rings["hop"]))
        self._state = state._replace(**rings)


def _pieces(size: int, begin: int, end: int) -> list[tuple[slice, slice]]:
    """Return where ``begin`` to ``end`` lies in a ring: in one piece, or two if it comes round.

    Each piece as a slice of the ring and as one of the values from ``begin`` on.
    """
    at, count = begin & (size - 1), end - begin
    if at + count <= size:
        return [(slice(at, at + count), slice(0, count))]
    room = size - at
    return [(slice(at, size), slice(0, room)), (slice(0, count - room), slice(room, count))]


def _get(ring: NDArray[Any], begin: int, end: int) -> NDArray[Any]:
    """Return a copy of the values of a ring from ``begin`` to ``end``."""
    pieces = [ring[piece] for piece, _ in _pieces(len(ring), begin, end)]
    return pieces[0].copy() if len(pieces) == 1 else np.concatenate(pieces)


def _doubled(ring: NDArray[Any], begin: int, end: int) -> NDArray[Any]:
    """Return a ring that has room from ``begin`` to ``end``, with the values of the old one."""
    larger = np.empty(1 << (end - begin - 1).bit_length(), dtype=ring.dtype)
    old = _get(ring, begin, begin + len(ring))
    for piece, source in _pieces(len(larger), begin, begin + len(ring)):
        larger[piece] = old[source]
    return larger


COMPILE_S: Final = 2
"""What compiling takes, roughly."""


class _Telling(event.Listener):
    """Tells the user, once, why the first run takes longer."""

    told = False

    def on_start(self, event: event.Event) -> None:
        if not self.told:
            _log.warning("compiling the kernel, once; about %d s", COMPILE_S)
        self.told = True

    def on_end(self, event: event.Event) -> None:
        pass


def _load(state: _State) -> None:
    """Compile the loop, or load it from disk; say so where it takes time or cannot be kept."""
    stats = getattr(_run, "stats", None)
    if stats is None or _run.signatures:  # type: ignore[attr-defined]
        return  # the compiler is switched off, or has done its work
    began = time.perf_counter()
    with event.install_listener("numba:compile", _Telling()):
        try:
            _run(state, -math.inf)
        except OSError as error:  # compiled, but the disk is full or the like
            _log.warning("the compiled kernel cannot be kept on disk: %s", error)
    _log.debug("the kernel was ready after %.2f s", time.perf_counter() - began)
    _check_folder(stats.cache_path, numba.config.CACHE_DIR)  # type: ignore[attr-defined]


def _check_folder(folder: str | None, wanted: str) -> None:
    if folder is None:
        _log.warning(
            "the compiled kernel cannot be kept on disk: no folder for it can be written to; "
            "set NUMBA_CACHE_DIR to one"
        )
    elif wanted and not Path(folder).is_relative_to(wanted):
        _log.warning("NUMBA_CACHE_DIR: cannot write to %s; using %s", wanted, folder)
