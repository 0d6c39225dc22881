"""One panel on matplotlib's axes: lines, points, intervals, bands, marks and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mecsim.study import scales
from mecsim.study.axes import View, plain, set_x_axis, set_y_axis, write_title
from mecsim.study.figure_format import SCREEN, FigureFormat
from mecsim.study.layout import without_legend
from mecsim.study.panel import Line, Mark, Panel, has_categories, hashable, positions
from mecsim.study.scales import Limits
from mecsim.study.styles import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

FRONT: Final = 50.0
"""The z-order of the first line; later lines are behind it."""
DODGE: Final = 0.7
"""Share of the distance between two categories over which the points of one are spread."""
OFFSET: Final = 1.2
"""Distance in points between the intervals of neighbouring lines at a value of a sweep."""
_CARET_LEFT, _CARET_UP, _CARET_DOWN = 4, 6, 7
"""matplotlib's triangles with the tip at the point."""
_STROKES: Final = "x+123"
"""Markers without an inside, drawn with thicker lines and larger."""


def legend(
    where: Axes | Figure,
    panels: Sequence[Panel],
    looks: Mapping[str, Style],
    form: FigureFormat = SCREEN,
    *,
    bars: bool = False,
    **options: Any,
) -> None:
    """Write the legend of lines or bars in the panels, by their labels."""
    if without_legend(panels):
        looks = {}
    joined = any(panel.curves or not has_categories(panel) for panel in panels)
    shares = any(panel.distribution for panel in panels)
    names = {line.label: line.shown for panel in panels for line in panel.lines}
    handles = [_handle(look, form, bars=bars, joined=joined, shares=shares)
               for look in looks.values()]  # fmt: skip
    texts = [plain(form.wrapped(names.get(label, label))) for label in looks]
    size = 8 if form.width_in is None else form.small
    where.legend(handles, texts, **{"frameon": False, "title_fontsize": size, **options})


def _handle(
    look: Style, form: FigureFormat, *, bars: bool, joined: bool, shares: bool
) -> Line2D | Patch:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import
    from matplotlib.patches import Patch  # noqa: PLC0415 - slow to import

    if bars:
        return Patch(**_filling(look))
    line: Any = look.dashes if shares else look.line if joined or not look.marker else ""
    return Line2D([], [], ls=line, **_marker(look, form))


def _filling(look: Style) -> dict[str, Any]:
    """Return colour and pattern of a bar as keywords of matplotlib."""
    if look.hollow or not look.marker:
        return {"facecolor": "white", "edgecolor": look.colour, "hatch": look.hatch}
    return {"facecolor": look.colour, "edgecolor": "white", "hatch": look.hatch}


def _marker(look: Style, form: FigureFormat = SCREEN) -> dict[str, Any]:
    """Return colour and marker of a style as keywords of matplotlib."""
    edge, size = (1.6, 1.5) if look.marker and look.marker in _STROKES else (0.9, 1.0)
    face = {"markerfacecolor": "white"} if look.hollow else {}
    shape = {"marker": look.marker or None, "markersize": size * form.marker,
             "markeredgewidth": edge}  # fmt: skip
    return {"color": look.colour, **shape, **face}


def draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, Style], view: View) -> None:
    """Draw a panel.

    Args:
        axes: Where.
        panel: What.
        looks: The style of each label.
        view: How.
    """
    set_y_axis(axes, panel, view)
    places, ticks = positions([x for line in panel.lines for x in line.x])
    for order, line in enumerate(panel.lines):
        look, above = looks[line.label], FRONT - order
        if panel.distribution:
            _draw_distribution(axes, line, look, above, view.form)
        elif panel.curves:
            x = [places[hashable(value)] for value in line.x]
            _draw_curve(axes, line, x, look, above, view)
        else:
            _draw_line(axes, panel, order, places, look, view, joined=not ticks)
    marks = [each for each in panel.marks if _is_shown(each, view.limits)]
    for order, mark in enumerate(marks):
        before = sum(other.x == mark.x for other in marks[:order])
        _draw_mark(axes, mark, places, looks[mark.label].colour, before)
    set_x_axis(axes, panel, places, ticks, view)
    write_title(axes, panel, view, looks)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_line(
    axes: Axes,
    panel: Panel,
    order: int,
    places: Mapping[Any, float],
    look: Style,
    view: View,
    *,
    joined: bool,
) -> None:
    """Draw means and intervals: joined points, or points or bars next to each other."""
    line = panel.lines[order]
    x = [places[hashable(value)] + (0.0 if joined else _shift(panel, order)) for value in line.x]
    points = OFFSET * (order - (len(panel.lines) - 1) / 2) if joined else 0.0
    place = {"zorder": FRONT - order, "transform": _shifted(axes, points)}
    colour = look.colour
    if panel.bars and view.kind == "linear":
        _draw_bars(axes, panel, line, x, look, view.limits)
        place, colour = {"zorder": FRONT, "transform": axes.transData}, "black"
    else:
        _draw_means(axes, line, x, look, place, view.form, joined=joined)
    _draw_intervals(axes, line, x, colour, place, view)


def _draw_bars(
    axes: Axes, panel: Panel, line: Line, x: Sequence[float], look: Style, shown: Limits
) -> None:
    """Draw bars from 0; one that leaves the axis ends at its edge."""
    alone = all(len(each.x) == 1 for each in panel.lines)
    width = 0.6 if alone else DODGE / len(panel.lines)
    heights = [min(max(y, shown.low), shown.high) for y in line.y]
    axes.bar(x, heights, 0.94 * width, lw=0.6, zorder=2, **_filling(look))


def _draw_distribution(
    axes: Axes, line: Line, look: Style, above: float, form: FigureFormat
) -> None:
    """Draw shares over quantiles, and behind it the band of the intervals of the quantiles."""
    first = 0.02 + 0.012 * (above % 7)  # markers of different lines are at different places
    marker = _marker(look, form)
    marker["markersize"] *= 0.75
    axes.plot(
        line.x, line.y, linestyle=look.dashes, lw=1.2, zorder=above, markevery=(first, 0.13),
        **marker,
    )  # fmt: skip
    ends = zip(line.low, line.high, strict=True)
    pairs = [(low, high) for low, high in ends if low is not None and high is not None]
    if len(pairs) == len(line.y):
        low, high = zip(*pairs, strict=True)
        axes.fill_betweenx(
            line.y, low, high, color=look.colour, alpha=0.2, lw=0, zorder=above - FRONT
        )


def _is_shown(mark: Mark, shown: Limits) -> bool:
    return mark.y is None or shown.contain(mark.y)


def _shifted(axes: Axes, points: float, transform: Any = None) -> Any:
    """Return a transformation that moves by a distance in points to the right."""
    from matplotlib.transforms import ScaledTranslation  # noqa: PLC0415 - slow to import

    moved = ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
    return (axes.transData if transform is None else transform) + moved


def _shift(panel: Panel, order: int) -> float:
    """Return how far the points of a line are from their categories, if lines share them."""
    shared = any(len(line.x) > 1 for line in panel.lines)
    return DODGE * ((order + 0.5) / len(panel.lines) - 0.5) if shared else 0.0


def _draw_curve(
    axes: Axes, line: Line, x: Sequence[float], look: Style, above: float, view: View
) -> None:
    """Draw the mean, and behind it the band and thin lines of the trainings."""
    every = max(1, len(x) // 8)
    axes.plot(
        x, line.y, linestyle=look.line, lw=1.8, zorder=above,
        markevery=(int(above) % every, every) if line.single else [], **_marker(look, view.form),
    )  # fmt: skip
    if len(line.single) > 1:
        low, high = scales.band(line)
        on_scale = [view.limits.contain(y) for y in line.y]
        axes.fill_between(
            x, low, high, where=on_scale, color=look.colour, alpha=0.18, lw=0, zorder=above - FRONT
        )
        for each in line.single:
            axes.plot(x, each, color=look.colour, lw=0.4, alpha=0.35, zorder=above - FRONT)


def _draw_means(
    axes: Axes,
    line: Line,
    x: Sequence[float],
    look: Style,
    place: dict[str, Any],
    form: FigureFormat,
    *,
    joined: bool,
) -> None:
    if not (look.marker or joined):
        look = look._replace(marker="_")
    style = look.line if joined else ""
    axes.plot(x, line.y, linestyle=style, lw=1.3, **_marker(look, form), **place)


def _draw_intervals(
    axes: Axes, line: Line, x: Sequence[float], colour: str, place: dict[str, Any], view: View
) -> None:
    """Draw intervals with caps; an end that is off the scale has an arrowhead at the edge."""
    shown = view.limits
    for at, y, low, high in zip(x, line.y, line.low, line.high, strict=True):
        if low is None or high is None or not shown.contain(y):
            continue
        bottom, top = max(low, shown.low), min(high, shown.high)
        axes.plot([at, at], [bottom, top], color=colour, lw=1.0, **place)
        for end, edge, arrow in ((low, bottom, _CARET_DOWN), (high, top, _CARET_UP)):
            marker, size = ("_", 5) if end == edge else (arrow, 4)
            axes.plot([at], [edge], ls="", color=colour, marker=marker, markersize=size, **place)


def _draw_mark(
    axes: Axes, mark: Mark, places: Mapping[Any, float], colour: str, before: int
) -> None:
    """Draw a claim as a triangle: its tip is at the height, or it stands on the x-axis.

    It is to the right of ``before`` others at the same place.
    """
    look: dict[str, Any] = {
        "color": colour, "markeredgecolor": "black", "markeredgewidth": 0.5, "markersize": 8,
        "clip_on": False, "zorder": 2 * FRONT, "linestyle": "",
    }  # fmt: skip
    if mark.x is None and mark.y is not None:
        right = _shifted(axes, 2 + 7 * before, axes.get_yaxis_transform())
        axes.plot([1], [mark.y], marker=_CARET_LEFT, transform=right, **look)
        return
    x = places.get(hashable(mark.x), mark.x)
    if mark.y is not None:
        axes.plot(
            [x], [mark.y], marker=_CARET_LEFT, transform=_shifted(axes, 9 + 7 * before), **look
        )
        return
    axes.plot([x], [0], marker="^", transform=axes.get_xaxis_transform(), **look)
    axes.annotate(
        plain(mark.text), (x, 0), (0, 6), xycoords=axes.get_xaxis_transform(),
        textcoords="offset points", ha="center", fontsize=7, zorder=2 * FRONT,
        bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.5, "edgecolor": "none"},
    )  # fmt: skip
