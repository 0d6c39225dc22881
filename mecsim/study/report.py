"""A comparison as files: CSV, JSON, HDF5 and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict

from mecsim.simulation.metrics import METRICS, PER_TASK
from mecsim.study.hdf5_tables import write_tables
from mecsim.study.jobs import Kind
from mecsim.study.plan import Trial
from mecsim.study.summary import CurvePoint, Entry, Row, metric
from mecsim.study.sweep import Point
from mecsim.support.files import write_whole
from mecsim.support.text import finite

Table: TypeAlias = dict[str, list[Any]]
"""Name of each column to its values."""

_HEAD: Final = ("scenario", "scheduler", "seed", "training_seed", "tasks", "completed", "events",
                "overloaded")  # fmt: skip
_VERSUS: Final = ("paired_difference", "ci95_low", "ci95_high", "percent", "percent_ci95_low",
                  "percent_ci95_high")  # fmt: skip


class Failure(TypedDict):
    """A job that failed."""

    scenario: str
    sweep: Point
    job: str
    cause: str


class Document(TypedDict):
    """A comparison as ``mecsim compare --json`` prints it."""

    rows: list[Row]
    summary: list[Entry]
    failed: list[Failure]


def failures(trials: Iterable[Trial], causes: Mapping[str, str]) -> list[Failure]:
    """Return the jobs that failed, each once, with their places and causes.

    Args:
        trials: The trials of the study.
        causes: Key of a failed job to the cause.
    """
    found: dict[str, Failure] = {}
    for trial in trials:
        who = "" if trial.competitor is None else trial.competitor.label
        for job in (trial.job.needs, trial.job):
            if job is not None and job.key in causes:
                found.setdefault(
                    job.key,
                    {
                        "scenario": trial.scenario,
                        "sweep": trial.point,
                        "job": job.described(who),
                        "cause": causes[job.key],
                    },
                )
    return list(found.values())


def problems(warnings: Iterable[str], failed: Iterable[Failure]) -> list[str]:
    """Return warnings and failures as lines for the user, equal causes in one line."""
    jobs: dict[str, list[str]] = {}
    for each in failed:
        jobs.setdefault(each["cause"], []).append(each["job"])
    return [f"warning: {warning}" for warning in sorted(warnings)] + [
        f"failed: {names[0]}{f' (and {len(names) - 1:,} more)' if names[1:] else ''}: {cause}"
        for cause, names in jobs.items()
    ]


def describe_work(computed: Mapping[Kind, int], found: int) -> str:
    """Return in words how many jobs of a batch were computed and how many had a result.

    >>> describe_work({"run": 8, "train": 1}, 3)
    'computed: 8 runs, 1 training; results from an earlier call: 3'
    """
    names: dict[Kind, str] = {"run": "run", "train": "training", "bound": "lower bound"}
    counts = {name: computed.get(kind, 0) for kind, name in names.items()}
    texts = [f"{n:,} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n]
    return f"computed: {', '.join(texts) or 'nothing'}; results from an earlier call: {found:,}"


def write_report(folder: Path, document: Document) -> list[Path]:
    """Write a comparison as CSV, JSON and HDF5.

    Equal results give byte-identical files, except for the JSON document, which has the wall-clock
    time of each run.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    tables = {"rows": run_table(document["rows"]), "summary": summary_table(document["summary"])}
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        write_whole(files[-1], as_csv(table))
    files.append(folder / "comparison.json")
    write_whole(files[-1], json.dumps(finite(document), indent=1, allow_nan=False))
    files.append(folder / "comparison.h5")
    write_tables(files[-1], tables, {"format": "mecsim-comparison", "mecsim": version("mecsim")})
    return files


def run_table(rows: Sequence[Row]) -> Table:
    """Return runs as columns: mean, p95 and p99 of metrics per task; no wall-clock times."""
    numbers = [name for name in METRICS if name not in PER_TASK]
    documents: Sequence[Mapping[str, Any]] = rows
    return (
        {name: [row[name] for row in documents] for name in _HEAD}
        | _sweep_columns(rows)
        | {
            f"{name}_{which}": [row[name][which] for row in documents]
            for name in PER_TASK
            for which in ("mean", "p95", "p99")
        }
        | {name: [metric(row, name) for row in rows] for name in numbers}
    )


def summary_table(summary: Sequence[Entry]) -> Table:
    """Return a summary as columns; None where a scheduler was not compared with another."""
    documents: Sequence[Mapping[str, Any]] = summary
    others = dict.fromkeys(name for each in summary for name in each["vs"])
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
