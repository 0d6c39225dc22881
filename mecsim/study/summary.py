"""Rows (one per run) and summaries (means with intervals) of a comparison."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NotRequired, TypeAlias, TypedDict, cast

from mecsim.simulation.metrics import METRICS
from mecsim.study import statistics
from mecsim.study.competitors import BOUND
from mecsim.study.plan import Trial
from mecsim.study.sweep import Point

Results: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Key of a job to its result, as JSON."""
Sample: TypeAlias = dict[tuple[int, int], float]
"""(Training seed, workload seed) to a number; the training seed is 0 where nothing is trained."""

REFERENCE: Final = "lookahead"
"""The reference scheduler: where it is compared, the others are also compared with it."""


class ClassBound(TypedDict):
    """The lower bound of a class of tasks."""

    name: str
    cost: float | None
    total_delay_s: float | None


class RowBound(TypedDict):
    """The lower bound of a row."""

    cost: float | None
    total_delay_s: float | None
    """Least mean total delay of a task."""
    gap_percent: float | None
    classes: NotRequired[list[ClassBound]]
    """Where there are several classes of tasks."""


class RowCounted(TypedDict):
    """Which tasks of a run count."""

    from_s: float
    to_s: float
    released: int


class RowStatistics(TypedDict):
    """A distribution over the tasks of a run; None if no task completed."""

    mean: float | None
    std: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class RowClass(TypedDict):
    """A class of tasks of a run, as :class:`mecsim.simulation.metrics.ClassSummary` has it."""

    name: str
    priority: str
    deadline_s: float | None
    tasks: int
    completed: int
    failed: int
    retried: NotRequired[int]
    total_delay_s: RowStatistics
    edge_delay_s: RowStatistics
    local_delay_s: RowStatistics
    energy_J: RowStatistics
    late_blocks: int
    miss_ratio: float | None
    deadline_miss_ratio: float | None


class Row(TypedDict):
    """One run, as ``mecsim compare --json`` prints it."""

    scenario: str
    sweep: Point
    scheduler: str
    """The label of the competitor."""
    seed: int
    training_seed: int | None
    kernel: str
    tasks: int
    completed: int
    failed: int
    retried: NotRequired[int]
    """Where lost tasks are placed again."""
    total_delay_s: RowStatistics
    edge_delay_s: RowStatistics
    local_delay_s: RowStatistics
    energy_J: RowStatistics
    total_delay_quantiles_s: list[float] | None
    """At :data:`~mecsim.simulation.metrics.QUANTILES`; None if no task completed."""
    late_blocks: int
    miss_ratio: float | None
    deadline_miss_ratio: NotRequired[float | None]
    """Where a task has a deadline."""
    reward: float | None
    resources: list[dict[str, str | float]]
    """The busiest resources."""
    events: int
    drained_s: float
    overloaded: bool | None
    wall_s: float
    counted: NotRequired[RowCounted]
    """Where the scenario has a ``measurement``."""
    lower_bound: NotRequired[RowBound]
    classes: NotRequired[list[RowClass]]
    """Where there are several classes of tasks."""


class Versus(TypedDict):
    """The paired difference of a scheduler from another one, over the seeds that both ran."""

    seeds: int
    paired_difference: float
    ci95_low: float | None
    ci95_high: float | None
    percent: float | None
    """Reduction in percent of the other's mean: positive is better."""
    percent_ci95_low: float | None
    percent_ci95_high: float | None


class Entry(TypedDict):
    """One metric of one scheduler at one point, as ``mecsim compare --json`` prints it."""

    scenario: str
    sweep: Point
    scheduler: str
    metric: str
    seeds: int
    mean: float | None
    ci95_low: float | None
    ci95_high: float | None
    overloaded: int
    """Number of runs in which the tasks in flight grow over the slots."""
    vs: dict[str, Versus]


class CurvePoint(TypedDict):
    """One evaluation during a training."""

    scenario: str
    sweep: Point
    scheduler: str
    training_seed: int
    episode: float
    reward: float


def rows(trials: Sequence[Trial], results: Results) -> list[Row]:
    """Return a row for each run that has a result, in the order of the trials."""
    bounds = {
        _workload(trial): results[trial.job.key]
        for trial in trials
        if trial.competitor is None and trial.job.key in results
    }
    found: list[Row] = []
    for trial in trials:
        result = results.get(trial.job.key)
        if trial.competitor is None or result is None or trial.job.kind != "run":
            continue
        head = {
            "scenario": trial.scenario,
            "sweep": trial.point,
            "scheduler": trial.competitor.label,
            "seed": trial.job.seed,
            "training_seed": trial.training_seed,
        }
        row = cast(Row, head | dict(result))  # the stored result has the other keys
        if (bound := bounds.get(_workload(trial))) is not None:
            row["lower_bound"] = {
                "cost": bound["cost"],
                "total_delay_s": bound["total_delay_s"],
                "gap_percent": _gap_percent(row, bound["cost"]),
            }
            if "classes" in bound:
                row["lower_bound"]["classes"] = bound["classes"]
        found.append(row)
    return found


def curves(trials: Iterable[Trial], results: Results) -> list[CurvePoint]:
    """Return the learning curves of the trainings, one row per evaluation."""
    return [
        {
            "scenario": trial.scenario,
            "sweep": trial.point,
            "scheduler": trial.competitor.label,
            "training_seed": trial.job.seed,
            "episode": point["episode"],
            "reward": point["reward"],
        }
        for trial in trials
        if trial.competitor is not None and trial.job.kind == "train" and trial.job.key in results
        for point in results[trial.job.key].get("curve", ())
    ]


def _workload(trial: Trial) -> tuple[str, str, int]:
    """Return a key that is equal for trials with the same tasks and channels."""
    return trial.scenario, json.dumps(trial.point), trial.job.seed


def _gap_percent(row: Row, cost: float | None) -> float | None:
    if row["failed"] or row.get("retried") or not cost or row["reward"] is None:
        return None
    return 100 * (-row["reward"] - cost) / cost


def metric(row: Row, name: str) -> float | None:
    """Return a metric of :data:`~mecsim.simulation.metrics.METRICS` as one number.

    The mean of a metric per task; None where a row has no such number, as one that an earlier
    version of mecsim stored.
    """
    if name == "optimality_gap_percent":
        return row["lower_bound"]["gap_percent"] if "lower_bound" in row else None
    document: Mapping[str, Any] = row
    value = document.get(METRICS[name].source or name)
    number = value.get(METRICS[name].statistic) if isinstance(value, Mapping) else value
    return None if number is None else float(number)


def summarise(rows: Iterable[Row], baseline: str) -> list[Entry]:
    """Return mean and interval of each metric, for each scheduler at each point.

    Each entry has the paired differences from the baseline and from the reference scheduler, over
    the seeds that both ran.
    """
    samples: dict[tuple[str, str], dict[str, dict[str, Sample]]] = {}
    points: dict[tuple[str, str], Point] = {}
    overloaded: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        place = row["scenario"], json.dumps(row["sweep"])
        overloaded[*place, row["scheduler"]] += bool(row.get("overloaded"))
        points[place] = row["sweep"]
        for name in METRICS:
            value = metric(row, name)
            if value is not None:
                by_scheduler = samples.setdefault(place, {}).setdefault(name, {})
                seeds = row["training_seed"] or 0, row["seed"]
                by_scheduler.setdefault(row["scheduler"], {})[seeds] = value
        for name, value in _bound_metrics(row).items():
            if name in samples[place]:
                samples[place][name].setdefault(BOUND, {})[0, row["seed"]] = value
    return [
        _entry(
            (place[0], points[place], overloaded[*place, label]),
            label,
            name,
            by_scheduler,
            baseline,
        )
        for place, by_metric in samples.items()
        for name, by_scheduler in by_metric.items()
        for label in sorted(by_scheduler, key=lambda label: label == BOUND)  # stable: bound last
    ]


def _bound_metrics(row: Row) -> dict[str, float]:
    """Return the lower bound of a row as metrics, like those of a scheduler."""
    bound = row.get("lower_bound")
    if bound is None or bound["total_delay_s"] is None or bound["cost"] is None:
        return {}
    return {"total_delay_s": bound["total_delay_s"], "reward": 0.0 - bound["cost"]}


def _entry(
    place: tuple[str, Point, int],
    label: str,
    name: str,
    by_scheduler: Mapping[str, Sample],
    baseline: str,
) -> Entry:
    values = by_scheduler[label]
    seeds = statistics.complete_seeds(values)
    mean, low, high = (
        statistics.estimate(statistics.matrix(values, seeds)) if seeds else (None, None, None)
    )
    others = {
        other: _versus(values, by_scheduler[other])
        for other in dict.fromkeys((baseline, REFERENCE))
        if other != label and other in by_scheduler
    }
    scenario, point, overloaded = place
    return {
        "scenario": scenario,
        "sweep": point,
        "scheduler": label,
        "metric": name,
        "seeds": len(seeds),
        "mean": mean,
        "ci95_low": low,
        "ci95_high": high,
        "overloaded": overloaded,
        "vs": {other: versus for other, versus in others.items() if versus},
    }


def compared_with(summary: Iterable[Entry]) -> list[str]:
    """Return the schedulers that others are compared with: the baseline, then the reference."""
    found = dict.fromkeys(other for each in summary for other in each["vs"])
    return sorted(found, key=lambda label: label == REFERENCE)


def overload_mark(entry: Entry) -> str:
    """Return the name of an entry's scheduler, with a mark if runs of it are overloaded."""
    label, count = entry["scheduler"], entry["overloaded"]
    if not count:
        return label
    return f"{label} (overloaded)" if count >= entry["seeds"] else f"{label} ({count} overloaded)"


def _versus(values: Sample, others: Sample) -> Versus | None:
    shared = set(statistics.complete_seeds(others))
    seeds = [seed for seed in statistics.complete_seeds(values) if seed in shared]
    if not seeds:
        return None
    sample, baseline = statistics.truncated(
        *(statistics.matrix(each, seeds) for each in (values, others))
    )
    difference = statistics.paired(sample, baseline)
    percent = statistics.improvement(sample, baseline)
    return {
        "seeds": len(seeds),
        "paired_difference": difference.mean,
        "ci95_low": difference.low,
        "ci95_high": difference.high,
        "percent": None if percent is None else percent.percent,
        "percent_ci95_low": None if percent is None else percent.low,
        "percent_ci95_high": None if percent is None else percent.high,
    }
