"""Policy files: read as written; every fault is reported in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mecsim.errors import PolicyError
from mecsim.learning import TrainingRequest
from mecsim.learning.policy_file import Policy, read_policy, write_policy
from mecsim.learning.training import train
from mecsim.scenario.schema import Scenario
from mecsim.simulation.run import run as run_scenario
from tests.rl.test_learners import ACTOR_CRITIC, Q_LEARNING, effective, obvious


def learn(out: Path, name: str = "mtl-a3c", **more: Any) -> dict[str, Any]:
    base = Q_LEARNING if name == "dqn" else ACTOR_CRITIC
    options = effective(name, base, more.pop("options", {}), more.get("preset"))
    how = {"episodes": 30, "seed": 0, "workers": 1, "serial": True} | more
    more_of_train = {key: how.pop(key) for key in ("resume", "progress") if key in how}
    request = TrainingRequest(scenario=obvious(), scheduler=name, options=options, out=out, **how)
    return train(request, **more_of_train)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    out = tmp_path_factory.mktemp("policy") / "p.safetensors"
    learn(out)
    return read_policy(out)


def fault_of(path: Path, scenario: Scenario | None = None, name: str = "mtl-a3c") -> str:
    """The message about a policy, of one line."""
    with pytest.raises(PolicyError) as caught:
        run_scenario(scenario or obvious(), name, {"policy": str(path)})
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


# ---------------------------------------------------------------- policy files


def test_a_policy_is_read_as_it_was_written(policy: Policy, tmp_path: Path) -> None:
    write_policy(tmp_path / "q.safetensors", policy)
    back = read_policy(tmp_path / "q.safetensors")
    assert back.header == policy.header
    assert back.arrays.keys() == policy.arrays.keys()
    assert all((back.arrays[n] == x).all() for n, x in policy.arrays.items())
    assert [path.name for path in tmp_path.iterdir()] == ["q.safetensors"]


def test_the_header_of_a_policy(policy: Policy) -> None:
    header = policy.header
    assert (header.scheduler, header.blocks, header.servers, header.decision_epoch) == (
        "mtl-a3c", 2, 3, "per_slot",
    )  # fmt: skip
    assert header.settings["hidden_units"] == 16
    assert header.settings["sharing"] == "soft"
    assert len(header.scenario_sha256) == 64
    assert header.training["seed"] == 0
    assert header.training["episodes"] == 30
    assert header.training["validation_reward"] < 0.0


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"settings": {"bogus": 1}}, "its settings: .* has no option 'bogus'"),
        ({"settings": {"hidden_units": "big"}}, "its settings: .*option hidden_units: 'big'"),
        ({"settings": {"hidden_units": 10**9}}, "its settings: .*from 1 to 1024"),
        ({"settings": {"hidden_units": 32}}, "names or shapes of arrays do not match its header"),
        ({"scheduler": "a3c"}, "has scheduler: a3c. Expected: mtl-a3c"),
        ({"blocks": 3}, "has blocks: 3. Expected: 2"),
        ({"servers": 9}, "has edge_servers: 9. Expected: 3"),
        ({"decision_epoch": "per_task"}, "has decision_epoch: per_task. Expected: per_slot"),
        ({"features": ["tasks"]}, "was trained on other features. Try: train it again"),
    ],
)
def test_a_header_that_does_not_fit(
    header: dict[str, Any], problem: str, policy: Policy, tmp_path: Path
) -> None:
    path = tmp_path / "q.safetensors"
    write_policy(path, Policy(policy.header.model_copy(update=header), policy.arrays))
    with pytest.raises(PolicyError, match=problem):
        raise PolicyError(fault_of(path))


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("actor.1.bias", lambda x: x * np.nan, "array actor.1.bias is not finite"),
        ("actor.1.bias", lambda x: x.astype(np.float64), "actor.1.bias holds float64"),
        ("actor.1.bias", lambda x: x[:3], "names or shapes of arrays do not match its header"),
        ("encoding.column", lambda x: x + 1e6, "its encoding refers to unknown features"),
        ("encoding.column", lambda x: -x - 1.0, "its encoding refers to unknown features"),
        ("encoding.column", lambda x: x + 0.5, "its encoding refers to unknown features"),
        ("encoding.scale", lambda x: 0.0 * x, "its encoding has scales that are not above 0"),
    ],
)
def test_arrays_that_do_not_fit(
    name: str, change: Callable[[Any], Any], problem: str, policy: Policy, tmp_path: Path
) -> None:
    path = tmp_path / "q.safetensors"
    write_policy(path, Policy(policy.header, policy.arrays | {name: change(policy.arrays[name])}))
    assert problem in fault_of(path)


def _truncated(path: Path, data: bytes) -> None:
    path.write_bytes(data[: len(data) // 2])


def _pickled(path: Path, data: bytes) -> None:
    path.write_bytes(b"\x80\x04\x95" + data[:400])


def _large(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.truncate(2**31)


BROKEN: dict[str, tuple[Callable[[Path, bytes], Any], str]] = {
    "empty": (lambda path, _: path.touch(), "is not a safetensors file"),
    "truncated": (_truncated, "is not a safetensors file"),
    "longer": (lambda path, data: path.write_bytes(data + b"x"), "is not a safetensors file"),
    "huge header": (
        lambda path, data: path.write_bytes(struct.pack("<Q", 2**62) + data),
        "header too large",
    ),
    "nonsense": (
        lambda path, _: path.write_bytes(struct.pack("<Q", 8) + b"nonsense"),
        "is not a safetensors file",
    ),
    "pickle": (_pickled, "is not a safetensors file"),
    "foreign": (
        lambda path, _: save_file({"a": np.zeros(2, np.float32)}, path),
        "has no header of a mecsim policy",
    ),
    "other header": (
        lambda path, _: save_file({"a": np.zeros(2, np.float32)}, path, {"mecsim": "{}"}),
        "scheduler: Field required",
    ),
    "deep header": (
        lambda path, _: save_file({"a": np.zeros(2, np.float32)}, path, {"mecsim": "[" * 99999}),
        "has no header of a mecsim policy",
    ),
    "large": (_large, "is larger than 1 GiB"),
    "missing": (lambda *_: None, "cannot be read: No such file"),
    "folder": (lambda path, _: path.mkdir(), "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_broken(kind: str, policy: Policy, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.safetensors", tmp_path / "q.safetensors"
    write_policy(whole, policy)
    make, problem = BROKEN[kind]
    make(path, whole.read_bytes())
    assert problem in fault_of(path)


def test_a_policy_on_another_scenario_of_the_same_shape_works_with_a_warning(
    policy: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "q.safetensors"
    write_policy(path, policy)
    run_scenario(obvious(), "mtl-a3c", {"policy": str(path)})
    assert not caplog.records
    busier = obvious(arrivals={"process": "slotted", "rate": 5})
    assert run_scenario(busier, "mtl-a3c", {"policy": str(path)}).summary.completed == 60
    assert "was trained on another scenario (scenario)" in caplog.text
    assert "has blocks: 2. Expected: 3" in fault_of(path, obvious(dnn={"blocks": 3}))
    assert "has scheduler: mtl-a3c. Expected: a3c" in fault_of(path, name="a3c")


def test_the_policy_for_a_scenario_is_found(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match=r"no policy for this scenario\. Try: `mecsim train"):
        run_scenario(obvious(), "mtl-a3c")
    folder = tmp_path / "results" / "training"
    write_policy(folder / "b.safetensors", policy)
    (folder / "a.safetensors").write_bytes(b"broken")
    assert run_scenario(obvious(), "mtl-a3c").summary.completed == 24
