"""The output: a page, a picture and tables for each figure, and a page of claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mecsim.paper.claims import AnyClaim
from mecsim.paper.figure_files import CURVE, Figure, PanelSpec
from mecsim.paper.panels import Results, learning_curves, panels, shown, y_label
from mecsim.paper.verdicts import Finding, Verdict
from mecsim.study import plots
from mecsim.study.report_tables import (
    as_csv,
    as_markdown,
    curve_table,
    point_text,
    run_table,
    summary_table,
)
from mecsim.study.summary import Entry
from mecsim.study.sweep import Point
from mecsim.support.files import write_whole
from mecsim.support.text import number

QUICK: Final = "Made with --quick: fewer points, seeds and episodes than the figures of the paper."


def write_figures(
    folder: Path, figures: Mapping[str, Figure], results: Results, *, quick: bool
) -> None:
    """Write picture, page and tables of each figure. Raises ``OutputError``."""
    for name, figure in figures.items():
        heading = f"{figure.title}\n(quick: fewer points and seeds)" if quick else figure.title
        if drawn := panels(name, figure, results):
            plots.draw(drawn, folder / name, heading=heading)
        page = figure_page(name, figure, results, quick=quick)
        write_whole(folder / f"{name}.md", page)
        for each in figure.studies:
            place = f"{name}.{each}"
            tables = {
                "summary": summary_table(results.summary[place]),
                "runs": run_table(results.rows[place]),
                "curves": curve_table(results.curves[place]),
            }
            for what, table in tables.items():
                if any(table.values()):
                    write_whole(folder / f"{place}.{what}.csv", as_csv(table))


def figure_page(name: str, figure: Figure, results: Results, *, quick: bool) -> str:
    """Return the page of a figure in Markdown: the picture, and each panel as a table."""
    parts = [f"# {name}: {figure.title}\n", f"![{figure.title}]({name}.png)\n"]
    parts += [f"{figure.note}\n"] if figure.note else []
    parts += [f"**{QUICK}**\n"] if quick else []
    for spec in figure.panels:
        place = f"{name}.{spec.study}"
        note = figure.studies[spec.study].note
        if spec.metric == CURVE:
            table = _reached_table(results, place)
        else:
            table = _panel_table(shown(spec, results.summary[place], figure.baseline), spec)
        if table:
            heading = f"{spec.title or name}: {y_label(spec, figure.baseline)}"
            parts += [f"## {heading}\n", *([f"{note}\n"] if note else []), table]
    return "\n".join(parts)


def _panel_table(entries: Sequence[Entry], spec: PanelSpec) -> str:
    """Return means with half their intervals: a row per point, a column per scheduler."""
    if not entries:
        return ""
    schedulers = list(dict.fromkeys(each["scheduler"] for each in entries))
    cells = {(each["scenario"], _point(each["sweep"]), each["scheduler"]): each for each in entries}
    places = dict.fromkeys(place[:2] for place in cells)
    several = len({scenario for scenario, _ in places}) > 1
    rows = []
    for scenario, point in places:
        found = [cells.get((scenario, point, scheduler)) for scheduler in schedulers]
        where = f"{scenario}, {point}" if several else point
        rows.append([where, *("–" if each is None else _interval(each) for each in found)])
    return as_markdown([spec.x or "", *schedulers], rows)


def _point(sweep: Point) -> str:
    return ", ".join(str(point_text(value)) for value in sweep.values())


def _interval(each: Entry) -> str:
    if each["ci95_low"] is None or each["ci95_high"] is None:
        return number(each["mean"])
    return f"{number(each['mean'])} ± {(each['ci95_high'] - each['ci95_low']) / 2:.2g}"


def _reached_table(results: Results, place: str) -> str:
    """Return the first and the last reward of each learning curve."""
    rows = [
        [line.label, number(line.x[-1]), number(line.y[0]), number(line.y[-1])]
        for line in learning_curves(place, results)
    ]
    head = ["scheduler", "episodes", "first reward", "last reward"]
    return as_markdown(head, rows) if rows else ""


def claims_page(found: Sequence[tuple[AnyClaim, Finding]], *, quick: bool) -> str:
    """Return the table of claims in Markdown."""
    rows = [
        [claim.id, claim.says, finding.measured, str(finding.verdict), _reason(claim, finding)]
        for claim, finding in found
    ]
    head = ["claim", "the paper says", "measured, with 95% intervals", "verdict", "reason"]
    parts = [
        "# The claims of the paper\n",
        f"{_counted(found)}\n",
        "All are judged on the preset `paper` of the learners.\n",
        "Claims: `mecsim/paper/figures/claims.yaml`. Rules: `mecsim/paper/verdicts.py`.\n",
        *([f"**{QUICK}**\n"] if quick else []),
        as_markdown(head, rows, text=len(head)),
    ]
    return "\n".join(parts)


def _counted(found: Sequence[tuple[AnyClaim, Finding]]) -> str:
    """Return how many claims have each verdict, and how many of those that hold were fitted."""
    counts = Counter(finding.verdict for _, finding in found)
    counted = ", ".join(f"{counts[verdict]} {_PLURAL[verdict]}" for verdict in Verdict)
    fitted = sum(claim.fitted and each.verdict is Verdict.HOLDS for claim, each in found)
    of_holding = f"{fitted} of the {counts[Verdict.HOLDS]}" if fitted else "none of those"
    verb = "is" if fitted == 1 else "are"
    remark = f", which {verb} therefore no test" if fitted else ""
    return (
        f"Of {len(found)} claims, {counted}. The scenario was fitted to {of_holding} that "
        f"hold{remark}."
    )


_PLURAL: Final = {
    Verdict.HOLDS: "hold",
    Verdict.DIRECTION: "hold in direction only",
    Verdict.NOT: "do not hold",
    Verdict.INCOMPARABLE: "cannot be compared",
}


def _reason(claim: AnyClaim, finding: Finding) -> str:
    return ". ".join(part.rstrip(".") for part in (finding.reason, claim.context) if part)
