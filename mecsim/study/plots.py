"""Figures: means with intervals, one look a scheduler everywhere.

Colours are those of Okabe and Ito, which colour-blind readers tell apart; markers and line styles
tell schedulers apart in a black and white print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mecsim.errors import InputError
from mecsim.study.summary import BOUND
from mecsim.support.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS: Final = {
    "total_delay_s": "total delay (s)",
    "edge_delay_s": "delay at servers (s)",
    "local_delay_s": "delay at devices (s)",
    "energy_J": "energy a task (J)",
    "reward": "reward",
    "late_blocks": "late blocks",
    "failed": "failed tasks",
    "bound_gap_percent": "cost above the lower bound (%)",
}

_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _RED, _PURPLE, _GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#777777"

STYLES: Final[dict[str, tuple[str, str, str]]] = {  # colour, marker, line
    "mtl-a3c": (_RED, "o", "-"),
    "a3c": (_BLUE, "s", "-"),
    "dqn": (_GREEN, "^", "-"),
    "greedy": (_ORANGE, "D", "--"),
    "apdi": (_SKY, "v", "--"),
    "rpdi": (_PURPLE, "P", "--"),
    "single-cut": (_GREY, "X", "-."),
    "lookahead": (_BLACK, "*", "-."),
    "local": (_YELLOW, "<", ":"),
    "edge": (_YELLOW, ">", ":"),
    "viterbi": (_GREY, "d", ":"),
    "fixed": (_SKY, "h", ":"),
    BOUND: (_BLACK, "", ":"),
}
_OTHERS: Final = [
    (colour, marker, line)
    for line in ("-", "--", "-.", ":")
    for colour, marker in zip(
        (_RED, _BLUE, _GREEN, _ORANGE, _SKY, _PURPLE, _GREY, _BLACK), "os^DvPX*", strict=True
    )
]

WIDE: Final = 8.0
"""Means that differ by more than this factor are drawn on a logarithmic scale."""


PANEL_WIDTH: Final = 4.2
"""Inches."""
MOST_TICKS: Final = 10
"""Values of a sweep are all named on the axis up to so many."""

FRONT: Final = 50.0
"""How far in front the first line is drawn; the others stand out behind it with larger markers."""

LONG_TICKS: Final = 36
"""Texts on the axis of more letters than this, all together, are set askew."""


@dataclass(frozen=True)
class Line:
    """Means along a sweep, each with its interval (None where there is none)."""

    label: str
    x: Sequence[Any]
    y: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    single: Sequence[Sequence[float]] = ()
    """What the means are of, where each is to be seen; shape (T, points)."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    lines: Sequence[Line]
    x_label: str
    y_label: str
    title: str = ""
    curves: bool = False
    """Draw curves of many points, each training thin beside the mean; intervals would hide all."""


def need_matplotlib(otherwise: str = "") -> None:
    """Raise ``InputError`` where matplotlib lacks; ``otherwise`` says how to do without."""
    try:
        import matplotlib  # noqa: F401, PLC0415 - takes its time to load
    except ImportError as error:
        raise InputError(
            f"figures need matplotlib; install it with pip install 'mecsim[plot]'{otherwise}"
        ) from error


def styles(labels: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return colour, marker and line of each label: a shipped scheduler always has the same."""
    known = {label: _style(label) for label in labels}
    unknown = [label for label, style in known.items() if style is None]
    taken = {style[:2] for style in known.values() if style is not None}
    free = sorted(_OTHERS, key=lambda style: style[:2] in taken)
    others = {label: free[place % len(free)] for place, label in enumerate(unknown)}
    return {label: style or others[label] for label, style in known.items()}


def _style(label: str) -> tuple[str, str, str] | None:
    """Return the style of a shipped scheduler; dotted for one with a remark (``dqn, …``)."""
    name, comma, _ = label.partition(", ")
    if name not in STYLES:
        return None
    colour, marker, line = STYLES[name]
    return colour, marker, ":" if comma else line


def draw(panels: Sequence[Panel], stem: Path, *, columns: int = 3, heading: str = "") -> list[Path]:
    """Draw panels side by side into ``stem.png`` and ``stem.svg``. Raises ``OutputError``.

    Equal panels make equal files, byte for byte.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - takes its time to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    looks = styles(labels)
    wide = min(columns, len(panels))
    high = math.ceil(len(panels) / wide)
    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with rc_context({"svg.hashsalt": "mecsim", "svg.fonttype": "none", "font.size": 9}):
        entry = 0.6 + 0.066 * max((len(label) for label in labels), default=0)  # inches
        legend_columns = max(1, min(len(labels), 3 * wide, int(PANEL_WIDTH * wide / entry)))
        legend_rows = math.ceil(len(labels) / legend_columns)
        size = (PANEL_WIDTH * wide, 3.1 * high + 0.3 + 0.22 * legend_rows)
        figure = Figure(figsize=size, layout="constrained")
        if heading:
            figure.suptitle(heading)
        axes = figure.subplots(high, wide, squeeze=False).ravel()
        for panel, each in zip(panels, axes, strict=False):
            _draw_panel(each, panel, looks)
        for each in axes[len(panels) :]:
            each.set_axis_off()
        handles = {
            label: handle
            for each in axes
            for handle, label in zip(*each.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            [handles[label] for label in labels], labels,
            loc="outside lower center", ncols=legend_columns, frameon=False,
        )  # fmt: skip
        with replacing(*files, out=stem) as (png, svg):
            figure.savefig(png, dpi=160, format="png")
            figure.savefig(svg, metadata={"Date": None}, format="svg")
    return files


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, tuple[str, str, str]]) -> None:
    places, ticks = positions([x for line in panel.lines for x in line.x])
    for order, line in enumerate(panel.lines):
        draw_line = _draw_curve if panel.curves else _draw_means
        draw_line(axes, line, places, looks[line.label], order)
    if ticks:
        askew: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        long = len("".join(ticks)) > LONG_TICKS
        axes.set_xticks(range(len(ticks)), ticks, **(askew if long else {}))
    elif len(places) <= MOST_TICKS and not panel.curves:
        axes.set_xticks(sorted(places.values()))
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label, title=panel.title)
    _scale(axes, panel)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _scale(axes: Axes, panel: Panel) -> None:
    """Make the scale logarithmic where values of one sign lie far apart.

    Of learning curves what counts is where they end: they may come from far below.
    """
    ends = [each[-1] for line in panel.lines for each in (line.y, *line.single)]
    values = ends if panel.curves else [y for line in panel.lines for y in line.y]
    sizes = [abs(y) for y in values if y]
    one_sign = bool(values) and not min(values) < 0 < max(values)
    if not one_sign or not sizes or WIDE * min(sizes) >= max(sizes):
        if panel.curves and values:
            around = 0.15 * (max(values) - min(values)) or 1.0
            axes.set_ylim(min(values) - around, max(values) + around)
        elif one_sign and max(values) > 0:
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))  # where only an interval is below
        return
    if max(values) > 0 and len(sizes) == len(values):
        axes.set_yscale("log")
    elif max(values) > 0:
        most = axes.get_ylim()[1]
        axes.set_yscale("symlog", linthresh=min(sizes))
        axes.set_ylim(0.0, 1.5 * most)
    else:
        axes.set_yscale("symlog", linthresh=min(sizes) / 2)
        axes.set_ylim(-1.3 * max(sizes), -min(sizes) / 1.3)
    axes.set(ylabel=f"{panel.y_label}, log scale")


def _draw_curve(
    axes: Axes, line: Line, places: Mapping[Any, float], look: tuple[str, str, str], order: int
) -> None:
    colour, _, style = look
    x = [places[_hashable(value)] for value in line.x]
    above = FRONT - order
    axes.plot(x, line.y, color=colour, linestyle=style, label=line.label, lw=1.8, zorder=above)
    for each in line.single:
        axes.plot(x, each, color=colour, linestyle=style, lw=0.7, alpha=0.55, zorder=above)


def _draw_means(
    axes: Axes, line: Line, places: Mapping[Any, float], look: tuple[str, str, str], order: int
) -> None:
    colour, marker, style = look
    x = [places[_hashable(value)] for value in line.x]
    low = [y if end is None else end for y, end in zip(line.y, line.low, strict=True)]
    high = [y if end is None else end for y, end in zip(line.y, line.high, strict=True)]
    spread = [
        [max(y - end, 0) for y, end in zip(line.y, low, strict=True)],
        [max(end - y, 0) for y, end in zip(line.y, high, strict=True)],
    ]
    axes.errorbar(
        x, line.y, yerr=spread, color=colour, marker=marker or None, linestyle=style,
        label=line.label, markersize=4 + 0.5 * order, linewidth=1.3, capsize=2.5,
        markeredgewidth=0.8, zorder=FRONT - order,
    )  # fmt: skip


def positions(values: Sequence[Any]) -> tuple[dict[Any, float], list[str]]:
    """Return where values stand on an axis, and the ticks' texts where they are no numbers.

    Numbers stand at themselves, also those with one and the same unit (``0.8 MB/s``).
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
    """Return the unit of a value that has one (``0.8 MB/s``), or nothing."""
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return found[2].strip() if found else ""


def comparison_panels(summary: Sequence[Mapping[str, Any]], metric: str) -> list[Panel]:
    """Return a panel for each scenario and each value of all swept keys but the first.

    None where all is zero.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in summary:
        if each["metric"] == metric and each["mean"] is not None:
            rest = ", ".join(f"{key} = {value}" for key, value in list(each["sweep"].items())[1:])
            groups.setdefault((each["scenario"], rest), []).append(each)
    if not any(each["mean"] for found in groups.values() for each in found):
        return []  # no task late, none failed: nothing to see
    return [
        sweep_panel(found, metric, ", ".join(filter(None, name))) for name, found in groups.items()
    ]


def sweep_panel(
    found: Sequence[Mapping[str, Any]],
    metric: str,
    title: str,
    x_label: str = "",
    by: str = "scheduler",
) -> Panel:
    """Return entries of a summary as a panel along the first key of the sweep.

    A line a scheduler, or a line a scenario. Without a sweep the lines are points side by side.
    """
    key = next(iter(found[0]["sweep"]), None) if found else None
    lines = []
    for label in dict.fromkeys(each[by] for each in found):
        own = [each for each in found if each[by] == label]
        x = [label if key is None else _hashable(each["sweep"][key]) for each in own]
        means, low, high = ([each[n] for each in own] for n in ("mean", "ci95_low", "ci95_high"))
        lines.append(Line(label, x, means, low, high))
    units = {unit(x) for line in lines for x in line.x} if key else {""}
    more = f" ({units.pop()})" if len(units) == 1 and units != {""} else ""
    return Panel(lines, (x_label or key or "") + more, LABELS[metric], title)
