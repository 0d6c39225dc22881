"""Gymnasium environments: equal to runs, and in accordance with Gymnasium's contract."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common import env_checker
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from mecsim import Observation, Scenario, Scheduler, load, run
from mecsim.env import ID, Observations, PartitionEnv, PartitionVectorEnv
from mecsim.errors import InputError, PlacementError, ScenarioError
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.simulation import replicas
from mecsim.support.arrays import Floats, Ints
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.schedulers import SCRIPTED
from tests.helpers.shipped import SIMPLE

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "scenarios" / "vgg16_loaded.yaml"

SHORT = load(DEFAULT, ["slots=5"])
CASES = {
    "slots": SHORT,
    "tasks": load(
        DEFAULT, ["slots=3", "decision_epoch=per_task", "arrivals={process: poisson, rate: 9}"]
    ),
    "many chunks": load(DEFAULT, ["slots=130", "arrivals.rate=3"]),
    "batteries": load(ROOT / "scenarios" / "small_battery.yaml", ["slots=40"]),
    "fading": load(DEFAULT, ["slots=4", "radio.rate=", "radio.fading=rayleigh"]),
    "bursts": load(ROOT / "scenarios" / "bursty.yaml", ["slots=5"]),
    "few tasks": load(DEFAULT, ["slots=9", "arrivals.rate=0.5"]),
}
RARE = load(
    DEFAULT, ["slots=3", "decision_epoch=per_task", "arrivals={process: poisson, rate: 0.5}"]
)
cases = pytest.mark.parametrize("spec", CASES.values(), ids=CASES)
ALIKE = ("fading", "bursts", "few tasks")
"""Cases whose steps differ from those of others in numbers only: they are slow tests."""
all_cases = pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, id=name, marks=pytest.mark.slow if name in ALIKE else ())
        for name, spec in {**CASES, "rare tasks": RARE}.items()
    ],
)


def placements(spec: Scenario, count: int) -> Ints:
    model = resolve(spec)
    return np.random.default_rng(7).integers(model.servers + 1, size=(count, model.blocks))


def seen_by_a_run(
    spec: Scenario, seed: int, env: PartitionEnv
) -> tuple[Observations, Floats, Floats]:
    """Observations, rewards and times in the trace of a run, the first of them scaled by hand."""
    script = placements(spec, 50).tolist()
    trace = simulate(spec, SCRIPTED, {"placements": script}, seed).trace
    raw = trace["decisions/observation"]
    battery = [name.endswith("battery_J") for name in env.feature_names]
    raw = np.where(np.isinf(raw) & battery, 1.0, raw)
    scaled = (raw / env.scale).astype(np.float32)
    return scaled, trace["decisions/reward"], trace["decisions/time_s"]


# ---------------------------------------------------------------- results


@cases
def test_an_episode_is_a_run(spec: Scenario) -> None:
    env = PartitionEnv(spec)
    for seed in (3, 0):
        observations, rewards, times_s = seen_by_a_run(spec, seed, env)
        script = placements(spec, 50)
        observation, info = env.reset(seed=seed)
        for epoch, (expected, reward) in enumerate(zip(observations, rewards, strict=True)):
            expected_info = {"epoch": epoch, "time_s": times_s[epoch], "workload_seed": seed}
            assert info == expected_info | {"skipped_seeds": 0}
            assert observation.dtype == expected.dtype == np.float32
            np.testing.assert_array_equal(observation, expected)
            action = script[epoch % len(script)]
            observation, got, terminated, truncated, info = env.step(action)
            assert got == reward
            assert truncated is False
            assert terminated is (epoch == len(rewards) - 1)
        assert info["epoch"] == len(rewards) > 3
        assert info["time_s"] == np.inf
        assert not observation.any()


NOMINAL = load(DEFAULT, ["slots=4", "radio.rate=", "radio.fading=none"])
"""Its scale of rates depends on positions of devices, and those on the seed."""


@pytest.mark.parametrize("spec", [*CASES.values(), NOMINAL], ids=[*CASES, "nominal rates"])
def test_a_scheduler_is_given_the_vectors_of_the_environment(spec: Scenario) -> None:
    env = PartitionEnv(spec)
    seen: list[Observations] = []

    class Recorder(Scheduler):
        def decide(self, observation: Observation) -> Ints:
            seen.append(observation.scaled_features())
            return script[(len(seen) - 1) % len(script)]

    script = placements(spec, 50)
    run(spec, Recorder, seed=3)
    observation, _ = env.reset(seed=3)
    for epoch, vector in enumerate(seen):
        assert vector.dtype == observation.dtype == np.float32
        assert vector in env.observation_space
        assert vector.tobytes() == observation.tobytes()
        observation, _, ended, _, _ = env.step(script[epoch % len(script)])
    assert ended


def test_recorded_tasks_have_no_scale(tmp_path: Path) -> None:
    trace = run(SHORT, "greedy", out=tmp_path / "t.h5").trace
    recorded = ["slots=5", f"arrivals={{process: trace, file: {trace}}}"]

    class Asking(Scheduler):
        def decide(self, observation: Observation) -> list[int]:
            return [int(observation.scaled_features().sum() < 0)] * 6

    with pytest.raises(InputError, match=r"arrivals\.process: trace has no mean rate, .* Try: "):
        run(load(DEFAULT, recorded), Asking)
    per_task = load(DEFAULT, [*recorded, "decision_epoch=per_task"])
    assert run(per_task, Asking).summary.completed > 0


def test_the_comparison_with_a_run_can_fail() -> None:
    env = PartitionEnv(SHORT)
    observations, rewards, _ = seen_by_a_run(SHORT, 3, env)
    observation, _ = env.reset(seed=4)
    assert not np.array_equal(observation, observations[0])
    assert env.step(placements(SHORT, 50)[0])[1] != rewards[0]


@pytest.mark.quick("slots", "tasks", "batteries")
@all_cases
def test_many_are_as_many_single_ones(spec: Scenario) -> None:
    """Over several episodes, which end at different times where epochs are tasks."""
    count, steps = 5, max(spec.slots + 5, 40)
    sync: Any = SyncVectorEnv([lambda: PartitionEnv(spec)] * count)
    many: Any = PartitionVectorEnv(spec, count, threads=2)
    assert sync.metadata["autoreset_mode"] == many.metadata["autoreset_mode"]
    for name in ("observation_space", "action_space"):
        for prefix in ("", "single_"):
            assert getattr(sync, prefix + name) == getattr(many, prefix + name)
    script = placements(spec, count * steps).reshape(steps, count, -1)
    for seed in (8, None, [4, None, 2, 2, 0]):
        assert_same(sync.reset(seed=seed), many.reset(seed=seed))
        ends = 0
        for actions in script:
            one, other = sync.step(actions), many.step(actions)
            assert_same(one, other)
            ends += one[2].sum()
        assert ends >= count
    many.close()


def assert_same(one: Any, other: Any) -> None:
    """Arrays, or tuples and dictionaries of them, are equal."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        assert_same(tuple(one.values()), tuple(other[name] for name in one))
    elif isinstance(one, tuple):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        np.testing.assert_array_equal(one, other)
        assert one.dtype.kind.replace("u", "i") == other.dtype.kind.replace("u", "i")


def test_the_comparison_of_many_can_fail() -> None:
    many = PartitionVectorEnv(SHORT, 2)
    one, other = many.reset(seed=3), many.reset(seed=4)
    with pytest.raises(AssertionError):
        assert_same(one, other)


def test_replicas_end_at_different_times_and_reset_themselves() -> None:
    env = PartitionVectorEnv(CASES["tasks"], 6)
    env.reset(seed=0)
    ended_before = np.zeros(6, dtype=bool)
    lengths = set()
    for _ in range(80):
        _, rewards, ended, truncated, info = env.step(env.action_space.sample())
        assert not truncated.any()
        assert (info["epoch"][ended_before] == 0).all()
        assert (rewards[ended_before] == 0).all()
        assert not ended[ended_before].any()
        lengths |= set(info["epoch"][ended].tolist())
        ended_before = ended
    assert len(lengths) > 3


# ---------------------------------------------------------------- observations


@pytest.mark.parametrize("path", SIMPLE, ids=lambda path: path.stem)
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_observations_are_finite_and_of_the_order_of_one(path: Path, epoch: str) -> None:
    few = ["devices=40", "edge_servers=9"] if path.stem in ("city", "metro") else []
    rate = ["arrivals={process: poisson, rate: 30}"] if few else []
    env = PartitionEnv(path, overrides=["slots=3", f"decision_epoch={epoch}", *few, *rate])
    observation, _ = env.reset(seed=1)
    assert observation in env.observation_space
    assert observation.max() < 5
    names = [n for n in env.feature_names if "backlog" not in n and "mean_rate" not in n]
    seen = dict(zip(env.feature_names, observation.tolist(), strict=True))
    assert all(seen[name] > 0 for name in names if name != "tasks")
    assert env.step(env.action_space.sample())[0] in env.observation_space


def test_scales_of_a_small_scenario() -> None:
    spec = scenario(
        slots=9,
        dnn=chain([3, 6], [8, 2]),
        arrivals={"process": "mmpp", "rates": [2, 8], "mean_dwell": [1, 2]},
        device={"battery": 50.0},
        radio={"rate": {"uniform": [2.0, 4.0]}},
    )
    env = PartitionEnv(spec)
    scale = dict(zip(env.feature_names, env.scale.tolist(), strict=True))
    assert scale["tasks"] == 6
    assert scale["size_factor"] == scale["es2.cpu_backlog_s"] == 1
    assert scale["block0.cycles"] == scale["block1.cycles"] == 6
    assert scale["block1.parameter_bytes"] == 4
    assert scale["block1.input_bits"] == 8
    assert scale["es1.mean_rate_bps"] == 3
    assert scale["mean_battery_J"] == 50
    observation, _ = env.reset(seed=0)
    raw = dict(zip(env.feature_names, (observation * env.scale).tolist(), strict=True))
    assert raw["block0.cycles"] == 3
    assert raw["mean_battery_J"] == 50
    task = PartitionEnv(spec, overrides=["decision_epoch=per_task"])
    of_task = dict(zip(task.feature_names, task.scale.tolist(), strict=True))
    assert of_task["tasks"] == 1
    assert of_task["device.serving_server"] == 2
    assert of_task["device.battery_J"] == 50


def test_a_scale_of_zero_and_a_given_rate() -> None:
    env = PartitionEnv(scenario(slots=2, dnn=chain([0], [0]), radio={"rate": 7.0}))
    scale = dict(zip(env.feature_names, env.scale.tolist(), strict=True))
    assert scale["block0.cycles"] == scale["block0.input_bits"] == 1
    assert scale["es1.mean_rate_bps"] == 7
    observation, _ = env.reset(seed=0)
    assert np.isfinite(observation).all()


# ---------------------------------------------------------------- seeds and options


def test_every_episode_has_another_workload_and_all_follow_from_the_seed() -> None:
    def episodes(env: PartitionEnv) -> list[int]:
        seeds = [env.reset(seed=5)[1]["workload_seed"]]
        return seeds + [env.reset()[1]["workload_seed"] for _ in range(3)]

    first = episodes(PartitionEnv(SHORT))
    assert first == episodes(PartitionEnv(SHORT))
    assert first[0] == 5
    assert len(set(first)) == 4
    unseeded = [PartitionEnv(SHORT).reset()[1]["workload_seed"] for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_the_workload_can_be_chosen() -> None:
    env = PartitionEnv(SHORT)
    drawn, info = env.reset()
    asked, again = env.reset(options={"workload_seed": info["workload_seed"]})
    np.testing.assert_array_equal(drawn, asked)
    assert again == info
    many = PartitionVectorEnv(SHORT, 3)
    seeds = many.reset(seed=1, options={"workload_seed": 6})[1]["workload_seed"]
    assert seeds.tolist() == [6, 6, 6]
    seeds = many.reset(options={"workload_seed": [6, 2, 9]})[1]["workload_seed"]
    assert seeds.tolist() == [6, 2, 9]


@pytest.mark.parametrize("make", [PartitionEnv, PartitionVectorEnv])
def test_wrong_options_and_seeds(make: Any) -> None:
    env = make(SHORT)
    with pytest.raises(InputError, match="'wokload' is not a known option; allowed: workload_seed"):
        env.reset(options={"wokload": 3})
    with pytest.raises(ScenarioError, match="seed: -1 should be from 0 to"):
        env.reset(options={"workload_seed": -1})


def test_wrong_numbers() -> None:
    with pytest.raises(InputError, match="num_envs: 0; allowed: at least 1"):
        PartitionVectorEnv(SHORT, 0)
    with pytest.raises(InputError, match="threads: 0; allowed: at least 1"):
        PartitionVectorEnv(SHORT, 2, threads=0)
    many = PartitionVectorEnv(SHORT, 3)
    with pytest.raises(InputError, match="seed: has 2 entries; allowed: 3"):
        many.reset(seed=[1, 2])
    with pytest.raises(InputError, match="workload_seed: has 1 entries; allowed: 3"):
        many.reset(options={"workload_seed": [1]})


# ---------------------------------------------------------------- steps that cannot be


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        ([0, 1, 2, 3, 4, 5], "puts block 5 at 5; allowed: 0 .the device. to 4"),
        ([0, -1, 2, 3, 4, 4], "puts block 1 at -1"),
        ([0, 1], r"shape \(1, 2\); allowed: \(1, 6\)"),
        ([0.0] * 6, "holds float64; allowed: integers"),
        (None, "holds object; allowed: integers"),
    ],
)
def test_an_invalid_action_is_an_error_and_changes_nothing(action: Any, problem: str) -> None:
    env, spared = PartitionEnv(SHORT), PartitionEnv(SHORT)
    for each in (env, spared):
        each.reset(seed=2)
    good = placements(SHORT, 1)[0]
    with pytest.raises(PlacementError, match=problem):
        env.step(action)
    np.testing.assert_array_equal(env.step(good)[0], spared.step(good)[0])


def test_a_step_needs_an_episode() -> None:
    env, many = PartitionEnv(SHORT), PartitionVectorEnv(SHORT, 2)
    good = placements(SHORT, 2)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(good[0])
    with pytest.raises(ResetNeeded, match="call reset"):
        many.step(good)
    env.reset(seed=0)
    while not env.step(good[0])[2]:
        pass
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(good[0])
    env.reset()
    env.step(good[0])


def test_seeds_without_tasks_are_skipped_and_counted() -> None:
    empty = next(seed for seed in range(99) if not released(RARE, seed))
    found = next(seed for seed in range(empty, 99) if released(RARE, seed))
    env, many = PartitionEnv(RARE), PartitionVectorEnv(RARE, 2)
    observation, info = env.reset(seed=empty)
    assert (info["workload_seed"], info["skipped_seeds"]) == (found, found - empty)
    direct, info = env.reset(options={"workload_seed": found})
    assert (info["workload_seed"], info["skipped_seeds"]) == (found, 0)
    np.testing.assert_array_equal(observation, direct)
    both, infos = many.reset(options={"workload_seed": [found, empty]})
    np.testing.assert_array_equal(both, [direct, direct])
    assert infos["workload_seed"].tolist() == [found, found]
    assert infos["skipped_seeds"].tolist() == [0, found - empty]


def test_a_scenario_without_tasks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "SEED_TRIALS", 20)
    for make in (PartitionEnv, PartitionVectorEnv):
        env: Any = make(RARE, overrides=["arrivals.rate=0"])
        with pytest.raises(ScenarioError, match="arrivals: no task is released under seeds 0 to"):
            env.reset(seed=0)


def released(spec: Scenario, seed: int) -> int:
    return sum(len(slot.tasks) for slot in workload.slots(resolve(spec, seed)))


# ---------------------------------------------------------------- copies

COPIED = ("slots", "tasks", "batteries")
"""Cases of which copies are stepped in each run of the tests; those of the others are slow."""


def copied(env: Any) -> list[Any]:
    return [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]


@pytest.mark.quick("tasks")
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, id=name, marks=() if name in COPIED else pytest.mark.slow)
        for name, spec in {**CASES, "rare tasks": RARE}.items()
    ],
)
def test_a_copy_steps_exactly_like_the_original(spec: Scenario) -> None:
    """Before the first reset, in the middle of an episode, at its end, and in the next one."""
    script = placements(spec, 50)
    env: Any = PartitionEnv(spec)
    many: Any = PartitionVectorEnv(spec, 3, threads=2)
    for other in copied(env):
        env.reset(seed=3)
        assert_same(arrays(other.reset(seed=3)), arrays(env.reset(seed=3)))
    many.reset(seed=3)
    for epoch, action in enumerate(script):
        if epoch in (0, 2, 17):
            for other in copied(env):
                follow(copy.deepcopy(env), other, script)
            for other in copied(many):
                follow_many(copy.deepcopy(many), other, script)
        many.step(np.tile(action, (3, 1)))
        if env.step(action)[2]:
            with pytest.raises(ResetNeeded):
                copy.deepcopy(env).step(action)
            env.reset()


def follow(one: Any, other: Any, script: Ints) -> None:
    """Step to the end of the episode and through the next one."""
    for _ in range(2):
        terminated = False
        while not terminated:
            expected = one.step(script[0])
            assert_same(arrays(expected), arrays(other.step(script[0])))
            terminated = expected[2]
        assert_same(arrays(one.reset()), arrays(other.reset()))


def follow_many(one: Any, other: Any, script: Ints) -> None:
    for action in script:
        actions = np.stack([action, script[0], script[1]])
        assert_same(one.step(actions), other.step(actions))
    one.close()
    other.close()


def arrays(result: Any) -> Any:
    """The results of a single environment, as arrays."""
    values = [list(part.values()) if isinstance(part, dict) else part for part in result]
    return tuple(np.asarray(value) for value in values)


def test_a_copy_has_the_attributes_of_the_original() -> None:
    env = PartitionEnv(SHORT)
    env.action_space.seed(4)
    for other in copied(env):
        assert (other.scenario, other.feature_names) == (env.scenario, env.feature_names)
        np.testing.assert_array_equal(other.scale, env.scale)
        assert not other.scale.flags.writeable
        np.testing.assert_array_equal(
            copy.deepcopy(env).action_space.sample(), other.action_space.sample()
        )


@pytest.mark.slow
def test_environments_step_in_other_processes() -> None:
    """Environments in the middle of an episode are pickled into the workers."""
    envs, steps = [PartitionEnv(CASES["tasks"]) for _ in range(2)], placements(SHORT, 30)
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        env.step(steps[0])
    sync: Any = SyncVectorEnv([partial(copy.deepcopy, env) for env in envs])
    remote: Any = AsyncVectorEnv([partial(copy.deepcopy, env) for env in envs], context="spawn")
    try:
        assert_same(sync.reset(), remote.reset())
        for action in steps:
            actions = np.tile(action, (2, 1))
            assert_same(sync.step(actions), remote.step(actions))
    finally:
        remote.close()


# ---------------------------------------------------------------- Gymnasium's contract


@pytest.mark.parametrize("name", ["slots", "tasks", "batteries"])
def test_the_checker_of_gymnasium_is_content(name: str) -> None:
    check_env(gymnasium.make(ID, scenario=CASES[name]).unwrapped)


def test_made_by_its_name() -> None:
    """In a fresh process, where only Gymnasium is imported; every warning is an error."""
    code = f"""if True:
        import gymnasium
        given = dict(scenario={str(DEFAULT)!r}, overrides=["slots=2"])
        env = gymnasium.make("mecsim.env:{ID}", **given)
        env.reset(seed=0)
        print(env.action_space, env.observation_space.shape)
        for way, more in (("vector_entry_point", dict(threads=2)), ("sync", {{}}), (None, {{}})):
            more |= given
            many = gymnasium.make_vec("{ID}", num_envs=3, vectorization_mode=way, **more)
            many.reset(seed=0)
            print(type(many.unwrapped).__name__, many.step(many.action_space.sample())[0].shape)
            many.close()
            many.close()
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "MultiDiscrete([5 5 5 5 5 5]) (45,)",
        "PartitionVectorEnv (3, 45)",
        "SyncVectorEnv (3, 45)",
        "PartitionVectorEnv (3, 45)",
    ]


def test_autoreset_equals_that_of_gymnasium() -> None:
    assert PartitionVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_scenarios_with_overrides() -> None:
    assert PartitionEnv(str(DEFAULT)).scenario == load(DEFAULT)
    for source in (DEFAULT, load(DEFAULT)):
        changed = PartitionEnv(source, overrides=["edge_servers=2", "edge_server.capacity=1 GHz"])
        assert changed.action_space == gymnasium.spaces.MultiDiscrete([3] * 6)
        with pytest.raises(ScenarioError, match="--set slots=0"):
            PartitionEnv(source, overrides=["slots=0"])
    with pytest.raises(ScenarioError, match="trace has no seeds"):
        PartitionEnv(scenario(arrivals={"process": "trace", "file": "t.h5"}))


def test_without_gymnasium_one_is_told_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mecsim.env")
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"needs gymnasium: pip install 'mecsim\[gym\]'"):
        importlib.import_module("mecsim.env")


# ---------------------------------------------------------------- learning


def test_the_checker_of_stable_baselines_is_content() -> None:
    for spec in (SHORT, CASES["tasks"]):
        env_checker.check_env(PartitionEnv(spec))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch's threads wait for each other for longer than such small networks compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_ppo_trains() -> None:
    envs = make_vec_env(PartitionEnv, n_envs=2, seed=0, env_kwargs={"scenario": SHORT})
    assert isinstance(envs, DummyVecEnv)
    learner = PPO("MlpPolicy", envs, n_steps=16, batch_size=16, n_epochs=2, seed=0, device="cpu")
    before = [values.detach().clone() for values in learner.policy.parameters()]
    learner.learn(3 * 32)
    after = list(learner.policy.parameters())
    assert learner.num_timesteps == 96
    assert all(bool(values.isfinite().all()) for values in after)
    assert not any(bool((a == b).all()) for a, b in zip(before, after, strict=True))
    assert len(learner.ep_info_buffer or ()) == 96 // 5 - 1
    assert all(episode["l"] == 5 and episode["r"] < 0 for episode in learner.ep_info_buffer or ())


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_ppo_trains_in_processes_where_many_seeds_have_no_task() -> None:
    make = partial(PartitionEnv, RARE)
    envs = SubprocVecEnv([make, make], start_method="spawn")
    try:
        learner = PPO("MlpPolicy", envs, n_steps=16, batch_size=16, seed=0, device="cpu")
        learner.learn(3 * 32)
    finally:
        envs.close()
    assert learner.num_timesteps == 96


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_ppo_learns_what_is_obvious() -> None:
    """One server is a hundred times as fast as the device and the other server."""
    spec = scenario(
        slots=8,
        dnn=chain([1], [1]),
        edge_server={"capacity": [1.0, 100.0]},
        device={"capacity": 1.0},
        radio={"rate": 100.0},
        wired={"rate": 100.0},
    )
    env = PartitionEnv(spec)
    learner = PPO("MlpPolicy", env, n_steps=64, learning_rate=0.01, seed=0, device="cpu")
    learner.learn(1024)
    observation, _ = env.reset(seed=0)
    assert learner.predict(observation, deterministic=True)[0].tolist() == [2]
