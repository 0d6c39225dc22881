"""The report of the reproduction of the paper, from its folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from mecsim.errors import InputError
from mecsim.paper.figure_files import Figure, load_figures
from mecsim.paper.panels import Results, panels
from mecsim.report.inputs import read_csv, read_json
from mecsim.report.page import Chart, Page, Section, Table, Text
from mecsim.report.panel_chart import panel_chart
from mecsim.simulation.metrics import METRICS
from mecsim.study.styles import styles
from mecsim.study.summary import CurvePoint, Entry

CLAIM_HEAD: Final = "| claim | the paper says |"
VERDICT: Final = 3
"""The column of the verdict."""


def paper_page(folder: Path) -> Page:
    """Return the report of a reproduction.

    Raises:
        InputError: A file of the folder cannot be read.
    """
    claims = _claims(folder / "claims.md")
    sections = [Section("claims", "Claims", [claims])]
    for name, figure in load_figures([]).items():
        if charts := _charts(folder, name, figure):
            note = [Text(figure.note)] if figure.note else []
            sections.append(Section(name, f"{name}: {figure.title}", [*note, *charts]))
    if (folder / "made_by.json").is_file():
        sections.append(Section("provenance", "What was run", [_made_by(folder)]))
    counts = Counter(str(row[VERDICT]) for row in claims.rows)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return Page(
        title="Reproduction of the paper",
        subtitle=f"{len(claims.rows)} claims: {counted}.",
        sections=sections,
        facts={"claims": len(claims.rows), "verdicts": dict(counts)},
    )


def _claims(path: Path) -> Table:
    """Return the claims from the page that ``mecsim reproduce`` writes. Raises ``InputError``."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    first = next((n for n, line in enumerate(lines) if line.startswith(CLAIM_HEAD)), None)
    if first is None:
        raise InputError(f"{path}: expected a table that begins with {CLAIM_HEAD!r}")
    head, *rows = (
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for number, line in enumerate(lines)
        if number >= first and number != first + 1 and line.startswith("|")
    )
    whole = [[*row, *[""] * len(head)][: len(head)] for row in rows]
    return Table("Claims of the paper and what was measured", head, whole, len(head),
                 "claims-table", filterable=True, filters=[VERDICT])  # fmt: skip


def _charts(folder: Path, name: str, figure: Figure) -> list[Chart]:
    places = [f"{name}.{study}" for study in figure.studies]
    summary: dict[str, list[Entry]] = {place: _entries(folder, place) for place in places}
    curves: dict[str, list[CurvePoint]] = {place: _curves(folder, place) for place in places}
    results = Results({place: [] for place in places}, summary, curves)
    drawn = panels(name, figure, results)
    looks = styles(list(dict.fromkeys(line.label for panel in drawn for line in panel.lines)))
    return [
        panel_chart(panel, looks, f"{name}-{number}", panel.title or figure.title,
                    wide=len(drawn) == 1)
        for number, panel in enumerate(drawn)
    ]  # fmt: skip


def _entries(folder: Path, place: str) -> list[Entry]:
    """Return the summary of a study as it was before it became a table.

    Metrics that only another version of mecsim knows are left out: no panel shows them.
    """
    path = folder / f"{place}.summary.csv"
    rows = read_csv(path) if path.is_file() else []
    return [_entry(row) for row in rows if row.get("metric") in METRICS]


def _entry(row: Mapping[str, Any]) -> Entry:
    head = ("scenario", "scheduler", "metric", "seeds", "mean", "ci95_low", "ci95_high")
    fields = ("paired_difference", "ci95_low", "ci95_high", "percent", "percent_ci95_low",
              "percent_ci95_high")  # fmt: skip
    others = [
        name.removeprefix("vs_").removesuffix("_paired_difference")
        for name in row
        if name.startswith("vs_") and name.endswith("_paired_difference")
    ]
    versus: dict[str, Any] = {
        other: {"seeds": row["seeds"]} | {each: row.get(f"vs_{other}_{each}") for each in fields}
        for other in others
        if row.get(f"vs_{other}_paired_difference") is not None
    }
    sweep = {
        name: value
        for name, value in row.items()
        if name not in (*head, "overloaded") and not name.startswith("vs_") and value is not None
    }
    known: Any = {name: row.get(name) for name in head}
    rest = {"sweep": sweep, "overloaded": row.get("overloaded") or 0, "vs": versus}
    return cast(Entry, known | rest)


def _curves(folder: Path, place: str) -> list[CurvePoint]:
    path = folder / f"{place}.curves.csv"
    head = ("scenario", "scheduler", "training_seed", "episode", "reward")
    found: Sequence[Mapping[str, Any]] = read_csv(path) if path.is_file() else []
    rows: list[Any] = [
        {name: row[name] for name in head}
        | {"sweep": {name: value for name, value in row.items() if name not in head}}
        for row in found
    ]
    return rows


def _made_by(folder: Path) -> Table:
    found = read_json(folder / "made_by.json")
    rows = [
        [str(name), value if isinstance(value, str) else json.dumps(value)]
        for name, value in found.items()
    ]
    return Table("Origin of the results", ["", "value"], rows, 2, "origin")
