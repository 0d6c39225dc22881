"""Environments of scenarios with several classes of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common import env_checker
from stable_baselines3.common.vec_env import DummyVecEnv

from mecsim.env import PartitionEnv, PartitionVectorEnv
from mecsim.errors import PolicyError
from mecsim.sb3 import PartitionVecEnv
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.observation import Observation
from mecsim.simulation.run import run
from tests.helpers.schedulers import Scripted
from tests.simulation.test_replicas_of_classes import LARGE, SMALL, of_classes

EPOCHS = pytest.mark.parametrize("epoch", ["per_slot", "per_task"])


def spec_of(epoch: str, slots: int = 4) -> Scenario:
    return of_classes(decision_epoch=epoch, slots=slots)


@EPOCHS
def test_the_checkers_are_content(epoch: str) -> None:
    env = PartitionEnv(spec_of(epoch))
    check_env(env, skip_render_check=True)
    env_checker.check_env(env)
    assert env.action_space == spaces.MultiDiscrete([4, 4, 4])
    assert env.feature_names[-2:] == ["class.large", "class.small"]


@EPOCHS
def test_an_episode_is_a_run(epoch: str) -> None:
    """Observations are those of a scheduler bit for bit; rewards add up to those of the run."""
    spec, seen = spec_of(epoch), list[Any]()

    class Watching(Scripted):
        def decide(self, observation: Observation) -> Any:
            seen.append(observation.scaled_features())
            return super().decide(observation)

    env = PartitionEnv(spec)
    observation, _ = env.reset(seed=3)
    script = np.random.default_rng(0).integers(4, size=(60, 3))
    saw, total, ended = [], 0.0, False
    while not ended:
        saw.append(observation)
        observation, reward, ended, _, _ = env.step(script[len(saw) - 1])
        total += reward
    found = run(spec, Watching, {"placements": script.tolist()}, seed=3).summary
    assert np.array_equal(saw, seen)
    assert total == pytest.approx(found.reward, rel=1e-12)


@EPOCHS
def test_vector_environments_equal_single_ones(epoch: str) -> None:
    spec = spec_of(epoch)
    vector, single = PartitionVectorEnv(spec, 2), [PartitionEnv(spec) for _ in range(2)]
    both = PartitionVecEnv(spec, 2), DummyVecEnv([lambda: PartitionEnv(spec)] * 2)
    vector.reset(seed=[1, 2])
    for seed, env in enumerate(single, start=1):
        env.reset(seed=seed)
    for envs in both:
        envs.seed(1)
        envs.reset()
    rng, done = np.random.default_rng(0), np.zeros(2, dtype=np.bool_)
    for _ in range(12):
        actions = rng.integers(4, size=(2, 3))
        observations, rewards, ended, _, _ = vector.step(actions)
        for row in np.flatnonzero(~done):
            one = single[row].step(actions[row])
            assert np.array_equal(observations[row], one[0])
            assert (rewards[row], ended[row]) == (one[1], one[2])
        done |= ended
        first, other = (list[Any](envs.step(actions)) for envs in both)
        assert all(np.array_equal(a, b) for a, b in zip(first[:3], other[:3], strict=True))


@EPOCHS
def test_a_policy_of_stable_baselines_runs(epoch: str, tmp_path: Path) -> None:
    spec, file, seen = spec_of(epoch), tmp_path / "policy.zip", list[int]()
    model = PPO("MlpPolicy", PartitionVecEnv(spec, 2), n_steps=8, batch_size=16, device="cpu")
    model.learn(16).save(file)
    from schedulers.sb3 import SB3  # noqa: PLC0415 - needs PyTorch

    class Checked(SB3):
        def decide(self, observation: Observation) -> Any:
            decided = super().decide(observation)
            expected, _ = model.predict(observation.scaled_features(), deterministic=True)
            assert decided == expected[: observation.spec.blocks].tolist()
            seen.append(len(decided))
            return decided

    run(spec, Checked, {"policy": str(file)}, seed=1)
    assert set(seen) == {1, 3}
    alone = of_classes(LARGE, decision_epoch=epoch, slots=4)
    with pytest.raises(PolicyError, match="takes observations of"):
        run(alone, f"sb3:{file}")
    few = of_classes(SMALL | {"name": "large"}, SMALL, decision_epoch=epoch, slots=4)
    with pytest.raises(PolicyError, match="action_space"):
        run(few, f"sb3:{file}")
