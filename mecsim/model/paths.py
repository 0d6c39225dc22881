"""The paths of moving devices: drawn between random waypoints, or recorded.

A path is a chain of straight legs, known ahead for the whole run. So the position of a device can
be read at any time, and memory grows with legs, not with slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import ScenarioError
from mecsim.model import association
from mecsim.model.random_streams import Stream
from mecsim.model.topology import ROUNDING
from mecsim.scenario import groups, time_series
from mecsim.scenario.mobility import Movement
from mecsim.scenario.positions import Positions, read_positions
from mecsim.scenario.schema import Scenario
from mecsim.scenario.section import Pair
from mecsim.support.arrays import Floats, Ints, read_only

MAX_LEGS: Final = 20_000_000
"""Most legs between waypoints of all devices together; bounds memory."""
PAIRS_AT_ONCE: Final = 1 << 19
"""Most pairs of a position and a server that are compared together; bounds memory."""
CELLS: Final = 10
"""How many times an area is halved, at most, to see whether servers cover it."""

_Records: TypeAlias = NDArray[Any]


class Servers(NamedTuple):
    """Where N servers stand and how far they reach."""

    xy: Floats
    """In metres, NaN for those without a radio; shape (N, 2)."""
    coverage_m: Floats
    """Shape (N,)."""

    @property
    def reach_m(self) -> Floats:
        """Largest distance at which a server covers a device, with rounding; shape (N,)."""
        return self.coverage_m * ROUNDING


@dataclass(frozen=True)
class Paths:
    """Where m of the devices are over time: K points, and straight legs between them."""

    device: Ints
    """The devices that move, in order; shape (m,)."""
    bounds: Ints
    """The points of the i-th device are those from ``bounds[i]`` to ``bounds[i + 1]``."""
    time_s: Floats
    """Times of the points; shape (K,)."""
    xy: Floats
    """Positions of the points in metres; shape (K, 2)."""
    label: tuple[str, ...]
    """Where the points of each device come from, for messages; length m."""
    line: Ints
    """Line of each point where it is recorded in a file, else −1; shape (K,)."""
    hysteresis_db: Floats
    """Shape (m,)."""
    handover_s: Floats
    """Shape (m,)."""

    def xy_at(self, now_s: float) -> Floats:
        """Return the position of each device at a time; shape (m, 2)."""
        rows = zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)
        places = [association.place_at(a, b, self.time_s, self.xy, now_s) for a, b in rows]
        return np.array(places).reshape(-1, 2)

    def _named(self, i: int, now_s: float) -> str:
        """Return the key, and the file and line, of the point of a device at a time."""
        first, end = self.bounds[i : i + 2].tolist()
        at = max(int(np.searchsorted(self.time_s[first:end], now_s, side="right")) - 1, 0)
        line = int(self.line[first + at])
        return f"{self.label[i]}:{line}" if line >= 0 else self.label[i]

    def out_of_coverage(self, i: int, now_s: float) -> ScenarioError:
        """Return the error of a device that no server covers at a time."""
        begin, end = self.bounds[i : i + 2].tolist()
        x, y = association.place_at(begin, end, self.time_s, self.xy, now_s)
        return ScenarioError(
            f"{self._named(i, now_s)}: device {self.device[i]} is out of coverage at {now_s:g} s, "
            f"at [{x:g}, {y:g}] m; allowed: positions within the coverage_radius of a server"
        )


def paths(scenario: Scenario, seed: int, servers: Servers) -> Paths | None:
    """Return the paths of all devices that move; None if none does.

    Raises:
        ScenarioError: A file cannot be read, a device is unknown or moves twice, or positions are
            out of coverage.
    """
    if not scenario.mobility:
        return None
    parts = [
        _walks(scenario, number, spec, seed, servers)
        if spec.speed is not None
        else _recorded(scenario, number, spec, servers)
        for number, spec in enumerate(scenario.mobility)
    ]
    owner = np.concatenate([np.full(len(part.device), n) for n, part in enumerate(parts)])
    device = np.concatenate([part.device for part in parts])
    order = np.argsort(device, kind="stable")
    again = np.flatnonzero(np.diff(device[order]) == 0)
    if again.size:
        first, second = order[again[0]], order[again[0] + 1]
        where = "twice" if owner[first] == owner[second] else f"and mobility.{owner[first]} does"
        raise ScenarioError(
            f"mobility.{owner[second]}: moves device {device[first]} {where}; "
            "allowed: each device once"
        )
    return _joined(parts, order)


def _joined(parts: Sequence[Paths], order: Ints) -> Paths:
    """Return the paths of several parts as one, sorted by device."""
    counts = np.concatenate([np.diff(part.bounds) for part in parts])
    first = np.cumsum([0, *counts])[:-1]
    rows = np.concatenate([np.arange(first[i], first[i] + counts[i]) for i in order.tolist()])
    label = [text for part in parts for text in part.label]

    def all_of(name: str) -> _Records:
        return np.concatenate([getattr(part, name) for part in parts])

    return Paths(
        device=read_only(all_of("device")[order]),
        bounds=read_only(np.cumsum([0, *counts[order]])),
        time_s=read_only(all_of("time_s")[rows]),
        xy=read_only(all_of("xy")[rows]),
        label=tuple(label[i] for i in order.tolist()),
        line=read_only(all_of("line")[rows]),
        hysteresis_db=read_only(all_of("hysteresis_db")[order]),
        handover_s=read_only(all_of("handover_s")[order]),
    )


def _walks(scenario: Scenario, number: int, spec: Movement, seed: int, servers: Servers) -> Paths:
    """Draw walks between random waypoints that last until the end of the run.

    A device has its own part of the stream, so its walk depends neither on other devices nor on the
    length of the run.
    """
    assert spec.area is not None
    path = f"mobility.{number}"
    wanted = "all" if spec.devices is None else spec.devices
    movers = groups.members(f"{path}.devices", scenario.devices, wanted, 0)
    device = np.array(sorted(movers), dtype=np.int64)
    _check_no_positions(scenario, path, device)
    _check_covered(f"{path}.area", spec.area, servers)
    count = _legs_expected(scenario, path, spec, len(device))
    while True:
        time_s, xy = _legs(scenario, spec, seed, device, count)
        if (time_s[:, -1] >= scenario.length_s).all():
            break
        count *= 2
    points = time_s.shape[1]
    return Paths(
        device=device,
        bounds=np.arange(len(device) + 1) * points,
        time_s=time_s.ravel(),
        xy=xy.reshape(-1, 2),
        label=(f"{path}.area",) * len(device),
        line=np.full(time_s.size, -1),
        hysteresis_db=np.full(len(device), spec.hysteresis_db),
        handover_s=np.full(len(device), spec.handover),
    )


def _legs(
    scenario: Scenario, spec: Movement, seed: int, device: Ints, count: int
) -> tuple[Floats, Floats]:
    """Return times and positions of the start and of ``count`` arrivals and departures.

    Shapes (m, 2·count + 1) and (m, 2·count + 1, 2).
    """
    assert spec.area is not None
    assert spec.speed is not None
    each = np.zeros(scenario.device_count, dtype=np.int64)
    each[device] = 4 * (count + 1)
    draws = Stream(seed, "waypoints").uniform(0, each).reshape(len(device), count + 1, 4)
    (left, lower), (right, upper) = spec.area
    place = np.array([left, lower]) + draws[:, :, :2] * np.array([right - left, upper - lower])
    place = np.minimum(place, [right, upper])  # a product may be rounded up
    slow, fast = spec.speed
    short, long = spec.pause or (0.0, 0.0)
    step = place[:, 1:] - place[:, :-1]
    metres = np.sqrt(step[:, :, 0] * step[:, :, 0] + step[:, :, 1] * step[:, :, 1])
    spent = np.zeros((len(device), 2 * count + 1))
    spent[:, 1::2] = metres / (slow + (fast - slow) * draws[:, 1:, 2])
    spent[:, 2::2] = short + (long - short) * draws[:, 1:, 3]
    xy = np.concatenate([place[:, :1], np.repeat(place[:, 1:], 2, axis=1)], axis=1)
    return np.cumsum(spent, axis=1), xy


def _legs_expected(scenario: Scenario, path: str, spec: Movement, devices: int) -> int:
    """Return about how many legs a device needs. Raises ``ScenarioError`` if it is too many."""
    assert spec.area is not None
    assert spec.speed is not None
    (left, lower), (right, upper) = spec.area
    metres = max(right - left, upper - lower) / 3  # mean distance in one dimension
    leg_s = metres / spec.speed[1] + sum(spec.pause or (0.0,)) / 2
    expected = scenario.length_s / leg_s
    if expected * devices > MAX_LEGS:
        raise ScenarioError(
            f"{path}: takes about {expected * devices:.3g} legs between waypoints; allowed: up to "
            f"{MAX_LEGS:,}; give a larger area, a lower speed or fewer slots"
        )
    return int(expected * 1.25) + 8


def _check_no_positions(scenario: Scenario, path: str, device: Ints) -> None:
    """Refuse given positions of devices that start at a random point."""
    problem = "has no effect: {} moves the devices from a random point on; leave one of them out"
    if isinstance(scenario.devices, int):
        if scenario.device.positions is not None:
            raise ScenarioError(f"device.positions: {problem.format(path)}")
        return
    first = 0
    for number, group in enumerate(scenario.devices):
        moves = ((device >= first) & (device < first + group.count)).any()
        first += group.count
        for key in ("positions", "distance", "servers"):
            if moves and getattr(group, key) is not None:
                raise ScenarioError(f"devices.{number}.{key}: {problem.format(path)}")


def _check_covered(path: str, area: Pair[Pair[float]], servers: Servers) -> None:
    """Refuse an area that servers do not cover, or not beyond doubt.

    The area is cut into quarters until a server covers each piece, or no server its centre.
    """
    known = ~np.isnan(servers.xy[:, 0])
    xy, reach_m = servers.xy[known], servers.reach_m[known]
    pieces = np.array([[*area[0], *area[1]]])
    for _ in range(CELLS):
        low, high = pieces[:, None, :2], pieces[:, None, 2:]
        centre = (low + high) / 2
        corner = np.abs(xy - centre) + (high - low) / 2  # to the farthest corner of the piece
        inside = (np.sqrt((corner * corner).sum(axis=2)) <= reach_m).any(axis=1)
        pieces, centre = pieces[~inside], centre[~inside, 0]
        if not len(pieces):
            return
        away = np.sqrt(((xy - centre[:, None]) ** 2).sum(axis=2))
        outside = np.flatnonzero((away > reach_m).all(axis=1))
        if outside.size:
            centre = centre[outside[:1]]
            break
        low, high = pieces[:, :2], pieces[:, 2:]
        quarters = [(0, 1, 0, 1), (1, 2, 0, 1), (0, 1, 1, 2), (1, 2, 1, 2)]
        half = (high - low) / 2
        pieces = np.concatenate(
            [np.concatenate([low + half * (a, c), low + half * (b, d)], axis=1)
             for a, b, c, d in quarters]
        )  # fmt: skip
    x, y = centre[0].round(1).tolist()
    raise ScenarioError(
        f"{path}: no server covers it near [{x:g}, {y:g}] m; "
        "allowed: an area of which each point is within the coverage_radius of a server"
    )


def _recorded(scenario: Scenario, number: int, spec: Movement, servers: Servers) -> Paths:
    """Return the paths of recorded positions."""
    path = f"mobility.{number}"
    found = recorded_positions(scenario, number, spec)
    beyond = np.flatnonzero(found.device >= scenario.device_count)
    if beyond.size:
        raise ScenarioError(
            f"{path}.points.{found.line[beyond[0]]}: device {found.device[beyond[0]]}; "
            f"allowed: 0 to {scenario.device_count - 1}"
        )
    device, first = np.unique(found.device, return_index=True)
    in_file = spec.positions is not None
    label = f"{path}.positions: {spec.positions}" if in_file else f"{path}.points"
    made = Paths(
        device=device,
        bounds=np.append(first, len(found.device)),
        time_s=found.time_s,
        xy=found.xy,
        label=(label,) * len(device),
        line=found.line if in_file else np.full(len(found.device), -1),
        hysteresis_db=np.full(len(device), spec.hysteresis_db),
        handover_s=np.full(len(device), spec.handover),
    )
    _check_points_covered(scenario, made, servers)
    return made


def _check_points_covered(scenario: Scenario, made: Paths, servers: Servers) -> None:
    """Refuse a recorded position, reached before the end of the run, that no server covers."""
    rows = np.flatnonzero(made.time_s < scenario.length_s)
    reach_m, at_once = servers.reach_m, max(1, PAIRS_AT_ONCE // len(servers.xy))
    for first in range(0, len(rows), at_once):
        own = rows[first : first + at_once]
        away = np.sqrt(((made.xy[own, None] - servers.xy) ** 2).sum(axis=2))
        outside = own[~(away <= reach_m).any(axis=1)]
        if outside.size:
            i = int(np.searchsorted(made.bounds, outside[0], side="right")) - 1
            raise made.out_of_coverage(i, float(made.time_s[outside[0]]))


def recorded_positions(scenario: Scenario, number: int, spec: Movement) -> Positions:
    """Return the positions that an entry of ``mobility`` records.

    Raises:
        ScenarioError: The file cannot be read or is not valid.
    """
    if spec.points is not None:
        time_s, device, x, y = np.array(spec.points, dtype=np.float64).T.copy()
        order = np.argsort(device, kind="stable")
        back = (np.diff(device[order]) == 0) & (np.diff(time_s[order]) <= 0)
        if back.any():
            row = int(order[1:][back].min())
            raise ScenarioError(
                f"mobility.{number}.points.{row}: is at {time_s[row]:g} s; allowed: later than the "
                f"point before of device {device[row]:g}"
            )
        whole = device[order].astype(np.int64)
        return Positions(whole, time_s[order], np.stack([x, y], axis=1)[order], order)
    assert spec.positions is not None
    with time_series.reading(f"mobility.{number}.positions", spec.positions) as stamp:
        return _read(spec.positions, scenario.devices, spec.origin, stamp)


@lru_cache(maxsize=16)
def _read(
    file: str, devices: groups.Nodes, origin: Pair[float] | None, stamp: tuple[int, int]
) -> Positions:
    """Read a file; ``stamp`` differs when it has changed."""
    del stamp
    return read_positions(Path(file), devices, origin)


def written_out(scenario: Scenario) -> Scenario:
    """Return a scenario that needs no file of positions: they are in their places.

    Raises:
        ScenarioError: A file cannot be read or is not valid.
    """
    if all(spec.positions is None for spec in scenario.mobility):
        return scenario
    entries = []
    for number, spec in enumerate(scenario.mobility):
        changes: dict[str, Any] = {}
        if spec.positions is not None:
            found = recorded_positions(scenario, number, spec)
            columns = found.time_s.tolist(), found.device.tolist(), *found.xy.T.tolist()
            points = tuple(zip(*columns, strict=True))
            changes = {"positions": None, "origin": None, "points": points}
        entries.append(spec.model_copy(update=changes))
    return scenario.model_copy(update={"mobility": tuple(entries)})
