"""Rows and summaries of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from mecsim.study import statistics
from mecsim.study.plan import Cell, Point

Sample: TypeAlias = dict[tuple[int, int], float]
"""(Training seed, workload seed) to a number; the training seed is 0 where nothing is trained."""


METRICS: Final = (
    "total_delay_s",
    "edge_delay_s",
    "local_delay_s",
    "energy_J",
    "reward",
    "late_blocks",
    "failed",
    "bound_gap_percent",
)
"""Means over completed tasks, then numbers of a whole run; the last with ``bound`` only."""


YARDSTICK: Final = "lookahead"
"""Where this scheduler takes part, the others are compared with it, too."""


BOUND: Final = "lower bound"
"""The name under which a summary holds what the tasks cost, and take, at least."""


def rows(cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of those runs that have one, as ``mecsim compare --json`` prints them."""
    bounds = {
        _meeting(cell): results[cell.job.key]
        for cell in cells
        if cell.entrant is None and cell.job.key in results
    }
    found = []
    for cell in cells:
        result = results.get(cell.job.key)
        if cell.entrant is None or result is None or cell.job.kind != "run":
            continue
        row: dict[str, Any] = {
            "scenario": cell.scenario,
            "sweep": cell.point,
            "scheduler": cell.entrant.label,
            "seed": cell.job.seed,
            "training_seed": cell.training_seed,
        }
        row |= result
        if (bound := bounds.get(_meeting(cell))) is not None:
            row["lower_bound"] = {**bound, "gap_percent": _gap(row, bound["cost"])}
        found.append(row)
    return found


def curves(cells: Iterable[Cell], results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the learning curves of the trainings, as rows with ``episode`` and ``reward``."""
    return [
        {
            "scenario": cell.scenario,
            "sweep": cell.point,
            "scheduler": cell.entrant.label,
            "training_seed": cell.training_seed,
            "episode": point["episode"],
            "reward": point["reward"],
        }
        for cell in cells
        if cell.entrant is not None and cell.job.kind == "train" and cell.job.key in results
        for point in results[cell.job.key].get("curve", ())
    ]


def _meeting(cell: Cell) -> tuple[str, str, int]:
    return cell.scenario, json.dumps(cell.point), cell.job.seed


def _gap(row: Mapping[str, Any], cost: float) -> float | None:
    """Return by how much a run costs more than its tasks do at least, in percent."""
    return None if row["failed"] or not cost else 100 * (-row["reward"] - cost) / cost


def metric(row: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a row; of delays and energies the mean. None where there is none."""
    if name == "bound_gap_percent":
        gap = row.get("lower_bound", {}).get("gap_percent")
        return None if gap is None else float(gap)
    value = row[name]["mean"] if isinstance(row[name], Mapping) else row[name]
    return None if value is None else float(value)


def summarise(rows: Iterable[Mapping[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Return mean and interval of each metric of each scheduler at each point.

    And its paired difference from the baseline and from the yardstick, over the seeds that both
    have met.
    """
    samples: dict[tuple[str, str], dict[str, dict[str, Sample]]] = {}
    points: dict[tuple[str, str], Point] = {}
    for row in rows:
        place = row["scenario"], json.dumps(row["sweep"])
        points[place] = row["sweep"]
        for name in METRICS:
            value = metric(row, name)
            if value is not None:
                by_scheduler = samples.setdefault(place, {}).setdefault(name, {})
                seeds = row["training_seed"] or 0, row["seed"]
                by_scheduler.setdefault(row["scheduler"], {})[seeds] = value
        for name, value in _least(row).items():
            samples[place][name].setdefault(BOUND, {})[0, row["seed"]] = value
    return [
        {"scenario": place[0], "sweep": points[place], "scheduler": label, "metric": name}
        | _summary(label, by_scheduler, baseline)
        for place, by_metric in samples.items()
        for name, by_scheduler in by_metric.items()
        for label in sorted(by_scheduler, key=lambda label: label == BOUND)  # stable: it goes last
    ]


def _least(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the bounds of a row's tasks as numbers of a scheduler of their own."""
    bound = row.get("lower_bound")
    if bound is None or bound["total_delay_s"] is None:
        return {}
    return {"total_delay_s": bound["total_delay_s"], "reward": 0.0 - bound["cost"]}


def _summary(label: str, by_scheduler: Mapping[str, Sample], baseline: str) -> dict[str, Any]:
    values = by_scheduler[label]
    seeds = statistics.complete_seeds(values)
    mean, low, high = (
        statistics.estimate(statistics.matrix(values, seeds)) if seeds else (None, None, None)
    )
    others = {
        other: _versus(values, by_scheduler[other])
        for other in dict.fromkeys((baseline, YARDSTICK))
        if other != label and other in by_scheduler
    }
    head = {"seeds": len(seeds), "mean": mean, "ci95_low": low, "ci95_high": high}
    return head | {"vs": {other: versus for other, versus in others.items() if versus}}


def _versus(values: Sample, others: Sample) -> dict[str, Any] | None:
    shared = set(statistics.complete_seeds(others))
    seeds = [seed for seed in statistics.complete_seeds(values) if seed in shared]
    if not seeds:
        return None
    sample, baseline = statistics.alike(*(statistics.matrix(x, seeds) for x in (values, others)))
    difference = statistics.paired(sample, baseline)
    percent = statistics.improvement(sample, baseline)
    return {
        "seeds": len(seeds),
        "paired_difference": difference.mean,
        "ci95_low": difference.low,
        "ci95_high": difference.high,
        "percent": percent and percent.percent,
        "percent_ci95_low": percent and percent.low,
        "percent_ci95_high": percent and percent.high,
    }
