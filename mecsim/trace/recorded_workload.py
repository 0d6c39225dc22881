"""Recorded tasks and channels as the workload of another run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from mecsim.errors import ScenarioError, TraceError
from mecsim.model.arrivals import slot_start
from mecsim.model.blocks import blocks_of
from mecsim.model.model import Model, resolve
from mecsim.model.workload import RecordedWorkload, Tasks, widened
from mecsim.scenario.schema import RecordedTasks, Scenario
from mecsim.scenario.units import LARGEST
from mecsim.support.arrays import Bools, Floats, Ints, read_only
from mecsim.support.text import warn_once
from mecsim.trace import TraceFile

_ROWS: Final = 1 << 16
_SIZE: Final = ("tasks", "size_factor")


class _Columns(NamedTuple):
    """Tasks of some classes of a scenario, in the order of a trace."""

    release_s: Floats
    class_: Ints
    device: Ints
    size: Floats

    def rows(self, which: slice | Bools) -> _Columns:
        """Return some of the tasks."""
        own = self.release_s[which], self.class_[which], self.device[which], self.size[which]
        return _Columns(*own)


@dataclass(frozen=True)
class _Source:
    """A trace, and the classes of a scenario whose tasks it has."""

    trace: TraceFile
    where: str
    """Begins messages: the key that names the trace, and its path."""
    class_of: Ints
    """Class of the scenario of each class of the trace, -1 where its tasks are left out."""
    counts: Ints
    """Tasks of each class of the scenario."""

    def columns(self) -> Iterator[_Columns]:
        """Yield the tasks, some at a time. Raises ``ScenarioError``."""
        trace = self.trace
        for begin in range(0, trace.length("tasks"), _ROWS):
            release_s, device, size = (
                trace.read("tasks", name, begin, begin + _ROWS)
                for name in ("release_s", "device", "size_factor")
            )
            class_ = np.zeros(len(device), dtype=np.int64)
            if "class" in trace.columns["tasks"]:
                class_ += trace.read("tasks", "class", begin, begin + _ROWS)
            unknown = class_[(class_ < 0) | (class_ >= len(self.class_of))]
            if len(unknown):
                allowed = f"0 to {len(self.class_of) - 1}"
                problem = f"has a task of class {unknown[0]}; allowed: {allowed}"
                raise ScenarioError(f"{self.where}: {problem}")
            own, size = self.class_of[class_], size.reshape(len(size), -1)
            yield _Columns(release_s, own, device.astype(np.int64), size).rows(own >= 0)


@contextmanager
def arrivals_of(model: Model) -> Iterator[RecordedWorkload | None]:
    """Open the traces that classes of a scenario name; None if none does.

    Raises:
        ScenarioError: The tasks do not fit the scenario.
        TraceError: A file is missing, damaged or incomplete.
    """
    by_file: dict[str, list[int]] = {}
    for number, each in enumerate(model.scenario.classes):
        if isinstance(each.arrivals, RecordedTasks):
            by_file.setdefault(each.arrivals.file, []).append(number)
    if not by_file:
        yield None
        return
    with ExitStack() as stack:
        with model.scenario.locating():
            sources = []
            for file, numbers in by_file.items():
                with model.scenario.in_class(numbers[0]):
                    trace = stack.enter_context(_named(file))
                    classes = _classes_of(model.scenario, trace, numbers)
                    sources.append(_checked(model, trace, classes, "arrivals.file: "))
        yield _workload(model, sources)


def _named(file: str) -> TraceFile:
    try:
        trace = TraceFile(Path(file))
    except TraceError as error:
        remedy = "`mecsim run SCENARIO --out FILE.h5` writes a trace"
        if file.lower().endswith(".csv"):
            remedy = "`process: csv` for tasks of a CSV file"
        raise TraceError(
            f"arrivals.file: {error}. Try: {remedy}; "
            "file names are relative to the file that holds them"
        ) from error
    if trace.complete:
        return trace
    with trace:
        cut = "is the trace of a run that was cut short; a complete one is needed"
        raise TraceError(f"arrivals.file: {trace.path}: {cut}")


def _classes_of(scenario: Scenario, trace: TraceFile, numbers: Sequence[int]) -> Ints:
    """Return the class of a scenario of each class of a trace, or -1: those of equal names.

    Args:
        scenario: The scenario.
        trace: The trace. All tasks of a trace of one class are of the class that names it.
        numbers: The classes that name the trace.

    Raises:
        ScenarioError: A class is not in the trace, or two have the same tasks.
    """
    where, known = f"arrivals.file: {trace.path}", [each.name for each in trace.scenario.classes]
    if len(known) == 1:
        if len(numbers) > 1:
            names = " and ".join(scenario.classes[number].name for number in numbers)
            problem = f"is a trace of one class of tasks, and {names} name it"
            raise ScenarioError(f"{where}: {problem}; allowed: one of them")
        return np.array(numbers)
    if scenario.tasks is None:
        found = f"has tasks of the classes {', '.join(known)}"
        raise ScenarioError(f"{where}: {found}; allowed: one class, or tasks with these names")
    class_of = np.full(len(known), -1)
    for number in numbers:
        name = scenario.tasks[number].name
        if name not in known:
            raise ScenarioError(f"{where}: has no class {name!r}; allowed: {', '.join(known)}")
        class_of[known.index(name)] = number
    if (class_of < 0).any():
        out = ", ".join(name for name, own in zip(known, class_of, strict=True) if own < 0)
        warn_once(
            f"{trace.path}: is read without the tasks of classes that do not name this trace: {out}"
        )
    return class_of


def recorded_tasks(model: Model, trace: TraceFile) -> RecordedWorkload:
    """Return the tasks of a trace of the model itself that were recorded already, not drawn.

    Raises:
        ScenarioError: They do not fit the model.
    """
    if not trace.complete:  # tasks that had not ended are missing: read their source again
        return _reopened(model)
    recorded = [isinstance(each.arrivals, RecordedTasks) for each in model.scenario.classes]
    numbers = np.where(recorded, np.arange(len(recorded)), -1)
    return _workload(model, [_checked(model, trace, numbers)])


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
    tasks = _workload(model, [_checked(model, trace, np.arange(len(model.classes)))])
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


def _checked(model: Model, trace: TraceFile, class_of: Ints, where: str = "") -> _Source:
    """Return the tasks of a trace, which fit the model. Raises ``ScenarioError``."""
    source = _Source(trace, f"{where}{trace.path}", class_of, np.zeros(len(model.classes), "i8"))
    where, last = source.where, 0.0
    end = slot_start(model, model.scenario.slots)
    for release_s, class_, device, size in source.columns():
        if not len(device):
            continue
        source.counts[:] += np.bincount(class_, minlength=len(source.counts))
        if device.max() >= model.devices or device.min() < 0:
            wrong = int(device.max()) if device.max() >= model.devices else int(device.min())
            allowed = f"0 to {model.devices - 1} (devices: {model.devices})"
            raise ScenarioError(f"{where}: has a task of device {wrong}; allowed: {allowed}")
        if not (release_s[-1] < end and (np.diff(release_s, prepend=last) >= 0).all()):
            raise ScenarioError(
                f"{where}: has tasks released until {release_s[-1]:g} s; "
                f"allowed: in order, before {end:g} s (slots × slot_length)"
            )
        last = float(release_s[-1])
        if not ((size >= 0) & (size <= LARGEST)).all():
            allowed = f"0 to {LARGEST:g}"
            raise ScenarioError(f"{where}: has a size_factor out of range; allowed: {allowed}")
    _check_blocks(model, source)
    return source


def _check_blocks(model: Model, source: _Source) -> None:
    """Refuse size factors by block of other blocks than those of the model."""
    width = source.trace.width(*_SIZE)
    if width is None:
        return
    recorded = source.trace.scenario
    with source.trace.scenario.locating():
        blocks = [len(blocks_of(recorded.of_class(n))) for n in range(len(source.class_of))]
    if width != max(blocks):
        problem = f"has {width} entries in a row; allowed: {max(blocks)}"
        raise TraceError(f"{source.trace.path}: column /tasks/size_factor {problem}")
    for found, number in zip(blocks, source.class_of.tolist(), strict=True):
        if number >= 0 and found != (own := model.classes[number].blocks):
            key = "dnn.blocks" if model.scenario.tasks is None else f"tasks.{number}.dnn.blocks"
            raise ScenarioError(
                f"{source.where}: has a size_factor for each of {found} blocks; "
                f"the scenario has {own} ({key})"
            )


def _workload(model: Model, sources: Sequence[_Source]) -> RecordedWorkload:
    """Return the tasks of some traces, assigned to the slots of the model by release time."""
    counts = np.sum([source.counts for source in sources], axis=0)
    named = sorted(n for source in sources for n in source.class_of.tolist() if n >= 0)
    by_block = any(source.trace.width(*_SIZE) is not None for source in sources)
    width = model.blocks if by_block else 1
    pieces = [_slot_tasks(model, source, width) for source in sources]
    mean = {number: int(counts[number]) / model.scenario.slots for number in named}
    return RecordedWorkload(map(_together, zip(*pieces, strict=True)), mean, size_columns=width)


def _together(parts: tuple[Tasks, ...]) -> Tasks:
    """Return the tasks of one slot from several traces."""
    if len(parts) == 1:
        return parts[0]
    release_s, class_, device, size = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("release_s", "class_", "device", "size")
    )
    first, count = sum(part.first for part in parts), len(release_s)
    return Tasks(parts[0].slot, first, release_s, class_, device, size, count)


def _slot_tasks(model: Model, source: _Source, width: int) -> Iterator[Tasks]:
    """Yield the tasks of each slot; read the file in pieces."""
    pieces, first = source.columns(), 0
    none = np.empty(0, dtype=np.int64)
    held = _Columns(np.empty(0), none, none, np.empty((0, width)))
    for slot in range(model.scenario.slots):
        end_s = slot_start(model, slot + 1)
        while not len(held.release_s) or held.release_s[-1] < end_s:
            more = next(pieces, None)
            if more is None:
                break
            more = more._replace(size=widened(more.size[:, :width], width))
            held = _Columns(*(np.concatenate(pair) for pair in zip(held, more, strict=True)))
        count = int(np.searchsorted(held.release_s, end_s))
        yield Tasks(slot, first, *held.rows(slice(count)), count)
        held = held.rows(slice(count, None))
        first += count
