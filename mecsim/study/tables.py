"""The summary of a comparison as tables for a paper, in Markdown and in LaTeX."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from mecsim.simulation.metrics import METRICS
from mecsim.study.axis_labels import key_axis, metric_axis, metric_factor
from mecsim.study.competitors import BOUND
from mecsim.study.report_tables import as_markdown
from mecsim.study.summary import Entry
from mecsim.support.text import number, value_text

DIGITS: Final = 2
"""Significant digits of half an interval; the mean has as many decimals."""
GAP: Final = 2
"""Letters between two columns."""
COLUMN: Final = 46
"""Letters in a column of a paper with two columns; wider LaTeX tables take the whole page."""
_SMALL, _LARGE = 1e-3, 1e6
_ROUNDING = 1e-12
"""The width of an interval, relative to its mean, that is only an error of rounding."""
"""Means outside these limits have a power of ten."""


class Cell(NamedTuple):
    """A mean with half its 95% interval, as text."""

    mean: str
    half: str = ""
    """Empty for a single number."""
    exponent: int = 0
    """Power of ten that both are multiplied by."""
    best: bool = False


@dataclass(frozen=True)
class PaperTable:
    """A table of one metric: a row per point and a column per scheduler, or the other way round."""

    name: str
    title: str
    head: Sequence[str]
    """First the columns of the places, then those of the cells."""
    places: Sequence[Sequence[str]]
    """The point or the scheduler of each row."""
    cells: Sequence[Sequence[Cell | None]]
    seeds: str
    """Number of seeds, such as ``5`` or ``3 to 5``."""
    along: str = ""
    """What the columns are where the rows are schedulers; empty where they are points."""

    @property
    def texts(self) -> int:
        """Number of columns of the places."""
        return len(self.head) - len(self.cells[0])

    @property
    def letters(self) -> int:
        """About how many letters wide the table is."""
        rows = [
            [*place, *(_markdown_cell(each).replace("*", "") for each in cells)]
            for place, cells in zip(self.places, self.cells, strict=True)
        ]
        widths = [max(map(len, column)) for column in zip(self.head, *rows, strict=True)]
        return sum(widths) + GAP * (len(widths) - 1)

    @property
    def caption(self) -> str:
        """What the numbers are."""
        title = self.title[:1].upper() + self.title[1:]
        by, line = (f" by {self.along}", "column") if self.along else ("", "row")
        return (
            f"{title}{by}: mean ± half width of the 95% interval over {self.seeds} seeds; "
            f"the best mean of each {line} is bold"
        )


def cell(mean: float, low: float | None, high: float | None, *, best: bool = False) -> Cell:
    """Return a mean and half its interval, rounded to the digits that the interval leaves.

    >>> cell(24.1534, 24.07, 24.23)[:2], cell(18490, 17000, 19920)[:2]
    (('24.153', '0.080'), ('18,500', '1,500'))
    >>> cell(0.1, 0.1 - 1e-15, 0.1 + 1e-15)[:2]
    ('0.1', '0')
    >>> cell(1.25e-7, 1.2e-7, 1.3e-7)
    Cell(mean='1.250', half='0.050', exponent=-7, best=False)
    """
    if low is None or high is None or high - low <= _ROUNDING * abs(mean):
        half = "" if low is None else "0"
        return Cell(number(mean), half, best=best)
    size, half_width = abs(mean), (high - low) / 2
    power = 0
    if size >= _LARGE or 0 < size < _SMALL:
        power = math.floor(math.log10(size))
        mean, half_width = mean / 10**power, half_width / 10**power
    decimals = DIGITS - 1 - math.floor(math.log10(half_width))
    shown = [f"{round(each, decimals):,.{max(0, decimals)}f}" for each in (mean, half_width)]
    return Cell(shown[0], shown[1], power, best)


def all_tables(summary: Sequence[Entry], by_class: Sequence[Entry] = ()) -> Iterator[PaperTable]:
    """Yield the tables of a summary, then those of its classes of tasks.

    Args:
        summary: The summary.
        by_class: See :func:`mecsim.study.summary.places_of_classes`.
    """
    yield from paper_tables(summary)
    for table in paper_tables(by_class):
        title = f"{table.title} by class of tasks"
        yield replace(table, name=f"{table.name}_by_class", title=title)


def paper_tables(summary: Sequence[Entry]) -> Iterator[PaperTable]:
    """Yield a table for each metric that is not 0 everywhere.

    The rows are the points or, if there are more of them, the schedulers.
    """
    schedulers = {each["scheduler"] for each in summary}
    points = {(each["scenario"], json.dumps(each["sweep"])) for each in summary}
    turn = _transposed if len(schedulers) > len(points) else _as_it_is
    for name in METRICS:
        found = [each for each in summary if each["metric"] == name and each["mean"] is not None]
        if any(each["mean"] for each in found):
            yield turn(_table(name, found))


def _as_it_is(table: PaperTable) -> PaperTable:
    return table


def _transposed(table: PaperTable) -> PaperTable:
    """Return a table of points by schedulers as one of schedulers by points."""
    keys, schedulers = table.head[: table.texts], table.head[table.texts :]
    return replace(
        table,
        head=["scheduler", *(", ".join(place) for place in table.places)],
        places=[[each] for each in schedulers],
        cells=list(zip(*table.cells, strict=True)),
        along=" and ".join(keys),
    )


def _table(name: str, entries: Sequence[Entry]) -> PaperTable:
    schedulers = list(dict.fromkeys(each["scheduler"] for each in entries))
    places = {(each["scenario"], json.dumps(each["sweep"])): each for each in entries}
    keys = list(dict.fromkeys(key for each in entries for key in each["sweep"]))
    columns = [key_axis(key, [each["sweep"].get(key) for each in places.values()]) for key in keys]
    several = len({scenario for scenario, _ in places}) > 1 or not keys
    rows = [
        [*([scenario] if several else []), *(value_text(values[at]) for _, values in columns)]
        for at, (scenario, _) in enumerate(places)
    ]
    seeds = sorted({each["seeds"] for each in entries if each["scheduler"] != BOUND}) or [0]
    return PaperTable(
        name,
        metric_axis(name),
        [*(["scenario"] if several else []), *(label for label, _ in columns), *schedulers],
        rows,
        [_cells(name, entries, place, schedulers) for place in places],
        " to ".join(dict.fromkeys((str(seeds[0]), str(seeds[-1])))),
    )


def _cells(
    name: str, entries: Sequence[Entry], place: tuple[str, str], schedulers: Sequence[str]
) -> list[Cell | None]:
    """Return the cells of a row; the best mean is marked, also where others are written alike."""
    factor = metric_factor(name)
    found: dict[str, Cell] = {}
    means: dict[str, float] = {}
    for each in entries:
        if (each["scenario"], json.dumps(each["sweep"])) == place and each["mean"] is not None:
            ends = (each["ci95_low"], each["ci95_high"])
            low, high = (None if end is None else factor * end for end in ends)
            found[each["scheduler"]] = cell(factor * each["mean"], low, high)
            if each["scheduler"] != BOUND:
                means[each["scheduler"]] = each["mean"]
    if len(means) > 1:
        choose = min if METRICS[name].better == "lower" else max
        best = choose(means.values())
        found |= {label: found[label]._replace(best=True)
                  for label, mean in means.items() if mean == best}  # fmt: skip
    return [found.get(label) for label in schedulers]


def as_markdown_tables(summary: Sequence[Entry], by_class: Sequence[Entry] = ()) -> str:
    """Return :func:`all_tables` in Markdown, each with a heading and what the numbers are."""
    parts = []
    for table in all_tables(summary, by_class):
        rows = [
            [*place, *map(_markdown_cell, cells)]
            for place, cells in zip(table.places, table.cells, strict=True)
        ]
        written = as_markdown(table.head, rows, table.texts)
        parts.append(f"## {table.title}\n\n{written}\n{table.caption}.\n")
    return "\n".join(parts)


def _markdown_cell(each: Cell | None) -> str:
    if each is None:
        return "–"
    text = f"{each.mean} ± {each.half}" if each.half else each.mean
    if each.exponent:
        text = f"({text})e{each.exponent}"
    return f"**{text}**" if each.best else text


def as_latex_tables(summary: Sequence[Entry], by_class: Sequence[Entry] = ()) -> str:
    """Return :func:`all_tables` in LaTeX, each as a ``table`` with caption and label.

    One that is wider than a column is a ``table*`` in a smaller font.
    """
    head = "% \\usepackage{booktabs}\n% Written by mecsim compare.\n"
    return "\n".join([head, *map(_latex_table, all_tables(summary, by_class))])


def _latex_table(table: PaperTable) -> str:
    columns = "l" * table.texts + "r" * len(table.cells[0])
    wide = table.letters > COLUMN
    kind, size = ("table*", "  \\footnotesize\n") if wide else ("table", "")
    rows = [
        [*map(latex_text, place), *map(_latex_cell, cells)]
        for place, cells in zip(table.places, table.cells, strict=True)
    ]
    body = "".join(f"    {' & '.join(row)} \\\\\n" for row in rows)
    return (
        f"\\begin{{{kind}}}\n  \\centering\n{size}"
        f"  \\caption{{{latex_text(table.caption)}.}}\n"
        f"  \\label{{tab:{table.name.replace('_', '-')}}}\n"
        f"  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n"
        f"    {' & '.join(map(latex_text, table.head))} \\\\\n    \\midrule\n"
        f"{body}    \\bottomrule\n  \\end{{tabular}}\n\\end{{{kind}}}\n"
    )


def _latex_cell(each: Cell | None) -> str:
    if each is None:
        return "--"
    mean = each.mean.replace(",", "{,}").replace("e", r"\mathrm{e}")
    half = rf" \pm {each.half.replace(',', '{,}')}" if each.half else ""
    text = f"{mean}{half}"
    if each.exponent:
        text = rf"({text}) \times 10^{{{each.exponent}}}"
    return rf"$\mathbf{{{text}}}$" if each.best else f"${text}$"


_LATEX: Final[dict[str, Any]] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "--",
    "[": "{[}",  # an argument of the end of the row before
    "*": "{*}",
    "×": r"$\times$",
    "λ": r"$\lambda$",
    "β": r"$\beta$",
    "κ": r"$\kappa$",
    **{each: rf"\{each}" for each in "{}$&#_%"},
}


def latex_text(text: str) -> str:
    r"""Return a text for LaTeX: characters with a meaning are escaped.

    >>> latex_text("a_b & 95%")
    'a\\_b \\& 95\\%'
    """
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text)
