"""Charts of panels: means with intervals along a sweep, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bokeh.models import ColumnDataSource, FixedTicker, TeeHead, Whisker
from bokeh.plotting import figure

from mecsim.report.figures import dashes, hover, line_tags, make_figure
from mecsim.report.page import Chart, Key
from mecsim.study import scales
from mecsim.study.panel import Line, Panel, has_categories, hashable, positions
from mecsim.study.styles import Style

MARKERS: Final = {
    "o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "inverted_triangle",
    "P": "plus", "X": "asterisk", "*": "star", "<": "triangle", ">": "triangle",
    "d": "square_pin", "h": "hex", "p": "triangle_pin", "H": "hex", "8": "circle_dot", "x": "x",
    "+": "cross", "1": "y", "2": "y", "3": "y", "4": "y",
}  # fmt: skip
"""Markers of matplotlib in Bokeh's notation."""
ANGLES: Final = {"<": 90, ">": -90, "H": 90, "2": 180, "3": -90, "4": 90}
"""Degrees by which they are turned counterclockwise."""
LINES: Final = {"-": "", "--": "8 4", ":": "2 3", "-.": "8 3 2 3"}
OFF_SCALE: Final = 1e-9
"""Where an interval ends that reaches 0 on a logarithmic axis, as a share of the mean."""
LONG: Final = 36
"""Labels on the x-axis with more letters in all are tilted."""


def panel_chart(
    panel: Panel, looks: Mapping[str, Style], name: str, title: str, *, wide: bool = False
) -> Chart:
    """Return a panel as a chart.

    Args:
        panel: What is drawn.
        looks: Style of each label.
        name: Identifier of the chart in the page.
        title: Its title.
        wide: Whether it takes the width of the page.
    """
    axis = "log" if scales.kinds([panel])[0] == "log" else "linear"
    plot = make_figure(name, panel.x_label, panel.y_label, 320, y_axis_type=axis)
    places, categories = positions([x for line in panel.lines for x in line.x])
    if categories:
        _name_places(plot, categories)
    joined = panel.curves or not has_categories(panel)
    for number, line in enumerate(panel.lines):
        shift = 0.0 if joined else (number - (len(panel.lines) - 1) / 2) * 0.08
        x = [places[hashable(each)] + shift for each in line.x]
        _draw(plot, panel, line, x, looks[line.label], logarithmic=axis == "log")
    plot.y_range.only_visible = True
    keys = [panel_key(line.label, looks[line.label]) for line in panel.lines]
    labels = ", ".join(key.label for key in keys)
    alt = (
        f"{panel.y_label} by {panel.x_label or 'scheduler'}: {labels}. The tables have the numbers."
    )
    return Chart(name, title, alt, plot, keys, wide=wide)


def panel_key(label: str, look: Style) -> Key:
    """Return the entry of a legend for a label."""
    return Key(
        label, look.colour, dashes(LINES[look.line]), MARKERS.get(look.marker, ""),
        hollow=_hollow(look), angle=ANGLES.get(look.marker, 0),
    )  # fmt: skip


def _hollow(look: Style) -> bool:
    """Return whether only the outline is drawn; the dot in a marker has the colour of its line."""
    return look.hollow or MARKERS.get(look.marker, "").endswith("_dot")


def _name_places(plot: figure, names: Sequence[str]) -> None:
    plot.xaxis.ticker = FixedTicker(ticks=list(range(len(names))))
    plot.xaxis.major_label_overrides = {
        place: name if len(name) <= LONG else f"{name[:LONG]}…" for place, name in enumerate(names)
    }
    plot.x_range.start, plot.x_range.end = -0.5, len(names) - 0.5
    if sum(map(len, names)) > LONG:
        plot.xaxis.major_label_orientation = 0.6


def _band(panel: Panel, line: Line) -> tuple[list[float], list[float]]:
    """Return the ends of the intervals; in learning curves one standard deviation around."""
    if panel.curves and line.single:
        return scales.band(line)
    ends = ([y if end is None else end for y, end in zip(line.y, side, strict=True)]
            for side in (line.low, line.high))  # fmt: skip
    return next(ends), next(ends)


def _draw(
    plot: figure, panel: Panel, line: Line, x: Sequence[float], look: Style, *, logarithmic: bool
) -> None:
    low, high = _band(panel, line)
    source = ColumnDataSource({
        "x": list(x), "y": list(line.y), "low": low, "high": high,
        "stem": [max(each, OFF_SCALE * y) for each, y in zip(low, line.y, strict=True)]
        if logarithmic else low,
        "at": [str(each) for each in line.x], "trainings": [len(line.single)] * len(line.y),
    })  # fmt: skip
    tags = line_tags(line.label)
    shared: dict[str, Any] = {"source": source, "tags": tags, "name": line.label}
    drawn = []
    if panel.curves or not has_categories(panel):
        dash = LINES[look.line] or "solid"
        drawn.append(
            plot.line("x", "y", line_color=look.colour, line_dash=dash, line_width=2, **shared)
        )
    if panel.curves:
        plot.varea(
            "x", "low", "high", source=source, fill_color=look.colour, fill_alpha=0.15, tags=tags
        )
        plot.multi_line(
            [list(x)] * len(line.single), [list(each) for each in line.single],
            line_color=look.colour, line_alpha=0.35, tags=tags,
        )  # fmt: skip
    else:
        plot.add_layout(
            Whisker(
                base="x", lower="stem", upper="high", source=source, line_color=look.colour,
                line_width=1.5, upper_head=TeeHead(size=8, line_color=look.colour),
                lower_head=TeeHead(size=8, line_color=look.colour), tags=tags,
            )
        )  # fmt: skip
        if look.marker:
            fill = None if _hollow(look) else look.colour
            drawn.append(
                plot.scatter(
                    "x", "y", marker=MARKERS[look.marker], size=9, line_color=look.colour,
                    angle=ANGLES.get(look.marker, 0), angle_units="deg", fill_color=fill, **shared,
                )
            )  # fmt: skip
    interval = "mean ± standard deviation" if panel.curves else "95% interval"
    hover(plot, drawn[-1:], [
        ("", "$name"), (panel.x_label or "at", "@at"), (panel.y_label, "@y{0,0.[0000]}"),
        (interval, "@low{0,0.[0000]} to @high{0,0.[0000]}"),
        *([("trainings", "@trainings")] if line.single else []),
    ])  # fmt: skip
