"""Positions, association, topologies and routes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.errors import ScenarioError
from mecsim.model import equations
from mecsim.model import topology as topology_module
from mecsim.model.coverage import coverage_table
from mecsim.model.model import reseeded, resolve
from mecsim.model.random_streams import Stream
from mecsim.model.routes import next_links
from mecsim.model.topology import (
    Links,
    associate,
    grid_positions,
    ring_positions,
    wired_links,
)
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Poisson, Radio, Scenario, Wired
from tests.helpers.builders import both_ways, scenario

Pairs = list[tuple[int, int]]


def pairs(links: Links) -> Pairs:
    """The links by the servers that they join, from 1."""
    ends = zip(links.source.tolist(), links.target.tolist(), strict=True)
    return [(i + 1, j + 1) for i, j in ends]


def wired(**values: Any) -> Wired:
    return Wired.model_validate(values)


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
def test_wired_links(topology: str, servers: int, one_way: Pairs) -> None:
    links = wired_links(wired(topology=topology, rate=7.0, latency=0.5), servers)
    assert pairs(links) == both_ways(one_way)
    assert links.rate_bps.tolist() == [7.0] * len(links)
    assert links.latency_s.tolist() == [0.5] * len(links)


def test_wired_links_tree_branching() -> None:
    links = wired_links(wired(topology="tree", branching=3), 6)
    assert pairs(links) == both_ways([(1, 2), (1, 3), (1, 4), (2, 5), (2, 6)])
    assert pairs(wired_links(wired(topology="tree", branching=1), 3)) == both_ways([(1, 2), (2, 3)])


def explicit(*links: dict[str, Any]) -> Wired:
    return wired(topology="explicit", rate=8.0, latency=0.25, links=list(links))


def test_wired_links_explicit_defaults() -> None:
    spec = explicit(
        {"from": 3, "to": 1, "rate": 2.0, "both_ways": False},
        {"from": 1, "to": 2, "latency": 0.0},
        {"from": 2, "to": 3, "both_ways": False},
    )
    links = wired_links(spec, 3)
    assert pairs(links) == [(1, 2), (2, 1), (2, 3), (3, 1)]
    assert links.rate_bps.tolist() == [8.0, 8.0, 8.0, 2.0]
    assert links.latency_s.tolist() == [0.0, 0.0, 0.25, 0.25]


def test_wired_links_one_way() -> None:
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
def test_wired_links_unconnected(links: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        resolve(scenario(edge_servers=3, wired=explicit(*links).model_dump()))


# ---------------------------------------------------------------- positions and association


def test_server_positions_grid() -> None:
    five = [[0, 0], [100, 0], [200, 0], [0, 100], [100, 100]]
    assert grid_positions(100.0, 5).tolist() == five
    assert grid_positions(100.0, 1).tolist() == [[0, 0]]


@pytest.mark.statistical
def test_device_positions_uniform_in_ring() -> None:
    servers = np.array([[0.0, 0.0], [1500.0, 0.0], [0.0, 1500.0]])
    count = 3000
    around = servers[np.arange(count) % 3]
    draws = Stream(1, "positions").uniform(0, np.array([2 * count])).reshape(-1, 2)
    away = ring_positions((310.0, 750.0), around, draws) - around
    distance = np.hypot(*away.T)
    assert distance.min() >= 310.0 - 1e-9
    assert distance.max() <= 750.0 + 1e-9
    # the share of the ring's area inside is uniform: mean 1/2, standard error 1/√(12 n); 4 of them
    area = (distance**2 - 310**2) / (750**2 - 310**2)
    assert area.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * count))
    assert np.histogram(area, 10)[0] == pytest.approx(count / 10, abs=4 * np.sqrt(count * 0.09))
    # cos and sin of a uniform angle: mean 0, variance 1/2
    assert (away / distance[:, None]).mean(axis=0) == pytest.approx(0, abs=4 / np.sqrt(2 * count))


def test_devices_placed_by_distance_are_covered() -> None:
    """Under any seed: some draws of such a ring are all within the coverage."""
    ring = {"device": {"distance": [10.0, 751.0]}, "devices": 1, "dnn": {"blocks": 3}}
    for seed in range(5):
        with pytest.raises(ScenarioError, match=r"distance: reaches 751 m.* at most .* = 750 m"):
            resolve(Scenario.model_validate(ring), seed)
    wide = Scenario.model_validate(ring | {"edge_server": {"coverage_radius": 751.0}})
    model = resolve(wide, 0)
    narrow = Scenario.model_validate(ring)
    with pytest.raises(ScenarioError, match=r"device\.distance: reaches"):
        reseeded(replace(model, scenario=narrow, nominal=narrow), 1)


def test_coverage_of_servers() -> None:
    """Devices 300 and 400 m from ES 1, one 500 m from ES 3; nobody near ES 2."""
    described = {
        "dnn": {"blocks": 3},
        "edge_servers": 3,
        "edge_server": {"positions": [[0.0, 0.0], [1e6, 0.0], [5e3, 0.0]]},
        "devices": 3,
        "device": {"positions": [[300.0, 0.0], [5300.0, 400.0], [0.0, -400.0]]},
    }
    first, second, third = coverage_table(resolve(Scenario.model_validate(described)))
    assert (first["server"], first["devices"], first["distance_m"]) == (1, 2, [300.0, 400.0])
    assert second == {
        "server": 2, "name": "ES 2", "position_m": [1e6, 0.0], "devices": 0,
        "members": {"device": []}, "distance_m": None, "rate_bps": None,
    }  # fmt: skip
    assert first["members"] == {"device": [0, 2]}
    assert (third["devices"], third["distance_m"]) == (1, [500.0, 500.0])

    def rate(metres: float) -> float:
        loss = 128.1 + 37.6 * np.log10(metres / 1000)
        return float(2e6 * np.log2(1 + 0.158489319246 * 10 ** (-loss / 10) / (3.98107e-21 * 2e6)))

    assert first["rate_bps"] == pytest.approx([rate(400), rate(300)], rel=1e-4)
    assert third["rate_bps"] == pytest.approx([rate(500), rate(500)], rel=1e-4)
    for given, bounds in ((5e6, [5e6, 5e6]), ({"uniform": [1e6, 2e6]}, [1e6, 2e6])):
        radio = Scenario.model_validate(described | {"radio": {"rate": given}})
        assert coverage_table(resolve(radio))[0]["rate_bps"] == bounds


def test_associate_nearest() -> None:
    rng = np.random.default_rng(5)
    servers, devices = rng.uniform(0, 3000, (9, 2)), rng.uniform(0, 3000, (5000, 2))
    nearest, gain = associate(devices, servers, 5000.0, Radio())
    distance = np.array([[np.hypot(*(d - s)) for s in servers] for d in devices])
    assert nearest.tolist() == distance.argmin(axis=1).tolist()
    loss = 128.1 + 37.6 * np.log10(distance.min(axis=1) / 1000)
    assert gain == pytest.approx(10 ** (-loss / 10), rel=1e-9)


@pytest.mark.parametrize("pairs_at_once", [50, 1 << 19])
@pytest.mark.parametrize("coverage", [120.0, 1e6])
def test_associate_equals_all_distances(
    pairs_at_once: int, coverage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where groups are small, far from each other or of one place, and on ties."""
    monkeypatch.setattr(topology_module, "PAIRS_AT_ONCE", pairs_at_once)
    rng = np.random.default_rng(7)
    servers = 100.0 * rng.integers(0, 40, (60, 2)).astype(np.float64)
    around = servers[rng.integers(0, 60, 5000)] + rng.integers(-80, 81, (5000, 2))
    devices = np.concatenate([around, np.repeat(servers[:1] + 50.0, 1500, axis=0)])
    distance = np.linalg.norm(devices[:, None, :] - servers[None, :, :], axis=2)
    nearest, gain = associate(devices, servers, coverage, Radio())
    assert nearest.tolist() == distance.argmin(axis=1).tolist()
    metres = np.maximum(distance.min(axis=1), 1.0)
    assert gain.tolist() == np.asarray(equations.path_gain(metres, 128.1, 37.6)).tolist()


def test_associate_out_of_coverage() -> None:
    servers = np.array([[0.0, 0.0], [5000.0, 0.0]])
    devices = np.array([[4990.0, 0.0], [3000.0, 0.0], [1e6, 0.0], [10.0, 0.0], [1999.0, 0.0]])
    with pytest.raises(ScenarioError, match=r"device 1 at \(3000\.0, 0\.0\) m .* 2000\.0 m from"):
        associate(devices, servers, 750.0, Radio())
    with pytest.raises(ScenarioError, match=r"device 0 .* 2000\.0 m from"):
        associate(devices[1:2], servers, 750.0, Radio())
    at_the_edge = np.array([[0.0, np.nextafter(750.0, 751.0)]])
    assert associate(at_the_edge, servers, 750.0, Radio())[0].tolist() == [0]


def test_associate_ties_and_edge_of_coverage() -> None:
    servers = np.array([[0.0, 0.0], [1000.0, 0.0]])
    nearest, _ = associate(np.array([[500.0, 0.0], [501.0, 0.0]]), servers, 750.0, Radio())
    assert nearest.tolist() == [0, 1]
    with pytest.raises(ScenarioError, match=r"device 1 at .* 750\.5 m from .* 750"):
        associate(np.array([[0.0, 750.0], [0.0, 750.5]]), servers, 750.0, Radio())


def test_city_in_little_memory() -> None:
    """1000 servers and 100 000 devices: 8 MB of routes, where all distances would take 800 MB."""
    city = load(Path(__file__).parents[2] / "scenarios" / "city.yaml")
    tracemalloc.start()
    model = resolve(city)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6
    assert model.next_link.nbytes == 8e6
    assert np.bincount(model.serving_server).tolist() == [100] * 1000
    assert isinstance(city.arrivals, Poisson)
    busy = city.arrivals.rate / 1000 * model.cycles.sum() / model.server_hz
    assert 0.52 < busy.min() < busy.max() < 0.70
