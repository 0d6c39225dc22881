"""Where the panels, the legends and the remarks of a figure are."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mecsim.study.figure_format import FigureFormat
from mecsim.study.panel import Panel, names_lines
from mecsim.study.styles import shipped_name

PANEL_SIZE: Final = (4.2, 3.2)
"""Width and height in inches on a screen; a single panel is larger."""
SINGLE_SIZE: Final = (6.6, 4.0)
LEAST_PANEL: Final = 2.3
"""Least width of a panel in inches, for text of 9 points, in a figure of a given width."""
ASPECT: Final = 0.62
"""Height of a panel in units of its width, in a figure of a given width."""
ENTRY_HEIGHT: Final = 0.21
"""Height of a row of the legend in inches."""
INTERVALS: Final = "bars: 95% intervals"
OF_BARS: Final = "error bars: 95% intervals"
BANDS: Final = "bands: 95% intervals"
BAND: Final = "band: mean ± standard deviation over trainings, thin lines: each training"


@dataclass(frozen=True)
class Layout:
    """Rows of panels and their size in inches."""

    rows: Sequence[Sequence[Panel]]
    width: float
    """Width of the figure."""
    height: float
    """Height of its panels."""
    panel: float
    """Width of a panel."""


def layout(panels: Sequence[Panel], columns: int, form: FigureFormat) -> Layout:
    """Return the layout of panels; a given width decides how many are in a row."""
    if form.width_in is not None:
        most = max(1, int(form.width_in / (LEAST_PANEL * form.scale)))
        count = math.ceil(len(panels) / math.ceil(len(panels) / most))  # rows of equal length
        rows = rows_of(panels, count, count)
        panel = form.width_in / max(map(len, rows))
        return Layout(rows, form.width_in, ASPECT * panel * len(rows), panel)
    rows = rows_of(panels, columns)
    wide = max(map(len, rows))
    size = PANEL_SIZE[0] * wide, PANEL_SIZE[1] * len(rows)
    width, height = SINGLE_SIZE if len(panels) == 1 else size
    return Layout(rows, width, height, PANEL_SIZE[0])


def labels_of(panels: Sequence[Panel]) -> list[str]:
    """Return the labels of the lines, each once."""
    return list(dict.fromkeys(line.label for panel in panels for line in panel.lines))


def shared_labels(panels: Sequence[Panel]) -> list[str]:
    """Return the labels for the legend of the figure.

    These are the shipped schedulers and what several panels have. The legend of the other labels is
    below their panel.
    """
    count = Counter(label for panel in panels for label in labels_of([panel]))
    return [label for label in count if shipped_name(label) or count[label] > 1 or len(panels) == 1]


def rows_below(plan: Layout, shared: Sequence[str], form: FigureFormat) -> int:
    """Return how many rows of legends the panels have below each other."""
    total, wide = 0, max(map(len, plan.rows))
    for row in plan.rows:
        width = width_of(spans(len(row), wide)[0], plan)
        owns = [[label for label in labels_of([panel]) if label not in shared] for panel in row]
        total += max(math.ceil(len(own) / legend_columns(own, width, form)) for own in owns)
    return total


def rows_of(panels: Sequence[Panel], columns: int, most: int | None = None) -> list[list[Panel]]:
    """Return the rows of a figure; extra panels begin a new one.

    Args:
        panels: The panels.
        columns: Number of panels in a row if there are several rows.
        most: Number of panels that fit in a single row; by default one more than ``columns``.
    """
    most = columns + 1 if most is None else most
    rows = []
    for extra in (False, True):
        group = [panel for panel in panels if panel.extra == extra]
        wide = len(group) if len(group) <= most else columns
        rows += [group[at : at + wide] for at in range(0, len(group), wide or 1)]
    return rows


def spans(count: int, wide: int) -> list[slice]:
    """Return the half columns of each of ``count`` panels in a row, centred; one is wider."""
    size = 4 if count == 1 < wide else 2
    first = (2 * wide - size * count) // 2
    return [slice(first + size * each, first + size * (each + 1)) for each in range(count)]


def width_of(span: slice, plan: Layout) -> float:
    """Return the width of half columns in inches."""
    return plan.panel * float(span.stop - span.start) / 2


def remarks_of(panels: Sequence[Panel], width: int) -> list[str]:
    """Return what intervals, bands and marks mean, in lines of at most ``width`` letters."""
    found = []
    means = [line for panel in panels if not panel.curves for line in panel.lines]
    if any(end is not None for line in means for end in line.low):
        found.append(_intervals_text(panels))
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


def legend_columns(labels: Sequence[str], width: float, form: FigureFormat) -> int:
    """Return the number of legend entries that fit in a row of a width in inches."""
    entry = form.scale * (0.6 + 0.066 * max((len(label) for label in labels), default=0))
    return max(1, min(len(labels), int(width / entry)))


def _intervals_text(panels: Sequence[Panel]) -> str:
    if any(panel.distribution for panel in panels):
        return BANDS
    return OF_BARS if any(panel.bars for panel in panels) else INTERVALS


def without_legend(panels: Sequence[Panel]) -> bool:
    """Return whether the x-axes name all bars, so that no legend is needed."""
    return any(panel.bars for panel in panels) and all(names_lines(panel) for panel in panels)
