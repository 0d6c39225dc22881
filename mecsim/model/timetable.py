"""The calendars of a scenario: its series, and its failures as given or drawn for a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from mecsim.errors import ScenarioError
from mecsim.model.calendars import (
    LOST,
    NO_CALENDARS,
    RESTARTS,
    RESUMES,
    Calendar,
    Calendars,
    calendars,
)
from mecsim.model.mobility import Mobility
from mecsim.model.over_time import Series
from mecsim.model.random_streams import Stream
from mecsim.model.resources import Resources
from mecsim.model.slot_rates import SlotRates
from mecsim.model.topology import Links
from mecsim.scenario import groups
from mecsim.scenario.failures import Failure
from mecsim.scenario.schema import Scenario
from mecsim.support.arrays import Floats, Ints

MOST_OUTAGES: Final = 10_000_000
"""Most outages that are drawn for a run, as expected."""
_RULES: Final = {"resumes": RESUMES, "restarts": RESTARTS, "lost": LOST}


def timetable(
    scenario: Scenario,
    seed: int,
    resources: Resources,
    links: Links,
    series: Sequence[Series],
    moving: Mobility | None = None,
    slot_rates: SlotRates | None = None,
) -> Calendars:
    """Return the calendars of all resources: their series, rates of slots, failures and handovers.

    Raises:
        ScenarioError: A failure names something that does not exist, or that another one names too.
    """
    if not (series or scenario.failures or moving or slot_rates):
        return NO_CALENDARS
    entries = [(each.resources, each.calendar()) for each in series]
    radio = np.array([resources.uplink, resources.downlink])
    if slot_rates is not None:
        start_s = np.arange(float(scenario.slots)) * scenario.slot_length
        for device in slot_rates.devices.tolist():
            steps = np.stack([start_s, slot_rates.rate_bps[:, device]], axis=1)
            entries.append((radio + device, Calendar(steps=steps, by_slot=True)))
    failing = list(_failing(scenario, resources, links))
    _check_disjoint(failing, resources)
    _check_number(failing, scenario.length_s)
    handovers = {} if moving is None else dict(moving.interruptions())
    for failure, parts in failing:
        for rows in parts:
            outages, device = _outages(failure, rows, seed, scenario.length_s), int(rows[0])
            pauses = handovers.pop(device - resources.device, None)
            if pauses is None:
                entries.append((rows, outages))
            else:
                with_pauses = replace(outages, pauses=pauses)
                entries += [(rows[:1], outages), (rows[1:], with_pauses)]
    entries += [(radio + device, Calendar(pauses=each)) for device, each in handovers.items()]
    on_air = np.arange(resources.uplink, len(resources))
    return calendars(len(resources), entries, by_time=on_air)


def failing_links(scenario: Scenario, resources: Resources, links: Links) -> Ints:
    """Return the numbers of the links that data go around while they are down; in order.

    Raises:
        ScenarioError: As :func:`timetable`.
    """
    if not scenario.wired.reroute:
        return np.zeros(0, dtype=np.int64)
    parts = (rows for _, parts in _failing(scenario, resources, links) for rows in parts)
    found = [rows - resources.link for rows in parts if rows[0] >= resources.link]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)


def _failing(
    scenario: Scenario, resources: Resources, links: Links
) -> Iterator[tuple[Failure, list[Ints]]]:
    """Yield each failure with the resources of everything that fails by itself."""
    for number, failure in enumerate(scenario.failures):
        path = f"failures.{number}"
        servers = groups.members(f"{path}.servers", scenario.edge_servers, failure.servers or (), 1)
        devices = groups.members(f"{path}.devices", scenario.devices, failure.devices or (), 0)
        cables = _cables(scenario, failure, links, f"{path}.links")
        parts = np.array([resources.device, resources.uplink, resources.downlink])
        yield (
            failure,
            [
                *(np.array([server]) for server in servers),
                *(parts + device for device in devices),
                *(resources.link + rows for rows in cables),
            ],
        )


def _cables(scenario: Scenario, failure: Failure, links: Links, path: str) -> list[Ints]:
    """Return the links, both ways, between each pair of servers that a failure names."""
    ends = np.stack([links.source, links.target], axis=1)
    lower, upper = ends.min(axis=1), ends.max(axis=1)
    if failure.links == "all":
        _, first = np.unique(lower * scenario.server_count + upper, return_index=True)
        if not first.size:
            raise ScenarioError(f"{path}: 'all', but there are no wired links; leave links out")
        pairs = [(lower[row], upper[row]) for row in np.sort(first)]
        return [np.flatnonzero((lower == a) & (upper == b)) for a, b in pairs]
    found = []
    for row, (one, other) in enumerate(failure.links or ()):
        for a in groups.numbers_at(f"{path}.{row}.0", scenario.edge_servers, one, 1):
            for b in groups.numbers_at(f"{path}.{row}.1", scenario.edge_servers, other, 1):
                joined = np.flatnonzero((lower == min(a, b)) & (upper == max(a, b)))
                if not joined.size:
                    raise ScenarioError(
                        f"{path}.{row}: no link joins servers {a + 1} and {b + 1}; "
                        "allowed: pairs of servers that a wired link joins"
                    )
                found.append(joined)
    return found


def _check_disjoint(failing: Sequence[tuple[Failure, list[Ints]]], resources: Resources) -> None:
    """Refuse failures of which two name the same server, device or link."""
    owner = np.full(len(resources), -1)
    for number, (_, parts) in enumerate(failing):
        for rows in parts:
            if (owner[rows] >= 0).any():
                first = int(owner[rows].max())
                where = "twice" if first == number else f"that failures.{first} names too"
                raise ScenarioError(
                    f"failures.{number}: names {_name(resources, int(rows[0]))} {where}; "
                    "allowed: each server, device and link once"
                )
            owner[rows] = number


def _check_number(failing: Sequence[tuple[Failure, list[Ints]]], length_s: float) -> None:
    """Refuse random failures so frequent that a run could not hold them."""
    total = 0.0
    for number, (failure, parts) in enumerate(failing):
        up_s, down_s = failure.mean_time_to_failure, failure.mean_time_to_repair
        if up_s is not None and down_s is not None:
            total += len(parts) * length_s / (up_s + down_s)
        if total > MOST_OUTAGES:
            raise ScenarioError(
                f"failures.{number}.mean_time_to_failure: {up_s:g} s lead to {total:.2g} outages "
                f"in {length_s:g} s (slots × slot_length); allowed: {MOST_OUTAGES:,} in all"
            )


def _name(resources: Resources, row: int) -> str:
    if row < resources.device:
        return f"server {row + 1}"
    if row < resources.uplink:
        return f"device {row - resources.device}"
    return "a link"


def _outages(failure: Failure, rows: Ints, seed: int, length_s: float) -> Calendar:
    """Return the outages of resources that fail together."""
    if failure.at is not None:
        outages = np.array(failure.at, dtype=np.float64)
    else:
        outages = _drawn(failure, int(rows[0]), seed, length_s)
    return Calendar(outages=outages, rule=_RULES[failure.work], refuses=failure.arrivals == "fail")


def _drawn(failure: Failure, number: int, seed: int, length_s: float) -> Floats:
    """Draw outages that begin before the end of the last slot.

    Times from repair to failure and from failure to repair alternate in the numbers of the
    resource's own part of the stream, so a longer run has the same outages at first.
    """
    up_s, down_s = failure.mean_time_to_failure, failure.mean_time_to_repair
    assert up_s is not None
    assert down_s is not None
    count = int(length_s / (up_s + down_s) * 1.25) + 8
    while True:
        draws = Stream(seed, "failures").exponential(number, np.array([2 * count]))
        times = np.cumsum(draws.reshape(-1, 2) * (up_s, down_s))
        if times[-2] >= length_s:
            outages = times.reshape(-1, 2)
            return outages[outages[:, 0] < length_s]
        count *= 2
