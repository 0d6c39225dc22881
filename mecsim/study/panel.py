"""What figures show: lines and panels, from the entries of a summary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mecsim.simulation.metrics import METRICS
from mecsim.study.summary import Entry


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
        found = re.search(r"\(([^()]*)\)$", self.y_label)
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
    return {value: float(place) for place, value in enumerate(unique)}, [str(v) for v in unique]


def has_categories(panel: Panel) -> bool:
    """Return whether the x-axis has categories: their points are not joined."""
    return bool(positions([x for line in panel.lines for x in line.x])[1])


def names_lines(panel: Panel) -> bool:
    """Return whether the x-axis names the lines, which are one point each."""
    return all(list(line.x) == [line.label] for line in panel.lines)


def hashable(value: Any) -> Any:
    """Return a value of a sweep as it is, or a list or mapping as text."""
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
    marked = dict.fromkeys(
        each["scheduler"] for found in groups.values() for each in found if each["overloaded"]
    )
    remarks = [f"overloaded in some runs: {', '.join(marked)}"] if marked else []
    panels = (
        sweep_panel(found, metric, ", ".join(filter(None, name))) for name, found in groups.items()
    )
    return [replace(panel, remarks=remarks) for panel in panels]


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
        [label if key is None else hashable(each["sweep"][key]) for each in entries],
        [each["mean"] for each in entries if each["mean"] is not None],
        [each["ci95_low"] for each in entries],
        [each["ci95_high"] for each in entries],
    )
