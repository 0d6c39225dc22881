"""A comparison as files: CSV, JSON, HDF5 and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

from mecsim.study.hdf5_tables import write_tables
from mecsim.study.summary import METRICS, metric
from mecsim.support.files import write_whole

Table: TypeAlias = dict[str, list[Any]]
"""Name of each column to its values."""

_HEAD: Final = ("scenario", "scheduler", "seed", "training_seed", "tasks", "completed", "events")
_STATISTICS: Final = ("total_delay_s", "edge_delay_s", "local_delay_s", "energy_J")
_VERSUS: Final = ("paired_difference", "ci95_low", "ci95_high", "percent", "percent_ci95_low",
                  "percent_ci95_high")  # fmt: skip


def write_report(folder: Path, document: Mapping[str, Any]) -> list[Path]:
    """Write ``rows`` and ``summary`` of a comparison; return the files. Raises ``OutputError``.

    But for the JSON document, which tells how long each run took, equal results make equal files,
    byte for byte.
    """
    tables = {"rows": run_table(document["rows"]), "summary": summary_table(document["summary"])}
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        write_whole(files[-1], as_csv(table))
    files.append(folder / "comparison.json")
    write_whole(files[-1], json.dumps(document, indent=1, allow_nan=False))
    files.append(folder / "comparison.h5")
    write_tables(files[-1], tables, {"format": "mecsim-comparison", "mecsim": version("mecsim")})
    return files


def run_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the runs as columns: of delays and energies mean, p95 and p99; no times of ours."""
    numbers = [name for name in METRICS if name not in _STATISTICS]
    return (
        {name: [row[name] for row in rows] for name in _HEAD}
        | _sweep_columns(rows)
        | {
            f"{name}_{which}": [row[name][which] for row in rows]
            for name in _STATISTICS
            for which in ("mean", "p95", "p99")
        }
        | {name: [metric(row, name) for row in rows] for name in numbers}
    )


def summary_table(summary: Sequence[Mapping[str, Any]]) -> Table:
    """Return a summary as columns; what a scheduler was not compared with is None."""
    others = dict.fromkeys(name for each in summary for name in each["vs"])
    head = ("scenario", "scheduler", "metric", "seeds", "mean", "ci95_low", "ci95_high")
    return (
        {name: [each[name] for each in summary] for name in head}
        | _sweep_columns(summary)
        | {
            f"vs_{other}_{name}": [each["vs"].get(other, {}).get(name) for each in summary]
            for other in others
            for name in _VERSUS
        }
    )


def curve_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return points of learning curves as columns."""
    names = ("scenario", "scheduler", "training_seed", "episode", "reward")
    return {name: [row[name] for row in rows] for name in names} | _sweep_columns(rows)


def _sweep_columns(rows: Sequence[Mapping[str, Any]]) -> Table:
    keys = dict.fromkeys(key for row in rows for key in row["sweep"])
    return {key: [point_text(row["sweep"].get(key)) for row in rows] for key in keys}


def point_text(value: Any) -> Any:
    """Return a value of a sweep as it stands in a table: numbers and texts, others as JSON."""
    simple = value is None or isinstance(value, str | int | float)
    return value if simple else json.dumps(value)


def as_csv(table: Table) -> str:
    """Return columns as CSV; floats in full precision, None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def as_markdown(head: Sequence[str], rows: Iterable[Sequence[str]], text: int = 1) -> str:
    """Return a table as Markdown; its first ``text`` columns are text, the others numbers."""
    rule = [*["---"] * text, *["---:"] * (len(head) - text)]
    return "".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n"
        for line in (head, rule, *rows)
    )
