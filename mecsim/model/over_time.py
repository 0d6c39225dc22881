"""Rates and capacities over time: the series of a scenario, and the resources that follow them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from mecsim.model.calendars import Calendar
from mecsim.model.listed_tasks import listed
from mecsim.model.resources import Resources
from mecsim.scenario import time_series
from mecsim.scenario.document import FORMULA
from mecsim.scenario.schema import CsvTasks, ListedTasks, Scenario
from mecsim.scenario.section import (
    CapacitySteps,
    CsvSeries,
    MahimahiTrace,
    OverTime,
    RateSteps,
    Section,
)
from mecsim.scenario.time_series import Steps
from mecsim.scenario.yaml_source import Keys
from mecsim.support.arrays import Floats, Ints

_Node = TypeVar("_Node")
_UNITS: Final = {"rate": "bit/s", "capacity": "Hz"}


class Series(NamedTuple):
    """Resources whose rates follow the same steps."""

    resources: Ints
    steps: Steps

    def calendar(self) -> Calendar:
        """Return the steps as multiples of the nominal rate."""
        steps = self.steps
        rows = np.stack([steps.begin_s, steps.value / steps.nominal], axis=1)
        return Calendar(steps=rows, period_s=steps.period_s)


def replaced(node: _Node, of: Callable[[OverTime | CsvTasks, Keys], Any], keys: Keys = ()) -> _Node:
    """Return a scenario, or a part of one, with each series and list of tasks replaced.

    Args:
        node: The scenario or the part; is returned itself if it has none.
        of: Returns what replaces a series or the tasks of a file, given its path of keys.
        keys: Path of the part.
    """
    found: Any = node
    if not isinstance(node, Section | tuple):
        return node
    if isinstance(node, OverTime | CsvTasks):
        return of(node, keys)
    if isinstance(node, Section):
        changes = {
            name: new
            for name, value in vars(node).items()
            if (new := replaced(value, of, (*keys, name))) is not value
        }
        found = node.model_copy(update=changes) if changes else node
    elif isinstance(node, tuple):
        items = tuple(replaced(value, of, (*keys, row)) for row, value in enumerate(node))
        found = items if any(a is not b for a, b in zip(items, node, strict=True)) else node
    return found


def with_nominal(scenario: Scenario) -> tuple[Scenario, dict[Keys, Steps]]:
    """Return a scenario with the nominal value of each series in its place, and the series.

    Tasks of a file are listed.

    Raises:
        ScenarioError: A file cannot be read or is not valid.
    """
    found: dict[Keys, Steps] = {}

    def nominal(spec: OverTime | CsvTasks, keys: Keys) -> float | ListedTasks:
        if isinstance(spec, CsvTasks):
            return listed(spec, scenario, keys)
        found[keys] = steps_of(spec, keys, scenario.length_s)
        return found[keys].nominal

    return replaced(scenario, nominal), found


def written_out(scenario: Scenario) -> Scenario:
    """Return a scenario that needs no CSV file: steps and tasks are in their places.

    Raises:
        ScenarioError: A file cannot be read or is not valid.
    """

    def inline(spec: OverTime | CsvTasks, keys: Keys) -> OverTime | ListedTasks:
        if isinstance(spec, CsvTasks):
            return listed(spec, scenario, keys)
        if isinstance(spec, RateSteps | CapacitySteps):
            return spec
        steps = steps_of(spec, keys, scenario.length_s)
        kind = RateSteps if keys[-1] == "rate" else CapacitySteps
        period = steps.period_s if math.isfinite(steps.period_s) else None
        pairs = tuple(zip(steps.begin_s.tolist(), steps.value.tolist(), strict=True))
        return kind(steps=pairs, period=period, nominal=steps.nominal)

    return replaced(scenario, inline)


def steps_of(spec: OverTime, keys: Keys, length_s: float) -> Steps:
    """Return the steps of a series.

    Raises:
        ScenarioError: The file cannot be read or is not valid; the message begins with the keys.
    """
    path = ".".join(map(str, keys))
    if isinstance(spec, RateSteps | CapacitySteps):
        begin_s, value = np.array(spec.steps, dtype=np.float64).T.copy()
        period_s = math.inf if spec.period is None else spec.period
        return time_series.steps(begin_s, value, period_s, path, spec.nominal, "a period")
    name, file = (
        ("series", spec.series) if isinstance(spec, CsvSeries) else ("mahimahi", spec.mahimahi)
    )
    with time_series.reading(f"{path}.{name}", file) as stamp:
        return _read(spec, _UNITS[str(keys[-1])], length_s, stamp)


@lru_cache(maxsize=64)
def _read(
    spec: CsvSeries | MahimahiTrace, unit: str, length_s: float, stamp: tuple[int, int]
) -> Steps:
    """Read a file; ``stamp`` differs when it has changed."""
    del stamp
    if isinstance(spec, MahimahiTrace):
        return time_series.read_mahimahi(Path(spec.mahimahi), spec.bin)
    return time_series.read_series(
        Path(spec.series),
        unit,
        column=spec.column,
        interpolation=spec.interpolation,
        resolution_s=spec.resolution,
        end=spec.end,
        length_s=length_s,
    )


def values_at(steps: Steps, time_s: Floats) -> Floats:
    """Return the values of some steps at some times; the least one above 0 where it is 0."""
    if math.isfinite(steps.period_s):
        time_s = time_s - np.floor(time_s / steps.period_s) * steps.period_s
    row = np.maximum(np.searchsorted(steps.begin_s, time_s, side="right") - 1, 0)
    value = steps.value[row]
    return np.where(value > 0, value, steps.value[steps.value > 0].min())


def followers(
    keys: Keys, scenario: Scenario, resources: Resources, groups: NodeGroups, entry: Ints
) -> Ints:
    """Return the numbers of the resources that follow the series of a scenario at some keys.

    Args:
        keys: Path of the series.
        scenario: The scenario.
        resources: Numbers of its resources.
        groups: Group of every server and device.
        entry: Row of ``wired.links`` of each link, or −1; shape (L,).
    """
    match keys:
        case ("edge_server" | "edge_servers", *_, "capacity"):
            return _members(keys, scenario, scenario.edge_servers, groups.server)
        case ("device" | "devices", *_, "capacity"):
            return resources.device + _members(keys, scenario, scenario.devices, groups.device)
        case ("radio" | "devices", *_, "rate"):
            devices = _members(keys, scenario, scenario.devices, groups.device)
            return np.concatenate([resources.uplink + devices, resources.downlink + devices])
        case ("wired", "links", int(row), "rate"):
            return resources.link + np.flatnonzero(entry == row)
        case _:
            own = [row for row, e in enumerate(scenario.wired.links or ()) if e.rate is not None]
            return resources.link + np.flatnonzero(~np.isin(entry, own))


class NodeGroups(NamedTuple):
    """Number of the group of every server and device; shapes (N,) and (D,)."""

    server: Ints
    device: Ints


def _members(keys: Keys, scenario: Scenario, nodes: Any, group: Ints) -> Ints:
    """Return the nodes of a group or, for a key of a section, of groups that do not give it."""
    if len(keys) == 3:
        return np.flatnonzero(group == keys[1])
    if isinstance(nodes, int):
        return np.arange(len(group))
    key = str(keys[-1])
    without = [
        row
        for row, each in enumerate(nodes)
        if getattr(each, key) is None
        and (key != "capacity" or scenario.type_of(each) == FORMULA)  # others have no capacity
    ]
    return np.flatnonzero(np.isin(group, without))
