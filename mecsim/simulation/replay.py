"""Replay a recorded trace and compare it with the record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mecsim.errors import InputError, PlacementError, TraceError
from mecsim.model.model import Model, resolve
from mecsim.model.workload import size_columns
from mecsim.scenario.schema import RecordedTasks, Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.placement_checks import check_placement
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, SchedulerPolicy, Source, drive
from mecsim.simulation.metrics import RunSummary
from mecsim.simulation.other_scenario import check_complete, model_for
from mecsim.simulation.result import RunResult
from mecsim.simulation.run import trace_writer, working_s
from mecsim.simulation.session import Session
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Ints
from mecsim.trace import Provenance, TraceFile, resource_columns
from mecsim.trace.provenance import MEASURED
from mecsim.trace.recorded_workload import recorded_channels, recorded_tasks
from mecsim.trace.schema import Column, Difference, Rows, first_difference


class ReplayCheck:
    """A sink that compares the rows of a run with those of a recorded trace."""

    BUFFER_BYTES = 4 << 20

    def __init__(self, trace: TraceFile) -> None:
        self._trace = trace
        self._buffer: dict[tuple[str, str], list[Column]] = {}
        self._bytes = 0
        self._done: dict[tuple[str, str], int] = {}
        self.difference: Difference | None = None

    def append(self, group: str, rows: Rows) -> None:
        """Take further rows; compare them when they are worth reading the file."""
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

    def finish(self, model: Model, totals: Totals) -> None:
        """Compare the remaining rows, the numbers of rows, and the resources."""
        self._compare_buffer()
        for group, columns in self._trace.columns.items():
            for name in columns if group != "resources" else ():
                if self.difference is None:
                    self.difference = self._missing(group, name)
        if self._trace.complete and self.difference is None:
            rows = resource_columns(model) | dict(totals.resource_rows())
            found = (self._compare("resources", name, 0, rows[name]) for name in rows)
            self.difference = next((d for d in found if d is not None), None)

    def _missing(self, group: str, name: str) -> Difference | None:
        """Return a difference if the run had too few rows; never for a run that was cut short.

        A flush that was cut short leaves columns of a table with different lengths.
        """
        done, recorded = self._done.get((group, name), 0), self._trace.rows(group, name)
        if done >= recorded or not self._trace.complete:
            return None
        return Difference(group, name, done, f"{recorded} rows", f"{done} rows")

    def rows(self) -> dict[str, int]:
        """Return the number of rows compared in each group: in all its columns."""
        resources = {"resources": self._trace.length("resources")}
        return {
            group: self._compared(group) for group in self._trace.columns if group != "resources"
        } | resources

    def _compared(self, group: str) -> int:
        done = min(self._done.get((group, name), 0) for name in self._trace.columns[group])
        return min(done, self._trace.length(group))


@dataclass(frozen=True)
class ReplayResult:
    """Result of a replay."""

    difference: Difference | None
    """The first difference from the recorded trace, or None."""
    rows: dict[str, int]
    """Rows compared in each group."""
    complete: bool
    summary: RunSummary


class RecordedDecisions:
    """The decisions of a trace as a policy, until they end or a check finds a difference."""

    uses_rollouts = False

    def __init__(self, trace: TraceFile, check: ReplayCheck | None = None) -> None:
        self._trace, self._check = trace, check

    def follow(self, session: Session) -> None:
        """Act as recorded. Raises ``TraceError`` if a recorded placement is invalid."""
        name = f"the recorded {self._trace.made_by.scheduler}"
        decisions = self._decisions()
        for epoch in session:
            recorded = next(decisions, None)
            if recorded is None or (self._check and self._check.difference is not None):
                session.account()
                return
            spec = session.spec.classes[epoch.task_class]
            try:
                placement = check_placement(
                    recorded[: spec.blocks], spec, name, epoch.number, epoch.device
                )
            except PlacementError as error:
                where = f"{self._trace.path}: column /decisions/placement"
                raise TraceError(f"{where}: {error}") from error
            session.act(epoch, placement)

    def _decisions(self) -> Iterator[Ints]:
        total, rows = self._trace.length("decisions"), 4096
        for begin in range(0, total, rows):
            end = min(begin + rows, total)
            yield from self._trace.read("decisions", "placement", begin, end)


def replay(
    path: Path, *, kernel: str | None = None, progress: Progress | None = None
) -> ReplayResult:
    """Rebuild a run from its trace alone and compare every column with ``==``.

    The workload is drawn again from scenario and seed; the decisions are the recorded ones. The
    trace of a run that was killed is compared as far as it goes.

    Args:
        path: The trace.
        kernel: ``simpy`` or ``compiled``; that of the recorded run by default.
        progress: Called with the number of slots done and of all slots.

    Returns:
        The first difference, if any, and the summary.

    Raises:
        TraceError: The file is no trace, was measured, or contains invalid decisions.
    """
    with TraceFile(path) as trace:
        if trace.made_by.kernel == MEASURED:
            problem = "was measured, so no simulation repeats it exactly"
            raise TraceError(f"{path}: {problem}. Try: `mecsim replay` or mecsim.predict compares")
        model = resolve(trace.scenario, trace.made_by.seed)
        recorded = None
        if any(isinstance(each.arrivals, RecordedTasks) for each in trace.scenario.classes):
            recorded = recorded_tasks(model, trace)
        check, spec = ReplayCheck(trace), SchedulerSpec.of(model)
        kernel = kernel or trace.made_by.kernel
        source = Source(model, spec, kernel, recorded, [check], progress=progress)
        began = working_s()
        totals = drive(source, RecordedDecisions(trace, check))
        check.finish(model, totals)
        wall_s = working_s() - began
        summary = totals.summary(path.stem, trace.made_by, wall_s=wall_s, trace=path)
        return ReplayResult(check.difference, check.rows(), trace.complete, summary)


def replay_with(
    path: Path,
    scheduler: str,
    options: Mapping[str, Any] | None = None,
    *,
    scenario: Scenario | None = None,
    kernel: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run another scheduler on the recorded tasks and channels of a complete trace.

    Args:
        path: The trace.
        scheduler: The other scheduler, see :func:`mecsim.run`.
        options: Its options.
        scenario: Another scenario than that of the trace, which takes the recorded tasks.
        kernel: ``simpy`` or ``compiled``; by default that of the recorded run, or ``simpy`` if its
            times were measured.
        out: File for the new trace, if wanted.
        progress: Called with the number of slots done and of all slots.

    Returns:
        The summary and the path of the new trace.

    Raises:
        InputError: The trace, the scheduler or an option is invalid.
        OutputError: The new trace cannot be written.
        Interrupted: Ctrl-C was pressed.
    """
    if out is not None and out.resolve() == path.resolve():
        raise InputError(f"{out}: is the recorded trace itself; write the other one elsewhere")
    with TraceFile(path) as trace:
        check_complete(trace)
        seed, options = trace.made_by.seed, dict(options or {})
        model = model_for(trace, scenario)
        spec = SchedulerSpec.of(model)
        policy = SchedulerPolicy(registry.create(scheduler, spec, options), scheduler)
        as_recorded = trace.made_by.kernel
        if as_recorded == MEASURED:
            as_recorded = "simpy"
        made_by = Provenance(scheduler, options, seed, kernel or as_recorded)
        began = working_s()
        recorded = recorded_channels(model, trace)
        with trace_writer(out, model, spec, made_by, size_columns(model, recorded)) as writer:
            sinks = [] if writer is None else [writer]
            source = Source(model, spec, made_by.kernel, recorded, sinks, progress=progress)
            totals = drive(source, policy)
        wall_s = working_s() - began
        summary = totals.summary(path.stem, made_by, wall_s=wall_s, trace=out)
        return RunResult(summary, out, tuple(feature_names(spec)))
