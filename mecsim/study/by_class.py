"""The summary of a comparison by class of tasks, where scenarios have several classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from mecsim.study.summary import Entry, Row, summarise

CLASS_METRICS: Final = (
    *("total_delay_s", "total_delay_p95_s", "total_delay_p99_s", "energy_J", "miss_ratio"),
    *("deadline_miss_ratio", "failed"),
)
"""Metrics that are compared by class of tasks, too."""


class ClassEntry(Entry):
    """One metric of one scheduler at one point, of the tasks of a class."""

    class_name: str


def summarise_classes(rows: Iterable[Row], baseline: str) -> list[ClassEntry]:
    """Return :func:`summarise` of :data:`CLASS_METRICS` for each class of tasks.

    Empty where no row has several classes. The least delay of a class is that of the lower bound.
    """
    of_class: dict[str, list[Row]] = {}
    for row in rows:
        bounds = row["lower_bound"].get("classes", []) if "lower_bound" in row else []
        bound_of = {each["name"]: {**each, "gap_percent": None} for each in bounds}
        for each in row.get("classes", ()):
            part = {**row, **each}  # what a class lacks is not among the metrics
            part.pop("lower_bound", None)
            if each["name"] in bound_of:
                part["lower_bound"] = bound_of[each["name"]]
            of_class.setdefault(each["name"], []).append(cast(Row, part))
    return [
        cast(ClassEntry, {**entry, "class_name": name})
        for name, found in of_class.items()
        for entry in summarise(found, baseline)
        if entry["metric"] in CLASS_METRICS
    ]


def places_of_classes(entries: Iterable[ClassEntry]) -> list[Entry]:
    """Return entries of classes for tables and figures: a scenario and a class as one place."""
    return [
        cast(Entry, {**each, "scenario": f"{each['scenario']}, {each['class_name']}"})
        for each in entries
    ]
