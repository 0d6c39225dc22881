"""Lost tasks that are placed again: which wait for a decision, and which attempts there are."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mecsim.kernels.hops import Records
from mecsim.model.attempts import Attempts
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.support.arrays import Floats, read_only


class _Lost(NamedTuple):
    """A lost task that waits for a decision."""

    attempts: Attempts
    """Its next attempt; a single one."""
    tasks: Tasks
    """Its last attempt; a single one."""


class Retries:
    """The attempts of a session at the tasks of a model with retries.

    Attempts are numbered in the order in which they are submitted to the kernel, as tasks are in
    other runs. A lost task waits until a decision: with per-task decisions at the instant of the
    loss, else at the start of the next slot. One that is lost after the last slot has begun is not
    placed again then.
    """

    def __init__(self, model: Model) -> None:
        self._limit = model.retries
        self._at_once = model.scenario.decision_epoch == "per_task"
        self._in_flight = deque[Tasks]()
        self._submitted = 0
        self._waiting: list[_Lost] = []
        self._taken_s, self._taken = -math.inf, set[int]()
        """The attempts that were lost at an instant and have been taken."""
        self._slot_s = -math.inf
        """Start of the last slot."""
        self.joining: Slot | None = None
        """The present slot without the tasks that are placed again."""

    def numbered(self, tasks: Tasks) -> Tasks:
        """Return tasks that are about to be submitted, with the numbers of their attempts."""
        numbered = replace(tasks, first=self._submitted, attempts=_attempts(tasks))
        self._submitted += len(tasks)
        self._in_flight.append(numbered)
        return numbered

    def collected(self, batches: int) -> None:
        """Forget batches whose attempts have ended, in the order in which they were submitted."""
        for _ in range(batches):
            self._in_flight.popleft()

    def take(self, lost: Mapping[int, Records], now_s: float) -> None:
        """Let tasks wait that were lost now, by number of attempt, if they may be tried again."""
        if now_s > self._taken_s:
            self._taken_s = now_s
            self._taken.clear()
        for number in sorted(lost.keys() - self._taken):
            self._taken.add(number)
            batch = next(each for each in self._in_flight if number < each.first + len(each))
            row = number - batch.first
            tasks = batch[row : row + 1]
            attempts = _attempts(tasks)
            if attempts.number[0] <= self._limit[tasks.class_[0]]:
                ready_s = finished_s(lost[number], float(attempts.ready_s[0]))
                more = attempts._replace(number=attempts.number + 1, ready_s=np.array([ready_s]))
                self._waiting.append(_Lost(more, tasks))

    def placed_again(self, attempt: int, task_class: int, release_s: float, lost_s: float) -> bool:
        """Return whether an attempt that was lost, not after the present, has a next one.

        Args:
            attempt: Which attempt it was, from 1.
            task_class: Class of the task.
            release_s: When the attempt began; at the start of a slot after its decision.
            lost_s: When the task was lost.
        """
        before = release_s < self._slot_s and lost_s <= self._slot_s
        return attempt <= int(self._limit[task_class]) and (self._at_once or before)

    def waiting(self, slot: Slot, now_s: float) -> Tasks | None:
        """Return the tasks that wait, to be placed now, in order of their numbers; None if none."""
        if not self._waiting:
            return None
        some = sorted(self._waiting, key=lambda each: int(each.attempts.task[0]))
        self._waiting = []
        return Tasks(
            slot.number,
            0,
            np.full(len(some), now_s),
            np.concatenate([each.tasks.class_ for each in some]),
            np.concatenate([each.tasks.device for each in some]),
            np.concatenate([each.tasks.size for each in some]),
            slot.tasks.in_slot,
            Attempts.joined([each.attempts for each in some]),
        )

    def begin(self, slot: Slot) -> Slot:
        """Return a slot that begins, with per-slot decisions with the tasks that wait."""
        self._slot_s, self.joining = slot.start_s, slot
        again = None if self._at_once else self.waiting(slot, slot.start_s)
        if again is None:
            return slot
        classes = range(len(slot.expected_tasks))
        counts = np.bincount(again.class_, minlength=len(classes))
        sizes = [_sum(again.size[again.class_ == number]) for number in classes]
        expected = slot.expected_tasks + counts
        weighted = slot.expected_tasks[:, None] * slot.expected_size + np.array(sizes)
        size = np.where(
            counts[:, None] > 0, weighted / np.maximum(expected, 1.0)[:, None], slot.expected_size
        )
        every = replace(
            again,
            release_s=np.concatenate([again.release_s, slot.tasks.release_s]),
            class_=np.concatenate([again.class_, slot.tasks.class_]),
            device=np.concatenate([again.device, slot.tasks.device]),
            size=np.concatenate([again.size, slot.tasks.size]),
            attempts=Attempts.joined([_attempts(again), _attempts(slot.tasks)]),
        )
        return slot._replace(
            tasks=every, expected_tasks=read_only(expected), expected_size=read_only(size)
        )

    def parts(self, slot: Slot, tasks: Tasks) -> list[tuple[Slot, Tasks]]:
        """Return the tasks of a slot that joins in two parts: those placed again, and the others.

        Each with a slot that expects its tasks alone.
        """
        again = 0 if tasks.attempts is None else int((tasks.attempts.number > 1).sum())
        if self._at_once or self.joining is None or not again:
            return [(slot, tasks)]
        counts = np.bincount(tasks[:again].class_, minlength=len(slot.expected_tasks))
        alone = slot._replace(expected_tasks=counts.astype(np.float64))
        return [(alone, tasks[:again]), (self.joining, tasks[again:])]


def _attempts(tasks: Tasks) -> Attempts:
    """Return the attempts of tasks; the first ones if they are not known."""
    if tasks.attempts is not None:
        return tasks.attempts
    count = len(tasks)
    return Attempts(
        task=tasks.numbers,
        number=np.ones(count, dtype=np.int64),
        first_s=tasks.release_s,
        ready_s=tasks.release_s,
        slot=np.full(count, tasks.slot),
        in_slot=np.full(count, tasks.in_slot),
    )


def _sum(sizes: Floats) -> Floats:
    return np.add.reduce(sizes, axis=0)


def finished_s(hops: Records, ready_s: float) -> float:
    """Return when the last finished block of a lost task had finished; ``ready_s`` if none had.

    Args:
        hops: The hops of the task; shape (h,).
        ready_s: From when its first block counts.
    """
    ends_s = (hops["start_s"] + hops["service_s"] + hops["latency_s"]).tolist()
    block = hops["block"].tolist()
    for at, end_s in enumerate(ends_s[:-1]):
        if math.isnan(end_s):
            break
        if block[at + 1] != block[at]:
            ready_s = end_s
    return ready_s
