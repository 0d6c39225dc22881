"""Where the compiled kernel keeps what is in flight.

Tasks, hops and batches lie in rings: arrays whose length is a power of two, in which item ``i`` is
at ``i & (length - 1)``. They double when they are full, and the places of batches that have been
collected are used again, so memory grows with the tasks in flight and not with the run.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.hops import HOP, Records, Room
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints, raw
from mecsim.support.jit import compiled

# Marks: how many there have been of what, except for ``QUEUED``.
RELEASED: Final = 0
"""Tasks released."""
QUEUED: Final = 1
"""Completions in the heap now."""
FIRST_TASK: Final = 2
"""Tasks, hops, batches that were collected, and those that were submitted."""
FIRST_HOP: Final = 3
FIRST_BATCH: Final = 4
END_TASK: Final = 5
END_HOP: Final = 6
END_BATCH: Final = 7

_COMPLETION: Final = np.dtype([("due_s", "f8"), ("task", "i8")])
_TASK: Final = np.dtype(
    [
        ("release_s", "f8"),
        ("ready_s", "f8"),  # when it is ready for what follows the hop that it is in
        ("hop", "i8"),  # the one to come
        ("end", "i8"),  # the one after the last
        ("following", "i8"),  # the next in the line of completions, or -1
        ("batch", "i8"),
        ("device", "i8"),
    ]
)
_BATCH: Final = np.dtype(
    [
        ("end_task", "i8"),
        ("end_hop", "i8"),
        ("unfinished", "i8"),  # tasks that have not ended
        ("active", "i8"),  # whether any had an event of late
    ]
)


class State(NamedTuple):
    """Queues, tasks in flight and events to come, as the compiled loop takes them."""

    marks: Ints
    # Of every resource: when each of its servers is next free, a heap from ``first[r]``.
    first: Ints
    free_s: Floats
    # Of every resource: the task whose completion is the last of the line, or -1.
    last: Ints
    # Of every device, if ``metered``.
    battery_j: Floats
    spent: NDArray[np.bool_]
    metered: bool
    # The heap of completions by (time, task); one entry a task in the ring is enough.
    heap: Records
    # The rings.
    tasks: Records
    hops: Records
    batches: Records

    @classmethod
    def of(cls, model: Model, size: int) -> State:
        """Return empty queues, with room for ``size`` (a power of two) tasks and hops at first."""
        first = np.concatenate([[0], np.cumsum(model.capacity)])
        return cls(
            marks=np.zeros(8, dtype=np.int64),
            first=first,
            free_s=np.zeros(first[-1]),
            last=np.full(len(model.capacity), -1),
            battery_j=np.full(model.devices, model.battery_j),
            spent=np.zeros(model.devices, dtype=np.bool_),
            metered=bool(model.battery_j < math.inf),
            heap=np.empty(size, dtype=_COMPLETION),
            tasks=np.empty(size, dtype=_TASK),
            hops=np.empty(size, dtype=HOP),
            batches=np.empty(size, dtype=_BATCH),
        )

    def copy(self) -> State:
        """Return the same state in arrays of its own."""
        arrays: dict[str, Any] = {n: x.copy() for n, x in self._asdict().items() if n != "metered"}
        return self._replace(**arrays)

    def with_room(self, tasks: int, hops: int, batches: int = 1) -> State:
        """Return a state with room for so many more: itself, or one with larger rings."""
        marks = self.marks.tolist()
        return self.with_size(
            marks[END_TASK] - marks[FIRST_TASK] + tasks,
            marks[END_HOP] - marks[FIRST_HOP] + hops,
            marks[END_BATCH] - marks[FIRST_BATCH] + batches,
        )

    def with_size(self, tasks: int, hops: int, batches: int) -> State:
        """Return a state whose rings are at least so large: itself, or one with larger rings."""
        rings: dict[str, Any] = {}
        if tasks > len(self.tasks):
            rings["tasks"] = _enlarged(self.tasks, int(self.marks[FIRST_TASK]), tasks)
            rings["heap"] = np.resize(self.heap, len(rings["tasks"]))
        if hops > len(self.hops):
            rings["hops"] = _enlarged(self.hops, int(self.marks[FIRST_HOP]), hops)
        if batches > len(self.batches):
            rings["batches"] = _enlarged(self.batches, int(self.marks[FIRST_BATCH]), batches)
        return self._replace(**rings) if rings else self


@compiled
def room_of(s: State) -> Room:
    """Return where the hops of the next batch go."""
    return Room(s.hops, len(s.hops) - 1, s.marks[FIRST_HOP] + len(s.hops))


@compiled
def enter(s: State, offset: Ints, release_s: Floats, device: Ints) -> None:
    """Take a batch of n tasks whose hops are in their ring, from ``offset`` on, shape (n + 1,)."""
    marks, count = s.marks, len(release_s)
    batch = marks[END_BATCH]
    for i in range(count):
        task = s.tasks[(marks[END_TASK] + i) & (len(s.tasks) - 1)]
        task["release_s"] = release_s[i]
        task["hop"] = offset[i]
        task["end"] = offset[i + 1]
        task["following"] = -1
        task["batch"] = batch
        task["device"] = device[i]
    marks[END_TASK] += count
    marks[END_HOP] = offset[count]
    marks[END_BATCH] += 1
    row = s.batches[batch & (len(s.batches) - 1)]
    row["end_task"] = marks[END_TASK]
    row["end_hop"] = marks[END_HOP]
    row["unfinished"] = count
    row["active"] = 0


@compiled
def submit(s: State, rows: Records, offset: Ints, release_s: Floats, device: Ints) -> None:
    """Take a batch of n tasks whose hops are ``rows``, from ``offset`` on, shape (n + 1,)."""
    at, hops, mask = s.marks[END_HOP], s.hops, len(s.hops) - 1
    for row in range(len(rows)):
        hops[(at + row) & mask] = rows[row]
    enter(s, offset + at, release_s, device)


@compiled
def read_starts(s: State, at: int, rows: Records) -> None:
    """Tell the hops of a batch, of which the first is ``at`` in the ring, when they began."""
    hops, mask = s.hops, len(s.hops) - 1
    for row in range(len(rows)):
        rows[row]["start_s"] = hops[(at + row) & mask]["start_s"]


@compiled
def drop_first(s: State) -> bool:
    """Forget the oldest batch if all its tasks have ended; return whether it is so."""
    marks = s.marks
    if marks[FIRST_BATCH] == marks[END_BATCH]:
        return False
    row = s.batches[marks[FIRST_BATCH] & (len(s.batches) - 1)]
    if row["unfinished"] > 0:
        return False
    marks[FIRST_BATCH] += 1
    marks[FIRST_TASK] = row["end_task"]
    marks[FIRST_HOP] = row["end_hop"]
    return True


@compiled
def take_first(s: State, rows: Records) -> bool:
    """Like ``drop_first``, but first tell the hops of the batch, ``rows``, when they began."""
    at = s.marks[FIRST_HOP]
    if not drop_first(s):
        return False
    read_starts(s, at, rows)
    return True


def _enlarged(ring: NDArray[Any], begin: int, room: int) -> NDArray[Any]:
    """Return a ring that has ``room``, with the items of the old one, the first being ``begin``."""
    larger = np.empty(1 << int(room - 1).bit_length(), dtype=ring.dtype)
    at = begin & (len(ring) - 1)
    for first, piece in ((begin, ring[at:]), (begin + len(ring) - at, ring[:at])):
        to = first & (len(larger) - 1)
        raw(larger)[to : to + len(piece)] = raw(piece)
    return larger
