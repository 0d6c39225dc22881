"""What replicas tell of the epochs to come is what stepping shows, queues and batteries apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import Scenario
from mecsim.scheduler.observation import feature_names
from mecsim.simulation.replicas import Replicas
from tests.helpers.builders import scenario
from tests.helpers.examples import examples
from tests.helpers.strategies import cases


def exact(replicas: Replicas) -> Any:
    """Return which features do not depend on placements."""
    names = feature_names(replicas.spec)
    return np.array([not name.endswith(("backlog_s", "battery_J")) for name in names])


def assert_told_is_seen(spec: Scenario, seeds: list[int], rng: np.random.Generator) -> list[int]:
    """Step replicas to their ends; return how many epochs each answer told."""
    replicas = Replicas(spec, len(seeds))
    features = replicas.reset(seeds)
    same, counts = exact(replicas), []
    waiting = np.array([name.endswith("backlog_s") for name in feature_names(replicas.spec)])
    battery = ~same & ~waiting
    while not replicas.ended.all():
        told, now, alive = replicas.upcoming(), features, ~replicas.ended
        assert told.shape == (len(told), len(seeds), replicas.features)
        counts.append(len(told))
        assert len(told) >= 1
        own_battery = spec.decision_epoch == "per_task"  # that of each task's device
        for each in told[:1] if own_battery else told:
            assert (each[alive][:, battery] == now[alive][:, battery]).all()
        for each in told:
            assert (replicas.ended == ~alive).all()  # none of them ends before the last one
            assert (each[alive][:, same] == features[alive][:, same]).all()
            assert not each[alive][:, waiting].any()
            shape = len(seeds), replicas.blocks
            features, _, _ = replicas.step(rng.integers(replicas.places, size=shape))
    assert len(replicas.upcoming()) == 0
    return counts


BASE: dict[str, Any] = {
    "slots": 9,
    "devices": 4,
    "edge_servers": 3,
    "dnn": {"blocks": 2},
    "arrivals": {"process": "poisson", "rate": 2},
    "radio": {"fading": "rayleigh"},
    "size_factor": {"distribution": "exponential", "per": "block"},
}


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"slots": 600}, [256, 256, 88]),
        ({"arrivals": {"process": "slotted", "rate": 2}}, [9]),
        ({"radio": {"rate": {"uniform": [1e6, 9e6]}}, "device": {"battery": "3 J"}}, [9]),
    ],
    ids=["several tables", "slotted", "drawn rates and batteries"],
)
def test_epochs_to_come_are_those_seen_later(changes: dict[str, Any], counts: list[int]) -> None:
    spec = scenario(**(BASE | changes))
    assert assert_told_is_seen(spec, [0, 1, 7], np.random.default_rng(0)) == counts


def test_epochs_of_tasks_to_come_while_replicas_end_one_by_one() -> None:
    spec = scenario(**(BASE | {"decision_epoch": "per_task"}))
    counts = assert_told_is_seen(spec, [0, 1, 7], np.random.default_rng(0))
    assert len(counts) > 1
    assert len(set(counts)) > 1


@given(cases())
@settings(max_examples=examples(12), deadline=None)
def test_epochs_to_come_in_any_scenario(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, _ = case
    if spec.decision_epoch == "per_task":
        spec = spec.model_copy(update={"slots": min(spec.slots, 4)})
    try:
        Replicas(spec, 2).reset([3, 4])
    except Exception as error:  # noqa: BLE001 - checked here
        assert "no task is released" in str(error)  # noqa: PT017
        return
    assert_told_is_seen(spec, [3, 4], np.random.default_rng(1))


def test_replicas_stay_as_they_are_while_they_tell() -> None:
    one, other = (Replicas(scenario(**BASE), 2) for _ in range(2))
    for each in (one, other):
        each.reset([0, 1])
    placements = np.ones((2, one.blocks), dtype=int)
    while not one.ended.all():
        one.upcoming()
        for x, y in zip(one.step(placements), other.step(placements), strict=True):
            assert np.array_equal(x, y)
