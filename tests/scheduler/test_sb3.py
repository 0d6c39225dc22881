"""Policies of Stable-Baselines3 in runs: equal to its own predictions; files of other kinds."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from torch import nn

from mecsim import Observation, Scheduler, load, run
from mecsim.errors import PolicyError, SchedulerError
from mecsim.sb3 import PartitionVecEnv
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.study.competitors import competitors
from mecsim.study.jobs import make_job
from tests.helpers.batches import in_this_process
from tests.helpers.cli import ended

SMALL = load("vgg16_4es", ["slots=6", "arrivals.rate=4"])
PER_TASK = load(
    "vgg16_4es", ["slots=6", "decision_epoch=per_task", "arrivals={process: poisson, rate: 2}"]
)
Parts = dict[str, bytes]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch's threads wait for each other for longer than such small networks compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(algorithm: Any, envs: Any, **options: Any) -> Any:
    """A model that has learned from 32 epochs."""
    if algorithm is PPO:
        options |= {"batch_size": 16, "n_epochs": 1}
    model = algorithm("MlpPolicy", envs, n_steps=8, seed=0, device="cpu", **options)
    return model.learn(32)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of PPO for ``SMALL``, of the default shape."""
    path = tmp_path_factory.mktemp("policies") / "ppo.zip"
    trained(PPO, PartitionVecEnv(SMALL, 2)).save(path)
    return path


@pytest.mark.parametrize("spec", [SMALL, PER_TASK], ids=["slots", "tasks"])
@pytest.mark.parametrize(
    ("algorithm", "kwargs"),
    [
        (PPO, {}),
        (PPO, {"net_arch": {"pi": [32, 16, 8], "vf": [4]}, "activation_fn": nn.ReLU}),
        (A2C, {"net_arch": [], "ortho_init": False}),
        (A2C, {"net_arch": [48], "activation_fn": nn.LeakyReLU}),
    ],
    ids=["PPO", "PPO, three layers", "A2C, linear", "A2C, one layer"],
)
def test_decisions_are_those_of_predict(
    algorithm: Any, kwargs: dict[str, Any], spec: Scenario, tmp_path: Path
) -> None:
    envs = VecMonitor(PartitionVecEnv(spec, 2))
    model = trained(algorithm, envs, learning_rate=0.01, policy_kwargs=kwargs)
    model.save(tmp_path / "policy")
    seen: list[list[int]] = []
    saved = registry.load("sb3")

    class Checked(saved):  # type: ignore[misc, valid-type]
        def decide(self, observation: Observation) -> Any:
            decided = super().decide(observation)
            expected, _ = model.predict(observation.scaled_features(), deterministic=True)
            assert decided == expected.tolist()
            seen.append(decided)
            return decided

    result = run(spec, Checked, {"policy": str(tmp_path / "policy.zip")}, seed=5)
    assert result.summary.completed > 0
    assert len(seen) >= 6
    again = run(spec, f"sb3:{tmp_path / 'policy.zip'}", seed=5)
    assert again.summary.reward == result.summary.reward


def test_a_pickle_in_the_file_is_not_executed(policy: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    with pytest.raises(PolicyError, match=r"policy .*bad.zip: is not a file of Stable-Baselines3"):
        run_with(changed(policy, tmp_path, parameters(lambda state: Bomb())))
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert mark.exists()  # elsewhere it would be


def changed(policy: Path, folder: Path, change: Callable[[Parts], None]) -> Path:
    """Write a copy of a policy whose parts were changed."""
    with zipfile.ZipFile(policy) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(folder / "bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return folder / "bad.zip"


def data(**entries: Any) -> Callable[[Parts], None]:
    """Return a change of entries of ``data``; mappings are merged."""

    def change(parts: Parts) -> None:
        found = json.loads(parts["data"])
        for key, value in entries.items():
            merged = isinstance(value, Mapping) and isinstance(found[key], dict)
            found[key] = {**found[key], **value} if merged else value
        parts["data"] = json.dumps(found).encode()

    return change


def parameters(change: Callable[[dict[str, Any]], Any]) -> Callable[[Parts], None]:
    """Return a change of ``policy.pth``: of its parameters in place, or of all that it holds."""

    def change_parts(parts: Parts) -> None:
        state = torch.load(io.BytesIO(parts["policy.pth"]), weights_only=True)
        written = io.BytesIO()
        torch.save(change(state) or state, written)
        parts["policy.pth"] = written.getvalue()

    return change_parts


def deflated(name: str, size: int) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(size))
        parts[name] = inner.getvalue() if name == "policy.pth" else bytes(size)

    return change


def run_with(path: Path, spec: Scenario = SMALL) -> None:
    run(spec, "sb3", {"policy": str(path)})


HIDDEN = "mlp_extractor.policy_net.0"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda parts: parts.pop("data"), "has no part 'data'"),
        (lambda parts: parts.pop("policy.pth"), "has no part 'policy.pth'"),
        (lambda parts: parts.update(data=b"{"), "model.save: Expecting property name"),
        (lambda parts: parts.update(data=b"[" * 100_000), "model.save: maximum recursion depth"),
        (lambda parts: parts.update(data=b"[]"), "data: is not a JSON object"),
        (lambda parts: parts.update({"policy.pth": b"\x80"}), "model.save: File is not a zip file"),
        (deflated("data", (1 << 20) + 1), r"data: has 1,048,577 bytes; allowed: at most 1,048,576"),
        (deflated("policy.pth", (1 << 20) + 1), r"policy.pth: has 1,048,577 bytes; allowed"),
        (data(policy_class={"__module__": "mine"}), "is ActorCriticPolicy of mine. Expected: MlpP"),
        (
            data(policy_class={"__init__": "<function ActorCriticCnnPolicy.__init__ at 0x1>"}),
            "is ActorCriticCnnPolicy of stable_baselines3.common.policies. Expected: MlpPolicy",
        ),
        (data(policy_class=3), r"is not named of \?"),
        (data(policy_kwargs=[]), "policy_kwargs: is not a JSON object"),
        (data(policy_kwargs={"features_extractor_class": "x"}), "has features_extractor_class;"),
        (data(policy_kwargs={"activation_fn": "<class 'mine.Act'>"}), "activation_fn: <class 'mi"),
        (data(action_space={"nvec": "[5 5]"}), r"is \[5 5\]. Expected: 5 places for each of 6"),
        (data(action_space={"nvec": None}), "is not MultiDiscrete. Expected: 5 places"),
        (data(action_space={"start": "[1 0 0 0 0 0]"}), r"is \[5 5 5 5 5 5\]. Expected"),
        (parameters(lambda state: [1]), "policy.pth: holds no parameters by name"),
        (parameters(lambda state: state.update(lstm=torch.ones(1))), "has parameters 'lstm'"),
        (parameters(lambda state: state.update({"value_net.bias": 3})), "bias: is no tensor with"),
        (
            parameters(lambda state: {n: x for n, x in state.items() if n != f"{HIDDEN}.bias"}),
            r"policy_net.2.bias is unexpected|policy_net.0.bias is missing",
        ),
        (
            parameters(lambda state: state.update({"action_net.bias": torch.ones(1) / 0})),
            "action_net.bias: has other values than finite 32-bit floats",
        ),
        (
            parameters(lambda state: state.update({"action_net.bias": torch.ones(30).double()})),
            "action_net.bias: has other values than finite",
        ),
        (
            parameters(
                lambda state: state.update({"value_net.bias": torch.ones(1).expand(1 << 40)})
            ),
            "value_net.bias: has 4,398,046,511,104 bytes; allowed",
        ),
        (
            parameters(lambda state: state.update({"action_net.bias": torch.ones(1).to("meta")})),
            "action_net.bias: is no tensor with values",
        ),
        (
            parameters(lambda state: state.update({f"{HIDDEN}.bias": torch.ones(3)})),
            "the shapes of mlp_extractor.policy_net.0 do not fit together",
        ),
        (
            parameters(
                lambda state: state.update(
                    {"action_net.bias": torch.ones(3), "action_net.weight": torch.ones(3, 64)}
                )
            ),
            "action_net has 3 outputs. Expected: 30",
        ),
    ],
)
def test_other_files_are_refused(
    change: Callable[[Parts], None],
    problem: str,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("schedulers.sb3.MAX_BYTES", 1 << 20)
    with pytest.raises(PolicyError, match=f"^policy .*bad.zip: .*{problem}") as raised:
        run_with(changed(policy, tmp_path, change))
    assert "\n" not in str(raised.value)


def test_files_that_are_no_archives(policy: Path, tmp_path: Path) -> None:
    content, half, ten = policy.read_bytes(), tmp_path / "half.zip", tmp_path / "ten.zip"
    half.write_bytes(content[: len(content) // 2])
    ten.write_bytes(content[:-10])
    for path, problem in (
        (half, "is not a file of Stable-Baselines3's model.save: "),
        (ten, "is not a file of Stable-Baselines3's model.save: "),
        (Path(__file__), "is not a file of Stable-Baselines3's model.save: File is not a zip file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "none.zip", "cannot be read: No such file"),
    ):
        with pytest.raises(PolicyError, match=f"policy {path}: {problem}"):
            run_with(path)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("edge_servers=5", r"is \[5 5 5 5 5 5\]. Expected: 6 places for each of 6 blocks"),
        (
            "dnn={model: vgg16, cut: balanced, blocks: 5}",
            r"Expected: 5 places for each of 5 blocks \(edge_servers: 4\)",
        ),
        (
            "decision_epoch=per_task",
            r"observations of 45 numbers. Expected: 34 \(blocks: 6, edge_servers: 4, per_task\)",
        ),
    ],
)
def test_a_policy_of_another_shape(override: str, problem: str, policy: Path) -> None:
    with pytest.raises(PolicyError, match=problem):
        run_with(policy, load("vgg16_4es", ["slots=2", override]))


def test_normalised_observations_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(PPO, VecNormalize(PartitionVecEnv(SMALL, 2))).save(tmp_path / "p.zip")
    run_with(tmp_path / "p.zip")
    assert "p.zip was trained with VecNormalize, whose statistics are not applied" in caplog.text


# ---------------------------------------------------------------- NAME:FILE


def test_a_policy_is_part_of_the_name(policy: Path) -> None:
    assert registry.split_policy(f"sb3:{policy}") == ("sb3", {"policy": str(policy)})
    assert registry.split_policy("greedy:Class") == ("greedy:Class", {})
    assert registry.split_policy("my_module:Class", {"k": 1}) == ("my_module:Class", {"k": 1})
    assert registry.split_policy("sb3.py:Class") == ("sb3.py:Class", {})
    for name, options, problem in (
        ("greedy:p.zip", {}, "scheduler 'greedy:p.zip': greedy takes no policy. Try: greedy"),
        ("sb3:gone.zip", {}, "scheduler 'sb3:gone.zip': there is no file gone.zip"),
        ("mtl-a3c:gone", {}, "scheduler 'mtl-a3c:gone': there is no file gone"),
        (f"sb3:{policy}", {"policy": "x"}, "names a policy, and so does option policy"),
    ):
        with pytest.raises(SchedulerError, match=problem):
            registry.create(name, None, options)  # type: ignore[arg-type]


def test_jobs_hold_the_content_of_the_policy(policy: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zip"
    copy.write_bytes(policy.read_bytes())
    named, optional = competitors([f"sb3:{copy}", "sb3"], [f"sb3.policy={copy}"])
    assert (named.scheduler, named.options) == (optional.scheduler, optional.options)
    assert named.label == "copy.zip"
    before = make_job("run", SMALL, named.scheduler, named.options, 0)
    assert "torch" in dict(before.versions)
    assert "torch" not in dict(make_job("run", SMALL, "greedy", {}, 0).versions)
    assert before.key == make_job("run", SMALL, "sb3", optional.options, 0).key
    copy.write_bytes(policy.read_bytes() + b" ")
    assert make_job("run", SMALL, named.scheduler, named.options, 0).key != before.key


def test_commands_take_a_policy_file(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    in_this_process(monkeypatch)
    name, small = f"sb3:{policy}", ("--set", "slots=3", "--set", "arrivals.rate=4")
    code, out, err = ended("run", "vgg16_4es", "--scheduler", name, *small, "--out", "t.h5")
    assert (code, out.startswith(f"{name} on vgg16_4es")) == (0, True), err
    assert ended("replay", "t.h5")[0] == 0
    code, out, err = ended("replay", "t.h5", "--scheduler", name, "--json")
    found = json.loads(out)
    assert found["recorded"]["reward"] == found["other"]["reward"]
    compare = ("compare", "vgg16_4es", *small, "--seeds", "2", "--no-figures", "--jobs", "1")
    code, out, err = ended(*compare, "--schedulers", f"{name},greedy", "--json")
    assert code == 0, err
    assert {row["scheduler"] for row in json.loads(out)["rows"]} == {policy.name, "greedy"}
    for arguments in (
        ("run", "vgg16_4es", "--scheduler", "sb3:gone.zip"),
        ("run", "vgg16_4es", "--scheduler", "sb3"),
        (*compare, "--schedulers", "sb3:gone.zip"),
        ("replay", "t.h5", "--scheduler", "sb3:t.h5"),
        ("train", "vgg16_4es", "--scheduler", f"mtl-a3c:{policy}"),
        ("schedulers", "--check", "sb3:gone.zip"),
    ):
        code, out, err = ended(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err


def test_schedulers_that_are_no_learners_are_checked_untrained() -> None:
    assert Scheduler.conformance_options == {}
    assert registry.describe("sb3").options == {"policy": "str", "features": "str = ''"}
    model = load("vgg16_4es", ["slots=3"])
    rewards = {run(model, "sb3", {"policy": "untrained"}).summary.reward for _ in range(2)}
    assert len(rewards) == 1
    assert np.isfinite(rewards.pop())
