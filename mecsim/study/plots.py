"""Draw panels into PNG, SVG and PDF files with matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mecsim.errors import InputError
from mecsim.study import distributions, scales
from mecsim.study.axes import View, height_of_names, plain
from mecsim.study.drawing import draw_panel, legend
from mecsim.study.figure_format import SCREEN, FigureFormat
from mecsim.study.layout import (
    ENTRY_HEIGHT,
    Layout,
    labels_of,
    layout,
    legend_columns,
    remarks_of,
    rows_below,
    shared_labels,
    spans,
    width_of,
    without_legend,
)
from mecsim.study.panel import Panel, has_categories, names_lines
from mecsim.study.scales import Note
from mecsim.study.styles import Style, styles
from mecsim.support.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_DATE: Final = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata by format: a date would make equal figures differ."""


def need_matplotlib(otherwise: str = "") -> None:
    """Raise ``InputError`` if matplotlib is missing; ``otherwise`` suggests an alternative."""
    try:
        import matplotlib  # noqa: F401, PLC0415 - slow to import
    except ImportError as error:
        raise InputError(
            f"figures need matplotlib; install it with pip install 'mecsim[plot]'{otherwise}"
        ) from error


def check_replaced(stem: Path, form: FigureFormat) -> None:
    """Raise ``InputError`` if a figure would replace a file that matplotlib has not drawn."""
    for path in _files(stem, form):
        if path.is_file() and b"Matplotlib" not in path.read_bytes():
            raise InputError(
                f"{path}: already exists, and matplotlib has not drawn it. "
                "Choose another --out, or delete it"
            )


def _files(stem: Path, form: FigureFormat) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{each}") for each in form.formats]


def draw(
    panels: Sequence[Panel],
    stem: Path,
    *,
    columns: int = 3,
    heading: str = "",
    labels: Sequence[str] = (),
    form: FigureFormat = SCREEN,
    share: bool = False,
) -> list[Path]:
    """Draw panels next to each other into a file for each format, such as ``stem.png``.

    Equal panels give byte-identical files.

    Args:
        panels: What is drawn.
        stem: The path of the files without their endings.
        columns: Maximum number of panels in a row; four fit in one row if there are no more.
        heading: Title of the whole figure.
        labels: All labels of a set of figures, so that their styles are the same in each.
        form: The formats and the size; a given width decides the number of panels in a row.
        share: Let panels share axes where they show the same quantity.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import

    files = _files(stem, form)
    with rc_context(form.parameters):
        figure = make_figure(panels, columns, heading, labels, form, share=share)
        with replacing(*files, out=stem) as partial:
            for name, path in zip(form.formats, partial, strict=True):
                more = {"metadata": _NO_DATE[name]} if name in _NO_DATE else {}
                figure.savefig(path, format=name, **({"dpi": form.dpi} if name == "png" else more))
    return files


def make_figure(
    panels: Sequence[Panel],
    columns: int = 3,
    heading: str = "",
    labels: Sequence[str] = (),
    form: FigureFormat = SCREEN,
    *,
    share: bool = False,
) -> Figure:
    """Return a figure of the panels; see :func:`draw` for the arguments."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    plan = layout(panels, columns, form)
    looks = styles(list(dict.fromkeys([*labels, *labels_of(panels)])))
    shared = shared_labels(panels)
    names = {line.label: line.shown for panel in panels for line in panel.lines}
    fitting = legend_columns([names[label] for label in shared], plan.width, form)
    remarks = remarks_of(panels, int(plan.width / form.letter))
    entries = 0 if without_legend(panels) else math.ceil(len(shared) / fitting)
    below = entries + len(remarks) + rows_below(plan, shared, form)
    views = _views(plan, form, share=share)
    height = (
        plan.height + form.scale * (0.3 + ENTRY_HEIGHT * below) + _extra_height(plan, views, form)
    )
    figure = Figure(figsize=(plan.width, height), layout="constrained")
    if heading:
        figure.suptitle(plain(heading))
    _draw_rows(figure, plan, views, looks, shared)
    look = {label: looks[label] for label in shared}
    bars = any(panel.bars for panel in panels) and views[0][0].kind == "linear"
    legend(figure, panels, look, form, bars=bars, loc="outside lower center", ncols=fitting,
           title=plain("\n".join(remarks)))  # fmt: skip
    return figure


def _extra_height(plan: Layout, views: Sequence[Sequence[View]], form: FigureFormat) -> float:
    """Return the height of notes, long titles and long tick labels in inches.

    On screens panels yield to them.
    """
    if form.width_in is None:
        return 0.0
    total = 0.0
    for row, shown in zip(plan.rows, views, strict=True):
        pairs = list(zip(row, shown, strict=True))
        titles = max(view.wrapped(panel.title).count("\n") for panel, view in pairs)
        points = 1.25 * (shown[0].space * form.small + titles * form.font_size)
        total += points / 72 + max(height_of_names(panel, view) for panel, view in pairs)
    return total


def _views(plan: Layout, form: FigureFormat, *, share: bool) -> list[list[View]]:
    """Return how the panels of each row are shown.

    With shared axes the labels of the y-axis are left of the first panel of a row, and those of the
    x-axis below the last panel of a column.
    """
    every = [panel for row in plan.rows for panel in row]
    kinds = scales.kinds(every)
    limits = [scales.limits(panel, kind) for panel, kind in zip(every, kinds, strict=True)]
    one_y = share and scales.shared(every, limits, kinds)
    if one_y:
        limits = [scales.union(limits)] * len(every)
    of_shares = [panel for panel in every if panel.distribution]
    quantities = iter(distributions.x_axes(of_shares, share=share))
    views = [
        View(kind, shown, (), 0, form, plan.panel, next(quantities) if panel.distribution else None)
        for panel, kind, shown in zip(every, kinds, limits, strict=True)
    ]
    each = iter(views)
    found = [[next(each) for _ in row] for row in plan.rows]
    return [_row(plan, number, found, share=share, one_y=one_y) for number in range(len(plan.rows))]


def _row(
    plan: Layout, number: int, views: Sequence[Sequence[View]], *, share: bool, one_y: bool
) -> list[View]:
    """Return the views of a row with their notes, and without the labels that others have."""
    row = plan.rows[number]
    width = width_of(spans(len(row), max(map(len, plan.rows)))[0], plan)
    last = number + 1 == len(plan.rows) or len(plan.rows[number + 1]) < len(row)
    chosen = []
    for column, (panel, view) in enumerate(zip(row, views[number], strict=True)):
        same = share and not last and _same_x(
            panel, view, plan.rows[number + 1][column], views[number + 1][column]
        )  # fmt: skip
        notes = _notes(panel, view, width)
        chosen.append(
            replace(view, notes=notes, width=width, x_labels=not same,
                    y_labels=not (one_y and column))
        )  # fmt: skip
    space = max(len(view.notes) for view in chosen)
    return [replace(view, space=space) for view in chosen]


def _same_x(panel: Panel, view: View, other: Panel, under: View) -> bool:
    """Return whether two panels above each other have the same x-axis."""
    if panel.x_label != other.x_label or view.quantities != under.quantities:
        return False
    places = [{str(x) for line in each.lines for x in line.x} for each in (panel, other)]
    return bool(view.quantities) or places[0] == places[1]


def _notes(panel: Panel, view: View, width: float) -> list[Note]:
    """Return what is off the scale, in lines that fit if the width is given."""
    found = list(scales.notes(panel, view.limits))
    if view.quantities:
        found += distributions.notes(panel, view.quantities[1])
    if view.form.width_in is None:
        return found
    most = int(0.9 * width / view.form.letter)
    return [Note(each.label, text) for each in found for text in textwrap.wrap(each.text, most)]


def _draw_rows(
    figure: Figure,
    plan: Layout,
    views: Sequence[Sequence[View]],
    looks: Mapping[str, Style],
    shared: Sequence[str],
) -> None:
    """Draw the panels, and below each the legend of the labels that no other panel has."""
    wide = max(map(len, plan.rows))
    grid = figure.add_gridspec(len(plan.rows), 2 * wide)
    for number, row in enumerate(plan.rows):
        for panel, view, span in zip(row, views[number], spans(len(row), wide), strict=True):
            axes = figure.add_subplot(grid[number, span])
            chosen = _panel_styles(panel, looks, shared)
            draw_panel(axes, panel, chosen, view)
            own = {label: chosen[label] for label in labels_of([panel]) if label not in shared}
            if own and not names_lines(panel):
                fitting = legend_columns(list(own), width_of(span, plan), view.form)
                bars = panel.bars and view.kind == "linear"
                legend(axes, [panel], own, view.form, bars=bars, loc="upper center", ncols=fitting,
                       bbox_to_anchor=(0.5, -0.42 if has_categories(panel) else -0.17))  # fmt: skip


def _panel_styles(
    panel: Panel, looks: Mapping[str, Style], shared: Sequence[str]
) -> Mapping[str, Style]:
    """Return styles of a panel that differ most, if the shared labels keep theirs."""
    alone = styles(labels_of([panel]))
    kept = all(alone[label] == looks[label] for label in alone if label in shared)
    return alone if kept else looks
