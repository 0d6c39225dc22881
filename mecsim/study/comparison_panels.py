"""Panels from the entries of a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mecsim.simulation.metrics import METRICS
from mecsim.study.axis_labels import (
    AS_THEY_ARE,
    Names,
    key_axis,
    key_label,
    metric_axis,
    metric_factor,
)
from mecsim.study.panel import Line, Panel, has_categories, hashable, unit
from mecsim.study.summary import Entry
from mecsim.study.sweep import Point
from mecsim.support.text import value_text


def comparison_panels(
    summary: Sequence[Entry], metric: str, names: Names = AS_THEY_ARE
) -> list[Panel]:
    """Return one panel per scenario and combination of all swept keys except the first.

    Empty if the metric is zero everywhere, such as failed tasks.

    Args:
        summary: Entries of all metrics.
        metric: The name of the metric.
        names: Names for readers.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for each in summary:
        if each["metric"] == metric and each["mean"] is not None:
            rest = dict(list(each["sweep"].items())[1:])
            groups.setdefault((each["scenario"], point_title(rest, names)), []).append(each)
    if not any(each["mean"] for found in groups.values() for each in found):
        return []
    marked = dict.fromkeys(
        each["scheduler"] for found in groups.values() for each in found if each["overloaded"]
    )
    shown = ", ".join(names.get(label, label) for label in marked)
    remarks = [f"overloaded in some runs: {shown}"] if marked else []
    panels = (
        _named(found, metric, title, names)
        for title, found in zip(titles(list(groups), names), groups.values(), strict=True)
    )
    return [replace(panel, remarks=remarks, bars=has_categories(panel)) for panel in panels]


def titles(places: Sequence[tuple[str, str]], names: Names) -> list[str]:
    """Return titles of panels from scenarios and points; they name a scenario if there are several.

    >>> titles([("city", "devices = 2"), ("city", "devices = 3")], {})
    ['devices = 2', 'devices = 3']
    """
    several = len({scenario for scenario, _ in places}) > 1
    return [
        ", ".join(filter(None, (names.get(scenario, scenario), point)))
        if several or not point
        else point
        for scenario, point in places
    ]


def point_title(point: Point, names: Names = AS_THEY_ARE) -> str:
    """Return a point of a sweep as text.

    >>> point_title({"edge_servers": 4, "radio.rate": "2 MB/s"})
    'number of edge servers = 4, radio rate = 2 MB/s'
    """
    return ", ".join(f"{key_label(key, names)} = {value_text(v)}" for key, v in point.items())


def _named(entries: Sequence[Entry], metric: str, title: str, names: Names) -> Panel:
    """Return a panel with readable labels; shares are in percent."""
    panel = sweep_panel(entries, metric, title)
    key = next(iter(entries[0]["sweep"]), None)
    values = list(dict.fromkeys(x for line in panel.lines for x in line.x))
    label, shown = ("", values) if key is None else key_axis(key, values, names)
    places = dict(zip(values, shown, strict=True))
    factor = metric_factor(metric)
    lines = [_readable(line, {} if key is None else places, factor, names) for line in panel.lines]
    return replace(panel, lines=lines, x_label=label, y_label=metric_axis(metric, names))


def _readable(line: Line, places: Mapping[Any, Any], factor: float, names: Names) -> Line:
    return replace(
        line,
        x=[places.get(x, x) for x in line.x],
        y=[factor * y for y in line.y],
        low=[None if end is None else factor * end for end in line.low],
        high=[None if end is None else factor * end for end in line.high],
        name=names.get(line.label, ""),
    )


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
