"""One panel on matplotlib's axes: lines, points, intervals, bands, marks and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mecsim.study import scales
from mecsim.study.panel import Line, Mark, Panel, has_categories, hashable, positions
from mecsim.study.scales import Kind, Limits, Note
from mecsim.study.styles import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TICKS: Final = 10
"""Maximum number of tick labels at the values of a sweep."""
LONG_TICKS: Final = 36
"""Rotate tick labels whose total length exceeds this."""
DECADES: Final = 300.0
"""Logarithmic axes over a smaller factor have labels at 1, 2 and 5, else only at powers of ten."""
LARGE: Final = 10_000
"""Group thousands on a linear axis from here on."""
FRONT: Final = 50.0
"""The z-order of the first line; later lines are behind it."""
DODGE: Final = 0.7
"""Share of the distance between two categories over which the points of one are spread."""
OFFSET: Final = 1.2
"""Distance in points between the intervals of neighbouring lines at a value of a sweep."""
_CARET_LEFT, _CARET_UP, _CARET_DOWN = 4, 6, 7
"""matplotlib's triangles with the tip at the point."""
_STROKES: Final = "x+123"
"""Markers without an inside, drawn with thicker lines."""


def plain(text: str) -> str:
    """Escape dollar signs: matplotlib takes the text between two of them for mathematics."""
    return text.replace("$", r"\$")


def legend(
    where: Axes | Figure, panels: Sequence[Panel], looks: Mapping[str, Style], **options: Any
) -> None:
    """Write the legend of lines in the panels, by their labels."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    joined = any(panel.curves or not has_categories(panel) for panel in panels)
    handles = [
        Line2D([], [], ls=look.line if joined or not look.marker else "", **_marker(look))
        for look in looks.values()
    ]
    options = {"frameon": False, "title_fontsize": 8, **options}
    where.legend(handles, [plain(label) for label in looks], **options)


def _marker(look: Style) -> dict[str, Any]:
    """Return colour and marker of a style as keywords of matplotlib."""
    edge = 1.6 if look.marker in _STROKES else 0.9
    face = {"markerfacecolor": "white"} if look.hollow else {}
    shape = {"marker": look.marker or None, "markersize": 5.5, "markeredgewidth": edge}
    return {"color": look.colour, **shape, **face}


def draw_panel(
    axes: Axes, panel: Panel, looks: Mapping[str, Style], kind: Kind, shown: Limits, space: int
) -> None:
    """Draw a panel.

    Args:
        axes: Where.
        panel: What.
        looks: The style of each label.
        kind: The kind of the y-axis.
        shown: Its limits.
        space: Number of lines between title and axes, for what is off the scale.
    """
    _set_y_axis(axes, panel, kind, shown)
    places, ticks = positions([x for line in panel.lines for x in line.x])
    for order, line in enumerate(panel.lines):
        x = [places[hashable(value)] for value in line.x]
        look, above = looks[line.label], FRONT - order
        if panel.curves:
            _draw_curve(axes, line, x, look, above, shown)
            continue
        x = [each + (_shift(panel, order) if ticks else 0.0) for each in x]
        points = 0.0 if ticks else OFFSET * (order - (len(panel.lines) - 1) / 2)
        place = {"zorder": above, "transform": _beside(axes, points)}
        _draw_means(axes, line, x, look, place, joined=not ticks)
        _draw_intervals(axes, line, x, look.colour, place, shown)
    marks = [each for each in panel.marks if _is_shown(each, shown)]
    for order, mark in enumerate(marks):
        beside = sum(other.x == mark.x for other in marks[:order])
        _draw_mark(axes, mark, places, looks[mark.label].colour, beside)
    _set_x_axis(axes, panel, places, ticks)
    _write_title(axes, panel, scales.notes(panel, shown), space, looks)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _is_shown(mark: Mark, shown: Limits) -> bool:
    return mark.y is None or shown.contain(mark.y)


def _beside(axes: Axes, points: float, transform: Any = None) -> Any:
    """Return a transformation that moves by a distance in points to the right."""
    from matplotlib.transforms import ScaledTranslation  # noqa: PLC0415 - slow to import

    moved = ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
    return (axes.transData if transform is None else transform) + moved


def _shift(panel: Panel, order: int) -> float:
    """Return how far the points of a line are beside their categories, if lines share them."""
    shared = any(len(line.x) > 1 for line in panel.lines)
    return DODGE * ((order + 0.5) / len(panel.lines) - 0.5) if shared else 0.0


def _set_y_axis(axes: Axes, panel: Panel, kind: Kind, shown: Limits) -> None:
    from matplotlib import ticker  # noqa: PLC0415 - slow to import

    if kind == "log":
        axes.set_yscale("log")
        digits = (1, 2, 5) if shown.high < DECADES * shown.low else (1,)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=digits))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    elif kind == "negative log":
        axes.set_yscale("symlog", linthresh=-shown.high)
    elif max(map(abs, shown)) >= LARGE:
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(*shown)
    axes.set_ylabel(panel.y_label if kind == "linear" else f"{panel.y_label}, log scale")


def _set_x_axis(
    axes: Axes, panel: Panel, places: Mapping[Any, float], ticks: Sequence[str]
) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - slow to import

    if ticks:
        long = len("".join(ticks)) > LONG_TICKS
        rotated: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        names = [plain(each) for each in ticks]
        axes.set_xticks(range(len(ticks)), names, **(rotated if long else {}))
        axes.set_xlim(-0.5, len(ticks) - 0.5)
    elif not panel.curves:
        values = sorted(places.values())
        space = 0.06 * (values[-1] - values[0]) or 0.5
        axes.set_xlim(values[0] - space, values[-1] + space)
        if len(values) <= MOST_TICKS:
            axes.set_xticks(values, [f"{value:g}" for value in values])
    if (
        not ticks
        and all(place.is_integer() for place in places.values())
        and (panel.curves or len(places) > MOST_TICKS)
    ):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(plain(panel.x_label))


def _write_title(
    axes: Axes, panel: Panel, notes: Sequence[Note], space: int, looks: Mapping[str, Style]
) -> None:
    """Write the title above ``space`` lines, and in these what is off the scale."""
    step = 9  # points
    axes.set_title(plain(panel.title), pad=6 + step * space)
    for row, note in enumerate(reversed(notes)):
        axes.annotate(
            plain(note.text), (1, 1), (0, 2 + step * row), xycoords="axes fraction",
            textcoords="offset points", ha="right", va="bottom", fontsize=7,
            color=looks[note.label].colour,
        )  # fmt: skip


def _draw_curve(
    axes: Axes, line: Line, x: Sequence[float], look: Style, above: float, shown: Limits
) -> None:
    """Draw the mean, and behind it the band and thin lines of the trainings."""
    every = max(1, len(x) // 8)
    axes.plot(
        x, line.y, linestyle=look.line, lw=1.8, zorder=above,
        markevery=(int(above) % every, every) if line.single else [], **_marker(look),
    )  # fmt: skip
    if len(line.single) > 1:
        low, high = scales.band(line)
        on_scale = [shown.contain(y) for y in line.y]
        axes.fill_between(
            x, low, high, where=on_scale, color=look.colour, alpha=0.18, lw=0, zorder=above - FRONT
        )
        for each in line.single:
            axes.plot(x, each, color=look.colour, lw=0.4, alpha=0.35, zorder=above - FRONT)


def _draw_means(
    axes: Axes, line: Line, x: Sequence[float], look: Style, place: dict[str, Any], *, joined: bool
) -> None:
    if not (look.marker or joined):
        look = look._replace(marker="_")
    style = look.line if joined else ""
    axes.plot(x, line.y, linestyle=style, lw=1.3, **_marker(look), **place)


def _draw_intervals(
    axes: Axes, line: Line, x: Sequence[float], colour: str, place: dict[str, Any], shown: Limits
) -> None:
    """Draw intervals with caps; an end that is off the scale has an arrowhead at the edge."""
    for at, y, low, high in zip(x, line.y, line.low, line.high, strict=True):
        if low is None or high is None or not shown.contain(y):
            continue
        bottom, top = max(low, shown.low), min(high, shown.high)
        axes.plot([at, at], [bottom, top], color=colour, lw=1.0, **place)
        for end, edge, arrow in ((low, bottom, _CARET_DOWN), (high, top, _CARET_UP)):
            marker, size = ("_", 5) if end == edge else (arrow, 4)
            axes.plot([at], [edge], ls="", color=colour, marker=marker, markersize=size, **place)


def _draw_mark(
    axes: Axes, mark: Mark, places: Mapping[Any, float], colour: str, beside: int
) -> None:
    """Draw a claim as a triangle: its tip is at the height, or it stands on the x-axis.

    It is to the right of ``beside`` others at the same place.
    """
    look: dict[str, Any] = {
        "color": colour, "markeredgecolor": "black", "markeredgewidth": 0.5, "markersize": 8,
        "clip_on": False, "zorder": 2 * FRONT, "linestyle": "",
    }  # fmt: skip
    if mark.x is None and mark.y is not None:
        right = _beside(axes, 2 + 7 * beside, axes.get_yaxis_transform())
        axes.plot([1], [mark.y], marker=_CARET_LEFT, transform=right, **look)
        return
    x = places.get(hashable(mark.x), mark.x)
    if mark.y is not None:
        axes.plot(
            [x], [mark.y], marker=_CARET_LEFT, transform=_beside(axes, 9 + 7 * beside), **look
        )
        return
    axes.plot([x], [0], marker="^", transform=axes.get_xaxis_transform(), **look)
    axes.annotate(
        plain(mark.text), (x, 0), (0, 6), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", ha="center", fontsize=7, zorder=2 * FRONT,
        bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "edgecolor": "none"},
    )  # fmt: skip
