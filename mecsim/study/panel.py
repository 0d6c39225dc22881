"""What figures show: lines and panels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from mecsim.support.text import value_text

Distribution: TypeAlias = Literal["cdf", "tail"]
"""The share of tasks up to a value, or above it on a logarithmic axis."""


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
    name: str = ""
    """Written in place of the label, which determines the style; empty for the label."""

    @property
    def shown(self) -> str:
        """The text for readers."""
        return self.name or self.label


@dataclass(frozen=True)
class Mark:
    """A number that somebody claims: a point of the panel, or a position on one of its axes."""

    label: str
    """The line whose colour it has."""
    x: Any = None
    """None for a level on the y-axis."""
    y: float | None = None
    """None for a position on the x-axis."""
    text: str = ""
    """Written next to a position on the x-axis."""
    legend: str = "claimed"
    """What the mark means."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    lines: Sequence[Line]
    x_label: str
    y_label: str
    title: str = ""
    curves: bool = False
    """Draw learning curves: the mean with a band of one standard deviation over the trainings."""
    bars: bool = False
    """Draw categories as bars from 0, unless the y-axis is logarithmic."""
    additive: bool = False
    """The values add up: the y-axis is linear."""
    distribution: Distribution | None = None
    """Draw distributions: x is a quantile, ``low`` and ``high`` are its interval, y is a share."""
    marks: Sequence[Mark] = ()
    extra: bool = False
    """Draw it in a row below the other panels."""
    remarks: Sequence[str] = ()
    """Written below the figure."""

    @property
    def y_unit(self) -> str:
        """The unit of the y-axis, or an empty text.

        >>> Panel([], "", "total delay (s)").y_unit
        's'
        """
        return unit_of(self.y_label)


def unit_of(label: str) -> str:
    """Return the unit at the end of the label of an axis, or an empty text."""
    found = re.search(r"\(([^()]*)\)$", label)
    return found[1] if found else ""


def positions(values: Sequence[Any]) -> tuple[dict[Any, float], list[str]]:
    """Return the positions of values on an axis, and tick labels for values that are no numbers.

    A number is at its own position, also with a unit that all values share.

    >>> positions(["0.8 MB/s", "2 MB/s"])
    ({'0.8 MB/s': 0.8, '2 MB/s': 2.0}, [])
    >>> positions(["nin", "vgg16"])
    ({'nin': 0.0, 'vgg16': 1.0}, ['nin', 'vgg16'])
    """
    unique = list(dict.fromkeys(hashable(value) for value in values))
    numbers = [_number(value) for value in unique]
    if all(number is not None for number in numbers) and len({unit(v) for v in unique}) <= 1:
        return {v: float(n) for v, n in zip(unique, numbers, strict=True) if n is not None}, []
    return {value: float(place) for place, value in enumerate(unique)}, [*map(value_text, unique)]


def has_categories(panel: Panel) -> bool:
    """Return whether the x-axis has categories: their points are not joined."""
    return bool(positions([x for line in panel.lines for x in line.x])[1])


def names_lines(panel: Panel) -> bool:
    """Return whether the x-axis names the lines, which are one point each."""
    return all(list(line.x) == [line.label] for line in panel.lines)


def hashable(value: Any) -> Any:
    """Return a value of a sweep as it is, or a list or mapping as text."""
    return value if isinstance(value, str | int | float) else value_text(value)


_QUANTITY: Final = re.compile(r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?) *([^0-9,]*)")


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        return float(found[1]) if found else None
    return float(value)


def is_quantity(value: Any) -> bool:
    """Return whether a value is a number, or a text of a number and a unit.

    >>> is_quantity("0.8 MB/s"), is_quantity("unlimited"), is_quantity([1])
    (True, False, False)
    """
    return isinstance(value, str | int | float) and _number(value) is not None


def unit(value: Any) -> str:
    """Return the unit of a value, or an empty text.

    >>> unit("0.8 MB/s")
    'MB/s'
    """
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return found[2].strip() if found else ""
