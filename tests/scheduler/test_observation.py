"""Observations: what is read of the network and when, and that kept ones do not change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.observation import ALL, Observation
from mecsim.scheduler.spec import Placement, SchedulerSpec
from mecsim.simulation.drive import KERNELS, SchedulerPolicy
from mecsim.simulation.run import run as run_scenario
from mecsim.simulation.session import Session
from mecsim.support.arrays import Floats, Ints
from tests.helpers.builders import chain, scenario

HERE = "tests.scheduler.test_observation"
PLACEMENTS = [[0, 1], [1, 2], [2, 0], [0, 0]]
FIELDS = (
    *("backlog_s", "battery_j", "server_backlog_s", "device_backlog_s", "uplink_backlog_s"),
    *("downlink_backlog_s", "link_backlog_s", "place_backlog_s", "cycles", "input_bits"),
    *("result_bits", "size_factor", "mean_rate_bps", "rate_bps"),
)


def values(observation: Observation) -> dict[str, Any]:
    return {name: np.asarray(getattr(observation, name)).tolist() for name in FIELDS}


class Keeper(Scheduler):
    """Keeps what it sees, and what it read at once, if ``reads`` says so."""

    def __init__(self, spec: SchedulerSpec, *, seen: Any, reads: Any = ()) -> None:
        super().__init__(spec)
        self.seen, self.reads = seen, reads

    def decide(self, observation: Observation) -> Placement:
        for name in self.reads:
            getattr(observation, name)
        self.seen.append(observation)
        return PLACEMENTS[observation.epoch % len(PLACEMENTS)]


class Reader(Keeper):
    """Keeps only the values of fields, read at once."""

    def decide(self, observation: Observation) -> Placement:
        self.seen.append(values(observation))
        return PLACEMENTS[observation.epoch % len(PLACEMENTS)]


def crowded(decision_epoch: str, **more: Any) -> Scenario:
    return scenario(
        slots=4,
        decision_epoch=decision_epoch,
        dnn=chain([3, 2], [2, 1]),
        arrivals={"process": "poisson", "rate": 5},
        size_factor={"distribution": "exponential", "per": "block"},
        edge_server={"capacity": 2.0, "cores": 2},
        devices=3,
        device={"capacity": 1.0, "battery": 20.0},
        radio={"rate": 1.0},
        wired={"rate": 1.0},
        **more,
    )


def seen_by(spec: Scenario, name: str, kernel: str, **options: Any) -> list[Any]:
    seen: list[Any] = []
    run_scenario(spec, f"{HERE}:{name}", {"seen": seen, **options}, kernel=kernel)
    return seen


@pytest.mark.parametrize("reads", [(), ("server_backlog_s",), ("place_backlog_s", "battery_j")])
@pytest.mark.parametrize("decision_epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_observation_that_is_kept_does_not_change(
    kernel: str, decision_epoch: str, reads: tuple[str, ...]
) -> None:
    spec = crowded(decision_epoch)
    expected = seen_by(spec, "Reader", kernel)
    kept = seen_by(spec, "Keeper", kernel, reads=reads)
    assert len(kept) == len(expected) > 3
    assert [values(observation) for observation in kept] == expected
    assert any(any(found["backlog_s"]) for found in expected)
    assert len({tuple(found["battery_j"]) for found in expected}) > 1


class CountingState:
    """A network whose backlogs are the numbers of its resources; keeps what was read."""

    def __init__(self, resources: int) -> None:
        self.backlogs, self.read = np.arange(float(resources)), list[int]()

    def backlog_s(self, resources: slice = ALL) -> Floats:
        found = self.backlogs[resources].copy()
        self.read.append(len(found))
        return found

    def battery_j(self) -> Floats:
        raise AssertionError("nobody reads a battery")

    def queue_length(self) -> Ints:
        raise AssertionError("nobody reads a queue")

    def committed_s(self) -> Floats:
        raise AssertionError("nobody reads what is committed")


def test_only_what_is_asked_for_is_read() -> None:
    spec = crowded("per_task")
    (first, *_) = seen_by(spec, "Keeper", "compiled")
    network = CountingState(len(resolve(spec).resources))
    servers, device = first.spec.servers, 1
    observation = replace(first, network=network, device=device)
    assert observation.mean_rate_bps > 0
    assert observation.compute_s.shape == (servers + 1, 2)
    assert network.read == []
    assert observation.place_backlog_s.tolist() == [servers + device, *range(servers)]
    assert sorted(network.read) == [1, servers]
    assert observation.backlog_s.tolist() == network.backlogs.tolist()
    observation.link_backlog_s, observation.uplink_backlog_s  # noqa: B018 - from all backlogs
    assert len(network.read) == 3


class CountingKernel(CompiledKernel):
    """A kernel that counts how often its state is read."""

    reads = 0

    def backlog_s(self, resources: slice = ALL) -> Floats:
        self.reads += 1
        return super().backlog_s(resources)

    def battery_j(self) -> Floats:
        self.reads += 1
        return super().battery_j()


class Indifferent(Scheduler):
    """Reads nothing and, if it ``keeps`` observations, only keeps the last one."""

    def __init__(self, spec: SchedulerSpec, *, keeps: bool) -> None:
        super().__init__(spec)
        self.keeps = keeps
        self.last: Observation | None = None

    def decide(self, observation: Observation) -> Placement:
        self.last = observation if self.keeps else None
        return [0, 0]


@pytest.mark.parametrize(("keeps", "reads"), [(False, 0), (True, 2)])
def test_only_observations_that_are_kept_are_completed(keeps: bool, reads: int) -> None:
    model = resolve(crowded("per_task"))
    kernel, spec = CountingKernel(model), SchedulerSpec.of(model)
    session = Session(model, workload.slots(model), kernel, spec)
    SchedulerPolicy(Indifferent(spec, keeps=keeps), "indifferent").follow(session)
    assert session.epochs > 3
    assert kernel.reads == reads * session.epochs


# ---------------------------------------------------------------- work under way


class Counter(Keeper):
    """Keeps queue lengths and committed work, read at each epoch."""

    def decide(self, observation: Observation) -> Placement:
        found = observation.queue_length.tolist(), observation.committed_s.tolist()
        for values in (observation.queue_length, observation.committed_s):
            assert not values.flags.writeable
        self.seen.append((observation.time_s, *found))
        return [1, 1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_queue_lengths_and_committed_work(kernel: str) -> None:
    """Three tasks at 0 s and at 10 s, each 3 s on the uplink and then 7 + 7 s on the server."""
    spec = scenario(
        slots=2,
        slot_length=10,
        decision_epoch="per_task",
        dnn=chain([7, 7], [3, 0]),
        arrivals={"process": "slotted", "rate": 3},
        edge_servers=1,
        edge_server={"capacity": 1.0},
        device={"capacity": 1.0},
        radio={"rate": 1.0},
    )
    idle, once = [0] * 4, [14.0, 0.0, 3.0, 0.0]
    twice = [28.0, 0.0, 6.0, 0.0]
    # At 10 s the first task has just left the server's first service, from 3 to 10 s, and joined
    # its queue again behind the second; the third has left the uplink at 9 s.
    assert seen_by(spec, "Counter", kernel) == [
        (0.0, idle, [0.0] * 4),
        (0.0, idle, once),
        (0.0, idle, twice),
        (10.0, [3, 0, 0, 0], [0.0] * 4),
        (10.0, [3, 0, 0, 0], once),
        (10.0, [3, 0, 0, 0], twice),
    ]


def test_what_is_under_way_cannot_be_read_later() -> None:
    (first, *_) = seen_by(crowded("per_task"), "Keeper", "compiled")
    with pytest.raises(RuntimeError, match=r"queue_length: .* since epoch 0.*in decide"):
        first.queue_length  # noqa: B018
    with pytest.raises(RuntimeError, match="committed_s: the network has changed"):
        first.committed_s  # noqa: B018
