"""Predictions of the part of a measured run on which nothing was fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mecsim.errors import MecsimError
from mecsim.study.report_tables import Table
from mecsim.testbed.evaluation.measuring import Traces, Wanted, calibrated
from mecsim.testbed.evaluation.settings import Evaluation, PlannedRun, with_policy
from mecsim.testbed.prediction import Prediction, predict
from mecsim.testbed.scores import Pair, PartScore, Score
from mecsim.trace import TraceFile

AS_PLANNED, CALIBRATED = "as planned", "calibrated"
_PAIR: Final = ("measured", "predicted", "error_percent")


@dataclass(frozen=True)
class HeldOut:
    """A measured run, and the predictions of its second part."""

    run: PlannedRun
    facts: Mapping[str, Any]
    """The attribute ``testbed`` of the trace."""
    predictions: Mapping[str, Prediction]
    """By the scenario: as planned, and calibrated on the first part."""

    @property
    def any(self) -> Prediction:
        """A prediction, for what was measured."""
        return self.predictions[AS_PLANNED]

    def busiest(self, kind: str) -> float | None:
        """Return the largest measured utilization of the resources of a kind, if any served."""
        shares = [each.utilization.measured for each in self.any.resources if each.kind == kind]
        return max(shares, default=None)


def held_out(
    evaluation: Evaluation, folder: Path, traces: Traces, slots: int | None
) -> Iterator[HeldOut]:  # fmt: skip
    """Measure the runs; calibrate on the first part of each, and predict the second."""
    for run in evaluation.runs:
        options = with_policy(run.options, folder)
        scenario = run.load(folder, slots)
        wanted = Wanted(run.name, run, scenario, run.scheduler, options, run.seed)
        path = traces.measured(wanted)
        if path is None:
            continue
        try:
            yield predicted(run, path, evaluation.first)
        except MecsimError as error:
            traces.fail(run.name, error)


def predicted(run: PlannedRun, path: Path, first: float) -> HeldOut:
    """Calibrate on the first part of a trace, and predict the second, calibrated and not."""
    scenario, until_s = calibrated(path, first)
    with TraceFile(path) as trace:
        facts = trace.made_by.testbed or {}
    predictions = {
        AS_PLANNED: predict(path, after_s=until_s, kernel="compiled"),
        CALIBRATED: predict(path, scenario, after_s=until_s, kernel="compiled"),
    }
    return HeldOut(run, facts, predictions)


def score_table(found: Sequence[HeldOut]) -> Table:
    """Return a row for each run, scenario and part: times measured and predicted, and errors."""
    rows = [
        {
            "run": each.run.name,
            "scenario": kind,
            "part": score.name,
            "scored": prediction.scored,
            "from_s": prediction.from_s,
        }
        | _numbers(score)
        for each in found
        for kind, prediction in each.predictions.items()
        for score in (prediction.total, *prediction.classes, *prediction.parts)
    ]
    return _columns(rows)


def _numbers(score: Score) -> dict[str, Any]:
    """Return the numbers of a score by name; None for those that only parts have."""
    low, high = score.mean_error_ci95 or (None, None)
    part = score if isinstance(score, PartScore) else None
    pairs: dict[str, Pair | None] = {
        "mean": score.mean,
        "p50": score.p50,
        "p95": score.p95,
        "wait": None if part is None else part.wait,
        "service": None if part is None else part.service,
    }
    named = {
        f"{name}_{which}": None if pair is None else getattr(pair, which)
        for name, pair in pairs.items()
        for which in _PAIR
    }
    more = {"mean_error_ci95_low": low, "mean_error_ci95_high": high}
    return named | more | {"mape_percent": score.mape_percent, "tasks": score.tasks}


def utilization_table(found: Sequence[HeldOut]) -> Table:
    """Return a row for each run, scenario and resource."""
    rows = [
        {"run": each.run.name, "scenario": kind, "resource": resource.name, "kind": resource.kind}
        | {which: getattr(resource.utilization, which) for which in _PAIR}
        for each in found
        for kind, prediction in each.predictions.items()
        for resource in prediction.resources
    ]
    return _columns(rows)


def _columns(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = list(rows[0]) if rows else []
    return {name: [row[name] for row in rows] for name in names}
