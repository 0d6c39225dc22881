"""The report of a comparison, from its folder."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ValidationError

from mecsim.errors import InputError
from mecsim.paper.panels import Results, learning_curves
from mecsim.report.delays import UP_TO
from mecsim.report.figures import hover, line_tags, make_figure
from mecsim.report.inputs import read_json
from mecsim.report.page import Cell, Chart, Listing, Page, Section, Table, Text, quantity
from mecsim.report.panel_chart import LINES, panel_chart, panel_key
from mecsim.simulation.metrics import METRICS, QUANTILES
from mecsim.study.by_class import places_of_classes
from mecsim.study.comparison_file import read_comparison
from mecsim.study.comparison_panels import comparison_panels
from mecsim.study.distribution_panels import quantile_samples
from mecsim.study.panel import Panel
from mecsim.study.report import Document, problems
from mecsim.study.styles import Style, styles
from mecsim.study.summary import (
    CurvePoint,
    Entry,
    Row,
    compared_with,
    metric,
)
from mecsim.support.text import value_text

MOST_CHARTS: Final = 48
MOST_RUNS: Final = 1500
MOST_ENTRIES: Final = 3000
MOST_POINTS: Final = 12
"""Points of a sweep whose distributions are drawn."""


def comparison_page(folder: Path) -> Page:
    """Return the report of a comparison.

    Raises:
        InputError: ``comparison.json`` cannot be read, or it is damaged.
    """
    document = read_comparison(folder)
    rows, summary = document["rows"], document["summary"]
    looks = styles(list(dict.fromkeys(each["scheduler"] for each in [*summary, *rows])))
    jobs = _jobs(folder)
    scenarios = list(dict.fromkeys(each["scenario"] for each in summary))
    schedulers = [name for name in looks if any(row["scheduler"] == name for row in rows)]
    sections = [
        Section("metrics", "Metrics", _metric_charts(summary, looks)),
        Section("distribution", "Distribution of the total delay", _distributions(rows, looks)),
        Section("summary", "Means with 95% intervals", [_summary_table(summary)]),
        Section("classes", "Classes of tasks", _classes(document, looks)),
        Section("runs", "Runs", _run_table(rows)),
        *_learning(document["curves"], looks),
        Section("provenance", "What was run", _provenance(folder, document, jobs)),
    ]
    return Page(
        title=f"Comparison of {', '.join(schedulers)}",
        subtitle=f"{len(rows):,} runs on {', '.join(scenarios)}.",
        sections=[section for section in sections if section.blocks],
        facts={"runs": len(rows), "entries": len(summary), "failed": len(document["failed"])},
    )


def _metric_charts(
    summary: Sequence[Entry], looks: Mapping[str, Style], prefix: str = ""
) -> list[Chart | Text]:
    charts: list[Chart | Text] = []
    for name in METRICS:
        for number, panel in enumerate(comparison_panels(summary, name)):
            title = f"{METRICS[name].label}: {panel.title}"
            charts.append(panel_chart(panel, looks, f"{prefix}{name}-{number}", title))
    if len(charts) > MOST_CHARTS:
        cut = f"The first {MOST_CHARTS} of {len(charts):,} figures are here; the tables have all."
        return [Text(cut), *charts[:MOST_CHARTS]]
    return charts


def _classes(document: Document, looks: Mapping[str, Style]) -> list[Chart | Text | Table]:
    """Return figures and a table of the metrics of each class of tasks."""
    entries = places_of_classes(document.get("classes", []))
    if not entries:
        return []
    table = _summary_table(entries, "Summary by class", "classes-table")
    return [*_metric_charts(entries, looks, "class-"), table]


def _point(sweep: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value_text(value)}" for key, value in sweep.items())


def _distributions(rows: Sequence[Row], looks: Mapping[str, Style]) -> list[Chart | Text]:
    """Return the distribution of the total delay at each point; the mean over the runs."""
    groups = {
        ", ".join(filter(None, (scenario, _point(json.loads(point))))): found
        for (scenario, point), found in quantile_samples(rows).items()
    }
    if not groups:
        return []
    plot = make_figure("distribution", METRICS["total_delay_s"].axis, "share of completed tasks")
    shown, shares = list(groups)[:MOST_POINTS], np.array(QUANTILES)
    labels = dict.fromkeys(label for place in shown for label in groups[place])
    for place in shown:
        for label, each in groups[place].items():
            mean = np.mean(list(each.values()), axis=0)
            line = plot.line(
                mean[shares <= UP_TO], shares[shares <= UP_TO], line_color=looks[label].colour,
                line_dash=LINES[looks[label].line] or "solid", line_width=2, name=label,
                tags=line_tags(label, place), visible=place == shown[0],
            )  # fmt: skip
            hover(plot, [line], [
                ("", "$name"), ("delay", "$x{0,0.[000]} s"), ("share of tasks", "$y{0.[0]%}"),
                ("runs", str(len(each))),
            ])  # fmt: skip
    plot.x_range.only_visible = True
    keys = [panel_key(label, looks[label]._replace(marker="")) for label in labels]
    chart = Chart(
        "distribution-total", f"Total delay (up to {UP_TO:.0%} of the completed tasks)",
        "Cumulative distribution of the total delay of each scheduler, the mean of the quantiles "
        "over its runs. The table of means has p50, p95 and p99.", plot, keys, shown, "At",
    )  # fmt: skip
    rest = len(groups) - len(shown)
    return [chart, *([Text(f"{rest:,} more points of the sweep are not drawn.")] if rest else [])]


def _keys(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for each in entries for key in each["sweep"]))


def _sweep_cells(each: Mapping[str, Any], keys: Sequence[str]) -> list[Cell | str]:
    return [value_text(each["sweep"].get(key, "")) for key in keys]


def _summary_table(
    summary: Sequence[Entry], title: str = "Summary", name: str = "summary-table"
) -> Table:
    keys = _keys(summary)
    others = compared_with(summary)
    rows: list[list[Cell | str]] = []
    for each in summary[:MOST_ENTRIES]:
        known = METRICS.get(each["metric"])
        cells: list[Cell | str] = [
            each["scheduler"], each["scenario"], *_sweep_cells(each, keys),
            known.axis if known else each["metric"], quantity(each["mean"]),
            quantity(each["ci95_low"]), quantity(each["ci95_high"]),
            quantity(each["seeds"]), quantity(each["overloaded"]),
        ]  # fmt: skip
        for other in others:
            versus = each["vs"].get(other)
            cells += [
                quantity(versus[name]) if versus else Cell("–")
                for name in ("percent", "percent_ci95_low", "percent_ci95_high")
            ]
        rows.append(cells)
    versus_head = [
        title
        for other in others
        for title in (f"less than {other} (%)", "95% low (%)", "95% high (%)")
    ]
    head = ["scheduler", "scenario", *keys, "metric", "mean", "95% low", "95% high", "seeds",
            "overloaded runs", *versus_head]  # fmt: skip
    cut = f", the first {MOST_ENTRIES:,} of {len(summary):,}" if len(summary) > MOST_ENTRIES else ""
    texts = 3 + len(keys)
    filters = [0, *([1] if len({each["scenario"] for each in summary}) > 1 else []), texts - 1]
    return Table(f"{title}{cut}", head, rows, texts, name, filterable=True,
                 filters=filters)  # fmt: skip


_RUN_COLUMNS: Final = (
    "total_delay_s", "total_delay_p95_s", "total_delay_p99_s", "energy_J", "reward", "late_blocks",
    "miss_ratio", "failed",
)  # fmt: skip


def _run_table(rows: Sequence[Row]) -> list[Table | Text]:
    keys = _keys(rows)
    names = [name for name in _RUN_COLUMNS if name in METRICS]
    cells: list[list[Cell | str]] = [
        [
            row["scheduler"],
            row["scenario"],
            *_sweep_cells(row, keys),
            quantity(row["seed"]),
            quantity(row["training_seed"]),
            quantity(row["tasks"]),
            quantity(row["completed"]),
            *(quantity(metric(row, name)) for name in names),
            {True: "overloaded", False: "no", None: "unknown"}[row.get("overloaded")],
        ]
        for row in rows[:MOST_RUNS]
    ]
    head = ["scheduler", "scenario", *keys, "seed", "training seed", "tasks", "completed",
            *(METRICS[name].axis for name in names), "overloaded"]  # fmt: skip
    cut = f"The first {MOST_RUNS:,} of {len(rows):,} runs are here; rows.csv has all."
    table = Table("Runs", head, cells, 2 + len(keys), "runs-table", filterable=True, filters=[0])
    return [*([Text(cut)] if len(rows) > MOST_RUNS else []), table]


class _Task(BaseModel):
    kind: str
    scheduler: str
    options: dict[str, Any]
    scenario: dict[str, Any]
    versions: dict[str, str]


class _Stored(BaseModel):
    """The file of a job, as far as the report shows it."""

    job: _Task


def _jobs(folder: Path) -> list[_Task]:
    """Return the stored runs and trainings that can be read; a comparison does without others."""
    found = []
    for path in sorted((folder / "jobs").glob("*.json")):
        with suppress(InputError, ValidationError):
            found.append(_Stored.model_validate(read_json(path)).job)
    return [job for job in found if job.kind in ("run", "train")]


def _learning(curves: Sequence[CurvePoint], looks: Mapping[str, Style]) -> list[Section]:
    """Return learning curves, a panel for each scenario and point with trainings."""
    groups: dict[str, list[CurvePoint]] = {}
    several = len({each["scenario"] for each in curves}) > 1
    for each in curves:
        parts = [each["scenario"]] * several + [_point(each["sweep"])]
        groups.setdefault(", ".join(filter(None, parts)), []).append(each)
    charts = []
    for number, (place, found) in enumerate(groups.items()):
        lines = learning_curves(place, Results({place: []}, {place: []}, {place: found}))
        panel = Panel(lines, "episode", "reward", place, curves=True)
        every = {**looks, **styles([line.label for line in lines if line.label not in looks])}
        title = f"Reward during training{': ' if place else ''}{place}"
        charts.append(panel_chart(panel, every, f"training-{number}", title, wide=len(groups) == 1))
    return [Section("learning", "Learning curves", charts)] if charts else []


def _provenance(
    folder: Path, document: Document, jobs: Sequence[_Task]
) -> list[Table | Text | Listing]:
    failed = [Text(line, alert=True) for line in problems((), document["failed"])]
    parts: list[Table | Text | Listing] = [*failed]
    if (folder / "provenance.json").is_file():
        found = read_json(folder / "provenance.json")
        facts = found if isinstance(found, Mapping) else {"provenance": found}
        simple = [[str(k), _shown(k, v)] for k, v in facts.items() if k != "scenarios"]
        parts.append(Table("Provenance", ["", "value"], simple, 2, "provenance-table"))
        if "scenarios" in facts:
            scenarios = json.dumps(facts["scenarios"], indent=1, ensure_ascii=False)
            parts.append(Listing("Scenarios", scenarios))
    kinds = Counter((job.kind, job.scheduler, json.dumps(job.options)) for job in jobs)
    rows = [
        [name, "training" if kind == "train" else "run", options, quantity(count)]
        for (kind, name, options), count in kinds.items()
    ]
    head = ["scheduler", "kind of job", "options", "jobs"]
    if jobs:
        parts.append(Table("Jobs", head, rows, 3, "jobs"))
        cells = [[name, each] for name, each in jobs[0].versions.items()]
        parts.append(Table("Versions of the first job", ["package", "version"], cells, 2))
        scenario = json.dumps(jobs[0].scenario, indent=1, ensure_ascii=False)
        parts.append(Listing("Scenario of the first job", scenario))
    return parts or [Text("The folder has no record of its jobs.")]


def _shown(name: str, value: Any) -> str:
    if name == "command" and isinstance(value, list):  # a line for a shell
        return shlex.join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
