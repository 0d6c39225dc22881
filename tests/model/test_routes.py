"""Routes of least time between servers, against networkx and by hand."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.model import routes as routes_module
from mecsim.model.model import resolve
from mecsim.model.routes import next_links, route_tables
from mecsim.model.topology import Links, wired_links
from mecsim.scenario.schema import Wired
from mecsim.support.arrays import Floats, Ints
from tests.helpers.builders import both_ways, chain, scenario, simulate
from tests.helpers.examples import examples


def wired(**values: Any) -> Wired:
    return Wired.model_validate(values)


Row = tuple[int, int, float, float]


def links_of(rows: list[Row]) -> Links:
    table = np.array(sorted({row[:2]: row for row in rows}.values()), dtype=float).reshape(-1, 4)
    ends = table[:, :2].astype(np.int64)
    return Links(ends[:, 0].copy(), ends[:, 1].copy(), table[:, 2].copy(), table[:, 3].copy())


@st.composite
def graphs(
    draw: st.DrawFn, rates: st.SearchStrategy[float], latencies: Any, largest: int = 7
) -> tuple[int, Links]:
    """A one-way ring of all servers and any further links."""
    n = draw(st.integers(2, largest))
    ends = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] != e[1])
    more = draw(st.lists(ends, max_size=2 * n))
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
@settings(max_examples=examples(100), deadline=None, derandomize=True)
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
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_tie_break_lowest_server(network: tuple[int, Links], bits: int) -> None:
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
def test_route_ends_with_instantaneous_link(rate: float) -> None:
    """ES 1 and 2 are joined by a link whose time vanishes next to that of the way to ES 3."""
    links = links_of([(0, 1, rate, 0), (1, 0, rate, 0), (1, 2, 1e3, 1), (2, 1, 1e3, 1)])
    table = next_links(links, 3, 24_576.0)
    assert [walk(table, links, i, 2) for i in (0, 1)] == [[0, 2], [2]]


def dijkstra(links: Links, servers: int, bits: float) -> tuple[Ints, Floats]:
    """The table of next links and the time that is left, shape (N, N) each, as networkx has them.

    Dijkstra's algorithm from every target backwards; only what it settled earlier is nearer.
    """
    backwards: nx.DiGraph[int] = nx.DiGraph()
    backwards.add_nodes_from(range(servers))
    seconds, _ = seconds_of(links, bits)
    ends = list(zip(links.source.tolist(), links.target.tolist(), strict=True))
    backwards.add_weighted_edges_from((j, i, w) for (i, j), w in zip(ends, seconds, strict=True))
    table, left = np.full((servers, servers), -1), np.zeros((servers, servers))
    for target in range(servers):
        after, distance = nx.dijkstra_predecessor_and_distance(backwards, target)
        settled = list(distance)
        for here, options in after.items():
            nearer = [n for n in options if settled.index(n) < settled.index(here)]
            if nearer:
                table[here, target] = ends.index((here, min(nearer)))
            left[here, target] = distance[here]
    return table, left


def assert_least(table: Ints, links: Links, bits: float, left: Floats) -> None:
    """Every route ends, and adding up its hops from the target outwards gives the least time."""
    seconds, _ = seconds_of(links, bits)
    for source, target in np.ndindex(table.shape):
        total = 0.0
        for link in reversed(walk(table, links, source, target)):
            total += seconds[link]
        assert total == left[source, target]


EXACT = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])


@given(graphs(EXACT, st.sampled_from([0.0, 0.25, 1.0, 3.0]), largest=12), st.sampled_from([1, 8]))
@settings(max_examples=examples(200), deadline=None, derandomize=True)
def test_equals_dijkstra_for_exact_times(network: tuple[int, Links], bits: int) -> None:
    n, links = network
    table, left = dijkstra(links, n, float(bits))
    assert next_links(links, n, float(bits)).tolist() == table.tolist()
    assert_least(table, links, float(bits), left)


RATES = st.sampled_from([1e-30, 1e-3, 3.0, 7.0, 1e9, 1e17, 1e30])
LATENCIES = st.sampled_from([0.0, 1e-30, 1e-16, 0.1, 0.3, 1.0, 1e16, 1e30])
LOST = graphs(st.sampled_from([1.0, 3.0, 1e30]), st.just(0.0), largest=12)
"""Every third link's time is lost next to that of the others."""


@given(LOST | graphs(RATES, LATENCIES, largest=12), st.sampled_from([0.0, 1.0, 24_576.0, 1e30]))
@settings(max_examples=examples(300), deadline=None, derandomize=True)
def test_routes_end_despite_rounding(network: tuple[int, Links], bits: float) -> None:
    n, links = network
    bits_sent = max(bits, 1.0)
    table, (_, left) = next_links(links, n, bits), dijkstra(links, n, bits_sent)
    assert_least(table, links, bits_sent, left)
    seconds, _ = seconds_of(links, bits_sent)
    for source, target in np.ndindex(table.shape):
        for link in np.flatnonzero(links.source == source):
            after = left[links.target[link], target]
            best = after + seconds[link] == left[source, target]
            if best and after < left[source, target]:  # a hop that is not lost in rounding
                assert table[source, target] <= link


def test_rounding_prefers_fewer_hops() -> None:
    """ES 1, 2, 3 and 4 are in one place, and only ES 4 leads to ES 5: 1-2-3-4, and 1-4."""
    near = [(i, j, 1e30, 0.0) for i, j in both_ways([(0, 1), (1, 2), (2, 3), (0, 3)])]
    links = links_of([*near, (3, 4, 1.0, 0.0), (4, 3, 1.0, 0.0)])
    table = next_links(links, 5, 1.0)
    ways = [[int(links.target[k]) for k in walk(table, links, i, 4)] for i in range(4)]
    assert ways == [[3, 4], [0, 3, 4], [3, 4], [4]]


def test_servers_at_one_position() -> None:
    """ES 1 and 2 are joined next to instantaneously, and each is 1 s from ES 3."""
    slow = both_ways([(0, 2), (1, 2)])
    links = links_of([(0, 1, 1e30, 0.0), (1, 0, 1e30, 0.0), *((*ends, 1.0, 0.0) for ends in slow)])
    table = next_links(links, 3, 1.0)
    assert [int(links.target[table[i, 2]]) for i in (0, 1)] == [2, 2]


TOPOLOGIES = ["ring", "star", "line", "tree", "grid", "full_mesh"]


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("pairs_at_once", [1, 100, 1 << 19])
def test_equals_dijkstra_for_topologies(
    topology: str, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_module, "PAIRS_AT_ONCE", pairs_at_once)
    for servers in (1, 2, 23):
        links = wired_links(wired(topology=topology, rate=3.0, latency=0.1), servers)
        table, _ = dijkstra(links, servers, 1.0)
        assert next_links(links, servers, 1.0).tolist() == table.tolist()


def test_route_tables_are_distinct() -> None:
    """Of the triangle in the test below: up to 9.6 bits go straight."""
    rows = [(i, j, 8.0, 0.0) for i, j in [(0, 2), (2, 0)]]
    rows += [(i, j, 80.0, 0.5) for i, j in both_ways([(0, 1), (1, 2)])]
    links, bits = links_of(rows), np.array([8.0, 0.0, 16.0, 9.0, 32.0, 8.0])
    tables, which = route_tables(links, 3, bits)
    assert tables.shape == (2, 3, 3)
    assert which.tolist() == [0, 0, 1, 0, 1, 0]
    for row, size in zip(which, bits.tolist(), strict=True):
        assert tables[row].tolist() == next_links(links, 3, size).tolist()
    alike, which = route_tables(wired_links(wired(topology="line"), 3), 3, bits)
    assert alike.shape == (1, 3, 3)
    assert which.tolist() == [0] * 6


@pytest.mark.parametrize("topology", ["ring", "star", "line", "tree", "grid"])
def test_route_ends_for_empty_transfer(topology: str) -> None:
    links = wired_links(wired(topology=topology, rate=1e3, latency=0.0), 6)
    table = next_links(links, 6, 0.0)
    assert all(len(walk(table, links, i, j)) >= (i != j) for i in range(6) for j in range(6))


def test_route_depends_on_block_size() -> None:
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
