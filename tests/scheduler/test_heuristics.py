"""Decisions of the shipped schedulers, against numbers worked out by hand or by brute force."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.observation import Observation
from mecsim.simulation.run import run as run_scenario
from schedulers.single_cut import SingleCut
from tests.helpers.builders import chain, costs_of_all, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.strategies import networks, size_factors

ROOT = Path(__file__).parents[2]
LOADED = ROOT / "scenarios" / "vgg16_loaded.yaml"


def placements(scenario: Scenario, name: str, **options: Any) -> list[list[int]]:
    rows: list[list[int]] = simulate(scenario, name, options).trace["decisions/placement"].tolist()
    return rows


def busy(**overrides: Any) -> Scenario:
    """Three servers of 4, 2 and 1 Hz, two devices of 1 Hz, four tasks a slot, three blocks."""
    base: dict[str, Any] = {
        "slots": 2,
        "dnn": chain([2, 4, 1], [0, 0, 0]),
        "edge_servers": 3,
        "edge_server": {"capacity": [4, 2, 1]},
        "devices": 2,
        "device": {"capacity": 1},
        "arrivals": {"process": "slotted", "rate": 4},
    }
    return scenario(**(base | overrides))


def test_greedy_by_hand() -> None:
    # Backlogs 0 at all four places: block 0 (2 cycles, 4 tasks on 2 devices of 1 Hz) goes to
    # place 0 and adds 4 s there. Block 1 (4 cycles) goes to ES 1: 4·4/4 = 4 s. Block 2 to ES 2.
    first, second = placements(busy(), "greedy")
    assert first == [0, 1, 2]
    # One second later: devices 3 s (2 tasks of 2 s each, 1 s done), no one else has anything yet.
    # Block 0 goes to ES 1 (2·4/4 = 2 s), block 1 to ES 2 (8 s), block 2 to ES 3.
    assert second == [1, 2, 3]


def test_greedy_over_servers_only() -> None:
    # Block 0 to ES 1: 2·4/4 = 2 s; block 1 to ES 2: 4·4/2 = 8 s; block 2 to ES 3: 1·4/1 = 4 s.
    # One second later ES 1 has finished two blocks (0.5 s each) and has 1 s left, ES 2 has 3.5 s of
    # these tasks, ES 3 nothing: block 0 to ES 3 (8 s), block 1 to ES 1, block 2 to ES 2.
    first, second = placements(busy(), "greedy", places="servers")
    assert (first, second) == ([1, 2, 3], [3, 1, 2])


def test_greedy_per_task() -> None:
    first, *_ = placements(busy(decision_epoch="per_task"), "greedy")
    # 2 s at the device, then ES 1 (4 cycles at 4 Hz = 1 s), then ES 2.
    assert first == [0, 1, 2]


@pytest.mark.parametrize(
    ("blocks", "servers", "expected"),
    [
        (6, 4, [1, 2, 2, 3, 4, 4]),  # ⌈m·4/6⌉ = ⌈0.67⌉ ⌈1.33⌉ ⌈2⌉ ⌈2.67⌉ ⌈3.33⌉ ⌈4⌉
        (4, 4, [1, 2, 3, 4]),
        (3, 2, [1, 2, 2]),
        (2, 5, [1, 2]),  # fewer blocks than servers: the first M servers
        (1, 1, [1]),
    ],
)
def test_apdi(blocks: int, servers: int, expected: list[int]) -> None:
    small = scenario(dnn=chain([1] * blocks, [1] * blocks), edge_servers=servers)
    assert placements(small, "apdi") == [expected]


def test_rpdi_is_uniform() -> None:
    slots, blocks, servers = 1800, 2, 2
    spec = scenario(slots=slots, dnn=chain([1] * blocks, [1] * blocks))
    rows = simulate(spec, "rpdi", kernel="compiled").trace["decisions/placement"].tolist()
    counts = Counter(map(tuple, rows))
    assert set(counts) == set(product(range(servers + 1), repeat=blocks))
    expected = slots / (servers + 1) ** blocks
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    # Chi-squared with 8 degrees of freedom: P(> 26.12) = 0.001 (survival e^(−x/2)·Σ (x/2)^k/k!).
    x = 26.12
    tail = np.exp(-x / 2) * sum((x / 2) ** k / [1, 1, 2, 6][k] for k in range(4))
    assert tail == pytest.approx(0.001, rel=0.01)
    assert chi2 < x


def test_local_edge_and_fixed() -> None:
    # Three of five devices belong to ES 2.
    devices = {"positions": [[0, 0], [1500, 0], [1500, 9], [1500, -9], [9, 0]]}
    five = scenario(devices=5, device=devices, dnn=chain([1, 1], [1, 1]))
    assert placements(five, "local") == [[0, 0]]
    assert placements(five, "edge") == [[2, 2]]
    assert placements(five, "fixed", placement=[2, 0]) == [[2, 0]]
    single = five.model_copy(update={"decision_epoch": "per_task"})
    assert placements(single, "edge") == [[1, 1]]


def seen(scenario: Scenario) -> list[Observation]:
    observations: list[Observation] = []
    blocks = resolve(scenario).blocks
    options = {"placements": [[1] * blocks, [0] * blocks], "seen": observations}
    simulate(scenario, "tests.helpers.schedulers:Scripted", options)
    return observations


@pytest.mark.parametrize("topology", ["full_mesh", "line"])
def test_single_cut_is_optimal_on_an_empty_network(topology: str) -> None:
    """It chooses the least of all simulated cuts, and what it predicts comes true."""
    small = scenario(
        decision_epoch="per_task",
        dnn=chain([4e8, 9e8, 6e8, 2e8], [9e5, 1e5, 4e5, 1e4]),
        edge_servers=4,
        edge_server={"capacity": [2e9, 3e9, 4e9, 9e9]},
        device={"capacity": 1e9, "distance": [400, 400]},
        wired={"topology": topology, "rate": 1e8, "latency": 0.02},
        size_factor={"distribution": "lognormal", "sigma": 0.5},
    )
    delays = {}
    for cut in range(5):
        for server in range(4):
            placement = [0] * cut + [server + 1] * (4 - cut)
            summary = simulate(small, "fixed", {"placement": placement}).summary
            delays[cut, server] = summary["total_delay_s"]["mean"]
    (chosen,) = placements(small, "single-cut")
    simulated = simulate(small, "fixed", {"placement": chosen}).summary["total_delay_s"]["mean"]
    assert simulated == min(delays.values())
    (observation,) = seen(small)
    predicted = SingleCut(observation.spec).predict(observation)
    for (cut, server), delay in delays.items():
        assert predicted[cut, server] == pytest.approx(delay, rel=1e-12), (cut, server)


def test_single_cut_counts_the_way_back() -> None:
    """The faster server is 2, but the result would cross the wired link: 1.62503 s."""
    spec = scenario(
        decision_epoch="per_task",
        dnn=chain([4.1552e9], [5e6], 1e6),
        edge_server={"capacity": [3.2805e9, 5.7311e9]},
        device={"capacity": 1e9, "positions": [[0, 0]]},
        radio={"rate": 20e6},
        wired={"rate": 10e6},
        return_result=True,
    )
    run = simulate(spec, "single-cut")
    assert run.trace["decisions/placement"].tolist() == [[1]]
    assert run.summary["total_delay_s"]["mean"] == pytest.approx(1.56664, abs=1e-5)


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(values=networks(most=64), size=size_factors, epoch=st.sampled_from(["per_slot", "per_task"]))
def test_one_task_on_an_empty_network_against_all_placements(
    values: dict[str, Any], size: dict[str, Any], epoch: str
) -> None:
    """With and without result, latency and several hops; for one device a slot is that device."""
    table = values["dnn"]["model"]
    last = table["flops"][-1] or table["input_bits"][-1]  # else its size factor is not observed
    assume(last or size.get("per") != "block" or not values["return_result"])
    devices = {"devices": 1} if epoch == "per_slot" else {}
    spec = scenario(**(values | devices), size_factor=size, decision_epoch=epoch)
    blocks, places = resolve(spec).blocks, spec.server_count + 1
    costs = costs_of_all(spec)
    for name, options in (("viterbi", {}), ("lookahead", {"budget": places**blocks})):
        (chosen,) = placements(spec, name, **options)
        assert costs[tuple(chosen)] == pytest.approx(min(costs.values()), rel=1e-12, abs=1e-300)
    (observation,) = seen(spec)
    predicted = SingleCut(observation.spec).predict(observation)
    for (cut, server), delay in np.ndenumerate(predicted):
        places_of = [0] * cut + [server + 1] * (blocks - cut)
        simulated = simulate(spec, "fixed", {"placement": places_of}).summary["total_delay_s"]
        assert delay == pytest.approx(simulated["mean"], rel=1e-12, abs=1e-300)
    (chosen,) = placements(spec, "single-cut")
    cut = chosen.count(0)
    server = chosen[-1] - 1 if cut < blocks else 0
    assert predicted[cut, server] == predicted.min()


def test_single_cut_counts_backlogs() -> None:
    """A busy server, uplink or link is as much dearer as its backlog says."""
    small = load(LOADED, ["slots=2", "size_factor={distribution: constant}"])
    before, after = seen(small)
    cut = SingleCut(before.spec)
    dearer = cut.predict(after) - cut.predict(before)
    for server in range(4):  # cut 0 sends the first block's input, and nothing waits at the device
        serving_server = after.serving_server
        wired = np.mean([after.wired_s(0, serving_server[[d]])[0, server] for d in range(30)])
        idle = np.mean([before.wired_s(0, serving_server[[d]])[0, server] for d in range(30)])
        expected = (
            after.server_backlog_s[server] + after.uplink_backlog_s.mean() + float(wired - idle)
        )
        assert dearer[0, server] == pytest.approx(expected, abs=1e-12)
    assert after.server_backlog_s[0] > 0


def test_observation_has_size_drawn_per_slot() -> None:
    """With sizes drawn per slot a scheduler knows them, also where it does not know the tasks."""
    poisson = {"process": "poisson", "rate": 5}
    sizes = {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "slot"}
    drawn = scenario(slots=4, arrivals=poisson, size_factor=sizes, dnn=chain([2, 4], [1, 1]))
    run = simulate(drawn, "local")
    for observation in seen(drawn):
        mine = run.trace["tasks/size_factor"][run.trace["tasks/slot"] == observation.slot]
        assert (mine == observation.size_factor).all()
        assert observation.tasks == 5
        assert observation.cycles.tolist() == [
            2 * observation.size_factor,
            4 * observation.size_factor,
        ]


def test_server_rate_is_mean_of_its_devices() -> None:
    (observation,) = seen(load(LOADED, ["slots=1"]))
    serving_server = observation.serving_server
    for server in range(4):
        mine = [rate for d, rate in enumerate(observation.rate_bps) if serving_server[d] == server]
        assert observation.server_rate_bps[server] == pytest.approx(np.mean(mine), rel=1e-12)


@pytest.mark.parametrize("name", registry.names())
def test_common_random_numbers(name: str) -> None:
    if name == "sb3":
        pytest.importorskip("torch")
    options: dict[str, Any] = dict(registry.load(name).conformance_options)
    options |= {"placement": [1] * 6} if name == "fixed" else {}
    run = simulate(load(LOADED, ["slots=3", "radio.fading=rayleigh"]), name, options)
    other = simulate(load(LOADED, ["slots=3", "radio.fading=rayleigh"]), "local")
    for path in ("tasks/release_s", "tasks/device", "tasks/size_factor", "slots/rate_bps"):
        assert (run.trace[path] == other.trace[path]).all()


def test_ranking_on_the_loaded_scenario() -> None:
    spec = load(LOADED)
    names = ("greedy", "rpdi", "apdi", "local")
    rewards = [run_scenario(spec, name, kernel="compiled").summary.reward for name in names]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[1] < 2 * rewards[0]  # random placements cost over twice as much as greedy
    assert rewards[2] < 50 * rewards[1]  # static placements cost far more
