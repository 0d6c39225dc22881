"""Figures: means with intervals along a sweep, and learning curves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from mecsim.errors import InputError
from mecsim.simulation.metrics import METRICS
from mecsim.study.styles import Style, styles
from mecsim.study.summary import Entry
from mecsim.support.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE: Final = 8.0
"""Means that differ by more than this factor are drawn on a logarithmic scale."""
PANEL_WIDTH: Final = 4.2
"""Inches."""
MOST_TICKS: Final = 10
"""Maximum number of tick labels at the values of a sweep."""
LONG_TICKS: Final = 36
"""Rotate tick labels whose total length exceeds this."""
FRONT: Final = 50.0
"""The z-order of the first line; later lines are behind it, with larger markers."""


@dataclass(frozen=True)
class Line:
    """Means along a sweep, each with its interval (None for a single number)."""

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    single: Sequence[Sequence[float]] = ()
    """The curves of the single trainings behind the means, shape (T, points)."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    lines: Sequence[Line]
    x_label: str
    y_label: str
    title: str = ""
    curves: bool = False
    """Draw learning curves: the mean, and each training as a thin line in place of intervals."""


def need_matplotlib(otherwise: str = "") -> None:
    """Raise ``InputError`` if matplotlib is missing; ``otherwise`` suggests an alternative."""
    try:
        import matplotlib  # noqa: F401, PLC0415 - slow to import
    except ImportError as error:
        raise InputError(
            f"figures need matplotlib; install it with pip install 'mecsim[plot]'{otherwise}"
        ) from error


def draw(panels: Sequence[Panel], stem: Path, *, columns: int = 3, heading: str = "") -> list[Path]:
    """Draw panels next to each other into ``stem.png`` and ``stem.svg``.

    Equal panels give byte-identical files.

    Args:
        panels: What is drawn.
        stem: The path of the files without their endings.
        columns: Maximum number of panels in a row.
        heading: Title of the whole figure.

    Returns:
        The files.

    Raises:
        OutputError: A file cannot be written.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import

    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with rc_context({"svg.hashsalt": "mecsim", "svg.fonttype": "none", "font.size": 9}):
        figure = _figure(panels, columns, heading)
        with replacing(*files, out=stem) as (png, svg):
            figure.savefig(png, dpi=160, format="png")
            figure.savefig(svg, metadata={"Date": None}, format="svg")
    return files


def _figure(panels: Sequence[Panel], columns: int, heading: str) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    looks = styles(labels)
    wide = min(columns, len(panels))
    high = math.ceil(len(panels) / wide)
    legend_columns = _legend_columns(labels, wide)
    legend_rows = math.ceil(len(labels) / legend_columns)
    size = (PANEL_WIDTH * wide, 3.1 * high + 0.3 + 0.22 * legend_rows)
    figure = Figure(figsize=size, layout="constrained")
    if heading:
        figure.suptitle(_plain(heading))
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    handles: dict[str, Any] = {}  # matplotlib's own list leaves out labels that begin with "_"
    for panel, each in zip(panels, axes, strict=False):
        handles |= _draw_panel(each, panel, looks)
    for each in axes[len(panels) :]:
        each.set_axis_off()
    figure.legend(
        [handles[label] for label in labels], [_plain(label) for label in labels],
        loc="outside lower center", ncols=legend_columns, frameon=False,
    )  # fmt: skip
    return figure


def _legend_columns(labels: Sequence[str], wide: int) -> int:
    """Return the number of legend entries that fit in a row below ``wide`` panels."""
    entry = 0.6 + 0.066 * max((len(label) for label in labels), default=0)  # inches
    return max(1, min(len(labels), 3 * wide, int(PANEL_WIDTH * wide / entry)))


def _plain(text: str) -> str:
    """Escape dollar signs: matplotlib takes the text between two of them for mathematics."""
    return text.replace("$", r"\$")


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, Style]) -> dict[str, Any]:
    """Draw the lines and return what the legend shows of each, by label."""
    handles = {}
    places, ticks = positions([x for line in panel.lines for x in line.x])
    for order, line in enumerate(panel.lines):
        draw_line = _draw_curve if panel.curves else _draw_means
        handles[line.label] = draw_line(axes, line, places, looks[line.label], order)
    if ticks:
        rotated: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        long = len("".join(ticks)) > LONG_TICKS
        axes.set_xticks(
            range(len(ticks)), [_plain(each) for each in ticks], **(rotated if long else {})
        )
    elif len(places) <= MOST_TICKS and not panel.curves:
        axes.set_xticks(sorted(places.values()))
    axes.set(xlabel=_plain(panel.x_label), ylabel=panel.y_label, title=_plain(panel.title))
    _scale(axes, panel)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return handles


def _scale(axes: Axes, panel: Panel) -> None:
    """Set the limits of the y-axis, and a logarithmic scale for values of one sign far apart."""
    values = _scale_values(panel)
    scale = _scale_name(values)
    sizes = [abs(y) for y in values if y]
    match scale:
        case "linear" if panel.curves and values:
            around = 0.15 * (max(values) - min(values)) or 1.0
            axes.set_ylim(min(values) - around, max(values) + around)
        case "linear" if values and min(values) >= 0 < max(values):
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))  # only an interval is below 0
        case "log":
            axes.set_yscale("log")
        case "log with zero":
            top = axes.get_ylim()[1]
            axes.set_yscale("symlog", linthresh=min(sizes))
            axes.set_ylim(0.0, 1.5 * top)
        case "negative log":
            axes.set_yscale("symlog", linthresh=min(sizes) / 2)
            axes.set_ylim(-1.3 * max(sizes), -min(sizes) / 1.3)
    if scale != "linear":
        axes.set(ylabel=f"{panel.y_label}, log scale")


def _scale_values(panel: Panel) -> list[float]:
    """Return the values that determine the scale: all means, but only the ends of curves."""
    if panel.curves:
        return [each[-1] for line in panel.lines for each in (line.y, *line.single)]
    return [y for line in panel.lines for y in line.y]


def _scale_name(
    values: Sequence[float],
) -> Literal["linear", "log", "log with zero", "negative log"]:
    sizes = [abs(y) for y in values if y]
    mixed_signs = bool(values) and min(values) < 0 < max(values)
    if mixed_signs or not sizes or max(sizes) <= WIDE * min(sizes):
        return "linear"
    if max(values) <= 0:
        return "negative log"
    return "log" if len(sizes) == len(values) else "log with zero"


def _draw_curve(
    axes: Axes, line: Line, places: Mapping[Any, float], look: Style, order: int
) -> Any:
    colour, _, style = look
    x = [places[_hashable(value)] for value in line.x]
    above = FRONT - order
    (handle,) = axes.plot(x, line.y, color=colour, linestyle=style, lw=1.8, zorder=above)
    for each in line.single:
        axes.plot(x, each, color=colour, linestyle=style, lw=0.7, alpha=0.55, zorder=above)
    return handle


def _draw_means(
    axes: Axes, line: Line, places: Mapping[Any, float], look: Style, order: int
) -> Any:
    colour, marker, style = look
    x = [places[_hashable(value)] for value in line.x]
    low = [y if end is None else end for y, end in zip(line.y, line.low, strict=True)]
    high = [y if end is None else end for y, end in zip(line.y, line.high, strict=True)]
    spread = [
        [max(y - end, 0) for y, end in zip(line.y, low, strict=True)],
        [max(end - y, 0) for y, end in zip(line.y, high, strict=True)],
    ]
    return axes.errorbar(
        x, line.y, yerr=spread, color=colour, marker=marker or None, linestyle=style,
        markersize=4 + 0.5 * order, linewidth=1.3, capsize=2.5, markeredgewidth=0.8,
        zorder=FRONT - order,
    )  # fmt: skip


def positions(values: Sequence[Any]) -> tuple[dict[Any, float], list[str]]:
    """Return the positions of values on an axis, and tick labels for values that are no numbers.

    A number is at its own position, also with a unit that all values share.

    >>> positions(["0.8 MB/s", "2 MB/s"])
    ({'0.8 MB/s': 0.8, '2 MB/s': 2.0}, [])
    >>> positions(["nin", "vgg16"])
    ({'nin': 0.0, 'vgg16': 1.0}, ['nin', 'vgg16'])
    """
    unique = list(dict.fromkeys(_hashable(value) for value in values))
    numbers = [_number(value) for value in unique]
    if all(number is not None for number in numbers) and len({unit(v) for v in unique}) <= 1:
        return {v: float(n) for v, n in zip(unique, numbers, strict=True) if n is not None}, []
    return {value: float(place) for place, value in enumerate(unique)}, [str(v) for v in unique]


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else str(value)


_QUANTITY: Final = re.compile(r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?) *([^0-9,]*)")


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        return float(found[1]) if found else None
    return float(value)


def unit(value: Any) -> str:
    """Return the unit of a value, or an empty text.

    >>> unit("0.8 MB/s")
    'MB/s'
    """
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return found[2].strip() if found else ""


def comparison_panels(summary: Sequence[Entry], metric: str) -> list[Panel]:
    """Return one panel per scenario and combination of all swept keys except the first.

    Empty if the metric is zero everywhere, such as failed tasks.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for each in summary:
        if each["metric"] == metric and each["mean"] is not None:
            rest = ", ".join(f"{key} = {value}" for key, value in list(each["sweep"].items())[1:])
            groups.setdefault((each["scenario"], rest), []).append(each)
    if not any(each["mean"] for found in groups.values() for each in found):
        return []
    return [
        sweep_panel(found, metric, ", ".join(filter(None, name))) for name, found in groups.items()
    ]


def sweep_panel(
    entries: Sequence[Entry],
    metric: str,
    title: str,
    x_label: str = "",
    by: Literal["scheduler", "scenario"] = "scheduler",
) -> Panel:
    """Return entries of a summary as a panel along the first key of the sweep.

    Args:
        entries: Entries of one metric, with means.
        metric: The name of the metric.
        title: Title of the panel.
        x_label: Label of the x-axis; the key of the sweep if empty.
        by: Draw one line per scheduler or one per scenario. Without a sweep a line is one point.
    """
    key = next(iter(entries[0]["sweep"]), None) if entries else None
    labels = dict.fromkeys(each[by] for each in entries)
    lines = [_line(label, key, [each for each in entries if each[by] == label]) for label in labels]
    units = {unit(x) for line in lines for x in line.x} if key else {""}
    shared = f" ({units.pop()})" if len(units) == 1 and units != {""} else ""
    return Panel(lines, (x_label or key or "") + shared, METRICS[metric].axis, title)


def _line(label: str, key: str | None, entries: Sequence[Entry]) -> Line:
    return Line(
        label,
        [label if key is None else _hashable(each["sweep"][key]) for each in entries],
        [each["mean"] for each in entries if each["mean"] is not None],
        [each["ci95_low"] for each in entries],
        [each["ci95_high"] for each in entries],
    )
