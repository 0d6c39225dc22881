"""Training as users see it: its files, resuming, and the command line."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from tensorboardX.proto.event_pb2 import Event

from mecsim.errors import InputError, Interrupted, PolicyError
from mecsim.learning.checkpoint import read_checkpoint
from mecsim.learning.policy_file import read_policy
from tests.helpers.cli import ended
from tests.helpers.slow import slow_unless
from tests.rl.test_learners import ACTOR_CRITIC, same
from tests.rl.test_policy_network import learn

SCENARIO = """\
slots: 12
devices: 3
edge_servers: 3
edge_server: {capacity: [1 GHz, 20 GHz, 1 GHz]}
device: {capacity: 0.5 GHz}
dnn: {blocks: 2}
arrivals: {process: slotted, rate: 2}
"""
SMALL = [f"--option={key}={value}" for key, value in ACTOR_CRITIC.items()]


# ---------------------------------------------------------------- files of a training


def test_a_learning_curve_has_units_and_evaluations(tmp_path: Path) -> None:
    summary = learn(tmp_path / "p.safetensors", episodes=150)
    with h5py.File(tmp_path / "p.curve.h5", "r") as file:
        assert file.attrs["format"] == "mecsim-curve"
        assert file.attrs["scheduler"] == "mtl-a3c"
        assert json.loads(file.attrs["settings"])["hidden_units"] == 16
        units = {name: column.attrs["units"] for name, column in file.items()}
        assert units["validation_reward"] == units["wall_s"] == "s"
        assert units["entropy"] == "nat"
        assert all(file[name].attrs["description"] for name in file)
        rewards, episodes = file["validation_reward"][:], file["episode"][:]
        assert len({len(column) for column in file.values()}) == 1
    evaluated = np.isfinite(rewards)
    assert [row["reward"] for row in summary["curve"]] == rewards[evaluated].tolist()
    assert [row["episode"] for row in summary["curve"]] == episodes[evaluated].tolist()
    assert rewards[evaluated].max() == summary["validation_reward"]
    assert episodes[0] == 0.0
    assert episodes[-1] == 150.0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "p.checkpoint.safetensors", "p.curve.h5", "p.safetensors", "p.tensorboard",
    ]  # fmt: skip


def events_in(folder: Path) -> list[tuple[str, int, float]]:
    """Read TFRecords by hand: length, its checksum, the event and its checksum."""
    found = []
    for path in folder.iterdir():
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(each.tag, event.step, each.simple_value) for each in event.summary.value]
            at += 16 + length
    return found


@pytest.mark.parametrize("name", ["mtl-a3c", "dqn"])
def test_tensorboard_events_can_be_read_back(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    summary = learn(tmp_path / "p.safetensors", name)
    found = events_in(tmp_path / "p.tensorboard")
    logged = {step: value for tag, step, value in found if tag == "validation_reward"}
    for row in summary["curve"]:
        assert logged[round(row["episode"])] == pytest.approx(row["reward"], rel=1e-6)
    assert {"wall_s", "training_reward"} <= {tag for tag, _, _ in found}
    assert all(np.isfinite(value) for _, _, value in found)
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- checkpoints


class _Stop:
    """Ctrl-C after some log entries."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, done: float, total: float, logged: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.quick("mtl-a3c-*", "dqn-*")
@pytest.mark.parametrize("after", slow_unless([5], [2, 5, 8]))
@pytest.mark.parametrize("name", ["mtl-a3c", "a3c", "dqn"])
def test_a_resumed_training_ends_in_the_same_policy(name: str, after: int, tmp_path: Path) -> None:
    how: dict[str, Any] = {"episodes": 150, "options": {"branched_share": 0.5}}
    whole, out = tmp_path / "whole.safetensors", tmp_path / "p.safetensors"
    learn(whole, name, **how)
    with pytest.raises(
        Interrupted, match=r"of 150 episodes are saved in .*Try: the same command with --resume"
    ):
        learn(out, name, progress=_Stop(after), **how)
    assert not out.exists()
    assert (tmp_path / "p.checkpoint.safetensors").exists()
    learn(out, name, resume=True, **how)
    assert same(whole, out)
    assert read_checkpoint(tmp_path / "p.checkpoint.safetensors").record.complete
    with h5py.File(tmp_path / "p.curve.h5") as one, h5py.File(tmp_path / "whole.curve.h5") as other:
        for column in set(one) - {"wall_s"}:
            np.testing.assert_array_equal(one[column][:], other[column][:])
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    with pytest.raises(Interrupted):
        learn(out, progress=_Stop(2))
    with pytest.raises(InputError, match=r"belongs to an interrupted training\. Try: --resume"):
        learn(out)
    for other in ({"seed": 1}, {"options": {"gamma": 0.5}}, {"name": "a3c"}):
        with pytest.raises(InputError, match="belongs to another training: "):
            learn(out, resume=True, **other)
    checkpoint = tmp_path / "p.checkpoint.safetensors"
    with pytest.raises(PolicyError, match="has no header of a mecsim policy"):
        read_policy(checkpoint)
    save_file({"values": np.zeros(3, np.float32)}, checkpoint, {"mecsim-checkpoint": "[]"})
    with pytest.raises(InputError, match="is not a checkpoint of mecsim"):
        learn(out, resume=True)
    document = {"identity": {"settings": 5}, "state": {"wall_s": 0}, "rows": []}
    metadata = {"mecsim-checkpoint": json.dumps(document)}
    save_file({"values": np.zeros(3, np.float32)}, checkpoint, metadata)
    with pytest.raises(InputError, match="is not a checkpoint of mecsim"):
        learn(out, resume=True)
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(PolicyError, match="is not a safetensors file"):
        learn(out, resume=True)


def test_partial_files_of_a_killed_training_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    for name in ("p.checkpoint.safetensors", "p.curve.h5", "q.curve.h5"):
        (tmp_path / f".{name}.{dead.pid}.part").touch()
    learn(tmp_path / "p.safetensors", episodes=1)
    assert [path.name for path in tmp_path.glob(".*")] == [f".q.curve.h5.{dead.pid}.part"]


def test_resume_without_a_checkpoint_starts_a_training(tmp_path: Path) -> None:
    learn(tmp_path / "p.safetensors", resume=True)
    learn(tmp_path / "q.safetensors")
    assert same(tmp_path / "p.safetensors", tmp_path / "q.safetensors")


# ---------------------------------------------------------------- the command line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_and_run_the_policy(here: Path) -> None:
    train = ["train", "s.yaml", "--serial", "--episodes", "30", "--json", *SMALL]
    code, out, _ = ended(*train, "--seed", "3", "--set", "slots=8")
    assert code == 0
    document = json.loads(out)
    policy = Path(document["policy"])
    assert policy.parent == Path("results/training")
    assert (document["scheduler"], document["seed"], document["serial"]) == ("mtl-a3c", 3, True)
    assert read_policy(policy).header.scenario == "s (slots=8)"
    run = ["run", "s.yaml", "--set", "slots=8", "--scheduler", "mtl-a3c", "--no-trace", "--json"]
    code, out, err = ended(*run)
    assert (code, err) == (0, "")
    assert json.loads(out)["completed"] == 16
    code, _, err = ended(*run, "--option", "policy=none.safetensors")
    assert (code, len(err.splitlines())) == (2, 1)
    code, out, _ = ended(*train, "--out", "folder")
    assert json.loads(out)["policy"].startswith("folder/s-mtl-a3c-0")


@pytest.mark.parametrize("name", ["mtl-a3c", "a3c", "dqn"])
def test_settings_are_listed_with_their_meaning(name: str, here: Path) -> None:
    command = ["train", "--scheduler", name, "--settings"]
    code, out, _ = ended(*command, "--json")
    settings = json.loads(out)["settings"]
    assert code == 0
    assert all(each["meaning"] and each["default"] for each in settings)
    allowed = {each["name"]: each["allowed"] for each in settings}
    assert allowed["gamma"] == "number, 0 to 1"
    assert allowed["batch_size"] == "integer, 1 or more"
    assert allowed["max_grad_norm"] == "number, above 0"
    assert allowed["observe"] == "full or paper"
    code, out, _ = ended(*command)
    assert code == 0
    assert all(each["name"] in out for each in settings)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--option", "hiden_units=5"], "has no option 'hiden_units'; did you mean 'hidden_units'"),
        (["--option", "hidden_units=big"], "option hidden_units: 'big' should be a valid integer"),
        (["--option", "hidden_units"], "--option"),
        (["--workers", "2"], "--serial: runs in one process; allowed: without --workers"),
        (["--episodes", "0"], "episodes: 0; allowed: at least 1"),
        (["--seed", "-1"], "seed: -1; allowed: at least 0"),
        (["--scheduler", "greedy"], "does not learn; allowed: a3c, dqn, mtl-a3c"),
        (["--scheduler", "mtl"], "is not installed; did you mean 'mtl-a3c'"),
        (["--scheduler", "greedy", "--settings"], "does not learn; allowed: a3c, dqn, mtl-a3c"),
        (
            ["--scheduler", "a3c", "--option", "head=joint", "--set", "dnn.blocks=8"],
            "at most 50,000",
        ),
        (["--out", "p.h5"], "name that ends in .safetensors, or a folder"),
        (["--out", "there.safetensors"], "is a folder"),
        (["--out", "/proc/x/p.safetensors"], "cannot be written"),
        (["--set", "slots=0"], "slots"),
        (["--set", "dnn.blocks=99"], "dnn.blocks"),
    ],
)
def test_input_that_is_wrong(
    arguments: list[str],
    problem: str,
    here: Path,
) -> None:
    (here / "there.safetensors").mkdir()
    code, out, err = ended("train", "s.yaml", "--serial", "--quiet", *arguments)
    assert (code, out) == (2, "")
    assert problem in err
    assert len(err.splitlines()) == 1
    assert not [path for ending in ("part", "tensorboard") for path in here.rglob(f"*.{ending}")]


@pytest.mark.parametrize("workers", ["0", "17"])
def test_workers_are_1_to_16(workers: str, here: Path) -> None:
    code, _, err = ended("train", "s.yaml", "--workers", workers)
    assert code == 2
    assert f"workers: {workers}; allowed: 1 to 16" in err


def test_the_scenario_is_missing() -> None:
    code, _, err = ended("train")
    assert (code, err) == (
        2,
        "mecsim: train: SCENARIO is missing; allowed: a scenario file or a shipped name\n",
    )


def test_a_training_that_fails_exits_with_1(here: Path) -> None:
    rates = ["--option", "actor_learning_rate=1e30", "--option", "critic_learning_rate=1e30"]
    command = ["train", "s.yaml", "--serial", "--quiet", "--out", "p.safetensors", *SMALL, *rates]
    code, out, err = ended(*command)
    assert (code, out) == (1, "")
    assert err.startswith("mecsim: the training diverged: ")
    assert not (here / "p.safetensors").exists()


@pytest.mark.parametrize("module", ["torch", "tensorboardX"])
def test_a_missing_extra_is_reported_and_nothing_is_written(
    module: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(here.rglob("*"))
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "schedulers.rl.rollouts", raising=False)
    code, out, err = ended("train", "s.yaml", "--serial", *SMALL)
    assert (code, out) == (2, "")
    problem = f"training mtl-a3c needs {module}. Try: pip install 'mecsim[torch]'"
    assert err == f"mecsim: {problem}\n"
    assert sorted(here.rglob("*")) == before


def test_nothing_to_resume_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learn(tmp_path / "fresh.safetensors", episodes=2, resume=True)
    (said,) = [each for each in caplog.messages if "--resume" in each]
    assert said.startswith("--resume: there is no ")
    assert said.endswith("fresh.checkpoint.safetensors: the training starts at its beginning")


def test_a_resumed_training_reports_what_was_done_before(tmp_path: Path) -> None:
    """Rate and time left count from there. It must be finished before it is prolonged."""
    out, seen = tmp_path / "stopped.safetensors", list[tuple[float, float, str]]()
    with pytest.raises(Interrupted) as stopped:
        learn(out, episodes=40, progress=_Stop(3))
    done = float(str(stopped.value).split()[1])
    remedy = r"was to have 40 episodes\. Try: --episodes 40 to finish it; then it can be prolonged"
    with pytest.raises(InputError, match=remedy):
        learn(out, episodes=50, resume=True)
    learn(out, episodes=40, resume=True, progress=lambda *told: seen.append(told))
    assert (round(seen[0][0]), *seen[0][1:]) == (done, 40, "")  # before its own first step
