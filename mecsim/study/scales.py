"""The y-axes of figures: linear or logarithmic, their limits, and what is off the scale.

The curves to be compared decide. Baselines that are far from them are cut off, and a note says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from mecsim.study.competitors import BOUND
from mecsim.study.panel import Line, Panel, hashable
from mecsim.study.styles import shipped_name
from mecsim.support.text import number

Kind: TypeAlias = Literal["linear", "log", "negative log"]

WIDE: Final = 5.0
"""Curves are compared on a linear axis if they differ by at most this factor at each place."""
STRETCH: Final = 0.5
"""Intervals, baselines and claims extend the range of the compared means to a side by at most this
share of it."""
STRETCH_OF_BARS: Final = 2.0
"""The same for bars, whose range begins at 0: they may be three times as high as the compared."""
LEAST_SPAN: Final = 0.05
"""Least range of an axis, as a share of the values."""
LAST: Final = 5
"""The last 1/LAST of a learning curve decides the axis."""
MARGIN: Final = 0.06
"""Space above and below, as a share of the range."""
BASELINES: Final = frozenset({"apdi", "rpdi", "local", "edge", "fixed", BOUND})
"""Schedulers and bounds that do not decide the limits of an axis if two others are there."""


class Limits(NamedTuple):
    """The ends of an axis."""

    low: float
    high: float

    def contain(self, value: float) -> bool:
        """Return whether a value is on the axis."""
        return self.low <= value <= self.high


class Note(NamedTuple):
    """A line that is off the scale."""

    label: str
    text: str


def compared(panel: Panel) -> list[Line]:
    """Return the lines that decide the axis.

    All but the baselines; if fewer than two are left or all are 0, all but the lower bound.
    """
    chosen = [each for each in panel.lines if shipped_name(each.label) not in BASELINES]
    if len(chosen) >= 2 and any(y for line in chosen for y in line.y):
        return chosen
    return [each for each in panel.lines if each.label != BOUND] or list(panel.lines)


def deciding(panel: Panel, line: Line) -> slice:
    """Return the points of a line that decide the axis: the last fifth of a learning curve."""
    count = len(line.x)
    return slice(count - max(1, count // LAST) if panel.curves and line.single else 0, None)


def band(line: Line) -> tuple[list[float], list[float]]:
    """Return mean minus and plus the standard deviation over the trainings of a learning curve.

    >>> band(Line("", [0], [2.0], [None], [None], [[1.0], [3.0]]))[0][0].__round__(3)
    0.586
    """
    spread = [
        statistics.stdev(each) if len(line.single) > 1 else 0.0
        for each in zip(*line.single, strict=True)
    ]
    return (
        [y - s for y, s in zip(line.y, spread, strict=True)],
        [y + s for y, s in zip(line.y, spread, strict=True)],
    )


def kinds(panels: Sequence[Panel]) -> list[Kind]:
    """Return the kind of the y-axis of each panel; panels of the same unit have the same kind.

    The axis is logarithmic only if the compared values have one sign, and in no panel lie within a
    factor of :data:`WIDE` of each other at each place. Extra panels have their own group.
    """
    groups: dict[tuple[str, bool], list[Panel]] = {}
    for panel in panels:
        groups.setdefault(_group(panel), []).append(panel)
    found = {key: _kind(group) for key, group in groups.items()}
    return [found[_group(panel)] for panel in panels]


def _group(panel: Panel) -> tuple[str, bool]:
    return panel.y_unit or panel.y_label, panel.extra


def _kind(panels: Sequence[Panel]) -> Kind:
    if panels[0].distribution:
        return "log" if panels[0].distribution == "tail" else "linear"
    if any(panel.additive for panel in panels):
        return "linear"
    values = [value for p in panels for place in _values_by_place(p) for value in place]
    if not values or min(values) <= 0 <= max(values) or not all(map(math.isfinite, values)):
        return "linear"
    if any(all(_factor(place) <= WIDE for place in _values_by_place(p)) for p in panels):
        return "linear"
    return "log" if min(values) > 0 else "negative log"


def _values_by_place(panel: Panel) -> list[list[float]]:
    """Return the compared means at each place of the x-axis; the last ones of learning curves."""
    lines = compared(panel)
    if panel.curves or all(len(line.x) == 1 for line in lines):
        return [[line.y[-1] for line in lines if line.y]]
    found: dict[object, list[float]] = {}
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            found.setdefault(hashable(x), []).append(y)
    return list(found.values())


def _factor(values: Sequence[float]) -> float:
    sizes = [abs(each) for each in values]
    return max(sizes) / min(sizes) if sizes else 1.0


def limits(panel: Panel, kind: Kind) -> Limits:
    """Return the limits of the y-axis of a panel.

    They hold the means of the compared lines. Their intervals, and baselines, claims and what is
    before the end of learning curves, are held as far as :data:`STRETCH` permits.
    """
    if panel.distribution:
        least = min((y for line in panel.lines for y in line.y), default=0.0)
        return Limits(least if kind == "log" else 0.0, 1.0)
    forward, back = _SCALES[kind]
    lines = compared(panel)
    decisive = [forward(y) for line in lines for y in line.y[deciding(panel, line)]]
    means = [y for y in decisive if math.isfinite(y)]
    if not means:
        return Limits(0.0, 1.0)
    low, high = min(means), max(means)
    from_zero = panel.bars and kind == "linear"
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    least = LEAST_SPAN * (max(abs(low), abs(high)) or 1.0) if kind == "linear" else LEAST_SPAN
    reach = (STRETCH_OF_BARS if from_zero else STRETCH) * max(high - low, least)
    others = [forward(y) for y in _other_values(panel)]
    near = [y for y in others if low - reach <= y <= high + reach]
    ends = [
        min(max(end, low - reach), high + reach)
        for line in lines
        for end in map(forward, _interval_ends(panel, line))
        if math.isfinite(end)
    ]
    bottom, top = min([*near, *ends, low]), max([*near, *ends, high])
    if top - bottom < least:
        bottom, top = (bottom + top - least) / 2, (bottom + top + least) / 2
    space = MARGIN * (top - bottom)
    bottom, top = bottom - space, top + space
    lowest, highest = min([*near, low]), max([*near, high])
    if kind == "linear" and lowest >= 0:  # only intervals are below 0
        bottom = max(bottom, 0.0 if lowest else -space)
    if kind == "linear" and highest <= 0:
        top = min(top, 0.0 if highest else space)
    if from_zero:
        bottom, top = (bottom if lowest < 0 else 0.0), (top if highest > 0 else 0.0)
    return Limits(back(bottom), back(top))


def shared(panels: Sequence[Panel], found: Sequence[Limits], kinds: Sequence[Kind]) -> bool:
    """Return whether panels can have one y-axis: each uses at least a quarter of it."""
    if len({(panel.y_label, kind) for panel, kind in zip(panels, kinds, strict=True)}) > 1:
        return False
    return use_enough(found, kinds[0])


def use_enough(found: Sequence[Limits], kind: Kind) -> bool:
    """Return whether each of several limits uses at least a quarter of an axis that holds all."""
    forward = _SCALES[kind][0]
    ends = [(forward(each.low), forward(each.high)) for each in found]
    whole = union(found)
    span = forward(whole.high) - forward(whole.low)
    return all(high - low >= span / 4 for low, high in ends)


def union(found: Sequence[Limits]) -> Limits:
    """Return the limits that hold all others."""
    return Limits(min(each.low for each in found), max(each.high for each in found))


def _other_values(panel: Panel) -> list[float]:
    return [y for line in panel.lines for y in line.y] + [
        mark.y for mark in panel.marks if mark.y is not None
    ]


def _interval_ends(panel: Panel, line: Line) -> list[float]:
    if not panel.curves:
        return [end for end in (*line.low, *line.high) if end is not None]
    if not line.single:
        return []
    return [end for ends in band(line) for end in ends[deciding(panel, line)]]


_SCALES: Final[dict[Kind, tuple[Callable[[float], float], Callable[[float], float]]]] = {
    "linear": (lambda y: y, lambda y: y),
    "log": (lambda y: math.log(y) if y > 0 else -math.inf, math.exp),
    "negative log": (lambda y: -math.log(-y) if y < 0 else math.inf, lambda y: -math.exp(-y)),
}


def notes(panel: Panel, shown: Limits) -> list[Note]:
    """Return a note for each line that leaves the axis, and for claims that are not on it.

    Learning curves may begin off the scale without a note.
    """
    if panel.distribution:
        return []
    found = []
    for line in panel.lines:
        outside = [y for y in line.y if not shown.contain(y)]
        if outside and not (panel.curves and line.single and len(outside) < len(line.y)):
            texts = _notes(line.shown, outside, panel.y_unit, shown, whole=len(line.y))
            found += [Note(line.label, text) for text in texts]
    for mark in panel.marks:
        if mark.y is not None and not shown.contain(mark.y):
            texts = _notes(f"{mark.label}, claimed", [mark.y], panel.y_unit, shown, whole=1)
            found += [Note(mark.label, text) for text in texts]
    return found


def _notes(
    name: str, outside: Iterable[float], unit: str, shown: Limits, *, whole: int
) -> list[str]:
    """Return the texts for what is above and what is below the axis."""
    values = sorted(outside)
    above, below = [y for y in values if y > shown.high], [y for y in values if y < shown.low]
    found = []
    for arrow, side in (("↑", above), ("↓", below)):
        if side:
            ends = list(dict.fromkeys((number(side[0]), number(side[-1]))))
            points = f" at {len(side)} of {whole} points" if len(side) < whole else ""
            text = f"{arrow} {name}: {' to '.join(ends)} {unit}".rstrip()
            found.append(f"{text}{points}, off the scale")
    return found
