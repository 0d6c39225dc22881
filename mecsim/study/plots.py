"""Draw panels into PNG and SVG files with matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mecsim.errors import InputError
from mecsim.study import scales
from mecsim.study.drawing import draw_panel, legend, plain
from mecsim.study.panel import Panel, has_categories, names_lines
from mecsim.study.styles import Style, shipped_name, styles
from mecsim.support.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_SIZE: Final = (4.2, 3.2)
"""Width and height in inches; a single panel is larger."""
SINGLE_SIZE: Final = (6.6, 4.0)
ENTRY_HEIGHT: Final = 0.21
"""Height of a row of the legend in inches."""
LETTER: Final = 0.062
"""Mean width of a letter in inches."""
INTERVALS: Final = "bars: 95% intervals"
BAND: Final = "band: mean ± standard deviation over trainings, thin lines: each training"


def need_matplotlib(otherwise: str = "") -> None:
    """Raise ``InputError`` if matplotlib is missing; ``otherwise`` suggests an alternative."""
    try:
        import matplotlib  # noqa: F401, PLC0415 - slow to import
    except ImportError as error:
        raise InputError(
            f"figures need matplotlib; install it with pip install 'mecsim[plot]'{otherwise}"
        ) from error


def draw(
    panels: Sequence[Panel],
    stem: Path,
    *,
    columns: int = 3,
    heading: str = "",
    labels: Sequence[str] = (),
) -> list[Path]:
    """Draw panels next to each other into ``stem.png`` and ``stem.svg``.

    Equal panels give byte-identical files.

    Args:
        panels: What is drawn.
        stem: The path of the files without their endings.
        columns: Maximum number of panels in a row; four fit in one row if there are no more.
        heading: Title of the whole figure.
        labels: All labels of a set of figures, so that their styles are the same in each.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import

    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with rc_context({"svg.hashsalt": "mecsim", "svg.fonttype": "none", "font.size": 9}):
        figure = make_figure(panels, columns, heading, labels)
        with replacing(*files, out=stem) as (png, svg):
            figure.savefig(png, dpi=160, format="png")
            figure.savefig(svg, metadata={"Date": None}, format="svg")
    return files


def make_figure(
    panels: Sequence[Panel], columns: int = 3, heading: str = "", labels: Sequence[str] = ()
) -> Figure:
    """Return a figure of the panels; see :func:`draw` for the arguments."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    rows = rows_of(panels, columns)
    wide = max(map(len, rows))
    size = PANEL_SIZE[0] * wide, PANEL_SIZE[1] * len(rows)
    width, height = SINGLE_SIZE if len(panels) == 1 else size
    looks = styles(list(dict.fromkeys([*labels, *_labels(panels)])))
    shared = shared_labels(panels)
    legend_columns = _legend_columns(shared, width)
    remarks = _remarks(panels, int(width / LETTER))
    below = math.ceil(len(shared) / legend_columns) + len(remarks) + _rows_below(rows, shared)
    figure = Figure(figsize=(width, height + 0.3 + ENTRY_HEIGHT * below), layout="constrained")
    if heading:
        figure.suptitle(plain(heading))
    _draw_rows(figure, rows, looks, shared)
    look = {label: looks[label] for label in shared}
    legend(figure, panels, look, loc="outside lower center", ncols=legend_columns,
           title=plain("\n".join(remarks)))  # fmt: skip
    return figure


def _draw_rows(
    figure: Figure,
    rows: Sequence[Sequence[Panel]],
    looks: Mapping[str, Style],
    shared: Sequence[str],
) -> None:
    """Draw the panels, and below each the legend of the labels that no other panel has."""
    wide = max(map(len, rows))
    grid = figure.add_gridspec(len(rows), 2 * wide)
    kinds = iter(scales.kinds([panel for row in rows for panel in row]))
    for number, row in enumerate(rows):
        found = [(panel, kind := next(kinds), scales.limits(panel, kind)) for panel in row]
        space = max(len(scales.notes(panel, shown)) for panel, _, shown in found)
        for (panel, kind, shown), span in zip(found, _spans(len(row), wide), strict=True):
            axes = figure.add_subplot(grid[number, span])
            chosen = _panel_styles(panel, looks, shared)
            draw_panel(axes, panel, chosen, kind, shown, space)
            own = {label: chosen[label] for label in _labels([panel]) if label not in shared}
            if own and not names_lines(panel):
                fitting = _legend_columns(list(own), _width(span))
                legend(axes, [panel], own, loc="upper center", ncols=fitting,
                       bbox_to_anchor=(0.5, -0.42 if has_categories(panel) else -0.17))  # fmt: skip


def _panel_styles(
    panel: Panel, looks: Mapping[str, Style], shared: Sequence[str]
) -> Mapping[str, Style]:
    """Return styles of a panel that differ most, if the shared labels keep theirs."""
    alone = styles(_labels([panel]))
    kept = all(alone[label] == looks[label] for label in alone if label in shared)
    return alone if kept else looks


def _labels(panels: Sequence[Panel]) -> list[str]:
    return list(dict.fromkeys(line.label for panel in panels for line in panel.lines))


def shared_labels(panels: Sequence[Panel]) -> list[str]:
    """Return the labels for the legend of the figure.

    These are the shipped schedulers and what several panels have. The legend of the other labels is
    below their panel.
    """
    count = Counter(label for panel in panels for label in _labels([panel]))
    return [label for label in count if shipped_name(label) or count[label] > 1 or len(panels) == 1]


def _rows_below(rows: Sequence[Sequence[Panel]], shared: Sequence[str]) -> int:
    """Return how many rows of legends the panels have below each other."""
    total, wide = 0, max(map(len, rows))
    for row in rows:
        width = _width(_spans(len(row), wide)[0])
        owns = [[label for label in _labels([panel]) if label not in shared] for panel in row]
        total += max(math.ceil(len(own) / _legend_columns(own, width)) for own in owns)
    return total


def rows_of(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    """Return the rows of a figure; extra panels begin a new one. Four panels fit in one row."""
    rows = []
    for extra in (False, True):
        group = [panel for panel in panels if panel.extra == extra]
        wide = len(group) if len(group) <= columns + 1 else columns
        rows += [group[at : at + wide] for at in range(0, len(group), wide or 1)]
    return rows


def _spans(count: int, wide: int) -> list[slice]:
    """Return the half columns of each of ``count`` panels in a row, centred; one is wider."""
    size = 4 if count == 1 < wide else 2
    first = (2 * wide - size * count) // 2
    return [slice(first + size * each, first + size * (each + 1)) for each in range(count)]


def _width(span: slice) -> float:
    """Return the width of half columns in inches."""
    return PANEL_SIZE[0] * float(span.stop - span.start) / 2


def _remarks(panels: Sequence[Panel], width: int) -> list[str]:
    """Return what intervals, bands and marks mean, in lines of at most ``width`` letters."""
    found = []
    means = [line for panel in panels if not panel.curves for line in panel.lines]
    if any(end is not None for line in means for end in line.low):
        found.append(INTERVALS)
    if any(panel.curves and len(line.single) > 1 for panel in panels for line in panel.lines):
        found.append(BAND)
    marks = [mark for panel in panels for mark in panel.marks]
    found += [f"{'▲' if mark.y is None else '◄'} {mark.legend}" for mark in marks]
    found += [remark for panel in panels for remark in panel.remarks]
    lines: list[str] = []
    for remark in dict.fromkeys(found):
        if lines and len(lines[-1]) + len(remark) + 5 <= width:
            lines[-1] += f"     {remark}"
        else:
            lines += textwrap.wrap(remark, width)
    return lines


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """Return the number of legend entries that fit in a row of a width in inches."""
    entry = 0.6 + 0.066 * max((len(label) for label in labels), default=0)
    return max(1, min(len(labels), int(width / entry)))
