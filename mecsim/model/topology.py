"""Positions of servers and devices, their association, and the wired links."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from mecsim.errors import ScenarioError
from mecsim.model import equations
from mecsim.model.random_streams import Stream
from mecsim.scenario.schema import Device, EdgeServer, Radio, Wired
from mecsim.support.arrays import Floats, Ints
from mecsim.support.portable_math import cos_sin_each

PAIRS_AT_ONCE: Final = 1 << 19
"""Most pairs of a device and a server that are compared together; bounds memory."""

_ROUNDING: Final = 1 + 1e-12
"""Factor on the coverage radius: a device at the edge of the coverage is covered."""

LEAST_GAIN: Final = 1e-200
"""Least path gain; a rate below it would be lost in rounding."""


@dataclass(frozen=True)
class Links:
    """The L directed wired links; all arrays have the shape (L,)."""

    source: Ints
    """The sending server, 0-based."""
    target: Ints
    """The receiving server, 0-based."""
    rate_bps: Floats
    """Rate in bits per second."""
    latency_s: Floats
    """Propagation time in seconds."""

    def __len__(self) -> int:
        return len(self.source)


def server_positions(spec: EdgeServer, count: int) -> Floats:
    """Return the positions of servers in metres.

    Args:
        spec: Gives the positions, or the spacing of a square grid that is filled row by row.
        count: N, the number of servers.

    Returns:
        x and y of every server; shape (N, 2).
    """
    if spec.positions is not None:
        return np.array(spec.positions, dtype=np.float64)
    numbers = np.arange(count)
    columns = grid_columns(count)
    cells = np.stack([numbers % columns, numbers // columns], axis=1)
    return spec.spacing * cells.astype(np.float64)


def grid_columns(count: int) -> int:
    """Return the number of columns of the square grid for ``count`` servers."""
    return math.ceil(math.sqrt(count))


def device_positions(
    spec: Device, servers: Floats, coverage_m: float, count: int, seed: int
) -> Floats:
    """Return the positions of devices in metres.

    Args:
        spec: Gives the positions, or the ring around a server in which devices are placed.
        servers: Positions of the servers in metres; shape (N, 2).
        coverage_m: Largest distance of a device from its server.
        count: D, the number of devices.
        seed: Device d is placed uniformly over the ring around server d mod N.

    Returns:
        x and y of every device; shape (D, 2).

    Raises:
        ScenarioError: If the ring is larger than the coverage.
    """
    if spec.positions is not None:
        return np.array(spec.positions, dtype=np.float64)
    draws = Stream(seed, "positions").uniform(0, np.array([2 * count])).reshape(-1, 2)
    near, far = spec.distance
    if far > coverage_m * _ROUNDING:
        raise ScenarioError(
            f"device.distance: reaches {far:g} m, and a device may be placed at any distance up to "
            f"that from its server; allowed: at most edge_server.coverage_radius = {coverage_m:g} m"
        )
    radius = np.sqrt(near * near + (far * far - near * near) * draws[:, 0])
    around = servers[np.arange(count) % len(servers)]
    return around + radius[:, None] * cos_sin_each(draws[:, 1])


def associate(
    devices: Floats, servers: Floats, coverage_m: float, radio: Radio
) -> tuple[Ints, Floats]:
    """Associate each device with the server of highest path gain: the nearest.

    Args:
        devices: Positions in metres; shape (D, 2).
        servers: Positions in metres; shape (N, 2).
        coverage_m: Largest distance of a device from its server.
        radio: Gives the path loss.

    Returns:
        The server of each device (0-based; of equally near ones the lowest-numbered) and its path
        gain; shape (D,) each.

    Raises:
        ScenarioError: If a device is out of coverage, or its path gain is too small.
    """
    reach = coverage_m * _ROUNDING
    nearest = np.zeros(len(devices), dtype=np.int64)
    distance = np.full(len(devices), np.inf)
    for group in _neighbourhoods(devices, max(1, min(1024, PAIRS_AT_ONCE // len(servers)))):
        low, high = devices[group].min(axis=0) - reach, devices[group].max(axis=0) + reach
        near = np.flatnonzero(((servers >= low) & (servers <= high)).all(axis=1))
        if len(near):
            away = _distances(devices[group], servers[near])
            nearest[group], distance[group] = near[away.argmin(axis=1)], away.min(axis=1)
    outside = np.flatnonzero(distance > reach)
    if outside.size:
        d = int(outside[0])
        raise ScenarioError(
            f"device: device {d} at {tuple(devices[d].round(1).tolist())} m is out of coverage: "
            f"{_distances(devices[d : d + 1], servers).min():.1f} m from its nearest server; "
            f"allowed: edge_server.coverage_radius = {coverage_m:g} m"
        )
    metres = np.maximum(distance, 1.0)  # the path-loss model is not valid below a metre
    gain = equations.path_gain(metres, radio.path_loss_intercept_db, radio.path_loss_slope_db)
    faint = np.flatnonzero(np.asarray(gain) < LEAST_GAIN)
    if faint.size:
        d = int(faint[0])
        raise ScenarioError(
            f"radio: the path gain of device {d}, {metres[d]:g} m from its server, is "
            f"{np.asarray(gain)[d]:g}; allowed: at least {LEAST_GAIN:g} "
            "(path_loss_intercept_db, path_loss_slope_db)"
        )
    return nearest, np.asarray(gain)


def _neighbourhoods(points: Floats, size: int) -> Iterator[Ints]:
    """Yield the numbers of the points in groups of at most ``size`` neighbours.

    A group is compared with the servers around it only: for a city, D × N distances would take
    long and not fit into memory. The plane is cut into strips with equal numbers of points, and
    these into groups.
    """
    strips = max(1, math.isqrt(len(points) // size))
    rank = np.empty(len(points), dtype=np.int64)
    rank[np.argsort(points[:, 0], kind="stable")] = np.arange(len(points))
    order = np.lexsort((points[:, 1], rank * strips // len(points)))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _distances(points: Floats, servers: Floats) -> Floats:
    return np.linalg.norm(points[:, None, :] - servers[None, :, :], axis=2)


def wired_links(spec: Wired, servers: int) -> Links:
    """Return the directed links of a topology.

    Args:
        spec: The topology.
        servers: N, the number of servers.

    Returns:
        The links, sorted by (source, target).

    Raises:
        ScenarioError: If a link is given twice or a server cannot be reached.

    Example:
        >>> links = wired_links(Wired(topology="line"), 3)
        >>> list(zip(links.source.tolist(), links.target.tolist()))
        [(0, 1), (1, 0), (1, 2), (2, 1)]
    """
    if spec.topology == "explicit":
        return _explicit_links(spec, servers)
    one, other = _pairs(spec, servers)
    number = np.concatenate([one * servers + other, other * servers + one])
    source, target = np.divmod(np.unique(number), servers)  # a ring of 2 has each pair twice
    return Links(
        source, target, np.full(len(source), spec.rate), np.full(len(source), spec.latency)
    )


def _pairs(spec: Wired, n: int) -> tuple[Ints, Ints]:
    """Return the linked pairs of servers, each pair once; shape (P,) each."""
    columns, all_ = grid_columns(n), np.arange(n)
    match spec.topology:
        case "full_mesh":
            one, other = np.triu_indices(n, 1)
            return one, other
        case "ring":
            return (all_, (all_ + 1) % n) if n > 1 else (all_[1:], all_[1:])
        case "star":
            return np.zeros(n - 1, dtype=np.int64), all_[1:]
        case "line":
            return all_[:-1], all_[1:]
        case "tree":
            return (all_[1:] - 1) // spec.branching, all_[1:]
        case _:  # grid
            inner = all_[:-1][all_[1:] % columns > 0]
            upper = all_[: max(n - columns, 0)]
            return np.append(inner, upper), np.append(inner + 1, upper + columns)


def _explicit_links(spec: Wired, servers: int) -> Links:
    rows: dict[tuple[int, int], tuple[float, float]] = {}
    for number, link in enumerate(spec.links or ()):
        ends = (link.source - 1, link.target - 1)
        for pair in (ends, ends[::-1]) if link.both_ways else (ends,):
            if pair in rows:
                joined = f"ES {pair[0] + 1} to ES {pair[1] + 1}"
                raise ScenarioError(f"wired.links.{number}: the link {joined} is given twice")
            rate = spec.rate if link.rate is None else link.rate
            rows[pair] = (rate, spec.latency if link.latency is None else link.latency)
    _check_connected(set(rows), servers)
    table = np.array([(*pair, *row) for pair, row in sorted(rows.items())]).reshape(-1, 4)
    source, target, rates, latencies = table.T.copy()
    return Links(source.astype(np.int64), target.astype(np.int64), rates, latencies)


def _check_connected(pairs: set[tuple[int, int]], servers: int) -> None:
    for problem, links in (
        ("cannot be reached from", pairs),
        ("cannot reach", {pair[::-1] for pair in pairs}),
    ):
        lost = set(range(servers)) - _reachable(links)
        if lost:
            raise ScenarioError(
                f"wired.links: ES {min(lost) + 1} {problem} ES 1; join them by a link"
            )


def _reachable(links: set[tuple[int, int]]) -> set[int]:
    """Return the servers to which links lead from the first server, itself included."""
    targets: dict[int, list[int]] = {}
    for source, target in links:
        targets.setdefault(source, []).append(target)
    reached, left = {0}, [0]
    while left:
        new = set(targets.get(left.pop(), ())) - reached
        reached |= new
        left += new
    return reached
