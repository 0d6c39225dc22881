"""The vector environment of Stable-Baselines3: equal to its own of separate environments."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from mecsim import Scenario, load
from mecsim.env import PartitionEnv
from mecsim.errors import InputError, PlacementError
from mecsim.sb3 import PartitionVecEnv

CASES = {
    "slots": load("vgg16_loaded", ["slots=5"]),
    "tasks": load(
        "vgg16_loaded",
        ["slots=3", "decision_epoch=per_task", "arrivals={process: poisson, rate: 0.5}"],
    ),
}
"""With task epochs, episodes end at different times, and some seeds have no task."""


def assert_equal(one: Any, other: Any) -> None:
    """Arrays have equal bits, and other values are equal."""
    assert type(one) is type(other)
    if isinstance(one, (tuple, list)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_equal(value, other[name])
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other


@pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
def test_steps_equal_those_of_separate_environments(spec: Scenario) -> None:
    count, rng, ends = 3, np.random.default_rng(7), 0
    apart = DummyVecEnv([lambda: PartitionEnv(spec)] * count)
    together = PartitionVecEnv(spec, count, threads=2)
    for name in ("observation_space", "action_space", "num_envs", "render_mode"):
        assert getattr(apart, name) == getattr(together, name)
    for envs in (apart, together):
        envs.seed(8)
        envs.set_options({"workload_seed": 4})
    for _ in range(2):  # the second reset has neither seeds nor options
        assert_equal(apart.reset(), together.reset())
        assert_equal(apart.reset_infos, together.reset_infos)
        for _ in range(17):
            actions = rng.integers(5, size=(count, 6))
            one, other = apart.step(actions), together.step(actions)
            assert_equal(one, other)
            assert_equal(apart.reset_infos, together.reset_infos)
            ends += one[2].sum()
    assert ends > 2 * count
    together.close()


def test_the_comparison_can_fail() -> None:
    envs = PartitionVecEnv(CASES["slots"], 2)
    envs.seed(1)
    first = envs.reset()
    with pytest.raises(AssertionError):
        assert_equal(first, envs.reset())


def test_attributes_and_wrong_input() -> None:
    envs = PartitionVecEnv(CASES["slots"], 2, overrides=["slots=3"])
    assert [each.slots for each in envs.get_attr("scenario")] == [3, 3]
    assert envs.env_is_wrapped(Monitor, [1]) == [False]
    with pytest.raises(AttributeError, match="scale: PartitionVecEnv has no separate environments"):
        envs.set_attr("scale", 1)
    with pytest.raises(AttributeError, match="reset: PartitionVecEnv has no separate environments"):
        envs.env_method("reset")
    with pytest.raises(ResetNeeded):
        envs.step(np.zeros((2, 6), dtype=int))
    with pytest.raises(ResetNeeded):
        envs._envs.reset_ended()
    envs.set_options({"wokload_seed": 1})
    with pytest.raises(InputError, match="'wokload_seed' is not a known option"):
        envs.reset()
    with pytest.raises(InputError, match="num_envs: 0"):
        PartitionVecEnv(CASES["slots"], 0)
    envs.set_options()
    envs.reset()
    with pytest.raises(PlacementError, match="puts block 0 at 9"):
        envs.step(np.full((2, 6), 9))


def test_without_stable_baselines_one_is_told_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "mecsim.sb3")
    for name in [each for each in sys.modules if each.startswith("stable_baselines3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ImportError, match=r"pip install 'mecsim\[sb3\]'"):
        importlib.import_module("mecsim.sb3")
