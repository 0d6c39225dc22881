"""Replicas of scenarios with several classes of tasks: equal to single runs under their seeds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from mecsim import Scenario
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.scheduler.observation import Outcomes, feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.session import Session
from mecsim.support.arrays import Bools, Floats, Ints
from tests.helpers.builders import MEASURED, chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import SCRIPTED
from tests.helpers.strategies import cases_of_classes

LARGE: dict[str, Any] = {
    "name": "large",
    "dnn": chain([3e8, 5e8, 4e8], [2e5, 9e5, 3e5], max_tolerated_delay=[0.4, 0.9, 0.5]),
    "size_factor": {"distribution": "exponential", "per": "block"},
    "arrivals": {"process": "poisson", "rate": 4},
}
SMALL: dict[str, Any] = {
    "name": "small",
    "dnn": chain([2e8], [4e5], max_tolerated_delay=0.2),
    "size_factor": {"distribution": "lognormal", "sigma": 0.5, "per": "task"},
    "arrivals": {"process": "slotted", "rate": 3},
    "deadline": 0.5,
}


def of_classes(*tasks: dict[str, Any], **more: Any) -> Scenario:
    """Queues everywhere, fading, batteries that run out, results that go back."""
    base: dict[str, Any] = {
        "slots": 40,
        "edge_servers": 3,
        "edge_server": {"capacity": 1.3e9, "cores": 2},
        "devices": 4,
        "device": {"battery": 120.0},
        "radio": {"bandwidth": 2e6, "fading": "rayleigh"},
        "wired": {"topology": "line", "rate": 5e6, "latency": 0.01},
        "return_result": True,
    }
    values = scenario(**(base | more)).model_dump(mode="json", exclude_none=True)
    kept = {k: v for k, v in values.items() if k not in ("dnn", "arrivals", "size_factor")}
    return Scenario.model_validate(kept | {"tasks": list(tasks or (LARGE, SMALL))})


def unused(spec: Scenario) -> Bools:
    """Which places of a padded placement no block of the class takes."""
    model = resolve(spec)
    return np.arange(model.blocks) >= np.array([[each.blocks] for each in model.classes])


def assert_equal_to_runs(
    spec: Scenario, seeds: Sequence[int], seen: Floats, placements: Ints, rewards: Floats
) -> None:
    """Compare T steps of B replicas; shapes (T, B, …)."""
    names = feature_names(SchedulerSpec.of(resolve(spec)))
    first = next(i for i, name in enumerate(names) if name.startswith("class."))
    for row, seed in enumerate(seeds):
        script = placements[:, row].tolist()
        trace = simulate(spec, SCRIPTED, {"placements": script}, seed, "compiled").trace
        steps = len(trace["decisions/class"])
        assert steps <= len(script)
        assert np.array_equal(trace["decisions/observation"], seen[:steps, row])
        class_ = trace["decisions/class"]
        assert np.array_equal(seen[:steps, row, first:].argmax(axis=1), class_)
        taken = np.where(unused(spec)[class_], -1, placements[:steps, row])
        assert np.array_equal(trace["decisions/placement"], taken)
        assert not rewards[steps:, row].any()
        mine = rewards[:steps, row]
        if spec.decision_epoch == "per_task":
            assert np.array_equal(trace["decisions/reward"], mine)
            continue
        by_slot = mine.reshape(-1, len(spec.classes))
        assert not by_slot[:, :-1].any()
        of_run = trace["decisions/reward"].reshape(by_slot.shape).sum(axis=1)
        assert by_slot[:, -1] == pytest.approx(of_run, rel=1e-12)


def played(spec: Scenario, seeds: Sequence[int], script: Ints | None = None) -> list[Any]:
    """Step replicas to their end; return what they saw, did and earned."""
    replicas, rng = Replicas(spec, len(seeds), threads=2), np.random.default_rng(1)
    saw, steps = replicas.reset(seeds), list[Any]()
    while not replicas.ended.all():
        shape = replicas.replicas, replicas.blocks
        places = rng.integers(replicas.places, size=shape)
        if script is not None:
            places = script[(len(steps) + np.arange(len(seeds))) % len(script)]
        before = saw
        saw, rewards, _ = replicas.step(places)
        steps.append((before, places, rewards))
    replicas.close()
    return [np.stack(column) for column in zip(*steps, strict=True)]


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_everything_at_once(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the ends of tables, and with room for two tasks at first."""
    monkeypatch.setattr("mecsim.simulation.epoch_buffer.SLOTS", 16)
    monkeypatch.setattr("mecsim.simulation.replicas.RING", 2)
    spec = of_classes(decision_epoch=epoch)
    assert_equal_to_runs(spec, [4, 5, 6], *played(spec, [4, 5, 6]))


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_measured_times(epoch: str) -> None:
    """Each class has its own service times among the features."""
    measured = {"service_times": "measured", "model": MEASURED}
    short = {"ms": {"board": [90], "rack": [20]}, "parameter_bytes": [1], "input_bits": [70]}
    spec = of_classes(
        LARGE | {"dnn": measured},
        SMALL | {"dnn": measured | {"model": short}},
        decision_epoch=epoch,
        slots=6,
        device={"type": "board", "compute_power": 2.0},
        edge_server={"type": "rack"},
        radio={"rate": 1e4, "transmit_power": 2.0},
    )
    assert_equal_to_runs(spec, [1, 2], *played(spec, [1, 2]))


@given(cases_of_classes())
@settings(max_examples=examples(16), deadline=None, derandomize=True)
def test_random_scenarios(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, script = case
    assume(all(any(len(slot.tasks) for slot in workload.slots(resolve(spec, n))) for n in (0, 7)))
    placements = np.array(script)[:, : resolve(spec).blocks]
    assert_equal_to_runs(spec, [0, 7], *played(spec, [0, 7], placements))


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_many_epochs_in_one_call(epoch: str) -> None:
    """From the middle of a slot to the middle of another, with one replica a class ahead."""
    spec = of_classes(decision_epoch=epoch, slots=21)
    stepped, rolled = (Replicas(spec, 3, threads=2) for _ in range(2))
    rng, one = np.random.default_rng(0), np.zeros((3, 3), dtype=int)
    for replicas in (stepped, rolled):
        replicas.reset([1, 2, 3])
        replicas.step(one)
        replicas.reset([7], [1])
    while not stepped.ended.all():
        placements = rng.integers(4, size=(int(rng.integers(1, 9)), 3, 3))
        steps = [stepped.step(placement) for placement in placements]
        seen, rewards, ended = rolled.roll(placements)
        assert np.array_equal(seen, steps[-1][0])
        assert np.array_equal(rewards, [reward for _, reward, _ in steps])
        assert np.array_equal(ended, steps[-1][2])
        assert np.array_equal(stepped.time_s, rolled.time_s)


def test_what_comes_up_is_what_is_seen_where_nothing_waits() -> None:
    idle = {"dnn": chain([1, 1], [1, 1]), "arrivals": {"process": "slotted", "rate": 1}}
    spec = of_classes(idle | {"name": "a"}, SMALL | idle | {"name": "b"}, slots=7, device={})
    replicas = Replicas(spec, 2)
    replicas.reset([1, 2])
    replicas.step(np.zeros((2, 2), dtype=int))
    replicas.reset([3], [0])  # the other one is a class ahead
    upcoming = replicas.upcoming()
    assert upcoming.shape == (13, 2, replicas.features)
    waits = np.array(["committed" in name for name in feature_names(replicas.spec)])
    assert not upcoming[:, :, waits].any()
    for expected in upcoming[1:]:
        seen, _, _ = replicas.step(np.zeros((2, 2), dtype=int))
        assert np.array_equal(seen[:, ~waits], expected[:, ~waits])


def test_a_reset_in_the_middle_of_a_slot_begins_with_the_first_class() -> None:
    spec = of_classes(slots=3)
    replicas, alone = Replicas(spec, 2), Replicas(spec, 1)
    replicas.reset([1, 2])
    replicas.step(np.ones((2, 3), dtype=int))
    seen = replicas.reset([9], [0])
    assert np.array_equal(seen[:1], alone.reset([9]))
    for _ in range(6):
        seen, rewards, _ = replicas.step(np.ones((2, 3), dtype=int))
        expected = alone.step(np.ones((1, 3), dtype=int))
        assert np.array_equal(seen[:1], expected[0])
        assert np.array_equal(rewards[:1], expected[1])
    assert replicas.ended.tolist() == [True, True]


def test_copies_step_like_the_original() -> None:
    replicas = Replicas(of_classes(slots=4), 2)
    replicas.reset([1, 2])
    replicas.step(np.array([[1, 2, 3], [3, 0, 1]]))
    other = copy.deepcopy(replicas)
    while not replicas.ended.all():
        results = [each.step(np.ones((2, 3), dtype=int)) for each in (replicas, other)]
        assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("process", ["slotted", "poisson"])
def test_what_if_is_that_of_single_runs(epoch: str, process: str) -> None:
    """With the tasks of classes placed before in a slot, and without those of later ones."""
    arrivals = {"arrivals": {"process": process, "rate": 3}}
    spec = of_classes(LARGE | arrivals, SMALL | arrivals, decision_epoch=epoch, slots=4)
    rng, replicas, seeds = np.random.default_rng(5), Replicas(spec, 3, threads=2), [4, 5, 6]
    replicas.reset(seeds)
    taken, asked = rng.integers(4, size=(40, 3, 3)), rng.integers(4, size=(40, 3, 5, 3))
    found: list[Outcomes] = []
    while not replicas.ended.all():
        found.append(replicas.what_if(asked[len(found)]))
        replicas.step(taken[len(found) - 1])
    for replica, seed in enumerate(seeds):
        expected = what_ifs_of_a_run(spec, seed, taken[:, replica], asked[:, replica])
        for step, outcomes in enumerate(expected):
            assert np.array_equal(found[step].cost[replica], outcomes.cost)
            assert np.array_equal(found[step].failed[replica], outcomes.failed)


def what_ifs_of_a_run(spec: Scenario, seed: int, taken: Ints, asked: Ints) -> list[Outcomes]:
    model, found = resolve(spec, seed), []
    reported = SchedulerSpec.of(model)
    session = Session(
        model, workload.slots(model), CompiledKernel(model), reported, uses_rollouts=True
    )
    for epoch in session:
        blocks = model.classes[epoch.task_class].blocks
        placements = asked[epoch.number, :, :blocks]
        found.append(session.observe(epoch).what_if(placements))
        session.act(epoch, taken[epoch.number, :blocks])
    return found
