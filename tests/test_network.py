"""Positions, association, topologies and routes."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.errors import ScenarioError
from mecsim.model import resolve
from mecsim.network import (
    Links,
    associate,
    device_positions,
    next_links,
    server_positions,
    wired_links,
)
from mecsim.scenario import Device, EdgeServer, Radio, Wired
from tests.support import chain, scenario, simulate

Pairs = list[tuple[int, int]]


def pairs(links: Links) -> Pairs:
    """The links by the servers that they join, from 1."""
    ends = zip(links.source.tolist(), links.target.tolist(), strict=True)
    return [(i + 1, j + 1) for i, j in ends]


def wired(**values: Any) -> Wired:
    return Wired.model_validate(values)


def both_ways(one_way: Pairs) -> Pairs:
    return sorted([*one_way, *((j, i) for i, j in one_way)])


# ---------------------------------------------------------------- topologies, worked by hand

CASES: list[tuple[str, int, Pairs]] = [
    ("full_mesh", 1, []),
    ("full_mesh", 2, [(1, 2)]),
    ("full_mesh", 4, [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]),
    ("ring", 1, []),
    ("ring", 2, [(1, 2)]),
    ("ring", 3, [(1, 2), (2, 3), (1, 3)]),
    ("ring", 5, [(1, 2), (2, 3), (3, 4), (4, 5), (1, 5)]),
    ("star", 1, []),
    ("star", 4, [(1, 2), (1, 3), (1, 4)]),
    ("line", 1, []),
    ("line", 4, [(1, 2), (2, 3), (3, 4)]),
    ("tree", 1, []),
    ("tree", 7, [(1, 2), (1, 3), (2, 4), (2, 5), (3, 6), (3, 7)]),
    ("grid", 1, []),
    ("grid", 2, [(1, 2)]),
    ("grid", 3, [(1, 2), (1, 3)]),  # 1 2 / 3
    ("grid", 5, [(1, 2), (2, 3), (4, 5), (1, 4), (2, 5)]),  # 1 2 3 / 4 5
    ("grid", 9, [(i, i + 1) for i in (1, 2, 4, 5, 7, 8)] + [(i, i + 3) for i in range(1, 7)]),
]


@pytest.mark.parametrize(("topology", "servers", "one_way"), CASES)
def test_links_of_a_topology(topology: str, servers: int, one_way: Pairs) -> None:
    links = wired_links(wired(topology=topology, rate=7.0, latency=0.5), servers)
    assert pairs(links) == both_ways(one_way)
    assert links.rate_bps.tolist() == [7.0] * len(links)
    assert links.latency_s.tolist() == [0.5] * len(links)


def test_a_tree_has_the_branching_that_it_is_given() -> None:
    links = wired_links(wired(topology="tree", branching=3), 6)
    assert pairs(links) == both_ways([(1, 2), (1, 3), (1, 4), (2, 5), (2, 6)])
    assert pairs(wired_links(wired(topology="tree", branching=1), 3)) == both_ways([(1, 2), (2, 3)])


def explicit(*links: dict[str, Any]) -> Wired:
    return wired(topology="explicit", rate=8.0, latency=0.25, links=list(links))


def test_explicit_links_have_their_own_numbers_or_the_common_ones() -> None:
    spec = explicit(
        {"from": 3, "to": 1, "rate": 2.0, "both_ways": False},
        {"from": 1, "to": 2, "latency": 0.0},
        {"from": 2, "to": 3, "both_ways": False},
    )
    links = wired_links(spec, 3)
    assert pairs(links) == [(1, 2), (2, 1), (2, 3), (3, 1)]
    assert links.rate_bps.tolist() == [8.0, 8.0, 8.0, 2.0]
    assert links.latency_s.tolist() == [0.0, 0.0, 0.25, 0.25]


def test_one_way_links_are_taken_one_way() -> None:
    ring = [{"from": i, "to": i % 4 + 1, "both_ways": False} for i in range(1, 5)]
    table = next_links(wired_links(explicit(*ring), 4), 4, 1.0)
    # link k goes from server k to k + 1, so whatever the target, it is the only way
    assert table.tolist() == [[-1 if i == j else i for j in range(4)] for i in range(4)]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([{"from": 1, "to": 2}], "ES 3 cannot be reached from ES 1"),
        (
            [{"from": 1, "to": 2}, {"from": 1, "to": 3, "both_ways": False}],
            "ES 3 cannot reach ES 1",
        ),
        ([], "ES 2 cannot be reached from ES 1"),
        (
            [{"from": 1, "to": 2}, {"from": 2, "to": 1}, {"from": 2, "to": 3}],
            r"wired.links.1: the link ES 2 to ES 1 is given twice",
        ),
    ],
)
def test_links_that_leave_a_server_out_are_refused(
    links: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ScenarioError, match=message):
        resolve(scenario(edge_servers=3, wired=explicit(*links).model_dump()))


# ---------------------------------------------------------------- routes

Row = tuple[int, int, float, float]


def links_of(rows: list[Row]) -> Links:
    table = np.array(sorted({row[:2]: row for row in rows}.values()), dtype=float).reshape(-1, 4)
    ends = table[:, :2].astype(np.int64)
    return Links(ends[:, 0].copy(), ends[:, 1].copy(), table[:, 2].copy(), table[:, 3].copy())


@st.composite
def graphs(draw: st.DrawFn, rates: st.SearchStrategy[float], latencies: Any) -> tuple[int, Links]:
    """A one-way ring of all servers and any further links."""
    n = draw(st.integers(2, 7))
    ends = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] != e[1])
    more = draw(st.lists(ends, max_size=12))
    joined = [(i, (i + 1) % n) for i in range(n)] + more
    return n, links_of([(i, j, draw(rates), draw(latencies)) for i, j in joined])


def walk(table: Any, links: Links, source: int, target: int) -> list[int]:
    """The links taken, which must come to an end."""
    taken: list[int] = []
    while source != target:
        link = int(table[source, target])
        assert links.source[link] == source
        assert len(taken) < len(table), f"goes round: {taken}"
        taken.append(link)
        source = int(links.target[link])
    return taken


def seconds_of(links: Links, bits: float) -> tuple[list[float], nx.DiGraph[int]]:
    seconds = (bits / links.rate_bps + links.latency_s).tolist()
    graph: nx.DiGraph[int] = nx.DiGraph()
    for i, j, w in zip(links.source.tolist(), links.target.tolist(), seconds, strict=True):
        graph.add_edge(i, j, weight=w)
    return seconds, graph


@given(graphs(st.floats(1.0, 1e10), st.floats(0.0, 0.1)), st.floats(1.0, 1e8))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_routes_are_shortest(network: tuple[int, Links], bits: float) -> None:
    n, links = network
    table = next_links(links, n, bits)
    seconds, graph = seconds_of(links, bits)
    for source in range(n):
        assert table[source, source] == -1
        for target in range(n):
            taken = walk(table, links, source, target)
            shortest = nx.shortest_path_length(graph, source, target, weight="weight")
            assert sum(seconds[k] for k in taken) == pytest.approx(shortest, rel=1e-12)


@given(graphs(st.sampled_from([1.0, 2.0]), st.sampled_from([0.0, 0.5])), st.integers(1, 3))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_of_equally_fast_next_hops_the_lowest_numbered_is_taken(
    network: tuple[int, Links], bits: int
) -> None:
    n, links = network
    table = next_links(links, n, float(bits))
    _, graph = seconds_of(links, float(bits))
    left = dict(nx.all_pairs_dijkstra_path_length(graph))
    for source in range(n):
        for target in set(range(n)) - {source}:
            best = min(
                (graph[source][j]["weight"] + left[j][target], j) for j in graph.successors(source)
            )
            assert int(links.target[table[source, target]]) == best[1]


def test_tie_break_by_hand() -> None:
    """A ring of 4: opposite corners have two ways, the lower-numbered neighbour is taken."""
    links = wired_links(wired(topology="ring"), 4)
    table = next_links(links, 4, 1.0)
    through = {(i, j): int(links.target[table[i, j]]) for i, j in [(0, 2), (2, 0), (1, 3), (3, 1)]}
    assert through == {(0, 2): 1, (2, 0): 1, (1, 3): 0, (3, 1): 0}


@pytest.mark.parametrize("rate", [1e9, 1e20, 1e30])
def test_a_route_ends_also_where_a_link_is_next_to_instantaneous(rate: float) -> None:
    """ES 1 and 2 are joined by a link whose time vanishes beside that of the way to ES 3."""
    links = links_of([(0, 1, rate, 0), (1, 0, rate, 0), (1, 2, 1e3, 1), (2, 1, 1e3, 1)])
    table = next_links(links, 3, 24_576.0)
    assert [walk(table, links, i, 2) for i in (0, 1)] == [[0, 2], [2]]


@pytest.mark.parametrize("topology", ["ring", "star", "line", "tree", "grid"])
def test_a_route_ends_also_where_there_is_nothing_to_send(topology: str) -> None:
    links = wired_links(wired(topology=topology, rate=1e3, latency=0.0), 6)
    table = next_links(links, 6, 0.0)
    assert all(len(walk(table, links, i, j)) >= (i != j) for i in range(6) for j in range(6))


def test_the_route_depends_on_the_size_of_a_block_where_latency_matters() -> None:
    """Direct: 8 bit/s. By ES 2: 80 bit/s and 0.5 s a hop. 8 bits: 1 s or 1.2 s; 16: 2 or 1.4 s."""
    fast = {"rate": 80.0, "latency": 0.5}
    links = [{"from": 1, "to": 2} | fast, {"from": 2, "to": 3} | fast]
    spec = scenario(
        dnn=chain([1, 1, 1], [8, 8, 16], result_bits=8),
        edge_servers=3,
        return_result=True,
        device={"positions": [[400, 0]]},
        wired={"topology": "explicit", "rate": 8.0, "links": [{"from": 1, "to": 3}, *links]},
    )
    for placement, between in (
        ([1, 3, 3], ["es1-es3", "es3-es1"]),  # and back with the result of 8 bits
        ([1, 1, 3], ["es1-es2", "es2-es3", "es3-es1"]),
        ([3, 3, 1], ["es1-es3", "es3-es2", "es2-es1"]),
    ):
        _, trace = simulate(spec, "fixed", {"placement": placement})
        names = resolve(spec).resource_names()
        crossed = [names[r] for r in trace["hops/resource"].tolist()]
        assert [name for name in crossed if "-" in name] == between


# ---------------------------------------------------------------- positions and association


def test_servers_stand_row_by_row_on_a_square_grid() -> None:
    spec = EdgeServer.model_validate({"spacing": 100.0})
    five = [[0, 0], [100, 0], [200, 0], [0, 100], [100, 100]]
    assert server_positions(spec, 5).tolist() == five
    assert server_positions(spec, 1).tolist() == [[0, 0]]
    given_ = EdgeServer.model_validate({"positions": [[1.0, 2.0], [3.0, 4.0]]})
    assert server_positions(given_, 2).tolist() == [[1, 2], [3, 4]]


def test_devices_are_dropped_uniformly_over_the_ring_around_their_server() -> None:
    servers = np.array([[0.0, 0.0], [1500.0, 0.0], [0.0, 1500.0]])
    spec = Device.model_validate({"distance": [310.0, 750.0]})
    count = 3000
    away = device_positions(spec, servers, count, seed=1) - servers[np.arange(count) % 3]
    distance = np.hypot(*away.T)
    assert distance.min() >= 310.0 - 1e-9
    assert distance.max() <= 750.0 + 1e-9
    # the share of the ring's area inside is uniform: mean 1/2, standard error 1/√(12 n); 4 of them
    area = (distance**2 - 310**2) / (750**2 - 310**2)
    assert area.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * count))
    assert np.histogram(area, 10)[0] == pytest.approx(count / 10, abs=4 * np.sqrt(count * 0.09))
    # cos and sin of a uniform angle: mean 0, variance 1/2
    assert (away / distance[:, None]).mean(axis=0) == pytest.approx(0, abs=4 / np.sqrt(2 * count))


def test_association_picks_the_nearest_server() -> None:
    rng = np.random.default_rng(5)
    servers, devices = rng.uniform(0, 3000, (9, 2)), rng.uniform(0, 3000, (5000, 2))
    nearest, gain = associate(devices, servers, 5000.0, Radio())
    distance = np.array([[np.hypot(*(d - s)) for s in servers] for d in devices])
    assert nearest.tolist() == distance.argmin(axis=1).tolist()
    loss = 128.1 + 37.6 * np.log10(distance.min(axis=1) / 1000)
    assert gain == pytest.approx(10 ** (-loss / 10), rel=1e-9)


def test_a_device_between_two_servers_goes_to_the_first_and_one_out_of_reach_is_refused() -> None:
    servers = np.array([[0.0, 0.0], [1000.0, 0.0]])
    nearest, _ = associate(np.array([[500.0, 0.0], [501.0, 0.0]]), servers, 750.0, Radio())
    assert nearest.tolist() == [0, 1]
    with pytest.raises(ScenarioError, match=r"device 1 at .* 750\.5 m from .* 750"):
        associate(np.array([[0.0, 750.0], [0.0, 750.5]]), servers, 750.0, Radio())
