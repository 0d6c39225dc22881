"""Custom features: checked, the same in runs, replicas and environments, and bound to a policy."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim import CustomFeatures, Observation, ObservationBatch, Scenario, Scheduler, load, run
from mecsim.env import PartitionEnv, PartitionVectorEnv
from mecsim.errors import InputError, PolicyError, SchedulerError
from mecsim.learning import TrainingRequest
from mecsim.learning.policy_file import read_policy
from mecsim.learning.training import train
from mecsim.model.model import resolve
from mecsim.scheduler.custom_features import AddedFeatures
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replicas import Replicas
from mecsim.study import jobs
from mecsim.support.arrays import Floats
from tests.helpers.builders import chain, scenario
from tests.helpers.cli import answer, mecsim

DRAWN: dict[str, Any] = {
    "slots": 6,
    "devices": 3,
    "dnn": chain([1, 2], [1, 1]),
    "arrivals": {"process": "poisson", "rate": 2},
    "size_factor": {"distribution": "exponential", "per": "task"},
    "radio": {"rate": {"uniform": [1.0, 3.0], "redraw": "slot"}},
    "device": {"battery": 20.0},
}
TWO: list[dict[str, Any]] = [
    {"name": "one", "dnn": DRAWN["dnn"], "arrivals": DRAWN["arrivals"]},
    {"name": "other", "dnn": chain([1], [1]), "arrivals": DRAWN["arrivals"]},
]
OF_CLASSES = {k: v for k, v in DRAWN.items() if k not in ("dnn", "arrivals", "size_factor")}


class Everything(CustomFeatures):
    """All fields of a batch, so that each is compared between runs and replicas."""

    def __init__(self, spec: SchedulerSpec) -> None:
        super().__init__(spec)
        wide = 5 + len(feature_names(spec)) + 5 * spec.devices + spec.servers + len(spec.links)
        self.names = [f"own{n}" for n in range(wide)]

    def compute(self, batch: ObservationBatch) -> Floats:
        single = (batch.epoch, batch.time_s, batch.tasks, batch.class_number, batch.device)
        parts = (batch.server_backlog_s, batch.device_backlog_s, batch.uplink_backlog_s)
        rest = (batch.downlink_backlog_s, batch.link_backlog_s)
        state = np.concatenate([*parts, *rest], axis=1)
        assert np.array_equal(state, batch.backlog_s)
        assert not batch.rate_bps.flags.writeable
        return np.concatenate(
            [np.stack(single, axis=1), batch.features, batch.rate_bps, batch.battery_j, state],
            axis=1,
        )


class Watching(Scheduler):
    """All at server 1; keeps the custom features of every epoch."""

    def __init__(self, spec: SchedulerSpec, *, seen: Any) -> None:
        super().__init__(spec)
        self.seen, self.added = seen, AddedFeatures(Everything, spec)

    def decide(self, observation: Observation) -> list[int]:
        self.seen.append(self.added.one(observation))
        return [1] * observation.spec.blocks


def specs() -> dict[str, Scenario]:
    base = scenario(**DRAWN)
    kept = base.model_dump(mode="json")
    for name in ("dnn", "arrivals", "size_factor"):
        del kept[name]
    return {
        "per_slot": base,
        "per_task": scenario(**DRAWN, decision_epoch="per_task"),
        "classes": Scenario.model_validate(kept | {"tasks": TWO}),
        "classes per task": Scenario.model_validate(
            kept | {"tasks": TWO, "decision_epoch": "per_task"}
        ),
    }


@pytest.mark.parametrize("name", ["per_slot", "per_task", "classes", "classes per task"])
def test_replicas_give_the_features_of_runs(name: str) -> None:
    """Bit for bit, with the base features before them."""
    spec = specs()[name]
    seen: dict[int, list[Floats]] = {seed: [] for seed in (3, 4, 5)}
    for seed, rows in seen.items():
        run(spec, Watching, {"seen": rows}, seed=seed, kernel="compiled")
    replicas = Replicas(spec, 3, features=Everything)
    own = len(AddedFeatures(Everything, SchedulerSpec.of(resolve(spec))).names)
    assert replicas.feature_names[-1] == f"own{own - 1}"
    features, found = replicas.reset(list(seen)), dict[int, list[Floats]]()
    actions = np.ones((3, replicas.blocks), dtype=np.int64)
    while not replicas.ended.all():
        for row, seed in enumerate(seen):
            if not replicas.ended[row]:
                found.setdefault(seed, []).append(features[row])
        features, _, ended = replicas.step(actions)
        assert not features[ended, -own:].any()  # nothing is computed after the end
    for seed, rows in seen.items():
        assert len(rows) == len(found[seed]) > 4
        for one, other in zip(rows, found[seed], strict=True):
            assert np.array_equal(one, other[-own:])
            assert np.array_equal(other[:-own], one[5 : 5 + len(other) - own])


def test_environments_have_them_unscaled() -> None:
    spec = scenario(**DRAWN)
    env = PartitionEnv(spec, features=Everything)
    plain = PartitionEnv(spec)
    one, other = env.reset(seed=2)[0], plain.reset(seed=2)[0]
    known = len(other)
    assert np.array_equal(one[:known], other)
    assert env.observation_space.contains(one)
    assert env.observation_space.low[known] < 0  # type: ignore[attr-defined]
    assert env.feature_names[:known] == plain.feature_names
    assert (env.scale[known:] == 1).all()
    assert one[known + 2] == 2.0  # `tasks`, which the known features scale
    for copied in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        stepped, expected = (
            copied.step(np.array([1, 1]))[0],
            copy.deepcopy(env).step(np.array([1, 1]))[0],
        )
        assert np.array_equal(stepped, expected)
        assert stepped[known] == 1  # the epoch


def test_a_copy_continues_to_count_epochs() -> None:
    envs = PartitionVectorEnv(scenario(**DRAWN), 2, features=Everything)
    envs.reset(seed=1)
    envs.step(np.ones((2, 2), dtype=np.int64))
    again = copy.deepcopy(envs)
    actions = np.zeros((2, 2), dtype=np.int64)
    assert np.array_equal(again.step(actions)[0], envs.step(actions)[0])


# ---------------------------------------------------------------- faults


class Wrong(CustomFeatures):
    """Returns what a test sets."""

    names = ("a", "b")
    returned: Any = None

    def compute(self, batch: ObservationBatch) -> Floats:
        found: Floats = self.returned(len(batch))
        return found


def raising(count: int) -> Any:
    raise ValueError(f"{count} rows")


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (lambda n: np.zeros((n, 3)), r"returned an array of float64 with the shape \(2, 3\); allo"),
        (np.zeros, r"with the shape \(2,\); allowed: .* shape \(2, 2\), a row for"),
        (lambda n: np.full((n, 2), "x"), r"returned an array of <U1 with the shape \(2, 2\)"),
        (lambda n: np.zeros((n, 2), complex), r"returned an array of complex128"),
        (lambda _: None, r"returned a NoneType; allowed: an array of numbers"),
        (
            lambda n: [[0.0, np.nan]] * n,
            r"returned nan for 'b'; allowed: finite numbers",
        ),
        (lambda n: np.full((n, 2), 1e39), r"returned 1e\+39 for 'a'; allowed: finite numbers, up"),
        (raising, r"ValueError: 2 rows \(.*test_custom_features\.py, line \d+\)"),
        (
            lambda n: np.full((n, 2), n),
            r"returned 2 for 'a' in a batch of 2 and 1 alone; allowed: rows that depend on nothing",
        ),
    ],
)
def test_wrong_values(returned: Any, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wrong, "returned", staticmethod(returned))
    replicas = Replicas(scenario(**DRAWN), 2, features=Wrong)
    with pytest.raises(SchedulerError, match=rf"^features 'Wrong': compute, epoch 0 at.*{problem}"):
        replicas.reset([1, 2])


def test_the_epoch_of_a_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = Replicas(scenario(**DRAWN), 1, features=Wrong)
    monkeypatch.setattr(Wrong, "returned", staticmethod(lambda n: np.zeros((n, 2))))
    replicas.reset([1])
    replicas.step(np.ones((1, 2), dtype=np.int64))
    monkeypatch.setattr(Wrong, "returned", staticmethod(lambda n: np.full((n, 2), np.inf)))
    with pytest.raises(SchedulerError, match=r"compute, epoch 2 at 2 s: returned inf for 'a'"):
        replicas.step(np.ones((1, 2), dtype=np.int64))


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ((), r"names: \(\); allowed: a list with a text for each feature"),
        ("text", r"names: 'text'; allowed: a list"),
        (["a", 3], r"names: \['a', 3\]; allowed: a list"),
        (["a", " "], r"names: \['a', ' '\]; allowed: a list"),
        (["a", "a"], r"names: 'a' is listed twice; allowed: another name"),
        (["tasks"], r"names: 'tasks' is a feature of every observation; allowed: another name"),
        (None, r"names: None; allowed: a list"),
    ],
)
def test_wrong_names(names: Any, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wrong, "names", names)
    with pytest.raises(SchedulerError, match=rf"^features 'Wrong': {problem}"):
        AddedFeatures(Wrong, SchedulerSpec.of(resolve(scenario())))


FILE = """
from mecsim import CustomFeatures
import helper

class Phase(CustomFeatures):
    names = ("even",)
    def compute(self, batch):
        return helper.even(batch.time_s)[:, None]

class Other(Phase):
    names = ("odd",)

class Broken(Phase):
    def __init__(self, spec):
        raise RuntimeError("no spec")

class Incomplete(CustomFeatures):
    names = ("x",)
"""
HELPER = "def even(time_s):\n    return (time_s % 2 < 1)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "phase.py").write_text(FILE, encoding="utf-8")
    (tmp_path / "helper.py").write_text(HELPER, encoding="utf-8")
    (tmp_path / "s.yaml").write_text(THROTTLED, encoding="utf-8")
    return tmp_path


THROTTLED = """
slots: 40
arrivals: {process: slotted, rate: 1}
dnn: {model: {flops: [1.0e+9], parameter_bytes: [1], input_bits: [8], output_bits: 8}}
devices: 1
device: {capacity: 1 GHz}
edge_servers:
  - {name: a, capacity: {steps: [[0 s, 10 GHz], [1 s, 1 GHz]], period: 2 s}}
  - {name: b, capacity: {steps: [[0 s, 1 GHz], [1 s, 10 GHz]], period: 2 s}}
radio: {rate: 100 Mbit/s}
wired: {rate: 1 Gbit/s}
"""
"""A task takes 0.1 or 1 s, in turn, at each server, and 1 s at the device: at least 4 s in all, and
22 s under each policy that does not know the slot."""


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ("phase.py", r"features 'phase\.py': expected path/file\.py:Class"),
        ("phase:Phase", r"features 'phase:Phase': expected path/file\.py:Class"),
        ("nosuch.py:Phase", r"features 'nosuch\.py:Phase': there is no file nosuch\.py"),
        ("phase.py:Phas", r"has no mecsim\.CustomFeatures called 'Phas'; it has: Phase, Other, Br"),
        ("phase.py:helper", r"has no mecsim\.CustomFeatures called 'helper'"),
        ("phase.py:Broken", r"cannot be made: RuntimeError: no spec \(phase\.py, line 15\)"),
        ("phase.py:Incomplete", r"has no method compute\(batch\)"),
        ("bad.py:X", r"bad\.py cannot be imported: SyntaxError"),
    ],
)
def test_wrong_files(folder: Path, features: str, problem: str) -> None:
    (folder / "bad.py").write_text("def\n", encoding="utf-8")
    options = ("--option", "policy=untrained", "--option", f"features={features}")
    for command in (
        ("run", "s.yaml", "--scheduler", "mtl-a3c", *options, "--no-trace"),
        ("train", "s.yaml", *options[2:], "--serial", "--out", "p.safetensors"),
    ):
        done = mecsim(*command, cwd=folder, code=2)
        (line,) = done.stderr.splitlines()
        with pytest.raises(InputError, match=problem):
            raise InputError(line)
    assert not list(folder.glob("p.*"))


# ---------------------------------------------------------------- policies

TRAIN = ("train", "s.yaml", "--serial", "--episodes", "2", "--out", "p.safetensors", "--quiet")
RUN = ("run", "s.yaml", "--scheduler", "mtl-a3c", "--no-trace", "--kernel", "compiled")
POLICY = ("--option", "policy=p.safetensors")
OWN = ("--option", "features=phase.py:Phase")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy of a short training."""
    pytest.importorskip("torch")
    found = tmp_path_factory.mktemp("trained")
    for name, text in (("phase.py", FILE), ("helper.py", HELPER), ("s.yaml", THROTTLED)):
        (found / name).write_text(text, encoding="utf-8")
    mecsim(*TRAIN, *OWN, cwd=found)
    return found


def test_a_policy_holds_its_features(trained: Path) -> None:
    header = read_policy(trained / "p.safetensors").header
    assert header.custom_features is not None
    assert header.custom_features.source == "phase.py:Phase"
    assert header.custom_features.names == ("even",)
    assert header.features[-1] == "even"
    assert "-" in f"{answer(*RUN, *POLICY, *OWN, cwd=trained)['reward']}"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), r"was trained with custom features \(even\)\. Try: --option features=phase\.py:Phase"),
        (
            ("--option", "features=phase.py:Other"),
            r"was trained with custom features even, not odd of phase\.py:Other\. Try: --option fe",
        ),
    ],
)
def test_a_policy_is_refused_with_other_features(
    trained: Path, options: tuple[str, ...], problem: str
) -> None:
    done = mecsim(*RUN, *POLICY, *options, cwd=trained, code=2)
    with pytest.raises(PolicyError, match=problem):
        raise PolicyError(done.stderr)


@pytest.mark.parametrize("file", ["phase.py", "helper.py"])
def test_a_policy_is_refused_after_a_change_of_the_source(trained: Path, file: str) -> None:
    """Also of a file that it imports."""
    before = (trained / file).read_text("utf-8")
    (trained / file).write_text(before + "# changed\n", encoding="utf-8")
    try:
        done = mecsim(*RUN, *POLICY, *OWN, cwd=trained, code=2)
        assert "was trained with a source of features with the SHA-256 " in done.stderr
        resumed = mecsim(*TRAIN, *OWN, "--resume", "--episodes", "4", cwd=trained, code=2)
        assert "features_sha256 was" in resumed.stderr
    finally:
        (trained / file).write_text(before, encoding="utf-8")


def test_a_policy_without_features_is_refused_with_some(folder: Path) -> None:
    pytest.importorskip("torch")
    mecsim(*TRAIN, cwd=folder)
    assert read_policy(folder / "p.safetensors").header.custom_features is None
    assert "features" not in read_policy(folder / "p.safetensors").header.settings
    done = mecsim(*RUN, *POLICY, *OWN, cwd=folder, code=2)
    assert "has no custom features. Try: omit the option features" in done.stderr


def test_the_default_policy_is_not_one_with_features(trained: Path) -> None:
    (trained / "results" / "policies").mkdir(parents=True, exist_ok=True)
    data = (trained / "p.safetensors").read_bytes()
    (trained / "results" / "policies" / "p.safetensors").write_bytes(data)
    found = answer("run", "s.yaml", "--no-trace", "--kernel", "compiled", cwd=trained)
    assert found["scheduler"] == "greedy"
    found = answer(*RUN, *OWN, cwd=trained)  # with the features it is found
    assert found["scheduler"] == "mtl-a3c"


@pytest.mark.slow  # starts processes
def test_a_comparison_passes_them_to_training_and_runs(folder: Path) -> None:
    pytest.importorskip("torch")
    own = ("--option", "mtl-a3c.features=phase.py:Phase")
    more = ("--seeds", "1", "--episodes", "2", "--no-figures")
    schedulers = ("--schedulers", "greedy,mtl-a3c")
    mecsim("compare", "s.yaml", *schedulers, *own, *more, "--out", "c", cwd=folder)
    found = json.loads((folder / "c" / "provenance.json").read_text("utf-8"))
    assert {each["file"] for each in found["files"]} == {"phase.py", "helper.py"}


def test_a_job_takes_their_source_to_another_machine(folder: Path) -> None:
    """With the file that they import; the places of this machine are gone."""
    pytest.importorskip("torch")
    options = {"features": f"{folder / 'phase.py'}:Phase"}
    length = jobs.Training(episodes=2)
    job = jobs.make_job("train", load(folder / "s.yaml"), "dqn", options, 1, training=length)
    files = jobs.contents(job)
    assert {Path(name).name for name in files} == {"phase.py", "helper.py"}
    for name in files:
        Path(name).unlink()
    (outcome,) = jobs.execute_apart([job], None, files)
    assert outcome.error == ""
    assert outcome.policy is not None


QUICK: dict[str, tuple[int, dict[str, Any]]] = {
    "mtl-a3c": (200, {"actor_learning_rate": 0.005, "candidates": 4}),
    "a3c": (400, {"actor_learning_rate": 0.01, "candidates": 4}),
    "dqn": (60, {"learning_rate": 0.003, "candidates": 4, "n_envs": 1, "batch_size": 32}),
}
"""Episodes and options with which each learner learns the scenario in seconds."""


@pytest.mark.parametrize(
    "learner",
    ["mtl-a3c", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a3c", "dqn"))],
)
def test_a_decisive_feature_is_learned(learner: str, folder: Path) -> None:
    """The best policy with it needs 4 s; without it none needs less than 22 s."""
    pytest.importorskip("torch")
    rewards, (episodes, options) = {}, QUICK[learner]
    for features in ("", f"{folder / 'phase.py'}:Phase"):
        request = TrainingRequest(
            scenario=load(folder / "s.yaml"),
            scheduler=learner,
            out=folder / "p.safetensors",
            episodes=episodes,
            options=options | {"features": features},
            serial=True,
        )
        train(request)
        own = {"policy": str(request.out), "features": features}
        done = run(request.scenario, learner, own, seed=1, kernel="compiled")
        rewards[bool(features)] = done.summary.reward
    assert rewards[True] == pytest.approx(-4.0, abs=1e-3)
    assert rewards[False] <= -22.0


def test_whole_runs_at_once_give_way_to_steps_with_a_log_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("torch")
    request = TrainingRequest(
        scenario=load(folder / "s.yaml"),
        scheduler="a3c",
        out=folder / "p.safetensors",
        episodes=2,
        preset="paper",
        serial=True,
    )
    train(request)
    assert not caplog.records
    train(replace(request, options={"features": f"{folder / 'phase.py'}:Phase"}))
    (record,) = caplog.records
    assert "phase.py:Phase: steps are simulated one by one" in record.getMessage()


def test_replicas_cannot_look_ahead_with_custom_features() -> None:
    replicas = Replicas(scenario(**DRAWN), 1, features=Everything)
    replicas.reset([1])
    with pytest.raises(ValueError, match="custom features may depend on the queues"):
        replicas.upcoming()


def test_a_fault_in_a_training_ends_it_with_one_line(folder: Path) -> None:
    pytest.importorskip("torch")
    (folder / "helper.py").write_text("def even(t):\n    return t / (t - 3)\n", encoding="utf-8")
    done = mecsim(*TRAIN, *OWN, cwd=folder, code=2)
    (line,) = done.stderr.splitlines()
    assert "features 'phase.py:Phase': compute, epoch 3 at 3 s: " in line
