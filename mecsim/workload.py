"""Every random draw of a run, slot by slot: arrivals, sizes, rates.

A workload is read forwards, one slot at a time, so that memory does not grow with the run. Each
kind of draw has a stream of its own, so that nothing a scheduler does can shift it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mecsim import rules
from mecsim.arrays import Floats, Ints, read_only
from mecsim.model import Model
from mecsim.scenario import (
    ConstantSize,
    Deterministic,
    ExponentialSize,
    LognormalSize,
    Mmpp,
    Poisson,
    RecordedTasks,
    Slotted,
    UniformRate,
    UniformSize,
)
from mecsim.streams import stream


@dataclass(frozen=True)
class Tasks:
    """n tasks of one slot, in order of release."""

    slot: int
    first: int
    """Number of the first task; the others follow."""
    release_s: Floats
    """Shape (n,)."""
    device: Ints
    """0-based; shape (n,)."""
    size: Floats
    """Size factor s, one for all blocks or one each; shape (n, 1) or (n, M)."""

    def __len__(self) -> int:
        return len(self.release_s)

    def __getitem__(self, rows: slice) -> Tasks:
        start = rows.indices(len(self))[0]
        first = self.first + start
        return Tasks(self.slot, first, self.release_s[rows], self.device[rows], self.size[rows])


@dataclass(frozen=True)
class Slot:
    """What a slot brings: its tasks and the radio rates of all devices."""

    number: int
    start_s: float
    tasks: Tasks
    rate_bps: Floats
    """R_d, up and down; shape (D,)."""
    expected_tasks: float
    """How many tasks a scheduler should expect in this slot when it begins."""
    expected_size: Floats
    """Size factors that a scheduler should expect when it begins; shape (1,) or (M,)."""


@dataclass(frozen=True)
class Recording:
    """Tasks, and perhaps rates, that were recorded and are not to be drawn."""

    tasks: Iterator[Tasks]
    """The tasks of every slot in turn."""
    expected_tasks: float
    """Mean number of tasks a slot, for scenarios that do not say it."""
    rates: Iterator[Floats] | None = None
    """The radio rates of every slot in turn; drawn if None."""
    size_columns: int = 1
    """Size factors a task: 1 or M."""


Moments: TypeAlias = Iterator[tuple[Floats, Ints]]


def slots(model: Model, recording: Recording | None = None) -> Iterator[Slot]:
    """Yield the slots of a run: as recorded, or drawn from the model's seed."""
    tasks = recording.tasks if recording else _tasks(model)
    rates = (recording.rates if recording else None) or _rates(model)
    recorded = isinstance(model.scenario.arrivals, RecordedTasks)
    mean = recording.expected_tasks if recording and recorded else _mean_rate(model)
    for number in range(model.scenario.slots):
        released, start = next(tasks), slot_start(model, number)
        known = isinstance(model.scenario.arrivals, Slotted) or bool(
            len(released) and released.release_s[-1] == start
        )
        expected = float(len(released)) if known else mean
        size = _expected_size(model, released, known=known)
        yield Slot(number, start, released, next(rates), expected, size)


def size_columns(model: Model, recording: Recording | None = None) -> int:
    """Return how many size factors a task has: 1, or M if they are drawn per block."""
    if recording is not None:
        return recording.size_columns
    return model.blocks if getattr(model.scenario.size_factor, "per", None) == "block" else 1


def _expected_size(model: Model, tasks: Tasks, *, known: bool) -> Floats:
    if known and len(tasks):
        return np.add.reduce(tasks.size) / len(tasks)
    drawn = not isinstance(model.scenario.arrivals, RecordedTasks)
    if drawn and getattr(model.scenario.size_factor, "per", None) == "slot":
        return _sizes(model, tasks.slot, 1)[0]
    return np.ones(1)


def slot_start(model: Model, number: int) -> float:
    """Return when slot ``number`` starts, in seconds."""
    return number * model.scenario.slot_length


def _mean_rate(model: Model) -> float:
    match model.scenario.arrivals:
        case Mmpp(rates=rates, mean_dwell=dwell):
            return float(np.average(rates, weights=dwell))
        case Slotted(rate=rate) | Deterministic(rate=rate) | Poisson(rate=rate):
            return rate
        case RecordedTasks():
            raise ValueError("recorded tasks need a recording")


def _tasks(model: Model) -> Iterator[Tasks]:
    first = 0
    for number, (release, device) in enumerate(_arrivals(model)):
        yield Tasks(number, first, release, device, _sizes(model, number, len(release)))
        first += len(release)


def _arrivals(model: Model) -> Moments:
    match model.scenario.arrivals:
        case Slotted(rate=rate):
            return _slotted(model, rate)
        case Deterministic(rate=rate):
            return _deterministic(model, rate)
        case Poisson(rate=rate):
            return _modulated(model, (rate,), (math.inf,))
        case Mmpp(rates=rates, mean_dwell=dwell):
            return _modulated(model, rates, dwell)
        case RecordedTasks():
            raise ValueError("recorded tasks need a recording")


def _slotted(model: Model, rate: float) -> Moments:
    for number in range(model.scenario.slots):
        tasks = np.arange(math.floor(number * rate), math.floor((number + 1) * rate))
        yield np.full(len(tasks), slot_start(model, number)), tasks % model.devices


def _deterministic(model: Model, rate: float) -> Moments:
    length = model.scenario.slot_length
    for number in range(model.scenario.slots):
        tasks = np.arange(math.ceil(number * rate), math.ceil((number + 1) * rate))
        release = tasks / rate * length if rate else np.empty(0)
        bounds = slot_start(model, number), np.nextafter(slot_start(model, number + 1), 0)
        yield np.clip(release, *bounds), tasks % model.devices


def _modulated(model: Model, rates: tuple[float, ...], dwell: tuple[float, ...]) -> Moments:
    """Poisson arrivals whose rate follows a cycle of states with exponential sojourns.

    Within a slot the arrivals of each piece of constant rate are uniform given their number.
    """
    length, state, sojourns = model.scenario.slot_length, 0, stream(model.seed, "bursts")
    until = _dwell(sojourns, dwell[0])
    for number in range(model.scenario.slots):
        draws = stream(model.seed, "arrivals", number)
        now, end = slot_start(model, number), slot_start(model, number + 1)
        pieces = []
        while now < end:
            stop = min(until, end)
            count = draws.poisson(rates[state] * (stop - now) / length)
            pieces.append(np.sort(draws.uniform(now, stop, size=count)))
            if until <= end:
                state = (state + 1) % len(rates)
                until += _dwell(sojourns, dwell[state])
            now = stop
        release = np.minimum(np.concatenate(pieces), np.nextafter(end, 0))
        yield release, draws.integers(model.devices, size=len(release))


def _dwell(draws: np.random.Generator, mean_s: float) -> float:
    return draws.exponential(mean_s) if math.isfinite(mean_s) else math.inf


def _sizes(model: Model, slot: int, tasks: int) -> Floats:
    spec = model.scenario.size_factor
    if isinstance(spec, ConstantSize):
        return np.ones((tasks, 1))
    draws = stream(model.seed, "sizes", slot)
    shape = {"slot": (1, 1), "task": (tasks, 1), "block": (tasks, model.blocks)}[spec.per]
    drawn = _draw_sizes(draws, spec, shape)
    return np.repeat(drawn, tasks, axis=0) if spec.per == "slot" else drawn


def _draw_sizes(
    draws: np.random.Generator,
    spec: UniformSize | ExponentialSize | LognormalSize,
    shape: tuple[int, int],
) -> Floats:
    match spec:
        case UniformSize(low=low, high=high):
            return draws.uniform(low, high, size=shape)
        case ExponentialSize():
            return draws.exponential(size=shape)
        case LognormalSize(sigma=sigma):
            return draws.lognormal(-(sigma**2) / 2, sigma, size=shape)


def _rates(model: Model) -> Iterator[Floats]:
    varies = model.scenario.radio.fading == "rayleigh" or (
        isinstance(model.scenario.radio.rate, UniformRate)
        and model.scenario.radio.rate.redraw == "slot"
    )
    rates = _rates_of(model, 0)
    for number in range(model.scenario.slots):
        yield _rates_of(model, number) if varies else rates


def _rates_of(model: Model, slot: int) -> Floats:
    radio = model.scenario.radio
    draws = stream(model.seed, "rates", slot)
    if isinstance(radio.rate, UniformRate):
        rates = draws.uniform(*radio.rate.uniform, size=model.devices)
    elif radio.rate is not None:
        rates = np.full(model.devices, radio.rate)
    else:
        fading = draws.exponential(size=model.devices) if radio.fading == "rayleigh" else 1.0
        rates = rules.shannon_rate(
            radio.bandwidth, radio.transmit_power, model.gain * fading, radio.noise_density
        )
    return read_only(rates)
