"""Recorded tasks and channels as the workload of another run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from mecsim.errors import ScenarioError, TraceError
from mecsim.model.arrivals import slot_start
from mecsim.model.model import Model, resolve
from mecsim.model.workload import RecordedWorkload, Tasks
from mecsim.scenario.schema import RecordedTasks
from mecsim.scenario.units import LARGEST
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.trace import TraceFile

_ROWS: Final = 1 << 16
_SIZE: Final = ("tasks", "size_factor")
_Columns: TypeAlias = tuple[Floats, Ints, Ints, Floats]
"""Releases, classes, devices and size factors."""


@contextmanager
def arrivals_of(model: Model) -> Iterator[RecordedWorkload | None]:
    """Open the recorded tasks that a scenario names; None for other kinds of arrivals.

    Raises:
        ScenarioError: The tasks do not fit the scenario.
        TraceError: The file is missing, damaged or incomplete.
    """
    spec = model.scenario.classes[0].arrivals  # recorded tasks are of a single class
    if not isinstance(spec, RecordedTasks):
        yield None
        return
    with ExitStack() as stack:
        with model.scenario.locating():
            trace = stack.enter_context(_named(spec.file))
            if not trace.complete:
                cut = "is the trace of a run that was cut short; a complete one is needed"
                raise TraceError(f"arrivals.file: {trace.path}: {cut}")
            tasks = recorded_tasks(model, trace, "arrivals.file: ")
        yield tasks


def _named(file: str) -> TraceFile:
    try:
        return TraceFile(Path(file))
    except TraceError as error:
        raise TraceError(
            f"arrivals.file: {error}. Try: `mecsim run SCENARIO --out FILE.h5` writes a trace; "
            "file names are relative to the file that holds them"
        ) from error


def recorded_tasks(model: Model, trace: TraceFile, where: str = "") -> RecordedWorkload:
    """Return the tasks of a trace, assigned to the slots of the model by release time.

    Raises:
        ScenarioError: They do not fit the model; the message begins with ``where``.
    """
    if not trace.complete:  # tasks that had not ended are missing: read their source again
        return _reopened(model)
    _check_fit(model, trace, f"{where}{trace.path}")
    mean = trace.length("tasks") / model.scenario.slots
    sizes = trace.width(*_SIZE) or 1
    return RecordedWorkload(_slot_tasks(model, trace), mean, size_columns=sizes)


def _reopened(model: Model) -> RecordedWorkload:
    opened = ExitStack()
    recording = opened.enter_context(arrivals_of(model))
    if recording is None:
        raise TraceError("a run that was cut short has tasks of its own only if they are recorded")

    def tasks() -> Iterator[Tasks]:
        with opened:
            yield from recording.tasks

    return replace(recording, tasks=tasks())


def recorded_channels(model: Model, trace: TraceFile) -> RecordedWorkload:
    """Return the tasks of a trace, and the radio rate and server of each device in each slot.

    The model may be another one of the same numbers of slots, servers and devices.
    """
    tasks = recorded_tasks(model, trace)
    return replace(tasks, rates=recorded_rates(model, trace), servers=_servers(model, trace))


def _servers(model: Model, trace: TraceFile) -> Iterator[Ints]:
    if "serving_server" not in trace.columns["slots"]:
        same = trace.scenario is model.scenario
        own = model if same else resolve(trace.scenario, trace.made_by.seed)
        yield from repeat(own.serving_server, model.scenario.slots)
        return
    for slot in range(model.scenario.slots):
        servers = trace.read("slots", "serving_server", slot, slot + 1).astype(np.int64)
        if not (len(servers) and ((servers >= 0) & (servers < model.servers)).all()):
            most = model.servers - 1
            raise TraceError(
                f"{trace.path}: has no serving_server from 0 to {most} for each device in "
                f"slot {slot}"
            )
        yield read_only(servers)[0]


def recorded_rates(model: Model, trace: TraceFile) -> Iterator[Floats]:
    """Yield the radio rates of all devices, slot by slot; shape (D,). Raises ``TraceError``."""
    for slot in range(model.scenario.slots):
        rates = trace.read("slots", "rate_bps", slot, slot + 1)
        if not (len(rates) and np.isfinite(rates).all() and (rates > 0).all()):
            raise TraceError(
                f"{trace.path}: has no rate_bps above 0 for each device in slot {slot}"
            )
        yield read_only(rates)[0]


def _check_fit(model: Model, trace: TraceFile, where: str) -> None:
    end, last = slot_start(model, model.scenario.slots), 0.0
    for begin in range(0, trace.length("tasks"), _ROWS):
        device = trace.read("tasks", "device", begin, begin + _ROWS)
        release = trace.read("tasks", "release_s", begin, begin + _ROWS)
        size = trace.read("tasks", "size_factor", begin, begin + _ROWS)
        if device.max() >= model.devices or device.min() < 0:
            wrong = int(device.max()) if device.max() >= model.devices else int(device.min())
            allowed = f"0 to {model.devices - 1} (devices: {model.devices})"
            raise ScenarioError(f"{where}: has a task of device {wrong}; allowed: {allowed}")
        if not (release[-1] < end and (np.diff(release, prepend=last) >= 0).all()):
            raise ScenarioError(
                f"{where}: has tasks released until {release[-1]:g} s; "
                f"allowed: in order, before {end:g} s (slots × slot_length)"
            )
        last = release[-1]
        if not ((size >= 0) & (size <= LARGEST)).all():
            allowed = f"0 to {LARGEST:g}"
            raise ScenarioError(f"{where}: has a size_factor out of range; allowed: {allowed}")
        if len(model.classes) > 1:
            _check_classes(model, trace.read("tasks", "class", begin, begin + _ROWS), where)
        if size.ndim == 2 and size.shape[1] != model.blocks:
            raise ScenarioError(
                f"{where}: has a size_factor for each of {size.shape[1]} blocks; "
                f"the scenario has {model.blocks} (dnn.blocks)"
            )


def _check_classes(model: Model, class_: Ints, where: str) -> None:
    unknown = class_[(class_ < 0) | (class_ >= len(model.classes))]
    if len(unknown):
        allowed = f"0 to {len(model.classes) - 1}"
        raise ScenarioError(f"{where}: has a task of class {unknown[0]}; allowed: {allowed}")


def _slot_tasks(model: Model, trace: TraceFile) -> Iterator[Tasks]:
    """Yield the tasks of each slot; read the file in pieces."""
    pieces, first = _pieces(trace), 0
    none = np.empty(0, dtype=np.int64)
    held: _Columns = np.empty(0), none, none, np.empty((0, trace.width(*_SIZE) or 1))
    for slot in range(model.scenario.slots):
        end_s = slot_start(model, slot + 1)
        while not len(held[0]) or held[0][-1] < end_s:
            more = next(pieces, None)
            if more is None:
                break
            held = _joined(held, more)
        count = int(np.searchsorted(held[0], end_s))
        release_s, class_, device, size = held
        own = slice(count)
        yield Tasks(slot, first, release_s[own], class_[own], device[own], size[own], count)
        held = held[0][count:], held[1][count:], held[2][count:], held[3][count:]
        first += count


def _pieces(trace: TraceFile) -> Iterator[_Columns]:
    for begin in range(0, trace.length("tasks"), _ROWS):
        release, device, size = (
            trace.read("tasks", name, begin, begin + _ROWS)
            for name in ("release_s", "device", "size_factor")
        )
        class_ = np.zeros(len(device), dtype=np.int64)
        if "class" in trace.columns["tasks"]:
            class_ += trace.read("tasks", "class", begin, begin + _ROWS)
        yield release, class_, device.astype(np.int64), size.reshape(len(size), -1)


def _joined(one: _Columns, other: _Columns) -> _Columns:
    return (
        np.concatenate([one[0], other[0]]),
        np.concatenate([one[1], other[1]]),
        np.concatenate([one[2], other[2]]),
        np.concatenate([one[3], other[3]]),
    )
