"""A comparison as files: tables for programs and for a paper, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NotRequired, TypedDict

from mecsim.study.by_class import ClassEntry, places_of_classes
from mecsim.study.hdf5_tables import write_tables
from mecsim.study.jobs import Kind
from mecsim.study.plan import Trial
from mecsim.study.provenance import FILE, StudyProvenance
from mecsim.study.report_tables import (
    as_csv,
    class_table,
    run_class_table,
    run_table,
    summary_table,
)
from mecsim.study.summary import CurvePoint, Entry, Row
from mecsim.study.sweep import Point
from mecsim.study.tables import as_latex_tables, as_markdown_tables
from mecsim.support.files import write_whole
from mecsim.support.text import finite


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
    classes: NotRequired[list[ClassEntry]]
    """The summary by class of tasks, where there are several."""
    failed: list[Failure]
    curves: list[CurvePoint]
    """The evaluations of the trainings."""


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


def write_report(
    folder: Path, document: Document, origin: StudyProvenance | None = None
) -> list[Path]:
    """Write a comparison as CSV, JSON, HDF5, Markdown and LaTeX, and where it comes from.

    Equal results give byte-identical files, except for the JSON documents, which have wall-clock
    times.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    tables = {"rows": run_table(document["rows"]), "summary": summary_table(document["summary"])}
    classes = document.get("classes", [])
    if classes:
        tables["class_rows"] = run_class_table(document["rows"])
        tables["classes"] = class_table(classes)
    by_class = places_of_classes(classes)
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        write_whole(files[-1], as_csv(table))
    files.append(folder / "comparison.json")
    write_whole(files[-1], json.dumps(finite(document), indent=1, allow_nan=False))
    files.append(folder / "comparison.h5")
    write_tables(files[-1], tables, {"format": "mecsim-comparison", "mecsim": version("mecsim")})
    for name, text in (
        ("summary.md", as_markdown_tables(document["summary"], by_class)),
        ("summary.tex", as_latex_tables(document["summary"], by_class)),
        *([] if origin is None else [(FILE, json.dumps(finite(origin), indent=1))]),
    ):
        files.append(folder / name)
        write_whole(files[-1], text)
    return files
