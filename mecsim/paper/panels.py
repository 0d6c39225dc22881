"""The panels of the figures, from the results of their studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from mecsim.paper.claims import load_claims
from mecsim.paper.curves import value_at
from mecsim.paper.figure_files import CURVE, Figure, PanelSpec
from mecsim.paper.marks import marks
from mecsim.simulation.metrics import METRICS
from mecsim.study import statistics
from mecsim.study.comparison_panels import sweep_panel
from mecsim.study.panel import Line, Panel
from mecsim.study.summary import CurvePoint, Entry, Row


@dataclass(frozen=True)
class Results:
    """The results of the studies of figures; each mapping has keys such as ``fig8.servers``."""

    rows: Mapping[str, list[Row]]
    summary: Mapping[str, list[Entry]]
    curves: Mapping[str, list[CurvePoint]]


def panels(name: str, figure: Figure, results: Results) -> list[Panel]:
    """Return the panels of a figure that have results."""
    found = [
        _panel(f"{name}.{spec.study}", spec, results, figure.baseline) for spec in figure.panels
    ]
    return [panel for panel in found if panel.lines]


def _panel(place: str, spec: PanelSpec, results: Results, baseline: str) -> Panel:
    if spec.metric == CURVE:
        found = Panel(learning_curves(place, results), spec.x, "reward", spec.title, curves=True)
    else:
        means = shown(spec, results.summary[place], baseline)
        title = spec.title
        if spec.lines == "scenario" and means:
            first = means[0]["scheduler"]
            means = [each for each in means if each["scheduler"] == first]
            title = f"{title}, {first}"
        panel = sweep_panel(means, spec.metric, title, spec.x, by=spec.lines)
        found = replace(panel, y_label=y_label(spec, baseline))
    if spec.relative or spec.lines == "scenario" or spec.extra:
        return replace(found, extra=spec.extra)
    metric = "reward" if found.curves else spec.metric
    claimed = marks(load_claims(), place, metric, found.lines, curves=found.curves)
    return replace(found, marks=claimed)


def y_label(spec: PanelSpec, baseline: str) -> str:
    """Return the label of the y-axis of a panel."""
    metric = METRICS["reward" if spec.metric == CURVE else spec.metric]
    return f"{metric.label}, {baseline} = 1" if spec.relative else metric.axis


def shown(spec: PanelSpec, summary: Sequence[Entry], baseline: str) -> list[Entry]:
    """Return the entries of a summary that a panel shows, as ratios in a relative panel."""
    found = [
        each
        for each in summary
        if each["metric"] == spec.metric
        and each["mean"] is not None
        and spec.scenario in (None, each["scenario"])
    ]
    if not spec.relative:
        return found
    ratios = [_ratio(each, baseline) for each in found]
    return [each for each in ratios if each is not None]


def _ratio(each: Entry, baseline: str) -> Entry | None:
    """Return an entry with its mean in units of the baseline's; None without shared seeds."""
    if each["scheduler"] == baseline:
        return {**each, "mean": 1.0, "ci95_low": 1.0, "ci95_high": 1.0}
    versus = each["vs"].get(baseline)
    if versus is None or versus["percent"] is None:
        return None
    low, high = versus["percent_ci95_low"], versus["percent_ci95_high"]
    return {
        **each,
        "mean": 1 - versus["percent"] / 100,
        "ci95_low": None if high is None else 1 - high / 100,
        "ci95_high": None if low is None else 1 - low / 100,
    }


def learning_curves(place: str, results: Results) -> list[Line]:
    """Return the learning curves of a study, and horizontal lines for the other schedulers."""
    return [*_curves(results.curves[place]), *_levels(place, results)]


def _curves(rows: Sequence[CurvePoint]) -> list[Line]:
    """Return the mean learning curve of each scheduler over its trainings.

    Trainings with parallel workers are evaluated at different episodes: between two evaluations a
    training counts with the earlier one. The line begins where all trainings have an evaluation.
    """
    lines = []
    for label in dict.fromkeys(row["scheduler"] for row in rows):
        trainings: dict[int, list[tuple[float, float]]] = {}
        for row in rows:
            if row["scheduler"] == label:
                curve = trainings.setdefault(row["training_seed"], [])
                curve.append((row["episode"], row["reward"]))
        curves = list(trainings.values())
        begin = max(curve[0][0] for curve in curves)
        episodes = sorted({x for curve in curves for x, _ in curve if x >= begin})
        single = [[value_at(curve, x) for x in episodes] for curve in curves]
        found = [statistics.estimate(np.array([each])) for each in zip(*single, strict=True)]
        mean, low, high = (list(each) for each in zip(*found, strict=True))
        lines.append(Line(label, episodes, mean, low, high, single))
    return lines


def _levels(place: str, results: Results) -> list[Line]:
    """Return horizontal lines for the schedulers that do not learn, as long as the curves."""
    learners = {row["scheduler"] for row in results.curves[place]}
    episodes = [row["episode"] for row in results.curves[place]] or [0, 1]
    ends = [min(episodes), max(episodes)]
    return [
        Line(
            each["scheduler"],
            ends,
            [cast(float, each["mean"])] * 2,
            [each["ci95_low"]] * 2,
            [each["ci95_high"]] * 2,
        )
        for each in results.summary[place]
        if each["metric"] == "reward" and each["scheduler"] not in learners
    ]
