"""Stacked trainings as callers see them: files, resuming, failures."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mecsim.errors import Interrupted, TrainingError
from mecsim.learning import TrainingRequest
from mecsim.learning.checkpoint import read_checkpoint
from mecsim.learning.options import stack_key
from mecsim.learning.tensorboard import EventFile
from mecsim.learning.training import train as train_alone
from mecsim.learning.training import train_stack
from tests.helpers.slow import slow_unless
from tests.learning.test_training import _Stop
from tests.rl.test_learners import obvious, same

EPISODIC: dict[str, Any] = {
    "train_freq": "episode",
    "observe": "paper",
    "hidden_units": 8,
    "batch_size": 8,
    "work_nodes": 2,
}
RATES = {"dqn": "learning_rate", "mtl-a3c": "actor_learning_rate"}


def request(out: Path, name: str, seed: int = 0, rate: float = 0.01) -> TrainingRequest:
    options = EPISODIC | {RATES[name]: rate}
    return TrainingRequest(
        scenario=obvious(), scheduler=name, options=options, out=out, episodes=8, seed=seed
    )


def curve_of(policy: Path) -> dict[str, Any]:
    with h5py.File(policy.with_name(f"{policy.stem}.curve.h5")) as file:
        return {name: column[:] for name, column in file.items() if name != "wall_s"}


@pytest.fixture
def at_every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecsim.learning.recorder.CHECKPOINT_SECONDS", 0.0)


@pytest.mark.usefixtures("at_every_iteration")
@pytest.mark.parametrize("after", slow_unless([5], [2, 5, 9]))
@pytest.mark.parametrize("name", RATES)
def test_a_resumed_training_ends_in_the_same_policy(name: str, after: int, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.safetensors", tmp_path / "p.safetensors"
    train_alone(request(whole, name))
    with pytest.raises(Interrupted, match=r"of 8 episodes are saved in .*Try: the same command"):
        train_alone(request(out, name), progress=_Stop(after))
    assert not out.exists()
    train_alone(request(out, name), resume=True)
    assert same(whole, out)
    expected = curve_of(whole)
    for column, found in curve_of(out).items():
        np.testing.assert_array_equal(found, expected[column])
    assert read_checkpoint(tmp_path / "p.checkpoint.safetensors").record.complete


@pytest.mark.quick("mtl-a3c")
@pytest.mark.usefixtures("at_every_iteration")
@pytest.mark.parametrize("name", RATES)
def test_a_resumed_stack_ends_in_the_policies_of_trainings_alone(name: str, tmp_path: Path) -> None:
    def requests(kind: str) -> list[TrainingRequest]:
        return [
            request(tmp_path / f"{kind}{seed}.safetensors", name, seed, 0.01 * (1 + seed))
            for seed in range(3)
        ]

    for each in requests("alone"):
        train_alone(each)
    with pytest.raises(Interrupted):
        train_stack(requests("stack"), progress=_Stop(6))
    (tmp_path / "stack1.checkpoint.safetensors").unlink()  # as if killed before it was written
    found = train_stack(requests("stack"), resume=True)
    for one, other, summary in zip(requests("alone"), requests("stack"), found, strict=True):
        assert same(one.out, other.out)
        assert not isinstance(summary, TrainingError)
        assert summary["seed"] == one.seed
        np.testing.assert_equal(curve_of(one.out), curve_of(other.out))


def test_an_interruption_before_the_next_checkpoint_tells_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.safetensors"
    monkeypatch.setattr("mecsim.learning.recorder.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted, match="2 of 8 episodes are saved"):
        train_alone(request(out, "dqn"), progress=_Stop(5))
    monkeypatch.setattr("mecsim.learning.recorder.CHECKPOINT_SECONDS", 1e9)
    with pytest.raises(Interrupted, match="2 of 8 episodes are saved"):
        train_alone(request(out, "dqn"), progress=_Stop(3), resume=True)


def test_a_failed_training_leaves_the_others_their_policies(tmp_path: Path) -> None:
    outs = [tmp_path / f"{n}.safetensors" for n in range(2)]
    requests = [request(out, "dqn", 0, rate) for out, rate in zip(outs, (1e30, 0.01), strict=True)]
    failed, summary = train_stack(requests)
    assert isinstance(failed, TrainingError)
    assert not isinstance(summary, TrainingError)
    assert [out.exists() for out in outs] == [False, True]
    with pytest.raises(TrainingError, match=r"the training diverged: .* Try: lower learning rates"):
        train_alone(requests[0])


def test_trainings_of_one_key_differ_in_learning_rates_only() -> None:
    own = stack_key("dqn", EPISODIC)
    assert own is not None
    assert stack_key("dqn", EPISODIC | {"learning_rate": 0.5}) == own
    assert stack_key("dqn", EPISODIC | {"gamma": 0.5}) != own
    assert stack_key("dqn", {"train_freq": "step"}) is None


@pytest.mark.parametrize("options", [EPISODIC, {}, {"branched_share": 0.0}])
@pytest.mark.parametrize("name", RATES)
def test_rewards_of_short_episodes_are_reported_as_those_of_a_run(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    slots = obvious().slots
    found = {}
    for times in (1, 3):
        short = {"episode_slots": slots} if times > 1 else {}
        longer = obvious().model_copy(update={"slots": times * slots})
        how: dict[str, Any] = {"scenario": longer, "scheduler": name, "episodes": 4, "serial": True}
        out = tmp_path / f"{times}.safetensors"
        found[times] = train_alone(TrainingRequest(out=out, options=options | short, **how))
    for one, three in zip(found[1]["curve"], found[3]["curve"], strict=True):
        assert three["reward"] == pytest.approx(3.0 * one["reward"], rel=1e-12)
    one, three = (curve_of(tmp_path / f"{n}.safetensors")["training_reward"] for n in (1, 3))
    np.testing.assert_allclose(three, 3.0 * one, rtol=1e-6)


def test_ctrl_c_within_the_writer_of_event_files_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would leave a lock of the writer behind, for which closing it waits forever."""
    whole: list[int] = []

    def add(self: EventFile, measures: Any, episode: int, wall_s: float) -> None:
        del self, measures, wall_s
        if episode == 3:
            signal.raise_signal(signal.SIGINT)
        whole.append(episode)

    monkeypatch.setattr(EventFile, "add", add)
    with pytest.raises(Interrupted):
        train_alone(request(tmp_path / "p.safetensors", "mtl-a3c"))
    assert whole[-1] == 3
