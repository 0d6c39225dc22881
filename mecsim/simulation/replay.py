"""Replay a recorded trace and compare it with the record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mecsim.errors import InputError, PlacementError, TraceError
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.model.workload import size_columns
from mecsim.scenario.schema import RecordedTasks
from mecsim.scheduler import registry
from mecsim.scheduler.placements import check_placement
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation import drive
from mecsim.simulation.drive import Progress, counted, drive_session, kernel_for
from mecsim.simulation.run import RunResult, _document, _trace_writer
from mecsim.simulation.session import Session
from mecsim.support.arrays import Ints
from mecsim.trace import Provenance, TraceFile, resource_columns
from mecsim.trace.recorded_workload import recorded_channels, recorded_tasks
from mecsim.trace.schema import COLUMNS, Column, Difference, Rows, first_difference


class Comparison:
    """A sink that compares the rows of a run with those of a recorded trace."""

    BUFFER_BYTES = 4 << 20

    def __init__(self, trace: TraceFile) -> None:
        self._trace = trace
        self._buffer: dict[tuple[str, str], list[Column]] = {}
        self._bytes = 0
        self._done: dict[tuple[str, str], int] = {}
        self.difference: Difference | None = None

    def append(self, group: str, rows: Rows) -> None:
        """Take further rows; compare them when there are enough to be worth reading the file."""
        if group == "resources":
            return
        for name, values in rows.items():
            self._buffer.setdefault((group, name), []).append(values)
            self._bytes += values.nbytes
        if self._bytes >= self.BUFFER_BYTES:
            self._compare_buffer()

    def _compare_buffer(self) -> None:
        for (group, name), pieces in self._buffer.items():
            values = np.concatenate(pieces)
            begin = self._done.get((group, name), 0)
            self._done[group, name] = begin + len(values)
            if self.difference is None:
                self.difference = self._compare(group, name, begin, values)
        self._buffer.clear()
        self._bytes = 0

    def _compare(self, group: str, name: str, begin: int, values: Any) -> Difference | None:
        recorded = self._trace.read(group, name, begin, begin + len(values))
        if not self._trace.complete:  # rows that were not flushed, rewards that were not known
            values = values[: len(recorded)]
            if name == "reward":
                known = ~np.isnan(recorded)
                recorded, values = recorded[known], values[known]
        return first_difference(group, name, begin, recorded, values)

    def finish(self, session: Session) -> None:
        """Compare what is left: the last rows, the numbers of rows, the resources."""
        self._compare_buffer()
        for group, columns in COLUMNS.items():
            for name in columns if group != "resources" else ():
                if self.difference is None:
                    self.difference = self._missing(group, name)
        if self._trace.complete and self.difference is None:
            rows = resource_columns(session.model) | dict(session.totals.resource_rows())
            found = (self._compare("resources", name, 0, rows[name]) for name in rows)
            self.difference = next((d for d in found if d is not None), None)

    def _missing(self, group: str, name: str) -> Difference | None:
        """Return that the run had too few rows; it is not known of a run that was cut short.

        A flush that was cut short leaves rows of some columns that later decisions have made.
        """
        done, recorded = self._done.get((group, name), 0), self._trace.rows(group, name)
        if done >= recorded or not self._trace.complete:
            return None
        return Difference(group, name, done, f"{recorded} rows", f"{done} rows")

    def rows(self) -> dict[str, int]:
        """Return the number of rows compared in each group: in all its columns."""
        resources = {"resources": self._trace.length("resources")}
        return {
            group: self._compared(group) for group in COLUMNS if group != "resources"
        } | resources

    def _compared(self, group: str) -> int:
        done = min(self._done.get((group, name), 0) for name in COLUMNS[group])
        return min(done, self._trace.length(group))


@dataclass(frozen=True)
class ReplayResult:
    """A replay that has ended."""

    difference: Difference | None
    """The first difference from the recorded trace, None where they are identical."""
    rows: dict[str, int]
    """Rows compared in each group."""
    complete: bool
    summary: dict[str, Any]


def replay(
    path: Path, *, kernel: str | None = None, progress: Progress | None = None
) -> ReplayResult:
    """Rebuild a run from its trace alone and compare every column with ``==``.

    The workload is drawn again from scenario and seed, the decisions are the recorded ones. A
    trace of a run that was killed is compared as far as it goes. Raises ``TraceError``.
    """
    with TraceFile(path) as trace:
        model = resolve(trace.scenario, trace.made_by.seed)
        recorded = isinstance(trace.scenario.arrivals, RecordedTasks)
        recording = recorded_tasks(model, trace) if recorded else None
        comparison = Comparison(trace)
        slots = counted(workload.slots(model, recording), model.scenario.slots, progress)
        kernel_ = drive.make_kernel(kernel or trace.made_by.kernel, model)
        session = Session(model, slots, kernel_, SchedulerSpec.of(model), [comparison])
        began = time.perf_counter()
        _follow(session, trace, comparison)
        comparison.finish(session)
        summary = _document(session.totals, path.stem, trace.made_by, began, path)
        return ReplayResult(comparison.difference, comparison.rows(), trace.complete, summary)


def _follow(session: Session, trace: TraceFile, comparison: Comparison) -> None:
    """Act as recorded, until the record ends or a difference is found."""
    name = f"the recorded {trace.made_by.scheduler}"
    decisions = _decisions(trace)
    for epoch in session:
        recorded = next(decisions, None)
        if recorded is None or comparison.difference is not None:
            session.account()
            return
        try:
            placement = check_placement(recorded, session.spec, name, epoch.number, epoch.device)
        except PlacementError as error:
            raise TraceError(f"{trace.path}: column /decisions/placement: {error}") from error
        session.act(epoch, placement)


def _decisions(trace: TraceFile) -> Iterator[Ints]:
    total, rows = trace.length("decisions"), 4096
    for begin in range(0, total, rows):
        yield from trace.read("decisions", "placement", begin, min(begin + rows, total))


def replay_with(
    path: Path,
    scheduler: str,
    options: Mapping[str, Any] | None = None,
    *,
    kernel: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Put another scheduler on the recorded tasks and channels of a complete trace."""
    if out is not None and out.resolve() == path.resolve():
        raise InputError(f"{out}: is the recorded trace itself; write the other one elsewhere")
    with TraceFile(path) as trace:
        if not trace.complete:
            raise TraceError(f"{path}: is the trace of a run that was cut short; allowed: complete")
        seed, options = trace.made_by.seed, dict(options or {})
        model = resolve(trace.scenario, seed)
        spec = SchedulerSpec.of(model)
        made = registry.create(scheduler, spec, options)
        made_by = Provenance(scheduler, options, seed, kernel or trace.made_by.kernel)
        began = time.perf_counter()
        recording = recorded_channels(model, trace)
        sizes = size_columns(model, recording)
        with _trace_writer(out, model, spec, made_by, sizes) as writer:
            slots = workload.slots(model, recording)
            numbered = counted(slots, model.scenario.slots, progress)
            sinks = [] if writer is None else [writer]
            kernel_ = kernel_for(made, made_by.kernel, model)
            session = Session(
                model, numbered, kernel_, spec, sinks, uses_rollouts=made.uses_rollouts
            )
            totals = drive_session(session, made, scheduler)
        return RunResult(_document(totals, path.stem, made_by, began, out), out)
