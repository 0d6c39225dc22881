"""From the descriptions of figures to jobs, and from their results to panels and claims."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mecsim.paper.claims import AnyClaim, Evidence, judge, load_claims
from mecsim.paper.curves import value_at
from mecsim.paper.figure_files import CURVE, Figure, PanelSpec
from mecsim.paper.verdicts import Finding
from mecsim.study import plan as plan_module
from mecsim.study import plots, statistics
from mecsim.study import summary as summary_module
from mecsim.study.jobs import Job
from mecsim.study.plan import Trial
from mecsim.study.plots import Line, Panel


@dataclass(frozen=True)
class Results:
    """What the studies of the figures have yielded; each mapping by ``fig8.servers``."""

    rows: Mapping[str, list[dict[str, Any]]]
    summary: Mapping[str, list[dict[str, Any]]]
    curves: Mapping[str, list[dict[str, Any]]]


def plan(
    figures: Mapping[str, Figure], *, quick: bool = False, only: Sequence[str] = ()
) -> dict[str, list[Trial]]:
    """Return the runs and trainings of each study of each figure. Raises ``InputError``."""
    plans = {}
    for name, figure in figures.items():
        for each in figure.studies:
            made = figure.make_study(each, quick=quick, only=only)
            plans[f"{name}.{each}"] = [] if made is None else plan_module.plan(made)
    return plans


def collect(
    figures: Mapping[str, Figure],
    plans: Mapping[str, Sequence[Trial]],
    results: Mapping[str, Mapping[str, Any]],
) -> Results:
    """Return the results of a batch by figures and studies."""
    rows = {place: summary_module.rows(trials, results) for place, trials in plans.items()}
    curves = {place: summary_module.curves(trials, results) for place, trials in plans.items()}
    summary = {
        place: summary_module.summarise(found, figures[place.partition(".")[0]].baseline)
        for place, found in rows.items()
    }
    return Results(rows, summary, curves)


def panels(name: str, figure: Figure, results: Results) -> list[Panel]:
    """Return those panels of a figure for which there are results."""
    found = [
        _panel(f"{name}.{spec.study}", spec, results, figure.baseline) for spec in figure.panels
    ]
    return [panel for panel in found if panel.lines]


def _panel(place: str, spec: PanelSpec, results: Results, baseline: str) -> Panel:
    if spec.metric == CURVE:
        lines = learning_curves(place, results)
        return Panel(lines, spec.x, "reward", spec.title, curves=True)
    means = shown(spec, results.summary[place], baseline)
    title = spec.title
    if spec.lines == "scenario" and means:
        first = means[0]["scheduler"]
        means = [each for each in means if each["scheduler"] == first]
        title = f"{title}, {first}"
    panel = plots.sweep_panel(means, spec.metric, title, spec.x, by=spec.lines)
    return replace(panel, y_label=y_label(spec, baseline))


def y_label(spec: PanelSpec, baseline: str) -> str:
    """Return what a panel shows."""
    label = plots.LABELS.get(spec.metric, "reward")
    return f"{label.partition(' (')[0]}, {baseline} = 1" if spec.relative else label


def shown(
    spec: PanelSpec, summary: Sequence[Mapping[str, Any]], baseline: str
) -> list[Mapping[str, Any]]:
    """Return the entries of a summary that a panel shows; of relative ones the ratios."""
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


def _ratio(each: Mapping[str, Any], baseline: str) -> Mapping[str, Any] | None:
    """Return an entry with its mean in units of the baseline's; None if they share no seeds."""
    if each["scheduler"] == baseline:
        return {**each, "mean": 1.0, "ci95_low": 1.0, "ci95_high": 1.0}
    saved = each["vs"].get(baseline, {})
    keys = {"mean": "percent", "ci95_low": "percent_ci95_high", "ci95_high": "percent_ci95_low"}
    percent = {to: saved.get(key) for to, key in keys.items()}
    if percent["mean"] is None:
        return None
    return {**each} | {to: None if x is None else 1 - x / 100 for to, x in percent.items()}


def learning_curves(place: str, results: Results) -> list[Line]:
    """Return the curves of the learners of a study, and the levels of the others."""
    return [*_curves(results.curves[place]), *_levels(place, results)]


def _curves(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Return the mean learning curve of each scheduler over its trainings.

    Workers that learn beside each other are evaluated where they happen to be: between two
    evaluations a training counts by the earlier one. The line begins where all of them have one.
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
    """Return what schedulers reach that do not learn: level lines under the whole curve."""
    learners = {row["scheduler"] for row in results.curves[place]}
    episodes = [row["episode"] for row in results.curves[place]] or [0, 1]
    ends = [min(episodes), max(episodes)]
    return [
        Line(
            each["scheduler"],
            ends,
            [each["mean"]] * 2,
            [each["ci95_low"]] * 2,
            [each["ci95_high"]] * 2,
        )
        for each in results.summary[place]
        if each["metric"] == "reward" and each["scheduler"] not in learners
    ]


def judged(results: Results) -> list[tuple[AnyClaim, Finding]]:
    """Return each claim about these figures with what was found."""
    evidence = Evidence(results.rows, results.curves)
    about = [claim for claim in load_claims() if results.rows.keys() & set(claim.where)]
    return [(claim, judge(claim, evidence)) for claim in about]


def volume(jobs: Iterable[Job], results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return how much was simulated: trainings, runs, slots, hop events of runs, computing time."""
    done = [job for job in jobs if job.key in results]
    runs = [job for job in done if job.kind == "run"]
    return {
        "trainings": sum(job.kind == "train" for job in done),
        "runs": len(runs),
        "slots_of_runs": sum(json.loads(job.scenario)["slots"] for job in runs),
        "events_of_runs": sum(results[job.key]["events"] for job in runs),
    }


def all_jobs(plans: Mapping[str, Sequence[Trial]]) -> list[Job]:
    """Return the jobs of all studies, each once: figures share runs."""
    trials = itertools.chain.from_iterable(plans.values())
    return list({trial.job.key: trial.job for trial in trials}.values())
