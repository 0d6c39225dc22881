"""The axes of a panel: scales, ticks, labels, title and notes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mecsim.study.figure_format import FigureFormat
from mecsim.study.layout import ASPECT
from mecsim.study.panel import Panel, names_lines, positions
from mecsim.study.scales import Kind, Limits, Note
from mecsim.study.styles import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_TICKS: Final = 10
"""Maximum number of tick labels at the values of a sweep."""
LONG_TICKS: Final = 36
"""Rotate tick labels whose total length exceeds this."""
DECADES: Final = 300.0
"""Logarithmic axes over a smaller factor have labels at 1, 2 and 5, else only at powers of ten."""
LARGE: Final = 10_000
"""Group thousands on a linear axis from here on."""
LONG_TICK: Final = 24
"""Wrap tick labels that are longer, in figures of a given width."""


@dataclass(frozen=True)
class View:
    """How a panel is shown."""

    kind: Kind
    """The kind of the y-axis."""
    limits: Limits
    """Those of the y-axis."""
    notes: Sequence[Note]
    """What is off the scale."""
    space: int
    """Number of lines between title and axes, for notes."""
    form: FigureFormat
    width: float
    """Width of the panel in inches."""
    quantities: tuple[Kind, Limits] | None = None
    """Kind and limits of the x-axis of a distribution."""
    x_labels: bool = True
    y_labels: bool = True
    """Whether an axis has labels; not if another panel has them."""

    def wrapped(self, text: str, share: float = 0.75) -> str:
        """Return a text in lines that fit a share of the panel's width, if it is given."""
        if self.form.width_in is None:
            return text
        return "\n".join(textwrap.wrap(text, int(share * self.width / self.form.letter)))


def plain(text: str) -> str:
    """Escape dollar signs: matplotlib takes the text between two of them for mathematics."""
    return text.replace("$", r"\$")


def set_y_axis(axes: Axes, panel: Panel, view: View) -> None:
    """Set scale, ticks, limits and label of the y-axis."""
    from matplotlib import ticker  # noqa: PLC0415 - slow to import

    kind, shown = view.kind, view.limits
    if panel.distribution == "cdf":
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
    elif kind == "log":
        axes.set_yscale("log")
        _set_log_ticks(axes.yaxis, shown)
    elif kind == "negative log":
        axes.set_yscale("symlog", linthresh=-shown.high)
    elif max(map(abs, shown)) >= LARGE:
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(*shown)
    if view.y_labels:
        axes.set_ylabel(plain(_y_label(panel, view)))
    else:
        axes.tick_params(labelleft=False)


def _y_label(panel: Panel, view: View) -> str:
    """Return the label in lines that fit; the words ``log scale`` stay in one line."""
    share = 0.85 * ASPECT
    label = view.wrapped(panel.y_label, share)
    if view.kind == "linear":
        return label
    whole = view.wrapped(f"{panel.y_label}, log scale", share)
    return whole if "\n" not in whole else f"{label},\nlog scale"


def set_x_axis(
    axes: Axes, panel: Panel, places: Mapping[Any, float], ticks: Sequence[str], view: View
) -> None:
    """Set ticks, limits and label of the x-axis."""
    if view.quantities:
        _set_quantities(axes, *view.quantities)
    elif ticks:
        _set_categories(axes, panel, view)
    else:
        _set_numbers(axes, panel, list(places.values()))
    if view.x_labels:
        axes.set_xlabel(plain(panel.x_label))
    else:
        axes.tick_params(labelbottom=False)


def category_names(panel: Panel, view: View) -> tuple[list[str], bool]:
    """Return the tick labels of categories, and whether they are so long that they are rotated."""
    ticks = positions([x for line in panel.lines for x in line.x])[1]
    shown = {line.label: line.shown for line in panel.lines} if names_lines(panel) else {}
    names = [plain(shown.get(each, each)) for each in ticks]
    if view.form.width_in is None:
        return names, sum(map(len, names)) > LONG_TICKS
    most = 0.8 * view.width / view.form.letter / max(1, len(names)) - 2
    narrow = [_in_lines(each, max(1, int(most))) for each in names]
    if all(len(row) <= most for name in narrow for row in name.splitlines()):
        return narrow, False
    return [_in_lines(each, LONG_TICK) for each in names], True


def _in_lines(text: str, width: int) -> str:
    """Return a text in lines of at most a width, if its words have spaces between them."""
    return "\n".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def height_of_names(panel: Panel, view: View) -> float:
    """Return the additional height of rotated tick labels, or of several lines, in inches."""
    names, rotated = category_names(panel, view)
    longest = max((len(row) for name in names for row in name.splitlines()), default=0)
    lines = max((name.count("\n") for name in names), default=0)
    return 0.65 * longest * view.form.letter if rotated else 1.25 * lines * view.form.small / 72


def _set_categories(axes: Axes, panel: Panel, view: View) -> None:
    names, long = category_names(panel, view)
    rotated: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **(rotated if long else {}))
    axes.set_xlim(-0.5, len(names) - 0.5)


def _set_numbers(axes: Axes, panel: Panel, places: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - slow to import

    if not panel.curves:
        values = sorted(places)
        space = 0.06 * (values[-1] - values[0]) or 0.5
        axes.set_xlim(values[0] - space, values[-1] + space)
        if len(values) <= MOST_TICKS:
            axes.set_xticks(values, [f"{value:g}" for value in values])
    if all(place.is_integer() for place in places) and (panel.curves or len(places) > MOST_TICKS):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _set_quantities(axes: Axes, kind: Kind, limits: Limits) -> None:
    if kind == "log":
        axes.set_xscale("log")
        _set_log_ticks(axes.xaxis, limits)
    axes.set_xlim(*limits)


def _set_log_ticks(axis: Axis, limits: Limits) -> None:
    from matplotlib import ticker  # noqa: PLC0415 - slow to import

    digits = (1, 2, 5) if limits.high < DECADES * limits.low else (1,)
    axis.set_major_locator(ticker.LogLocator(subs=digits))
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def write_title(axes: Axes, panel: Panel, view: View, looks: Mapping[str, Style]) -> None:
    """Write the title above ``view.space`` lines, and in these what is off the scale."""
    step = 9 if view.form.width_in is None else 1.25 * view.form.small  # points
    axes.set_title(plain(view.wrapped(panel.title)), pad=6 + step * view.space)
    for row, note in enumerate(reversed(view.notes)):
        axes.annotate(
            plain(note.text), (1, 1), (0, 2 + step * row), xycoords="axes fraction",
            textcoords="offset points", ha="right", va="bottom", fontsize=view.form.small,
            color=looks[note.label].colour,
        )  # fmt: skip
