"""Figures in the style of the reports, without what depends on the theme: the page sets that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bokeh.models import HoverTool, NumeralTickFormatter
from bokeh.plotting import figure

HEIGHT: Final = 340
PARTS: Final = {
    "server": ("#0072B2", "circle", ""),
    "device": ("#E69F00", "square", "4 2"),
    "uplink": ("#009E73", "triangle", "8 3"),
    "downlink": ("#56B4E9", "inverted_triangle", "2 2"),
    "link": ("#CC79A7", "diamond", "8 3 2 3"),
}
"""Colour, marker and dashes of each kind of resource (Okabe and Ito's colours)."""
SERIES: Final = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D00", "#7A5195",
)  # fmt: skip
DASHES: Final = ("", "8 3", "2 2", "8 3 2 3", "14 4")
HATCHES: Final = ("", "/", "\\", ".", "x", "-", "|", "o", "+", "*")
"""Hatches in Bokeh's notation; the first is none."""


def make_figure(title: str, x: str, y: str, height: int = HEIGHT, **options: Any) -> figure:
    """Return an empty figure that takes the width of the page.

    No tool is active on a touch screen, where a finger scrolls the page.

    Args:
        title: Title for those who do not see the heading; shown by the page.
        x: Label of the x-axis.
        y: Label of the y-axis.
        height: Height in pixels.
        **options: Further options of a Bokeh figure.
    """
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        toolbar_location="above",
        x_axis_label=x,
        y_axis_label=y,
        name=title,
        background_fill_color=None,
        border_fill_color=None,
        min_border_right=14,
        min_border_left=24,
        **options,
    )
    plot.toolbar.logo = None
    plot.axis.axis_label_text_font_style = "normal"
    plot.xaxis.major_label_text_font_size = plot.yaxis.major_label_text_font_size = "12px"
    for axis in (plot.xaxis, plot.yaxis):
        if axis[0].formatter.__class__.__name__ == "BasicTickFormatter":
            axis[0].formatter = NumeralTickFormatter(format="0,0.[0000]")
    return plot


def hover(plot: figure, renderers: Sequence[Any], lines: Sequence[tuple[str, str]]) -> None:
    """Show lines of text where the pointer is on one of the renderers."""
    plot.add_tools(HoverTool(renderers=list(renderers), tooltips=list(lines), visible=False))


def dashes(text: str) -> list[float]:
    """Return the lengths of dashes.

    >>> dashes("8 3")
    [8.0, 3.0]
    """
    return [float(each) for each in text.split()]


def line_tags(label: str, choice: str | None = None) -> list[str]:
    """Return tags by which the page shows and hides a renderer."""
    return [f"line:{label}", *([] if choice is None else [f"choice:{choice}"])]
