"""Learners solve obvious problems, and the seed determines their policies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mecsim.errors import SchedulerError
from mecsim.learning import TrainingError, TrainingProblem, TrainingRequest
from mecsim.learning.options import resolve_settings
from mecsim.learning.policy_file import read_policy
from mecsim.learning.training import train as train_
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.simulation.drive import KERNELS
from mecsim.trace.schema import MemoryTrace
from schedulers.rl.replay_buffer import ReplayBuffer, Transitions
from tests.helpers.builders import simulate
from tests.helpers.slow import slow_unless

ACTOR_CRITIC: dict[str, Any] = {
    "hidden_units": 16,
    "branch_horizon": 6,
    "batch_size": 64,
    "candidates": 8,
    "n_steps": 4,
    "elite_share": 0.25,
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
}
Q_LEARNING: dict[str, Any] = {
    "hidden_units": 16,
    "branch_horizon": 6,
    "batch_size": 32,
    "n_envs": 4,
    "candidates": 4,
    "buffer_size": 4000,
    "learning_rate": 3e-3,
    "epsilon_end": 0.05,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mtl-a3c": ("mtl-a3c", ACTOR_CRITIC),
    "mtl-a3c hard": ("mtl-a3c", ACTOR_CRITIC | {"sharing": "hard"}),
    "a3c": ("a3c", ACTOR_CRITIC),
    "a3c joint": ("a3c", ACTOR_CRITIC | {"head": "joint"}),
    "dqn": ("dqn", Q_LEARNING),
}
LEARNERS = ("mtl-a3c", "a3c", "dqn")
ACTOR_CRITIC_RATES = ("actor_learning_rate", "critic_learning_rate")


def effective(
    scheduler: str, base: dict[str, Any], given: dict[str, Any], preset: str | None = None
) -> dict[str, Any]:
    """The given options, and those of the base that have an effect with them."""
    unused = resolve_settings(scheduler, given, preset).without_effect()
    return {name: value for name, value in base.items() if name not in unused} | given


def obvious(**overrides: Any) -> Scenario:
    """Server 2 is twenty times as fast as the others and the devices; two tasks a slot."""
    base: dict[str, Any] = {
        "slots": 12,
        "devices": 3,
        "edge_servers": 3,
        "edge_server": {"capacity": ["1 GHz", "20 GHz", "1 GHz"]},
        "device": {"capacity": "0.5 GHz"},
        "dnn": {"blocks": 2},
        "arrivals": {"process": "slotted", "rate": 2},
    }
    return Scenario.model_validate(base | overrides)


Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train by a few episodes; return the policy's file."""
    numbers = itertools.count()

    def made(kind: str, scenario: Scenario | None = None, **more: Any) -> Path:
        scheduler, options = KINDS[kind]
        out = tmp_path / f"{next(numbers)}.safetensors"
        how = {"episodes": 150, "seed": 0, "workers": 1, "serial": True} | {
            name: more.pop(name)
            for name in ("episodes", "seed", "workers", "serial")
            if name in more
        }
        train_(
            TrainingRequest(
                scenario=scenario or obvious(),
                scheduler=scheduler,
                options=effective(scheduler, options, more),
                out=out,
                **how,
            )
        )
        return out

    return made


def decisions(policy: Path, kind: str, scenario: Scenario, seed: int = 5) -> NDArray[np.int64]:
    trace: MemoryTrace = simulate(
        scenario, KINDS[kind][0], {"policy": str(policy)}, seed, "compiled"
    ).trace
    return trace["decisions/placement"]


def same(one: Path, other: Path) -> bool:
    first, second = read_policy(one).arrays, read_policy(other).arrays
    assert first.keys() == second.keys()
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


# ---------------------------------------------------------------- they learn


@pytest.mark.quick("dqn-None", "mtl-a3c-None", "a3c-1.0")
@pytest.mark.parametrize(
    ("kind", "share"),
    slow_unless(
        [("mtl-a3c", None), ("mtl-a3c hard", 1.0), ("a3c", 1.0), ("a3c joint", 0.0), ("dqn", None)],
        itertools.product(KINDS, [None, 0.0, 1.0]),
    ),
)
def test_the_fast_server_is_found(kind: str, share: float | None, train: Train) -> None:
    more = {} if share is None else {"branched_share": share}
    for fast in (1, 2):  # none is right without learning on both
        capacity = ["20 GHz" if server == fast else "1 GHz" for server in (1, 2, 3)]
        scenario = obvious(edge_server={"capacity": capacity})
        found = decisions(train(kind, scenario=scenario, **more), kind, scenario)
        assert len(found) == 12
        assert (found == fast).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_untrained_policies_do_not_find_the_fast_server(name: str) -> None:
    right = []
    for fast in (1, 2, 3):
        capacity = ["20 GHz" if server == fast else "1 GHz" for server in (1, 2, 3)]
        scenario = obvious(edge_server={"capacity": capacity})
        found = simulate(scenario, name, {"policy": "untrained"}).trace["decisions/placement"]
        right.append(bool((found == fast).all()))
    assert sum(right) <= 1


@pytest.mark.parametrize("kind", slow_unless(["mtl-a3c"], LEARNERS))
def test_decisions_depend_on_the_observation(kind: str, train: Train) -> None:
    """Every task is best served where it arrives: wires and devices are slow."""
    scenario = obvious(
        decision_epoch="per_task",
        arrivals={"process": "poisson", "rate": 2},
        devices=6,
        edge_servers=2,
        edge_server={"capacity": "20 GHz"},
        device={"capacity": "4 GHz"},
        wired={"rate": "800 kbit/s"},
        dnn={"blocks": 1},
    )
    more = {"learning_rate": 1e-2} if kind == "dqn" else {}
    policy = str(train(kind, scenario, episodes=600, **more))
    trace = simulate(scenario, kind, {"policy": policy}, 5, "compiled").trace
    device = trace["tasks/device"][np.argsort(trace["tasks/release_s"])]
    here = resolve(scenario, seed=5).serving_server[device] + 1
    assert set(here) == {1, 2}
    assert (trace["decisions/placement"][:, 0] == here).all()


@pytest.mark.parametrize("name", ["mtl-a3c", "a3c"])
def test_sampled_placements_follow_the_seed_on_both_kernels(name: str) -> None:
    scenario = obvious(decision_epoch="per_task")
    options = {"policy": "untrained"}
    one, same = (simulate(scenario, name, options, 4, kernel) for kernel in KERNELS)
    other = simulate(scenario, name, options, 5)
    sampled, again, else_ = (run.trace["decisions/placement"] for run in (one, same, other))
    assert (sampled == again).all()
    assert (sampled != else_).any()
    assert len(np.unique(sampled, axis=0)) > 1


@pytest.mark.parametrize("kind", slow_unless(["mtl-a3c"], LEARNERS))
@pytest.mark.parametrize(
    "changes",
    [
        {"decision_epoch": "per_task", "arrivals": {"process": "poisson", "rate": 2}},
        {"radio": {"fading": "rayleigh"}},
    ],
    ids=["per-task decisions", "fading"],
)
def test_the_fast_server_is_found_also_under(
    changes: dict[str, Any], kind: str, train: Train
) -> None:
    scenario = obvious(**changes)
    greedy = {} if kind == "dqn" else {"sample_actions": "never"}
    found = decisions(train(kind, scenario, episodes=200, **greedy), kind, scenario)
    assert len(found)
    assert (found == 2).all()


@pytest.mark.quick("*-mtl-a3c", "no tasks-*", "one block-dqn")
@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize(
    "changes",
    [
        {"slots": 1},
        {"edge_servers": 1, "edge_server": {"capacity": "3 GHz"}},
        {"dnn": {"blocks": 1}},
        {"arrivals": {"process": "slotted", "rate": 0}},
        {"device": {"battery": "0.05 J"}},
        {
            "decision_epoch": "per_task",
            "arrivals": {"process": "poisson", "rate": 0.2},
        },  # some without a task
    ],
    ids=["one slot", "one server", "one block", "no tasks", "small batteries", "rare tasks"],
)
def test_every_shape_can_be_trained_on(changes: dict[str, Any], kind: str, train: Train) -> None:
    scenario = obvious(**changes)
    found = decisions(train(kind, scenario, episodes=30), kind, scenario)
    assert found.shape[1] == scenario.dnn.blocks


@pytest.mark.parametrize("kind", LEARNERS)
def test_one_episode_is_enough(kind: str, train: Train) -> None:
    for share in (0.0, 1.0):
        assert train(kind, episodes=1, branched_share=share).exists()


def test_a_scenario_without_tasks_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecsim.simulation.replicas.SEED_TRIALS", 20)
    never = obvious(decision_epoch="per_task", arrivals={"process": "poisson", "rate": 0.0})
    with pytest.raises(Exception, match="no task is released"):
        train("a3c", never)


# ---------------------------------------------------------------- seeds


@pytest.mark.quick("mtl-a3c", "a3c", "dqn")
@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_determines_the_policy(kind: str, train: Train) -> None:
    one, again, other = (train(kind, episodes=30, seed=seed) for seed in (3, 3, 4))
    assert same(one, again)
    assert not same(one, other)


def test_one_worker_trains_the_same_policy_as_serial_training(train: Train) -> None:
    serial = train("mtl-a3c", episodes=40)
    assert same(serial, train("mtl-a3c", episodes=40, serial=False))


def test_training_and_validation_seeds_do_not_overlap() -> None:
    problem = TrainingProblem(obvious(), None, 0, 1, 1, serial=True)
    valid = problem.validation_seeds(100)
    trained = {seed for number in range(50) for seed in problem.training_seeds(number, 8)}
    assert len(trained) == 400
    assert min(trained) > max(valid) >= min(valid) > 10_000
    assert problem.training_seeds(3, 8)[:4] == problem.training_seeds(3, 4)
    assert problem.rng(1, 2).random() != problem.rng(1, 3).random()


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("rate", slow_unless([1e20], [1e3, 1e20, 1e38]))
@pytest.mark.parametrize("kind", LEARNERS)
def test_a_diverging_training_fails_or_stays_finite(
    kind: str, rate: float, train: Train, tmp_path: Path
) -> None:
    rates = ("learning_rate",) if kind == "dqn" else ACTOR_CRITIC_RATES
    try:
        policy = train(kind, **dict.fromkeys(rates, rate))
    except TrainingError as error:
        assert "diverged" in str(error)  # noqa: PT017 - either will do
        assert not list(tmp_path.glob("[0-9].safetensors"))
    else:
        assert all(np.isfinite(x).all() for x in read_policy(policy).arrays.values())
        decisions(policy, kind, obvious())


@pytest.mark.parametrize(
    ("name", "key", "value", "problem"),
    [
        ("mtl-a3c", "hiden_units", 5, "has no option 'hiden_units'; did you mean 'hidden_units'"),
        ("mtl-a3c", "actor_learning_rate", 0.0, "above 0"),
        ("mtl-a3c", "actor_learning_rate", float("inf"), "finite"),
        ("mtl-a3c", "actor_learning_rate", float("nan"), "finite"),
        ("mtl-a3c", "ent_coef", -0.1, "at least 0"),
        ("mtl-a3c", "gamma", 1.5, "gamma: 1.5 should be from 0 to 1"),
        ("mtl-a3c", "sharing", "some", "'soft' or 'hard'"),
        ("mtl-a3c", "head", "joint", "has no option 'head'"),
        ("mtl-a3c", "candidates", 1, "at least 2"),
        ("mtl-a3c", "batch_size", "many", "valid integer"),
        ("mtl-a3c", "hidden_units", 100_000, "100000 should be from 1 to 1024"),
        ("a3c", "head", "both", "'blocks' or 'joint'"),
        ("a3c", "elite_share", 0.0, "0.0 should be above 0 and at most 1"),
        ("dqn", "buffer_size", 10, "at least 100"),
        ("dqn", "learning_rate", -1.0, "above 0"),
        ("dqn", "sharing", "soft", "has no option 'sharing'"),
    ],
)
def test_options_are_checked(
    name: str, key: str, value: Any, problem: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(SchedulerError, match=problem) as caught:
        train(name, **{key: value})
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- replay buffer


def transitions(*rewards: float) -> Transitions:
    n = len(rewards)
    return Transitions(
        np.ones((n, 2), np.float32) * np.array(rewards, np.float32)[:, None],
        np.full((n, 3), 4),
        np.array(rewards, np.float32),
        np.zeros((n, 2), np.float32),
        np.array([reward > 1 for reward in rewards]),
    )


def test_a_replay_buffer_drops_the_oldest() -> None:
    buffer = ReplayBuffer(4, 2, 3)
    buffer.add(transitions(0.0, 1.0, 2.0))
    assert len(buffer) == 3
    buffer.add(transitions(3.0, 4.0))
    assert len(buffer) == 4
    found = buffer.sample(200, np.random.default_rng(0))
    assert set(found.rewards.tolist()) == {1.0, 2.0, 3.0, 4.0}
    assert (found.x == found.rewards[:, None]).all()
    assert (found.terminated == (found.rewards > 1)).all()
    assert (found.placements == 4).all()


@pytest.mark.parametrize("count", [0, 3, 4, 6, 9])
def test_a_replay_buffer_is_restored_from_its_state(count: int) -> None:
    buffer, other = ReplayBuffer(4, 2, 3), ReplayBuffer(4, 2, 3)
    for reward in range(count):
        buffer.add(transitions(float(reward)))
    other.restore(buffer.state())
    for each in (buffer, other):
        each.add(transitions(50.0, 60.0))
    found = [each.sample(50, np.random.default_rng(1)) for each in (buffer, other)]
    assert len(buffer) == len(other)
    assert all((x == y).all() for x, y in zip(*found, strict=True))
