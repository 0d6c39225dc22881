"""Rows and summaries of a comparison as columns, and columns as CSV or Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from mecsim.simulation.metrics import METRICS, PER_TASK
from mecsim.study.by_class import ClassEntry
from mecsim.study.summary import (
    CurvePoint,
    Entry,
    Row,
    compared_with,
    metric,
)

Table: TypeAlias = dict[str, list[Any]]
"""Name of each column to its values."""

_HEAD: Final = ("scenario", "scheduler", "seed", "training_seed", "tasks", "completed", "events",
                "overloaded")  # fmt: skip
_VERSUS: Final = ("paired_difference", "ci95_low", "ci95_high", "percent", "percent_ci95_low",
                  "percent_ci95_high")  # fmt: skip


def run_table(rows: Sequence[Row]) -> Table:
    """Return runs as columns: mean, p95 and p99 of metrics per task; no wall-clock times.

    A percentile that is a metric has one column, by the name of the metric.
    """
    numbers = [name for name in METRICS if name not in PER_TASK]
    if not any("deadline_miss_ratio" in row for row in rows):
        numbers.remove("deadline_miss_ratio")
    metrics = {(each.source, each.statistic) for each in METRICS.values()}
    documents: Sequence[Mapping[str, Any]] = rows
    return (
        {name: [row[name] for row in documents] for name in _HEAD}
        | _sweep_columns(rows)
        | {
            f"{name}_{which}": [row[name][which] for row in documents]
            for name in PER_TASK
            for which in ("mean", "p95", "p99")
            if (name, which) not in metrics
        }
        | {name: [metric(row, name) for row in rows] for name in numbers}
    )


def summary_table(summary: Sequence[Entry]) -> Table:
    """Return a summary as columns; None where a scheduler was not compared with another."""
    documents: Sequence[Mapping[str, Any]] = summary
    others = compared_with(summary)
    head = (
        "scenario",
        "scheduler",
        "metric",
        "seeds",
        "mean",
        "ci95_low",
        "ci95_high",
        "overloaded",
    )
    return (
        {name: [each[name] for each in documents] for name in head}
        | _sweep_columns(summary)
        | {
            f"vs_{other}_{name}": [each["vs"].get(other, {}).get(name) for each in documents]
            for other in others
            for name in _VERSUS
        }
    )


def class_table(entries: Sequence[ClassEntry]) -> Table:
    """Return a summary by class of tasks as columns, see :func:`summary_table`."""
    return {"class": [each["class_name"] for each in entries]} | summary_table(entries)


def run_class_table(rows: Sequence[Row]) -> Table:
    """Return the classes of tasks of runs as columns, a row for each class of each run."""
    pairs = [(row, each) for row in rows for each in row.get("classes", ())]
    head = ("scenario", "scheduler", "seed", "training_seed")
    runs, classes = [row for row, _ in pairs], [each for _, each in pairs]
    documents: Sequence[Mapping[str, Any]] = runs
    parts: Sequence[Mapping[str, Any]] = classes
    return (
        {name: [row[name] for row in documents] for name in head}
        | _sweep_columns(runs)
        | {"class": [each["name"] for each in classes]}
        | {name: [each[name] for each in parts] for name in ("tasks", "completed", "failed")}
        | {
            f"{name}_{which}": [each[name][which] for each in parts]
            for name in PER_TASK
            for which in ("mean", "p95", "p99")
        }
        | {
            name: [each.get(name) for each in parts]
            for name in ("late_blocks", "miss_ratio", "deadline_miss_ratio")
        }
    )


def curve_table(rows: Sequence[CurvePoint]) -> Table:
    """Return points of learning curves as columns."""
    names = ("scenario", "scheduler", "training_seed", "episode", "reward")
    documents: Sequence[Mapping[str, Any]] = rows
    return {name: [row[name] for row in documents] for name in names} | _sweep_columns(rows)


def _sweep_columns(rows: Sequence[Row] | Sequence[Entry] | Sequence[CurvePoint]) -> Table:
    keys = dict.fromkeys(key for row in rows for key in row["sweep"])
    return {key: [point_text(row["sweep"].get(key)) for row in rows] for key in keys}


def point_text(value: Any) -> Any:
    """Return a value of a sweep for a table: a number or text as it is, anything else as JSON."""
    simple = value is None or isinstance(value, str | int | float)
    return value if simple else json.dumps(value)


def as_csv(table: Table) -> str:
    r"""Return columns as CSV, with floats in full precision and None as an empty field.

    >>> as_csv({"a": ["x", None], "b": [0.1, 2]})
    'a,b\nx,0.1\n,2\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def as_markdown(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """Return a table as Markdown; the first ``text`` columns are text, the others numbers."""
    rule = [*["---"] * text, *["---:"] * (len(head) - text)]
    return "".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n"
        for line in (head, rule, *rows)
    )
