"""The workload of a run, slot by slot: tasks with their size factors, and radio rates.

A workload is read forwards, a few slots at a time, so that memory does not grow with the run. Each
kind of draw has a separate stream, so that no scheduler can shift it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from mecsim.model.arrivals import (
    CHUNK,
    Parts,
    arrivals,
    listed_bounds,
    slot_starts,
    stream_of,
)
from mecsim.model.model import Model
from mecsim.model.over_time import values_at
from mecsim.model.random_streams import Stream
from mecsim.scenario.schema import (
    Arrivals,
    ConstantSize,
    CsvTasks,
    Deterministic,
    ExponentialSize,
    ListedTasks,
    LognormalSize,
    Mmpp,
    Poisson,
    RecordedTasks,
    Scenario,
    Slotted,
    UniformSize,
)
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.support.portable_math import exp_each

_Array = TypeVar("_Array", Floats, Ints)


@dataclass(eq=False, slots=True)
class Tasks:
    """n tasks of one slot, in order of release."""

    slot: int
    first: int
    """Number of the first task; the others follow."""
    release_s: Floats
    """Shape (n,)."""
    class_: Ints
    """0-based; shape (n,)."""
    device: Ints
    """0-based; shape (n,)."""
    size: Floats
    """Size factor s, one for all blocks or one each; shape (n, 1) or (n, M)."""
    in_slot: int
    """Number of all tasks released in the slot; n, or more if these are some of them."""

    def __len__(self) -> int:
        return len(self.release_s)

    def __getitem__(self, rows: slice) -> Tasks:
        start = rows.indices(len(self))[0]
        columns = self.release_s[rows], self.class_[rows], self.device[rows], self.size[rows]
        return Tasks(self.slot, self.first + start, *columns, self.in_slot)


class Slot(NamedTuple):
    """One slot: its tasks, and the radio rates and servers of all devices."""

    number: int
    start_s: float
    tasks: Tasks
    rate_bps: Floats
    """R_d, up and down; shape (D,)."""
    serving_server: Ints
    """The server (0-based) with which each device is associated; shape (D,)."""
    expected_tasks: Floats
    """Number of tasks of each class that a scheduler should expect when it begins; shape (C,)."""
    expected_size: Floats
    """Size factors that a scheduler should expect when it begins; shape (C, 1) or (C, M)."""


class Chunk(NamedTuple):
    """K slots in a row, with n tasks."""

    first_slot: int
    first_task: int
    start_s: Floats
    """Shape (K,)."""
    bounds: Ints
    """The tasks of slot k are those from ``bounds[k]`` to ``bounds[k + 1]``; shape (K + 1,)."""
    release_s: Floats
    """Shape (n,)."""
    class_: Ints
    """Shape (n,)."""
    device: Ints
    """Shape (n,)."""
    size: Floats
    """Shape (n, 1) or (n, M)."""
    rate_bps: Floats
    """One row for all slots, or one for each; shape (1, D) or (K, D)."""
    serving_server: Ints
    """One row for all slots, or one for each; shape (1, D) or (K, D)."""
    expected_tasks: Floats
    """Shape (K, C)."""
    expected_size: Floats
    """Shape (K, C, 1) or (K, C, M)."""

    def tasks(self, slot: int, begin: int, end: int) -> Tasks:
        """Return all tasks of a slot, those from ``begin`` to ``end``."""
        rows = slice(begin, end)
        columns = self.release_s[rows], self.class_[rows], self.device[rows], self.size[rows]
        return Tasks(slot, self.first_task + begin, *columns, end - begin)

    def steady(self) -> Iterator[Chunk]:
        """Yield the chunk in pieces in which no device changes its server."""
        changed = (self.serving_server[1:] != self.serving_server[:-1]).any(axis=1)
        if not changed.any():
            yield self._replace(serving_server=self.serving_server[:1])
            return
        begins = [0, *(np.flatnonzero(changed) + 1).tolist(), len(self.start_s)]
        for begin, end in pairwise(begins):
            yield self._part(begin, end)

    def _part(self, begin: int, end: int) -> Chunk:
        """Return the slots from ``begin`` to ``end``, with the servers of the first one."""
        slots, first = slice(begin, end), int(self.bounds[begin])
        tasks = slice(first, int(self.bounds[end]))
        return Chunk(
            first_slot=self.first_slot + begin,
            first_task=self.first_task + first,
            start_s=self.start_s[slots],
            bounds=self.bounds[begin : end + 1] - first,
            release_s=self.release_s[tasks],
            class_=self.class_[tasks],
            device=self.device[tasks],
            size=self.size[tasks],
            rate_bps=self.rate_bps[slots] if len(self.rate_bps) > 1 else self.rate_bps,
            serving_server=self.serving_server[begin : begin + 1],
            expected_tasks=self.expected_tasks[slots],
            expected_size=self.expected_size[slots],
        )

    def slots(self) -> Iterator[Slot]:
        """Yield the slots one by one."""
        bounds, varies = self.bounds.tolist(), len(self.rate_bps) > 1
        moves = len(self.serving_server) > 1
        for k, start_s in enumerate(self.start_s.tolist()):
            tasks = self.tasks(self.first_slot + k, bounds[k], bounds[k + 1])
            rate, server = self.rate_bps[k * varies], self.serving_server[k * moves]
            expected = self.expected_tasks[k], self.expected_size[k]
            yield Slot(tasks.slot, start_s, tasks, rate, server, *expected)


@dataclass(frozen=True)
class RecordedWorkload:
    """Recorded tasks, and optionally rates and servers, that replace those of the model."""

    tasks: Iterator[Tasks]
    """The tasks of every slot in turn."""
    expected_tasks: float
    """Mean number of tasks a slot, for scenarios that do not give it."""
    rates: Iterator[Floats] | None = None
    """The radio rates of every slot in turn; drawn if None."""
    servers: Iterator[Ints] | None = None
    """The server (0-based) of every device, slot by slot; that of the model if None."""
    size_columns: int = 1
    """Size factors a task: 1 or M."""


def slots(model: Model, recording: RecordedWorkload | None = None) -> Iterator[Slot]:
    """Yield the slots of a run: as recorded, or drawn from the model's seed."""
    for chunk in chunks(model, recording):
        yield from chunk.slots()


def chunks(
    model: Model, recording: RecordedWorkload | None = None, length: int = CHUNK
) -> Iterator[Chunk]:
    """Yield the slots of a run, ``length`` at a time: as recorded, or drawn from the seed."""
    every, first_task = Parts(model.scenario.slots, length), 0
    views = [model.of_class(number) for number in range(len(model.classes))]
    drawn = [_drawn(view, every) for view in views] if recording is None else []
    released = zip(*drawn, strict=True) if recording is None else _recorded(model, every, recording)
    width = size_columns(model, recording)
    given = recording.rates if recording else None
    rates = _rates(model, every) if given is None else _stacked(every, given)
    servers = recording.servers if recording else None
    of_devices = _servers(model, every) if servers is None else _stacked(every, servers)
    parts = zip(every, released, rates, of_devices, strict=True)
    for numbers, by_class, rate_bps, serving_server in parts:
        start_s = slot_starts(model, numbers)
        expected = [
            _expected(tasks, start_s, view, recording)
            for view, tasks in zip(views, by_class, strict=True)
        ]
        class_, tasks = _merged([tasks.with_columns(width) for tasks in by_class])
        yield Chunk(
            first_slot=numbers.start,
            first_task=first_task,
            start_s=start_s,
            bounds=np.concatenate([[0], np.cumsum(tasks.counts)]),
            release_s=tasks.release_s,
            class_=class_,
            device=tasks.device,
            size=tasks.size,
            rate_bps=rate_bps,
            serving_server=serving_server,
            expected_tasks=np.stack([count for count, _ in expected], axis=1),
            expected_size=np.stack([_widened(size, width) for _, size in expected], axis=1),
        )
        first_task += len(tasks.release_s)


def _expected(
    tasks: _Released, start_s: Floats, model: Model, recording: RecordedWorkload | None
) -> tuple[Floats, Floats]:
    """Return the numbers of tasks of one class and their sizes that are expected in K slots.

    What is released at a slot's start is known. Shapes (K,) and (K, 1 or M).
    """
    bounds = np.concatenate([[0], np.cumsum(tasks.counts)])
    some = tasks.counts > 0
    known = some & (tasks.release_s[bounds[1:] - 1] == start_s) if some.any() else some
    size = tasks.usual_size
    if known.any():
        sums = np.add.reduceat(tasks.size, bounds[:-1][some])
        size[known] = sums[known[some]] / tasks.counts[known, None]
    slotted = isinstance(model.scenario.arrivals, Slotted)
    return np.where(known | slotted, tasks.counts, mean_tasks(model, recording)), size


def _merged(by_class: Sequence[_Released]) -> tuple[Ints, _Released]:
    """Return the class of every task, and all tasks in order of release, then of class."""
    sizes = [len(tasks.release_s) for tasks in by_class]
    class_ = np.repeat(np.arange(len(by_class)), sizes)
    if len(by_class) == 1:
        return class_, by_class[0]
    slots = np.arange(len(by_class[0].counts))
    slot = np.concatenate([np.repeat(slots, tasks.counts) for tasks in by_class])
    release_s = np.concatenate([tasks.release_s for tasks in by_class])
    order = np.lexsort((class_, release_s, slot))
    return class_[order], _Released(
        release_s[order],
        np.concatenate([tasks.device for tasks in by_class])[order],
        np.sum([tasks.counts for tasks in by_class], axis=0),
        np.concatenate([tasks.size for tasks in by_class])[order],
        by_class[0].usual_size,
    )


def _widened(size: Floats, columns: int) -> Floats:
    """Return size factors for more blocks: one factor is that of all, others are not read."""
    have = size.shape[1]
    if have == columns:
        return size
    if have == 1:
        return np.repeat(size, columns, axis=1)
    return np.concatenate([size, np.ones((len(size), columns - have))], axis=1)


def _servers(model: Model, every: Parts) -> Iterator[Ints]:
    """Yield the servers of all devices in some slots; shape (1, D) or (slots, D)."""
    at_start, moving = model.serving_server[None], model.mobility
    return (at_start if moving is None else moving.servers_in(numbers) for numbers in every)


def _stacked(every: Parts, of_slots: Iterator[_Array]) -> Iterator[_Array]:
    for numbers in every:
        rows = list(islice(of_slots, len(numbers)))
        same = all(row is rows[0] for row in rows)
        yield read_only(np.stack(rows[:1] if same else rows))


def size_columns(model: Model, recording: RecordedWorkload | None = None) -> int:
    """Return the number of size factors of a task: 1, or M if any are drawn per block."""
    if recording is not None:
        return recording.size_columns
    per_block = any(
        getattr(each.size_factor, "per", None) == "block" and not given_sizes(each.arrivals)
        for each in model.nominal.classes
    )
    return model.blocks if per_block else 1


def given_sizes(arrivals: Arrivals) -> tuple[float, ...] | None:
    """Return the sizes of tasks that are listed with them."""
    return arrivals.sizes if isinstance(arrivals, ListedTasks) else None


def mean_tasks(model: Model, recording: RecordedWorkload | None = None) -> float:
    """Return the mean number of tasks a slot, of all classes."""
    recorded = isinstance(model.scenario.classes[0].arrivals, RecordedTasks)  # of one class only
    return recording.expected_tasks if recording and recorded else mean_rate(model)


def mean_rate(model: Model) -> float:
    """Return the mean number of tasks a slot of the arrival process of a model."""
    return arrival_rate(model.nominal)


def arrival_rate(scenario: Scenario) -> float:
    """Return the mean number of tasks a slot of the arrival processes of a scenario."""
    rates = [_rate_of(each.arrivals, scenario.slots) for each in scenario.classes]
    return rates[0] if len(rates) == 1 else math.fsum(rates)


def _rate_of(arrivals: Arrivals, slots: int) -> float:
    match arrivals:
        case Mmpp(rates=rates, mean_dwell=dwell):
            weighted = [rate * time for rate, time in zip(rates, dwell, strict=True)]
            return math.fsum(weighted) / math.fsum(dwell)
        case Slotted(rate=rate) | Deterministic(rate=rate) | Poisson(rate=rate):
            return rate
        case ListedTasks(release=release):
            return len(release) / slots
        case CsvTasks() | RecordedTasks():
            raise ValueError("recorded tasks need a recording")


class _Released(NamedTuple):
    """The tasks of a chunk of K slots, of one class or of all."""

    release_s: Floats
    device: Ints
    counts: Ints
    """Tasks in every slot; shape (K,)."""
    size: Floats
    usual_size: Floats
    """Expected size factors of each slot whose tasks are not known; shape (K, 1 or M)."""

    def with_columns(self, count: int) -> _Released:
        """Return the tasks with more size factors each."""
        return self._replace(size=_widened(self.size, count))


def _recorded(model: Model, every: Parts, recording: RecordedWorkload) -> Iterator[list[_Released]]:
    """Yield the tasks of every class of each chunk."""
    for numbers in every:
        slots = list(islice(recording.tasks, len(numbers)))
        number = np.repeat(np.arange(len(slots)), [len(tasks) for tasks in slots])
        class_, release_s, device, size = (
            np.concatenate([getattr(tasks, name) for tasks in slots])
            for name in ("class_", "release_s", "device", "size")
        )
        yield [
            _Released(
                release_s[mine],
                device[mine],
                np.bincount(number[mine], minlength=len(slots)),
                size[mine],
                np.ones((len(slots), recording.size_columns)),
            )
            for mine in (class_ == each.number for each in model.classes)
        ]


def _drawn(model: Model, every: Parts) -> Iterator[_Released]:
    sizes, released = stream_of(model, "sizes"), arrivals(model, every)
    for numbers in every:
        release_s, device, counts = next(released)
        size, usual = _sizes(model, sizes, numbers, counts)
        yield _Released(release_s, device, counts, size, usual)


def _sizes(model: Model, sizes: Stream, numbers: range, counts: Ints) -> tuple[Floats, Floats]:
    """Return the size factors of the tasks of some slots, and those expected in each slot."""
    spec, total, tasks = model.scenario.size_factor, int(counts.sum()), model.nominal.arrivals
    if isinstance(tasks, ListedTasks) and tasks.sizes is not None:
        bounds = listed_bounds(model, np.array(tasks.release), numbers)
        return np.array(tasks.sizes[bounds[0] : bounds[-1]])[:, None], np.ones((len(numbers), 1))
    if isinstance(spec, ConstantSize):
        return np.ones((total, 1)), np.ones((len(numbers), 1))
    if spec.per == "slot":
        drawn = _draw_sizes(sizes, spec, numbers.start, np.ones_like(counts))[:, None]
        return np.repeat(drawn, counts, axis=0), drawn
    columns = 1 if spec.per == "task" else model.blocks
    drawn = _draw_sizes(sizes, spec, numbers.start, counts * columns).reshape(-1, columns)
    return drawn, np.ones((len(numbers), columns))


def _draw_sizes(
    sizes: Stream, spec: UniformSize | ExponentialSize | LognormalSize, first: int, counts: Ints
) -> Floats:
    """Return ``counts[k]`` size factors of slot ``first + k``, slot after slot."""
    match spec:
        case UniformSize(low=low, high=high):
            return low + (high - low) * sizes.uniform(first, counts)
        case ExponentialSize():
            return sizes.exponential(first, counts)
        case LognormalSize(sigma=sigma):
            return exp_each(sigma * sizes.normal(first, counts) - sigma * sigma / 2)


def _rates(model: Model, every: Parts) -> Iterator[Floats]:
    series, slot_rates = list(model.radio_series()), model.slot_rates
    by_part = model.radio_draws.rates(every)
    if slot_rates is not None:
        by_part = (slot_rates.rate_bps[numbers.start : numbers.stop] for numbers in every)
    for numbers, rates in zip(every, by_part, strict=True):
        if not series:
            yield rates
            continue
        each, start_s = np.empty((len(numbers), model.devices)), slot_starts(model, numbers)
        each[:] = rates
        for devices, steps in series:
            each[:, devices] = values_at(steps, start_s)[:, None]
        yield read_only(each)
