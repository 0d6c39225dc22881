"""Predict a measured run by simulation, and compare each task with the measurement.

The simulated run has the tasks, the radio rates, the serving servers and the decisions of the
trace. Only service times and queues are predicted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mecsim.errors import InputError, TraceError
from mecsim.model.model import KINDS, Model
from mecsim.model.task_status import CAUSES
from mecsim.scenario.loading import with_overrides
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, Source, drive
from mecsim.simulation.metrics import RunSummary
from mecsim.simulation.other_scenario import check_complete, model_for
from mecsim.simulation.recorded import recorded_summary
from mecsim.simulation.replay import RecordedDecisions
from mecsim.simulation.run import working_s
from mecsim.support.arrays import Bools
from mecsim.support.text import finite
from mecsim.testbed.scores import Pair, PartScore, Score
from mecsim.testbed.task_times import Columns, KeptTimes, TaskTimes, utilization
from mecsim.trace import TraceFile
from mecsim.trace.provenance import MEASURED
from mecsim.trace.recorded_workload import recorded_channels

PARTS: Final = ("device", "uplink", "link", "server", "downlink")
"""Kinds of resources in the order in which tasks visit them."""


class ResourceScore(BaseModel):
    """How busy a resource was while scored tasks were released."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str
    """``device``, ``uplink``, ``link``, ``server`` or ``downlink``."""
    utilization: Pair


class Prediction(BaseModel):
    """A prediction of a measured run next to the measurement. Times are in seconds.

    Tasks are scored that completed in both runs, count by the scenario's ``measurement`` and were
    released in the window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: str
    scenario: str
    """The scenario that was simulated."""
    scheduler: str
    """The scheduler whose recorded decisions were repeated."""
    seed: int
    kernel: str
    """The kernel of the simulation."""
    from_s: float
    """The first time of release that is scored."""
    to_s: float
    """Tasks released from this time on are not scored."""
    calibrated_until_s: float | None
    """End of the part of the trace that the scenario was calibrated on; None for others."""
    tasks: int
    """Tasks of the measured run."""
    scored: int
    failed_measured: dict[str, int]
    """Tasks in the window that failed in the measured run, by cause."""
    failed_predicted: dict[str, int]
    """Tasks in the window that failed in the simulated run, by cause."""
    total: Score
    parts: tuple[PartScore, ...]
    """The parts of the total by kind of resource, without kinds that no task visited."""
    classes: tuple[Score, ...]
    """The totals of each class of tasks, where there are several."""
    resources: tuple[ResourceScore, ...]
    """All resources that served in the window, the busiest first."""
    measured_run: RunSummary = Field(exclude=True, repr=False)
    """The numbers of the whole measured run."""
    simulated_run: RunSummary = Field(exclude=True, repr=False)
    """The numbers of the whole simulated run."""

    def as_json(self) -> dict[str, Any]:
        """Return the document that ``mecsim replay --json`` prints."""
        document: dict[str, Any] = finite(self.model_dump(mode="json"))
        return document


def predict(
    trace: str | os.PathLike[str],
    scenario: Scenario | str | os.PathLike[str] | None = None,
    *,
    after_s: float | None = None,
    kernel: str = "simpy",
    progress: Progress | None = None,
) -> Prediction:
    """Simulate the tasks and decisions of a measured run, and compare with the measurement.

    Args:
        trace: A complete trace that ``mecsim testbed`` has written.
        scenario: Another scenario than that of the trace, such as a calibrated one.
        after_s: Score only tasks released at this time in seconds or later. By default from the
            begin or, if the scenario was calibrated on this trace, from the end of that part on.
        kernel: ``simpy`` or ``compiled``.
        progress: Called with the number of slots done and of all slots.

    Returns:
        The scores, and both runs.

    Raises:
        InputError: The trace was not measured or is incomplete, the scenario does not fit, or no
            task is left to score.
        Interrupted: Ctrl-C was pressed.
    """
    given = None if scenario is None else with_overrides(scenario)
    with TraceFile(Path(trace)) as file:
        check_measured(file)
        own = model_for(file)
        model = own if given is None else model_for(file, given)
        until_s = _calibrated_until_s(file, model.scenario)
        window_s = _window_s(file, after_s, until_s)
        label = file.scenario_label if given is None else given.label
        summary = recorded_summary(file, own)
        measured = _Side(own, file.read, TaskTimes.of(file.read, own, str(file.path)), summary)
        predicted = _simulated(file, model, label, kernel, progress)
        inside, both = _scored(file, measured, predicted, window_s)
        return Prediction(
            trace=str(file.path),
            scenario=label,
            scheduler=file.made_by.scheduler,
            seed=file.made_by.seed,
            kernel=kernel,
            from_s=window_s[0],
            to_s=window_s[1],
            calibrated_until_s=until_s,
            tasks=len(both),
            scored=int(np.count_nonzero(both)),
            failed_measured=_failed(measured.times, inside),
            failed_predicted=_failed(predicted.times, inside),
            total=Score.of("total", measured.times.total_s[both], predicted.times.total_s[both]),
            parts=tuple(_parts(measured.times, predicted.times, both)),
            classes=tuple(_classes(measured, predicted, both)),
            resources=tuple(_resources(measured, predicted, window_s)),
            measured_run=measured.summary,
            simulated_run=predicted.summary,
        )


def is_measured(path: Path) -> bool:
    """Return whether the times of a trace were measured. Raises ``TraceError`` for no trace."""
    with TraceFile(path) as file:
        return file.made_by.kernel == MEASURED


def check_measured(trace: TraceFile) -> None:
    """Raise ``TraceError`` for a trace that is incomplete or was not measured."""
    if trace.made_by.kernel != MEASURED:
        raise TraceError(
            f"{trace.path}: was simulated ({trace.made_by.kernel} kernel), not measured; "
            "allowed: a trace that `mecsim testbed` has written"
        )
    check_complete(trace)


@dataclass(frozen=True)
class _Side:
    """The measured run, or the simulated one."""

    model: Model
    read: Columns
    times: TaskTimes
    summary: RunSummary


def _simulated(
    trace: TraceFile, model: Model, label: str, kernel: str, progress: Progress | None
) -> _Side:
    """Simulate the tasks, channels and decisions of a trace."""
    began, rows, recorded = working_s(), KeptTimes(), recorded_channels(model, trace)
    source = Source(model, SchedulerSpec.of(model), kernel, recorded, [rows], progress=progress)
    totals = drive(source, RecordedDecisions(trace))
    made_by, wall_s = replace(trace.made_by, kernel=kernel), working_s() - began
    times = TaskTimes.of(rows.read, model, "the simulated run")
    return _Side(model, rows.read, times, totals.summary(label, made_by, wall_s=wall_s))


def _calibrated_until_s(trace: TraceFile, scenario: Scenario) -> float | None:
    """Return the end of the part of a trace that a scenario was calibrated on, if it was."""
    calibrated = None if scenario.testbed is None else scenario.testbed.calibrated
    if calibrated is None or calibrated.created_utc != trace.attributes()["created_utc"]:
        return None
    return calibrated.until


def _window_s(
    trace: TraceFile, after_s: float | None, until_s: float | None
) -> tuple[float, float]:
    """Return from when on and before when tasks that are scored were released."""
    begin_s, end_s = trace.scenario.counted_s
    end_s = min(end_s, trace.scenario.length_s)
    fitted_s = 0.0 if until_s is None else until_s
    chosen_s = fitted_s if after_s is None else after_s
    if not 0 <= chosen_s < end_s:
        raise InputError(f"after: {chosen_s:g} s; allowed: from 0 s to below {end_s:g} s")
    if chosen_s < fitted_s:
        raise InputError(
            f"after: {chosen_s:g} s, but the scenario was calibrated on the tasks of "
            f"{trace.path} until {fitted_s:g} s; allowed: {fitted_s:g} s or later"
        )
    return max(begin_s, chosen_s), end_s


def _scored(
    trace: TraceFile, measured: _Side, predicted: _Side, window_s: tuple[float, float]
) -> tuple[Bools, Bools]:
    """Return the tasks of the window, and those of them that completed in both runs.

    Raises:
        InputError: There are none.
    """
    release_s = measured.times.release_s
    inside = (release_s >= window_s[0]) & (release_s < window_s[1])
    both: Bools = inside & measured.times.completed & predicted.times.completed
    if not inside.any():
        window = f"from {window_s[0]:g} s to {window_s[1]:g} s"
        raise InputError(f"{trace.path}: no task was released {window}, so none can be scored")
    if not both.any():
        count = np.count_nonzero(inside)
        raise InputError(f"{trace.path}: none of {count} tasks completed, so none can be scored")
    return inside, both


def _failed(times: TaskTimes, inside: Bools) -> dict[str, int]:
    """Return the number of tasks that failed by cause, without causes of none."""
    status = times.status[inside]
    counts = {cause: int(np.count_nonzero(status == code)) for code, cause in CAUSES.items()}
    return {cause: count for cause, count in counts.items() if count}


def _parts(measured: TaskTimes, predicted: TaskTimes, rows: Bools) -> Iterator[PartScore]:
    for name in PARTS:
        kind = KINDS.index(name)
        columns = [
            getattr(side, column)[rows, kind]
            for column in ("part_s", "wait_s", "service_s")
            for side in (measured, predicted)
        ]
        if any(column.any() for column in columns):
            means = [float(column.mean()) for column in columns]
            wait, service = Pair.of(*means[2:4]), Pair.of(*means[4:6])
            yield PartScore.of(name, *columns[:2], wait=wait, service=service)


def _classes(measured: _Side, predicted: _Side, rows: Bools) -> Iterator[Score]:
    """Yield the totals of each class that has tasks to score, where there are several classes."""
    classes = measured.model.classes
    for each in classes if len(classes) > 1 else ():
        mine = rows & (measured.times.class_ == each.number)
        if mine.any():
            totals = measured.times.total_s[mine], predicted.times.total_s[mine]
            yield Score.of(each.name, *totals)


def _resources(
    measured: _Side, predicted: _Side, window_s: tuple[float, float]
) -> Iterator[ResourceScore]:
    """Yield the utilization of each resource that served in either run, the busiest first."""
    shares, kinds = dict[str, list[float]](), dict[str, str]()
    for number, side in enumerate((measured, predicted)):
        names, busy = side.model.resource_names(), utilization(side.read, side.model, *window_s)
        kinds |= {n: KINDS[k] for n, k in zip(names, side.model.resources.kind, strict=True)}
        for name, share in zip(names, busy.tolist(), strict=True):
            shares.setdefault(name, [0.0, 0.0])[number] = share
    for name, (here, there) in sorted(shares.items(), key=lambda each: -max(each[1])):
        if here or there:
            yield ResourceScore(name=name, kind=kinds[name], utilization=Pair.of(here, there))
