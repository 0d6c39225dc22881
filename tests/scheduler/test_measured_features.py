"""What schedulers and learners see where service times are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mecsim import Observation, Placement, Scenario, Scheduler, run
from mecsim.model.model import resolve
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replicas import Replicas
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.returns import reward_scale
from tests.helpers.builders import measured_lab


def test_features_show_mean_service_times_over_the_places() -> None:
    spec = measured_lab(
        {"flops": [1000, 3000]}, devices=2, device={"type": "formula", "capacity": [1e3, 2e3]}
    )
    scheduler = SchedulerSpec.of(resolve(spec))
    assert feature_names(scheduler)[2:4] == ["block0.compute_s", "block1.compute_s"]
    # devices 1 s and 0.5 s for block 0, 3 s and 1.5 s for block 1; two servers 0.0625 s, 0.03125 s
    assert scheduler.mean_compute_s(1).tolist() == [0.625 / 3, 1.5625 / 3]
    assert scheduler.mean_compute_s().tolist() == [(0.125 + 0.75) / 3, (0.0625 + 2.25) / 3]
    replicas = Replicas(spec, 2)
    rows = replicas.reset([0, 1])
    assert rows[:, 2:4].tolist() == [scheduler.mean_compute_s().tolist()] * 2
    assert replicas.spec.feature_scale(rows)[:, 2:4].max() == 1.0


def test_learners_encode_measured_times() -> None:
    spec = measured_lab(
        size_factor={"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "task"}
    )
    replicas = Replicas(spec, 1)
    inputs = FeatureEncoder.of(replicas.spec, "full")(replicas.reset([0]))
    assert np.isfinite(inputs).all()
    assert reward_scale(replicas.spec, 1.0) == pytest.approx((0.0625 + 0.03125) / 2, rel=1e-15)


@pytest.mark.parametrize("shown", ["cycles", "compute_s"])
def test_features_of_a_model_with_times_of_its_blocks(shown: str) -> None:
    """By default they are those of the scenario without measured times: a policy fits both."""
    dnn: dict[str, Any] = {"model": "alexnet", "blocks": 2}
    plain = resolve(Scenario.model_validate({"slots": 1, "dnn": dnn}))
    times = {"ms": {"board": [20, 10], "rack": [2, 1]}, "joules": {"board": [1, 1]}}
    nodes = {"device": {"type": "board"}, "edge_server": {"type": "rack"}, "edge_servers": 1}
    dnn["service_times"] = times | ({} if shown == "cycles" else {"features": shown})
    spec = Scenario.model_validate({"slots": 1, "dnn": dnn, "devices": 1, **nodes})
    scheduler = SchedulerSpec.of(resolve(spec))
    assert feature_names(scheduler)[2:4] == [f"block0.{shown}", f"block1.{shown}"]
    expected = plain.cycles if shown == "cycles" else np.array([0.011, 0.0055])
    replicas = Replicas(spec, 1)
    row = replicas.reset([0])[0]
    assert row[2:4] == pytest.approx(expected, rel=1e-15)
    assert replicas.spec.feature_scale(row)[2:4].max() == 1.0
    assert scheduler.cycles.tolist() == plain.cycles.tolist()
    seen = []

    def looks(spec: SchedulerSpec) -> Scheduler:
        scheduler = Fixed(spec)
        seen.append(scheduler)
        return scheduler

    run(spec, looks)
    assert seen[0].features[2:4] == pytest.approx(expected, rel=1e-15)


class Fixed(Scheduler):
    """Keeps the features of the last observation."""

    def decide(self, observation: Observation) -> Placement:
        self.features = observation.features()
        return [0] * self.spec.blocks
