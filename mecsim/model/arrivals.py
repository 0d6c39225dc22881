"""Release times and devices of the tasks of a run, slot by slot.

Arrivals at regular times are counted in rational numbers. Random arrivals are drawn from the
streams of `mecsim.model.random_streams`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice
from typing import Final, TypeAlias

import numpy as np

from mecsim.model.model import Model
from mecsim.model.random_streams import Stream
from mecsim.scenario.schema import (
    CsvTasks,
    Deterministic,
    ListedTasks,
    Mmpp,
    Poisson,
    RecordedTasks,
    Slotted,
)
from mecsim.support.arrays import Floats, Ints
from mecsim.support.exact import as_written
from mecsim.support.jit import compiled

CHUNK: Final = 64
"""Slots in a chunk."""


def stream_of(model: Model, name: str) -> Stream:
    """Return a random stream of the class of tasks of a model that has one."""
    return Stream(model.seed, name, model.classes[0].number)


class Parts:
    """The numbers of a run's slots, a fixed number at a time."""

    def __init__(self, slots: int, length: int) -> None:
        self._slots, self._length = slots, length

    def __iter__(self) -> Iterator[range]:
        """Yield the slots of every chunk."""
        for first in range(0, self._slots, self._length):
            yield range(first, min(first + self._length, self._slots))


def slot_start(model: Model, number: int) -> float:
    """Return the start of slot ``number``, s."""
    return number * model.scenario.slot_length


def slot_starts(model: Model, numbers: range) -> Floats:
    """Return the starts of consecutive slots, equal to :func:`slot_start`; shape (K,)."""
    first, end = float(numbers.start), float(numbers.stop)
    return np.arange(first, end) * model.scenario.slot_length


_Slots: TypeAlias = Iterator[tuple[Floats, Ints]]
"""Release times and devices of the tasks of every slot in turn."""
Chunks: TypeAlias = Iterator[tuple[Floats, Ints, Ints]]
"""Release times and devices of every chunk, and the number of tasks in each of its slots."""
_Piece: TypeAlias = tuple[int, float, float, float]
"""The slot, begin and end of a piece of constant rate, s, and its rate, tasks a second."""


def arrivals(model: Model, every: Parts) -> Chunks:
    """Yield the tasks of the slots of ``every`` chunk, for a model of one class of tasks.

    Raises:
        ValueError: If the tasks are not drawn but recorded.
    """
    match model.nominal.arrivals:
        case Slotted(rate=rate):
            return _slotted(model, rate, every)
        case Deterministic(rate=rate):
            return _joined(_deterministic(model, rate), every)
        case Poisson(rate=rate):
            return _modulated(model, (rate,), (math.inf,), every)
        case Mmpp(rates=rates, mean_dwell=dwell):
            return _modulated(model, rates, dwell, every)
        case ListedTasks() as tasks:
            return _listed(model, tasks, every)
        case CsvTasks() | RecordedTasks():
            raise ValueError("recorded tasks need a recording")


def _joined(slots: _Slots, every: Parts) -> Chunks:
    for numbers in every:
        release_s, device = zip(*islice(slots, len(numbers)), strict=True)
        counts = np.array([len(tasks) for tasks in device])
        yield np.concatenate(release_s), np.concatenate(device), counts


def _slotted(model: Model, rate: float, every: Parts) -> Chunks:
    tasks, per_slots = as_written(rate).as_integer_ratio()
    dealing = model.dealing
    for numbers in every:
        ends = range(numbers.start, numbers.stop + 1)
        until = np.array([n * tasks // per_slots for n in ends])
        counts = until[1:] - until[:-1]
        every_device = np.tile(np.arange(model.devices), counts.sum() // model.devices + 2)
        begin = until[0] % model.devices
        device = every_device[begin : begin + counts.sum()]  # in a tenth of the time of numbers % D
        if dealing.weighted:
            device = dealing.in_turn(np.arange(until[0], until[-1]))
        yield np.repeat(slot_starts(model, numbers), counts), device, counts


def _deterministic(model: Model, rate: float) -> _Slots:
    dealing = model.dealing
    length, exact, first = model.scenario.slot_length, as_written(rate), 0
    for number in range(model.scenario.slots):
        end = -(-(number + 1) * exact.numerator // exact.denominator)
        tasks, first = np.arange(first, end), end
        release = tasks / rate * length if rate else np.empty(0)
        bounds = slot_start(model, number), np.nextafter(slot_start(model, number + 1), 0)
        yield np.clip(release, *bounds), dealing.in_turn(tasks)


def _modulated(
    model: Model, rates: tuple[float, ...], dwell: tuple[float, ...], every: Parts
) -> Chunks:
    """Yield the Poisson arrivals whose rate follows a cycle of states with exponential sojourns."""
    gaps, sources = stream_of(model, "arrivals"), stream_of(model, "sources")
    pieces, dealing = _pieces(model, rates, dwell), model.dealing
    for numbers in every:
        of_slots = [piece for each in islice(pieces, len(numbers)) for piece in each]
        number, begin, end, rate = (np.array(column) for column in zip(*of_slots, strict=True))
        release, counts = _poisson(gaps, numbers, number - numbers.start, begin, end, rate)
        yield release, dealing.drawn(sources.uniform(numbers.start, counts)), counts


def _listed(model: Model, tasks: ListedTasks, every: Parts) -> Chunks:
    """Yield tasks that are given one by one; devices are drawn where they are not given."""
    sources, release_s = stream_of(model, "sources"), np.array(tasks.release)
    devices = None if tasks.devices is None else np.array(tasks.devices, dtype=np.int64)
    for numbers in every:
        bounds = listed_bounds(model, release_s, numbers)
        counts, rows = np.diff(bounds), slice(bounds[0], bounds[-1])
        if devices is None:
            drawn = model.dealing.drawn(sources.uniform(numbers.start, counts))
            yield release_s[rows], drawn, counts
        else:
            yield release_s[rows], devices[rows], counts


def listed_bounds(model: Model, release_s: Floats, numbers: range) -> Ints:
    """Return the first task of every slot, and the one after the last slot; shape (K + 1,)."""
    starts = slot_starts(model, range(numbers.start, numbers.stop + 1))
    bounds = np.searchsorted(release_s, starts)
    return bounds.astype(np.int64)


def _pieces(
    model: Model, rates: tuple[float, ...], dwell: tuple[float, ...]
) -> Iterator[list[_Piece]]:
    """Yield the pieces of every slot, which is cut where the state changes."""
    length, sojourns = model.scenario.slot_length, _sojourns(model)
    state = _first_state(model, dwell)
    until = next(sojourns) * dwell[state]
    for number in range(model.scenario.slots):
        now, end, pieces = slot_start(model, number), slot_start(model, number + 1), []
        while now < end:
            stop = min(until, end)
            pieces.append((number, now, stop, rates[state] / length))
            if until <= end:
                state = (state + 1) % len(rates)
                until += next(sojourns) * dwell[state]
            now = stop
        yield pieces


def _first_state(model: Model, dwell: tuple[float, ...]) -> int:
    """Draw a state from the stationary distribution, so that every slot has the same mean.

    Exponential sojourns have no memory: the rest of the first one has the law of the whole.
    """
    if len(dwell) == 1:
        return 0
    share = np.cumsum(dwell) / math.fsum(dwell)
    drawn = stream_of(model, "bursts").uniform(0, np.array([1]))
    return min(int(np.searchsorted(share, drawn[0], side="right")), len(dwell) - 1)


def _sojourns(model: Model) -> Iterator[float]:
    """Yield sojourn times in units of their mean."""
    bursts = stream_of(model, "bursts")
    for number in count(1):  # slot 0 holds the first state
        yield from bursts.exponential(number, np.array([CHUNK])).tolist()


def _poisson(
    gaps: Stream, numbers: range, slot: Ints, begin: Floats, end: Floats, rate: Floats
) -> tuple[Floats, Ints]:
    """Return the release times of the tasks of some slots, s, and the tasks in every slot.

    Args:
        gaps: The stream of the times between arrivals.
        numbers: The K slots.
        slot: The slot of each piece of constant rate, from 0; shape (P,).
        begin: When each piece begins, s; shape (P,).
        end: When each piece ends, s; shape (P,).
        rate: Tasks a second in each piece; shape (P,).
    """
    expected = (end - begin) * rate
    most = float(np.bincount(slot, expected).max())
    room = int(most + 6 * math.sqrt(most)) + 8  # rarely too few
    while True:
        drawn = gaps.exponential(numbers.start, np.full(len(numbers), room))
        counts = np.zeros(len(numbers), dtype=np.int64)
        last = np.nextafter(end, 0.0)
        release, fits = _placed(drawn, room, slot, begin, last, rate, expected, counts)
        if fits:
            return release, counts
        room *= 2


@compiled
def _placed(
    gaps: Floats,
    room: int,
    slot: Ints,
    begin: Floats,
    last: Floats,
    rate: Floats,
    expected: Floats,
    counts: Ints,
) -> tuple[Floats, bool]:
    """Place arrivals in pieces of slots and count them; return whether there were enough gaps.

    The arrivals of a slot are those of a process of rate 1, on a scale of expected tasks.
    """
    release, n, current, next_, used = np.empty(len(gaps)), 0, -1, 0.0, 0
    passed = 0.0
    for piece in range(len(slot)):
        if slot[piece] != current:
            current, passed = slot[piece], 0.0
            used = current * room
            next_ = gaps[used]
        while next_ <= passed + expected[piece]:
            at = begin[piece] + (next_ - passed) / rate[piece]
            release[n] = min(at, last[piece])
            n += 1
            counts[current] += 1
            used += 1
            if used == (current + 1) * room:
                return release[:0], False
            next_ += gaps[used]
        passed += expected[piece]
    return release[:n].copy(), True
