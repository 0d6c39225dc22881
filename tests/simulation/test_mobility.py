"""Mobility in whole runs: routes, handovers, traces, replicas, rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mecsim import Observation, Placement, Scenario
from mecsim.learning import Replicas
from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay, replay_with
from mecsim.simulation.run import run
from mecsim.trace import TraceFile
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.schedulers import SCRIPTED, Scripted

TWO: dict[str, Any] = {"positions": [[0, 0], [1000, 0]], "coverage_radius": 750.0, "capacity": 1.0}


def crossing(handover: float = 0.0, **more: Any) -> Scenario:
    """A device is at server 1 in slot 0 and at server 2 from slot 1 on; slots of 10 s."""
    return scenario(
        **{
            "slots": 2,
            "slot_length": 10.0,
            "edge_server": TWO,
            "mobility": [{"points": [[0, 0, 0, 0], [10, 0, 1000, 0]], "handover": handover}],
            "radio": {"rate": 1.0, "transmit_power": 2.0},
            "wired": {"rate": 0.5},
            "dnn": chain([1], [4]),
        }
        | more
    )


def hops(spec: Scenario, placement: list[int], kernel: str) -> list[tuple[str, float, float]]:
    """Name, start and finish of each hop."""
    trace = simulate(spec, SCRIPTED, {"placements": [placement]}, kernel=kernel).trace
    names = resolve(spec).resource_names()
    return [
        (names[row], start, finish)
        for row, start, finish in zip(
            trace["hops/resource"].tolist(),
            trace["hops/start_s"].tolist(),
            trace["hops/finish_s"].tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_task_takes_the_way_of_its_release(kernel: str) -> None:
    """The first goes over server 1 to server 2, the second one straight to server 2."""
    assert hops(crossing(), [2], kernel) == [
        ("device0.uplink", 0, 4),
        ("es1-es2", 4, 12),
        ("es2.cpu", 12, 13),
        ("device0.uplink", 10, 14),
        ("es2.cpu", 14, 15),
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_handover_stops_the_radio_both_ways(kernel: str) -> None:
    """A handover from 10 s to 13 s.

    8 bits leave from 0 to 8 s; the server works until 9 s, and the result of 4 bits returns to
    where the device was: from 9 s to 10 s, and after the handover from 13 s to 16 s. The second
    task leaves from 13 s to 21 s.
    """
    spec = crossing(3.0, dnn=chain([1], [8], 4.0), return_result=True)
    assert hops(spec, [1], kernel) == [
        ("device0.uplink", 0, 8),
        ("es1.cpu", 8, 9),
        ("device0.downlink", 9, 16),
        ("device0.uplink", 13, 21),
        ("es2-es1", 21, 37),
        ("es1.cpu", 37, 38),
        ("es1-es2", 38, 46),
        ("device0.downlink", 46, 50),
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_handover_interrupts_an_uplink(kernel: str) -> None:
    """12 bits from 0 to 10 s and from 13 to 15 s; the radio spends 2 W for 12 s on them."""
    spec = crossing(3.0, dnn=chain([1], [12]))
    found = simulate(spec, SCRIPTED, {"placements": [[1]]}, kernel=kernel)
    assert found.trace["hops/finish_s"].tolist()[0] == 15.0
    assert found.trace["tasks/energy_J"].tolist() == [24.0, 24.0]


LOADED: dict[str, Any] = {
    "slots": 40,
    "devices": 5,
    "dnn": {"blocks": 3},
    "arrivals": {"process": "poisson", "rate": 6},
    "edge_server": {**TWO, "capacity": "15 GHz"},
    "return_result": True,
    "mobility": [
        {"speed": [20, 60], "pause": [0, 2], "area": [[0, -300], [1000, 300]], "handover": 0.25}
    ],
}


@pytest.mark.quick("greedy-*", "edge-*", "local-*", "single-cut-per_slot")
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("scheduler", ["edge", "greedy", "single-cut", "local"])
def test_a_run_without_a_trace_is_the_run_with_one(scheduler: str, epoch: str) -> None:
    """Static schedulers are asked again when a device has changed its server."""
    spec = scenario(**LOADED | {"decision_epoch": epoch})
    one = simulate(spec, scheduler, kernel="simpy")
    other = simulate(spec, scheduler, kernel="compiled")
    assert one.trace.first_difference(other.trace) is None
    alone = run(spec, scheduler, kernel="compiled").summary
    assert alone.reward == one.summary["reward"]
    assert len(np.unique(one.trace["slots/serving_server"], axis=0)) > 5
    if scheduler == "edge":
        assert len(np.unique(one.trace["decisions/placement"])) > 1


def test_trace_replays_exactly_without_its_files(tmp_path: Path) -> None:
    """Also under another scheduler: servers and rates are those of the trace."""
    (tmp_path / "walk.csv").write_text(
        "time (s),device,x (m),y (km)\n0,0,0,0\n20,0,1000,0.1\n0,2,500,0\n", encoding="utf-8"
    )
    (tmp_path / "s.yaml").write_text(
        "slots: 25\ndevices: 3\ndnn: {blocks: 2}\narrivals: {process: slotted, rate: 3}\n"
        "edge_servers: 2\nedge_server: {coverage_radius: 1000 m, spacing: 1 km}\n"
        "mobility: [{positions: walk.csv, handover: 500 ms}]\n",
        encoding="utf-8",
    )
    trace = tmp_path / "t.h5"
    result = run(load(tmp_path / "s.yaml"), "edge", seed=3, out=trace)
    (tmp_path / "walk.csv").unlink()
    with TraceFile(trace) as file:
        servers = file.read("slots", "serving_server")
    assert servers[:, 0].tolist() == [0] * 11 + [1] * 14
    assert not servers[:, 2].any()
    for kernel in KERNELS:
        assert replay(trace, kernel=kernel).difference is None
    again = replay_with(trace, "edge", out=tmp_path / "again.h5")
    assert again.summary.reward == result.summary.reward
    assert replay_with(trace, "greedy").summary.reward != result.summary.reward
    assert result.trace == trace


def test_replicas_meet_the_servers_of_their_seeds() -> None:
    spec = scenario(**LOADED | {"decision_epoch": "per_task"})
    replicas, seeds, options = Replicas(spec, 3), [4, 5, 6], {"placement": [1, 2, 0]}
    seen, rewards = replicas.reset(seeds), np.zeros(3)
    observed: list[list[list[float]]] = [[], [], []]
    while not replicas.ended.all():
        for row in np.flatnonzero(~replicas.ended).tolist():
            observed[row].append(seen[row].tolist())
        seen, each, _ = replicas.step(np.tile([1, 2, 0], (3, 1)))
        rewards += each
    for row, seed in enumerate(seeds):
        single = simulate(spec, "fixed", options, seed=seed, kernel="simpy")
        assert observed[row] == single.trace["decisions/observation"].tolist()
        assert len({each[-1] for each in observed[row]}) == 2  # device.serving_server
        assert rewards[row] == pytest.approx(single.summary["reward"], rel=1e-12)


class Foreseeing(Scripted):
    """Keeps what each epoch would cost."""

    uses_rollouts = True
    foreseen: ClassVar[list[float]] = []

    def decide(self, observation: Observation) -> Placement:
        placement = super().decide(observation)
        self.foreseen.append(float(observation.what_if(np.array([placement])).cost[0]))
        return placement


@pytest.mark.parametrize("kernel", KERNELS)
def test_rollouts_use_the_servers_of_the_slot(kernel: str) -> None:
    """By hand: 13 s over server 1 in the first slot, 5 s straight to server 2 in the second.

    What is under way in the second slot is the block of the first task, with all its delay.
    """
    Foreseeing.foreseen.clear()
    spec, seen = crossing(reward={"beta": 0.0}), list[Observation]()
    run(spec, Foreseeing, {"placements": [[2]], "seen": seen}, kernel=kernel)
    assert [each.serving_server.tolist() for each in seen] == [[0], [1]]
    assert Foreseeing.foreseen == [13.0, 13.0 + 5.0]
