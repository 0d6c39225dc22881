"""Where servers and devices are, who serves whom, and the wired graph with its routes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import numpy as np

from mecsim import rules
from mecsim.arrays import Floats, Ints
from mecsim.errors import ScenarioError
from mecsim.scenario import Device, EdgeServer, Radio, Wired
from mecsim.streams import stream


@dataclass(frozen=True)
class Links:
    """The directed wired links: servers joined (0-based), bits a second, seconds; shape (L,)."""

    source: Ints
    target: Ints
    rate_bps: Floats
    latency_s: Floats

    def __len__(self) -> int:
        return len(self.source)


def server_positions(spec: EdgeServer, count: int) -> Floats:
    """Return server positions in metres, shape (N, 2): as given, or row by row on a square grid."""
    if spec.positions is not None:
        return np.array(spec.positions, dtype=np.float64)
    numbers = np.arange(count)
    columns = grid_columns(count)
    cells = np.stack([numbers % columns, numbers // columns], axis=1)
    return spec.spacing * cells.astype(np.float64)


def grid_columns(count: int) -> int:
    """Return the number of columns of the square grid on which ``count`` servers stand."""
    return math.ceil(math.sqrt(count))


def device_positions(spec: Device, servers: Floats, count: int, seed: int) -> Floats:
    """Return device positions in metres, shape (D, 2): as given, or dropped around the servers.

    Device d is dropped uniformly over the ring around server d mod N.
    """
    if spec.positions is not None:
        return np.array(spec.positions, dtype=np.float64)
    draws = stream(seed, "positions").random((count, 2))
    near, far = spec.distance
    radius = np.sqrt(near**2 + (far**2 - near**2) * draws[:, 0])
    angle = 2 * np.pi * draws[:, 1]
    around = servers[np.arange(count) % len(servers)]
    return around + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def associate(
    devices: Floats, servers: Floats, coverage_m: float, radio: Radio
) -> tuple[Ints, Floats]:
    """Return each device's server (0-based; the one of highest path gain) and its path gain.

    Shapes (D,) and (D,). Raises ``ScenarioError`` if a device is out of every server's coverage.
    """
    nearest = np.empty(len(devices), dtype=np.int64)
    distance = np.empty(len(devices))
    for first in range(0, len(devices), 4096):  # in pieces: D × N would not fit for a city
        piece = slice(first, first + 4096)
        away = np.linalg.norm(devices[piece, None, :] - servers[None, :, :], axis=2)
        nearest[piece] = away.argmin(axis=1)
        distance[piece] = away.min(axis=1)
    outside = np.flatnonzero(distance > coverage_m * (1 + 1e-12))
    if outside.size:
        d = int(outside[0])
        raise ScenarioError(
            f"device: device {d} at {tuple(devices[d].round(1).tolist())} m is out of coverage: "
            f"{distance[d]:.1f} m from its nearest server; "
            f"allowed: edge_server.coverage_radius = {coverage_m:g} m"
        )
    metres = np.maximum(distance, 1.0)  # the path-loss model means nothing nearer than a metre
    gain = rules.path_gain(metres, radio.path_loss_intercept_db, radio.path_loss_slope_db)
    return nearest, np.asarray(gain)


def wired_links(spec: Wired, servers: int) -> Links:
    """Return the directed links of a topology, sorted by (source, target).

    Raises ``ScenarioError`` for a link that is given twice or a server that cannot be reached.
    """
    if spec.topology == "explicit":
        return _explicit_links(spec, servers)
    pairs = np.array(_pairs(spec, servers), dtype=np.int64).reshape(-1, 2)
    both = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    rate, latency = np.full(len(both), spec.rate), np.full(len(both), spec.latency)
    return Links(both[:, 0].copy(), both[:, 1].copy(), rate, latency)


def _pairs(spec: Wired, n: int) -> list[tuple[int, int]]:
    columns = grid_columns(n)
    match spec.topology:
        case "full_mesh":
            return [(i, j) for i in range(n) for j in range(i)]
        case "ring":
            return [(i, (i + 1) % n) for i in range(n)] if n > 1 else []
        case "star":
            return [(0, i) for i in range(1, n)]
        case "line":
            return [(i, i + 1) for i in range(n - 1)]
        case "tree":
            return [((i - 1) // spec.branching, i) for i in range(1, n)]
        case _:  # grid
            across = [(i, i + 1) for i in range(n - 1) if (i + 1) % columns]
            return across + [(i, i + columns) for i in range(n - columns)]


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
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(servers))
    graph.add_edges_from(pairs)
    for way, reached in (
        ("cannot be reached from", nx.descendants(graph, 0)),
        ("cannot reach", nx.ancestors(graph, 0)),
    ):
        lost = set(range(1, servers)) - reached
        if lost:
            raise ScenarioError(f"wired.links: ES {min(lost) + 1} {way} ES 1; join them by a link")


def next_links(links: Links, servers: int, bits: float) -> Ints:
    """Return the routes of least transfer time for ``bits``, as a table of next links.

    ``table[i, j]`` is the link that data at server i takes next on its way to server j, −1 where
    i = j; shape (N, N). The time of a hop is bits / rate + latency (Eq. 5); among equally fast
    next hops the lowest-numbered server is taken.
    """
    table = np.full((servers, servers), -1, dtype=np.int64)
    pairs = zip(links.source.tolist(), links.target.tolist(), strict=True)
    number = {pair: k for k, pair in enumerate(pairs)}
    if len(number) == servers * (servers - 1) and _alike(links):  # a full mesh: go straight
        table[links.source, links.target] = np.arange(len(links))
        return table
    bits = max(bits, 1.0)  # nothing to send takes the way that a bit would take
    seconds = rules.transfer_delay(bits, links.rate_bps) + links.latency_s
    backwards: nx.DiGraph[int] = nx.DiGraph()
    backwards.add_weighted_edges_from(
        (t, s, w) for (s, t), w in zip(number, np.asarray(seconds).tolist(), strict=True)
    )
    for target in range(servers) if len(links) else ():
        after, distance = nx.dijkstra_predecessor_and_distance(backwards, target)
        order = {server: rank for rank, server in enumerate(distance)}
        for here, options in after.items():
            nearer = [server for server in options if order[server] < order[here]]
            if nearer:  # so no route goes round, even where a hop's time is lost in rounding
                table[here, target] = number[here, min(nearer)]
    return table


def _alike(links: Links) -> bool:
    return (
        bool(np.ptp(links.rate_bps) == 0 and np.ptp(links.latency_s) == 0) if len(links) else True
    )


def route_tables(links: Links, servers: int, bits: Floats) -> tuple[Ints, Ints]:
    """Return the distinct route tables for transfers of ``bits`` and which one each uses.

    Shapes (K, N, N) and (len(bits),). Links that are all alike need one table only.
    """
    sizes = np.ones(1) if _alike(links) else np.unique(bits)
    tables = np.stack([next_links(links, servers, float(size)) for size in sizes])
    which = np.zeros(len(bits), dtype=np.int64) if _alike(links) else np.searchsorted(sizes, bits)
    return tables, which
