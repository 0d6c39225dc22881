"""The x-axes of distributions: linear or logarithmic, their limits, and what is off the scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mecsim.study.panel import Line, Panel, unit_of
from mecsim.study.scales import WIDE, Kind, Limits, Note, compared, union, use_enough
from mecsim.support.text import number

MOST_SHARE: Final = 0.99
"""A CDF shows the compared lines up to this share; the rest belongs to a figure of the tail."""
MARGIN: Final = 1.05
"""Space on the right, as a factor."""


def x_axis(panel: Panel) -> tuple[Kind, Limits]:
    """Return kind and limits of the axis.

    The compared lines decide; it is logarithmic if their medians differ by more than the factor
    :data:`~mecsim.study.scales.WIDE`.
    """
    lines = compared(panel)
    tail = panel.distribution == "tail"
    ends = [x for each in lines for x, y in zip(each.x, each.y, strict=True)
            if tail or y <= MOST_SHARE]  # fmt: skip
    high = MARGIN * max(ends) or 1.0
    medians = [_median(each) for each in lines]
    if min(medians) > 0 and max(medians) > WIDE * min(medians):
        low = min(x for each in lines for x in each.x if x > 0)
        return "log", Limits(max(low, high / 1e6), high)
    return "linear", Limits(min(0.0, *ends), high)


def _median(line: Line) -> float:
    return float(line.x[min(range(len(line.y)), key=lambda at: abs(line.y[at] - 0.5))])


def x_axes(panels: Sequence[Panel], *, share: bool) -> list[tuple[Kind, Limits]]:
    """Return the axis of each panel.

    It is one for all if they may share it, are of one kind, and each uses at least a quarter of it.
    """
    found = [x_axis(panel) for panel in panels]
    kinds = {kind for kind, _ in found}
    every = [limits for _, limits in found]
    if share and len(kinds) == 1 and use_enough(every, kinds.pop()):
        return [(kind, union(every)) for kind, _ in found]
    return found


def notes(panel: Panel, limits: Limits) -> Sequence[Note]:
    """Return a note for each line whose median is off the scale."""
    unit = unit_of(panel.x_label)
    far = [(line, _median(line)) for line in panel.lines if _median(line) > limits.high]
    return [
        Note(line.label, f"→ {line.shown}: median {number(x)} {unit}".rstrip() + ", off the scale")
        for line, x in far
    ]
