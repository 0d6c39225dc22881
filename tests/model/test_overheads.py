"""Headers and overheads of transfers, by hand: I (1 + h) / R + o seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mecsim.model.empty_network import EmptyNetwork, Work
from mecsim.model.model import resolve
from mecsim.model.routes import next_links
from mecsim.model.topology import wired_links
from mecsim.scenario.schema import Scenario, Wired
from mecsim.simulation.run import run
from tests.helpers.builders import chain, costs_of_all, scenario, simulate

LINE: dict[str, Any] = {  # the device hears ES 1; transfers of 8 bits and of 4 bits
    "dnn": chain([1, 1], [8, 4], 4),
    "edge_server": {"capacity": 1.0, "positions": [[0, 0], [1500, 0]]},
    "device": {"capacity": 1.0, "positions": [[400, 0]]},
    "radio": {"rate": 2.0, "headers": 0.5, "overhead": 0.25, "transmit_power": 3.0},
    "wired": {"topology": "line", "rate": 4.0, "latency": 1.0, "headers": 0.25, "overhead": 0.5},
    "energy": {"kappa": 0.0},
    "return_result": True,
}
# Uplink 8 · 1.5 / 2 + 0.25; link 8 · 1.25 / 4 + 0.5, then 1 s of latency; a block 1 s.
UPLINK, LINK, BACK_LINK, DOWNLINK = 6.25, 3.0, 1.75, 3.25


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
def test_a_task_over_the_radio_and_a_link(kernel: str) -> None:
    crossing = simulate(scenario(**LINE), "fixed", {"placement": [2, 2]}, kernel=kernel)
    [total] = crossing.trace["tasks/total_s"]
    assert total == UPLINK + (LINK + 1.0) + 2.0 + (BACK_LINK + 1.0) + DOWNLINK
    assert crossing.trace["tasks/energy_J"] == [3.0 * UPLINK]


def test_the_idle_network_has_the_same_delays() -> None:
    model = resolve(scenario(**LINE), 0)
    work = Work(np.array([0]), np.array([0]), np.array([2.0]), np.ones((1, 1)))
    delays = EmptyNetwork(model).delays(work)
    assert delays[0, 0, 2, 0] == UPLINK + LINK + 1.0 + 1.0
    assert delays[1, 2, 2, 0] == 1.0 + BACK_LINK + 1.0 + DOWNLINK


def test_a_route_avoids_overheads() -> None:
    # From 1 to 3: two hops at 10 bit/s of 1 s each, or one at 4 bit/s of 2.5 s.
    links = [
        {"from": 1, "to": 2, "rate": 10},
        {"from": 2, "to": 3, "rate": 10},
        {"from": 1, "to": 3, "rate": 4},
    ]
    hops = {
        overhead: next_links(
            wired_links(
                Wired.model_validate(
                    {"topology": "explicit", "links": links, "overhead": overhead}
                ),
                3,
            ),
            3,
            bits=10.0,
        )[0, 2]
        for overhead in (0.4, 0.6)
    }
    assert hops == {0.4: 0, 0.6: 1}  # the link to server 2, then that to server 3


def test_the_bound_of_one_task_is_the_least_cost() -> None:
    spec = scenario(**LINE)
    bound = run(spec, "viterbi", lower_bound=True).summary.lower_bound
    assert bound is not None
    assert bound.cost == min(costs_of_all(spec).values())
    assert bound.gap_percent == 0.0


def test_single_cut_counts_overheads() -> None:
    # At the server the task takes 0.25 s less to compute, and 0.5 s of overheads more to cross.
    radio = {"rate": 1e6, "overhead": 0.25}
    fast = {"edge_servers": 1, "edge_server": {"capacity": 1.0}, "device": {"capacity": 0.8}}
    one = {"dnn": chain([1], [8]), "radio": radio, "return_result": True} | fast
    assert simulate(scenario(**one), "single-cut").trace["blocks/node"] == [0]
    assert simulate(scenario(**one | {"radio": {"rate": 1e6}}), "single-cut").trace[
        "blocks/node"
    ] == [1]


def test_defaults_leave_the_hash_of_a_scenario() -> None:
    given = Scenario.model_validate({"radio": {"headers": 0}, "wired": {"overhead": "0 s"}})
    assert given.sha256() == Scenario().sha256()
    assert Scenario.model_validate({"radio": {"headers": 0.046}}).sha256() != given.sha256()
