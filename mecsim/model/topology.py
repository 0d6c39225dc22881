"""Positions of servers and devices, their association, and the wired links."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np

from mecsim.errors import ScenarioError
from mecsim.model import equations
from mecsim.scenario import groups
from mecsim.scenario.schema import Link, Radio, Wired
from mecsim.support.arrays import Floats, Ints
from mecsim.support.portable_math import cos_sin_each

PAIRS_AT_ONCE: Final = 1 << 19
"""Most pairs of a device and a server that are compared together; bounds memory."""

ROUNDING: Final = 1 + 1e-12
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
    headers: float = 0.0
    """Bits of headers for each bit that is sent."""
    overhead_s: float = 0.0
    """Seconds that each transfer takes besides its bits."""

    def __len__(self) -> int:
        return len(self.source)

    def seconds(self, bits: float) -> Floats:
        """Return the time from the start of a transfer over each link to its arrival."""
        sent_s = equations.transfer_delay(bits, self.rate_bps, self.headers, self.overhead_s)
        return np.asarray(sent_s + self.latency_s)


def grid_positions(spacing_m: float, count: int) -> Floats:
    """Return the places of a square grid that is filled row by row, in metres; shape (count, 2)."""
    numbers = np.arange(count)
    columns = grid_columns(count)
    cells = np.stack([numbers % columns, numbers // columns], axis=1)
    return spacing_m * cells.astype(np.float64)


def grid_columns(count: int) -> int:
    """Return the number of columns of the square grid for ``count`` servers."""
    return math.ceil(math.sqrt(count))


def ring_positions(distance_m: tuple[float, float], around: Floats, draws: Floats) -> Floats:
    """Return positions that are uniform over the rings around points.

    Args:
        distance_m: Smallest and largest distance from the points.
        around: The points in metres; shape (n, 2).
        draws: Uniform random numbers; shape (n, 2).

    Returns:
        x and y in metres; shape (n, 2).
    """
    near, far = distance_m
    radius = np.sqrt(near * near + (far * far - near * near) * draws[:, 0])
    return around + radius[:, None] * cos_sin_each(draws[:, 1])


def associate(
    devices: Floats,
    servers: Floats,
    coverage_m: float | Floats,
    radio: Radio,
    named: Callable[[int], str] = "device: device {}".format,
) -> tuple[Ints, Floats]:
    """Associate each device with the server of highest path gain: the nearest that covers it.

    Args:
        devices: Positions in metres; shape (D, 2).
        servers: Positions in metres, NaN for those without a radio; shape (N, 2).
        coverage_m: Largest distance of a device from its server, one for all or each; shape (N,).
        radio: Gives the path loss.
        named: Returns the key and the name of a device, for messages.

    Returns:
        The server of each device (0-based; of equally near ones the lowest-numbered) and its path
        gain; shape (D,) each.

    Raises:
        ScenarioError: If a device is out of coverage, or its path gain is too small.
    """
    reach = np.broadcast_to(coverage_m, len(servers)) * ROUNDING
    furthest = reach.max()
    nearest = np.zeros(len(devices), dtype=np.int64)
    distance = np.full(len(devices), np.inf)
    for group in _neighbourhoods(devices, max(1, min(1024, PAIRS_AT_ONCE // len(servers)))):
        low, high = devices[group].min(axis=0) - furthest, devices[group].max(axis=0) + furthest
        near = np.flatnonzero(((servers >= low) & (servers <= high)).all(axis=1))
        if len(near):
            away = _distances(devices[group], servers[near])
            away[away > reach[near]] = np.inf
            nearest[group], distance[group] = near[away.argmin(axis=1)], away.min(axis=1)
    outside = np.flatnonzero(np.isinf(distance))
    if outside.size:
        d = int(outside[0])
        away = _distances(devices[d : d + 1], servers)[0]
        n = int(np.nanargmin(away))
        raise ScenarioError(
            f"{named(d)} at {tuple(devices[d].round(1).tolist())} m is out of coverage: "
            f"{away[n]:.1f} m from its nearest server; "
            f"allowed: coverage_radius = {reach[n] / ROUNDING:g} m"
        )
    metres = np.maximum(distance, 1.0)  # the path-loss model is not valid below a metre
    gain = equations.path_gain(metres, radio.path_loss_intercept_db, radio.path_loss_slope_db)
    faint = np.flatnonzero(np.asarray(gain) < LEAST_GAIN)
    if faint.size:
        d = int(faint[0])
        raise ScenarioError(
            f"radio: the path gain of {named(d).partition(': ')[2]}, {metres[d]:g} m from its "
            f"server, is {np.asarray(gain)[d]:g}; allowed: at least {LEAST_GAIN:g} "
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


def wired_links(spec: Wired, nodes: groups.Nodes) -> Links:
    """Return the directed links of a topology.

    Args:
        spec: The topology.
        nodes: N, the number of servers, or their groups.

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
        return _explicit_links(spec, nodes)
    servers = groups.count(nodes)
    one, other = _pairs(spec, servers)
    number = np.concatenate([one * servers + other, other * servers + one])
    source, target = np.divmod(np.unique(number), servers)  # a ring of 2 has each pair twice
    rates, latencies = np.full(len(source), spec.rate), np.full(len(source), spec.latency)
    return Links(source, target, rates, latencies, spec.headers, spec.overhead)


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


def _explicit_links(spec: Wired, nodes: groups.Nodes) -> Links:
    rows: dict[tuple[int, int], tuple[Any, float]] = {}  # rates are numbers, see with_nominal
    names = groups.names(nodes, "ES ")
    for number, link in enumerate(spec.links or ()):
        for pair in _joined(link, nodes):
            if pair in rows:
                joined = f"{names[pair[0]]} to {names[pair[1]]}"
                raise ScenarioError(f"wired.links.{number}: the link {joined} is given twice")
            rate = spec.rate if link.rate is None else link.rate
            rows[pair] = (rate, spec.latency if link.latency is None else link.latency)
    _check_connected(set(rows), names)
    table = np.array([(*pair, *row) for pair, row in sorted(rows.items())]).reshape(-1, 4)
    source, target, rates, latencies = table.T.copy()
    ends = source.astype(np.int64), target.astype(np.int64)
    return Links(*ends, rates, latencies, spec.headers, spec.overhead)


def _joined(link: Link, nodes: groups.Nodes) -> Iterator[tuple[int, int]]:
    """Yield the pairs of servers that a link joins: all between two groups, or within one."""
    sources, targets = groups.numbers(nodes, link.source), groups.numbers(nodes, link.target)
    for pair in product(sources, targets):
        one, other = pair
        if one != other:
            yield pair
            if link.both_ways and not (other in sources and one in targets):
                yield pair[::-1]


def listed_links(spec: Wired, nodes: groups.Nodes) -> int:
    """Return how many directed links the entries of ``links`` stand for, at most."""
    ends = ((groups.numbers(nodes, link.source), groups.numbers(nodes, link.target))
            for link in spec.links or ())  # fmt: skip
    return sum(2 * len(sources) * len(targets) for sources, targets in ends)


def link_entries(spec: Wired, nodes: groups.Nodes, links: Links) -> Ints:
    """Return the row of ``wired.links`` that gives each link, or −1; shape (L,)."""
    entries = {
        pair: number
        for number, link in enumerate(spec.links or ())
        for pair in _joined(link, nodes)
    }
    ends = zip(links.source.tolist(), links.target.tolist(), strict=True)
    return np.array([entries.get(pair, -1) for pair in ends], dtype=np.int64)


def _check_connected(pairs: set[tuple[int, int]], names: Sequence[str]) -> None:
    for problem, links in (
        ("cannot be reached from", pairs),
        ("cannot reach", {pair[::-1] for pair in pairs}),
    ):
        lost = set(range(len(names))) - _reachable(links)
        if lost:
            raise ScenarioError(
                f"wired.links: {names[min(lost)]} {problem} {names[0]}; join them by a link"
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
