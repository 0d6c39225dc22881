"""Finished trainings that are prolonged: what they equal, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.errors import InputError, Interrupted, TrainingError
from mecsim.learning import TrainingRequest
from mecsim.learning.policy_file import read_policy, read_tensors
from mecsim.learning.training import train, train_stack
from tests.helpers.cli import mecsim
from tests.learning.test_stacked_training import EPISODIC, RATES, curve_of
from tests.learning.test_training import SCENARIO, SMALL, _Stop
from tests.rl.test_learners import ACTOR_CRITIC, Q_LEARNING, obvious

CONSTANT_ACTOR = {"ent_coef": 0.01, "ent_coef_end": 0.01, "epsilon_start": 0.1, "epsilon_end": 0.1}
CONSTANT_Q = {"epsilon_start": 0.1, "epsilon_end": 0.1}
NO_BURN_IN = {"branched_share": 1.0, "branch_horizon": 12, "batch_size": 16}
NO_VINES = {"branched_share": 0.0}
VINE_OPTIONS = {"candidates", "branch_horizon", "elite_share"}


def without_vines(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in VINE_OPTIONS} | NO_VINES


CONSTANT: dict[str, tuple[str, dict[str, Any]]] = {
    "vine rollouts": ("a3c", ACTOR_CRITIC | CONSTANT_ACTOR | NO_BURN_IN),
    "k-step returns": ("mtl-a3c", without_vines(ACTOR_CRITIC | CONSTANT_ACTOR)),
    "replay buffer": ("dqn", without_vines(Q_LEARNING | CONSTANT_Q | {"n_envs": 2})),
    "Algorithm 1": ("mtl-a3c", EPISODIC | CONSTANT_ACTOR),
    "Algorithm 1, Q-learning": ("dqn", EPISODIC | CONSTANT_Q),
}
"""Options whose schedules are constant, so that nothing follows the length of the training."""


def request(out: Path, name: str = "mtl-a3c", episodes: int = 20, **more: Any) -> TrainingRequest:
    options = more.pop("options", EPISODIC)
    how: dict[str, Any] = {"scenario": obvious(), "serial": True} | more
    return TrainingRequest(scheduler=name, options=options, out=out, episodes=episodes, **how)


def state_of(policy: Path) -> dict[str, Any]:
    """The parameters at the end of a training, not the best ones, and what else it kept."""
    _, arrays = read_tensors(policy.with_name(f"{policy.stem}.checkpoint.safetensors"))
    return {name: x for name, x in arrays.items() if name != "best"}


@pytest.mark.quick("k-step returns", "Algorithm 1, Q-learning")
@pytest.mark.parametrize("kind", CONSTANT)
def test_a_prolonged_training_equals_a_longer_one_if_no_schedule_follows_its_length(
    kind: str, tmp_path: Path
) -> None:
    name, options = CONSTANT[kind]
    whole, out = tmp_path / "whole.safetensors", tmp_path / "p.safetensors"
    train(request(whole, name, 60, options=options))
    train(request(out, name, 20, options=options))
    first = state_of(out)["values"]
    summary = train(request(out, name, 60, options=options), resume=True)
    np.testing.assert_equal(state_of(out), state_of(whole))
    assert (state_of(out)["values"] != first).any()
    rewards = (curve_of(each)["training_reward"] for each in (out, whole))
    np.testing.assert_array_equal(*(x[np.isfinite(x)] for x in rewards))
    assert summary["prolonged"] == [20]
    header = read_policy(out).header.training
    assert (header["episodes"], header["prolonged"]) == (60, [20])


def test_new_episodes_keep_the_last_values_of_schedules(tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    for episodes in (20, 40, 60):
        summary = train(request(out, "dqn", episodes, options=Q_LEARNING), resume=True)
    curve = curve_of(out)
    epsilon, share = curve["epsilon"], curve["share"]
    new = np.isfinite(epsilon) & (curve["episode"] > 20.0)
    assert epsilon[new] == pytest.approx(Q_LEARNING["epsilon_end"])
    assert new.sum() > 3
    assert np.nanmax(epsilon) > 2.0 * Q_LEARNING["epsilon_end"]
    assert (np.diff(share) >= 0.0).all()
    np.testing.assert_allclose(share * 60.0, curve["episode"])
    assert summary["prolonged"] == [20, 40]


@pytest.mark.slow
def test_a_policy_never_gets_worse_and_old_evaluations_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    short = train(request(out, "dqn", 20))
    longer = train(request(out, "dqn", 40), resume=True)
    assert longer["validation_reward"] >= short["validation_reward"]
    assert longer["curve"][: len(short["curve"])] == short["curve"]
    assert longer["curve"][-1]["episode"] == 40.0


def test_an_interrupted_prolongation_keeps_the_old_policy_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.safetensors", tmp_path / "p.safetensors"
    for each in (whole, out):
        train(request(each, episodes=10))
    train(request(whole, episodes=30), resume=True)
    before = out.read_bytes()
    with pytest.raises(Interrupted, match="stopped; 10 of 30 episodes are saved"):
        train(request(out, episodes=30), resume=True, progress=_Stop(2))
    monkeypatch.setattr("mecsim.learning.recorder.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted, match=r"of 30 episodes are saved .* with --resume"):
        train(request(out, episodes=30), resume=True, progress=_Stop(8))
    assert out.read_bytes() == before
    with pytest.raises(InputError, match=r"was to have 30 episodes. Try: --episodes 30 to finish"):
        train(request(out, episodes=50), resume=True)
    train(request(out, episodes=30), resume=True)
    for name, x in read_policy(whole).arrays.items():
        np.testing.assert_array_equal(read_policy(out).arrays[name], x)
    np.testing.assert_equal(curve_of(out), curve_of(whole))
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_prolonged_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    train(request(out))
    before = {path: path.read_bytes() for path in tmp_path.glob("p.*") if path.is_file()}
    for episodes, problem in (
        (20, r"p.safetensors: already has 20 episodes\. Try: more --episodes to prolong it, or"),
        (19, r"p.safetensors: already has 20 episodes\. Try: more --episodes"),
    ):
        with pytest.raises(InputError, match=problem):
            train(request(out, episodes=episodes), resume=True)
    others: dict[str, dict[str, Any]] = {
        "seed": {"seed": 1},
        "gamma": {"options": EPISODIC | {"gamma": 0.5}},
        "actor_learning_rate": {"options": EPISODIC | {RATES["mtl-a3c"]: 0.5}},
        "scenario_sha256": {"scenario": obvious(slots=13)},
        "scheduler": {"name": "a3c"},
    }
    for key, other in others.items():
        with pytest.raises(InputError, match=f"belongs to another training: {key} was "):
            train(request(out, episodes=30, **other), resume=True)
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "p.checkpoint.safetensors").unlink()
    with pytest.raises(InputError, match=r"is complete, but its checkpoint .* is missing"):
        train(request(out, episodes=30), resume=True)


def test_a_finished_training_is_repeated_without_resume(tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    train(request(out))
    summary = train(request(out, episodes=10))
    assert summary["curve"][-1]["episode"] == 10.0
    assert "prolonged" not in summary


@pytest.mark.slow
def test_a_stack_of_different_lengths_is_prolonged(tmp_path: Path) -> None:
    def requests(kind: str, episodes: int) -> list[TrainingRequest]:
        return [
            request(tmp_path / f"{kind}{n}.safetensors", "dqn", episodes, seed=n) for n in (0, 1)
        ]

    for each, first in zip(requests("alone", 30), (10, 20), strict=True):
        train(request(each.out, "dqn", first, seed=each.seed))
        train(each, resume=True)
    for each, first in zip(requests("stack", 30), (10, 20), strict=True):
        train(request(each.out, "dqn", first, seed=each.seed))
    found = train_stack(requests("stack", 30), resume=True)
    for summary, first in zip(found, (10, 20), strict=True):
        assert not isinstance(summary, TrainingError)
        assert summary["prolonged"] == [first]
    for one, other in zip(requests("alone", 30), requests("stack", 30), strict=True):
        np.testing.assert_equal(state_of(one.out), state_of(other.out))
        np.testing.assert_equal(curve_of(one.out), curve_of(other.out))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONSTANT)
def test_the_shortest_prolongation_has_an_iteration(kind: str, tmp_path: Path) -> None:
    name, options = CONSTANT[kind]
    out = tmp_path / "p.safetensors"
    train(request(out, name, 20, options=options))
    before = state_of(out)["values"]
    train(request(out, name, 21, options=options), resume=True)
    assert (state_of(out)["values"] != before).any()


def test_the_command_says_how_schedules_continue_and_how_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    command = ("train", "s.yaml", "--serial", "--out", "p.safetensors", *SMALL)
    monkeypatch.setattr("mecsim.cli.train._installed", lambda module: False)
    shown = mecsim(*command, "--episodes", "10", cwd=tmp_path).stdout
    assert "to draw it: pip install 'mecsim[plot]'" in shown
    assert "tensorboard --logdir p.tensorboard   (pip install 'mecsim[tensorboard]')" in shown
    assert "prolonged" not in shown
    monkeypatch.setattr("mecsim.cli.train._installed", lambda module: module == "tensorboard")
    shown = mecsim(*command, "--episodes", "20", "--resume", cwd=tmp_path).stdout
    assert "prolonged:      from 10 to 20 episodes; exploration, entropy weight and" in shown
    assert "tensorboard --logdir p.tensorboard\n" in shown
