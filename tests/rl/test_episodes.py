"""Episodes of Algorithm 1: the steps that are played, their transitions and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from schedulers.rl import episode_learning
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.episode_learning import EpisodeLearning
from schedulers.rl.episodes import EpisodePlayer, Steps, foreseeable
from schedulers.rl.episodic_actor_critic import EpisodicActorCritic
from schedulers.rl.episodic_q_learning import EpisodicQLearning
from schedulers.rl.replay_buffer import ReplayBuffer, Transitions
from schedulers.rl.returns import standardised
from tests.helpers.examples import examples
from tests.rl.test_stack import (
    LEARNERS,
    PER_TASK,
    bits,
    problem,
    result,
    scenario,
    train,
)

BATTERY: dict[str, Any] = {"device": {"battery": "5 J"}}
DRAINED: dict[str, Any] = {"slot_length": "1000 s"}


def learning(learner: str, problems: Any) -> EpisodeLearning:
    kind = EpisodicQLearning if learner == "dqn" else EpisodicActorCritic
    return kind(LEARNERS[learner][0].network_for(problems[0].settings), problems)


# ---------------------------------------------------------------- playing


@pytest.mark.parametrize(
    ("overrides", "options", "expected"),
    [
        ({}, {}, True),
        ({}, {"observe": "full"}, False),
        (BATTERY, {}, False),
        (PER_TASK, {}, False),
    ],
)
def test_steps_are_foreseeable(
    overrides: dict[str, Any], options: dict[str, Any], expected: bool
) -> None:
    own = problem("dqn", scenario(**overrides), 0, **options)
    assert foreseeable(own, own.make_envs(1).reset([3])) == expected


@pytest.mark.parametrize(
    ("overrides", "observe"),
    [({}, "paper"), ({}, "full"), (BATTERY, "paper"), (PER_TASK, "paper"), (PER_TASK, "full")],
)
def test_played_steps_are_those_of_stepping_by_hand(
    overrides: dict[str, Any], observe: str
) -> None:
    """Two trainings of two work nodes each; runs are stepped here one by one."""
    problems = [problem("dqn", scenario(**overrides), s, observe=observe) for s in (0, 1)]
    encoder = FeatureEncoder.of(problems[0].spec, problems[0].settings.observe)
    known = foreseeable(problems[0], problems[0].make_envs(1).reset([1]))
    player = EpisodePlayer(problems, encoder, foreseeable=known, runs=2)
    seeds = [[5, 6], [7, 8]]

    def choose(x: Any) -> Any:  # depends on the inputs
        return (np.abs(x[..., :2]) * 1e4).astype(np.int64) % 3

    steps = Steps.joined(list(player.play(seeds, choose)))
    lengths = set()
    for training, own in enumerate(seeds):
        for run, seed in enumerate(own):
            envs = problems[0].make_envs(1)
            features, at = envs.reset([seed]), 0
            while not envs.ended.all():
                x = encoder(features)
                assert (steps.x[training, run, at] == x[0]).all()
                assert (steps.placements[training, run, at] == choose(x)[0]).all()
                features, rewards, _ = envs.step(choose(x))
                assert steps.rewards[training, run, at] == rewards[0]
                at += 1
            assert steps.alive[training, run].sum() == at == steps.alive[training, run, :at].sum()
            assert not steps.rewards[training, run, at:].any()
            lengths.add(at)
    assert len(lengths) > 1 or not overrides or overrides is BATTERY


@pytest.mark.parametrize("learner", ["mtl-a3c", "a3c joint", "dqn"])
def test_both_ways_of_playing_give_the_same_training(
    learner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without exploration these learners draw random numbers step by step in the same order."""
    spec = scenario(**DRAINED)
    options: dict[str, Any] = {"epsilon_start": 0.0, "epsilon_end": 0.0}
    problems = [problem(learner, spec, seed, **options) for seed in (0, 1)]
    at_once = [bits(*each) for each in zip(*train(learner, problems), strict=True)]
    monkeypatch.setattr(episode_learning, "foreseeable", lambda *_: False)
    stepped = [bits(*each) for each in zip(*train(learner, problems), strict=True)]
    for one, other in zip(at_once, stepped, strict=True):
        assert one["policy"] == other["policy"]
        assert one["end"] == other["end"]
        assert one["reward"] == pytest.approx(other["reward"], rel=1e-12)  # a sum in other parts


# ---------------------------------------------------------------- transitions


def test_transitions_by_hand() -> None:
    """Two runs of three steps; the second one ends after its second step."""
    x = np.array([[[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]]], np.float32)
    steps = Steps(
        np.concatenate([x * 0.0, x]),
        np.arange(12).reshape(2, 2, 3, 1),
        np.array([[[0.0] * 3] * 2, [[-1.0, -2.0, -3.0], [-4.0, -5.0, 0.0]]]),
        np.array([[[True] * 3] * 2, [[True] * 3, [True, True, False]]]),
        np.full((2, 2, 1, 1), 9.0, np.float32),
        np.array([[True, True]] * 2),
    )
    found = steps.transitions(1, 2.0)
    assert found.x.ravel().tolist() == [1, 2, 3, 4, 5]
    assert found.placements.ravel().tolist() == [6, 7, 8, 9, 10]
    assert found.rewards.tolist() == [-0.5, -1.0, -1.5, -2.0, -2.5]
    assert found.next_x.ravel().tolist() == [2, 3, 0, 5, 0]
    assert found.terminated.tolist() == [False, False, True, False, True]


@given(
    size=st.integers(1, 7), parts=st.lists(st.integers(0, 9), max_size=6), restored=st.booleans()
)
@settings(max_examples=examples(60), deadline=None)
def test_a_memory_holds_the_latest_transitions(size: int, parts: list[int], restored: bool) -> None:
    memory, numbers = ReplayBuffer(size, 1, 1), iter(range(100))
    every: list[int] = []
    for count in parts:
        new = [next(numbers) for _ in range(count)]
        every += new
        column = np.array(new, np.float32)
        rows, places = column[:, None], np.array(new, np.int64)[:, None]
        memory.add(Transitions(rows, places, column, rows + 1, column % 2 == 0))
        if restored:
            state, memory = memory.state(), ReplayBuffer(size, 1, 1)
            memory.restore(state)
    latest = every[-size:]
    assert len(memory) == len(latest)
    if latest:
        found = memory.sample(400, np.random.default_rng(0))
        assert set(found.rewards.tolist()) == set(latest)
        assert (found.next_x == found.x + 1).all()
        assert (found.terminated == (found.rewards % 2 == 0)).all()


class Pushed:
    """Parameters that stay as they are, and the gradients that would change them."""

    def __init__(self, p: Any) -> None:
        self._p, self.gradients = p, list[Any]()

    def pull(self) -> Any:
        return self._p

    def push(self, gradient: Any) -> None:
        self.gradients.append(gradient)


def test_an_iteration_learns_from_all_that_it_has_played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two work nodes: two minibatches of one memory, at the same parameters."""
    own = problem("mtl-a3c", scenario(), 3, work_nodes=2, batch_size=200)
    made: Any = learning("mtl-a3c", [own])
    p = {name: x[None] for name, x in made.initial()[0].items()}
    seen = []
    real = EpisodicActorCritic._gradient

    def noted(self: Any, at: Any, batch: Transitions, progress: float) -> Any:
        seen.append((at, batch, len(self.memories[0])))
        return real(self, at, batch, progress)

    monkeypatch.setattr(EpisodicActorCritic, "_gradient", noted)
    pushed = Pushed(p)
    measures = made.run_iteration(0, pushed)
    assert len(pushed.gradients) == len(seen) == 2
    assert [each[2] for each in seen] == [12, 12]  # 2 runs of 6 slots
    assert seen[0][0] is seen[1][0] is p
    (_, one, _), (_, other, _) = seen
    assert set(one.rewards.ravel()) == set(other.rewards.ravel())
    assert (one.rewards != other.rewards).any()
    total = made.memories[0].state()["rewards"].sum(dtype=float) * made.reward_scale
    assert measures["training_reward"][0] == pytest.approx(total / 2, rel=1e-5)


# ---------------------------------------------------------------- gradients


def _batch(made: EpisodeLearning, count: int) -> Transitions:
    """Random transitions of every training."""
    rng, stack, network = np.random.default_rng(1), len(made.problems), made.network
    x, following = rng.normal(size=(2, stack, count, network.inputs)).astype(np.float32)
    placements = rng.integers(network.places, size=(stack, count, network.blocks))
    rewards = -rng.random((stack, count)).astype(np.float32)
    return Transitions(x, placements, rewards, following, rng.random((stack, count)) < 0.3)


def _loss(learner: str, made: Any, p: Any, values: Any, batch: Transitions, s: int) -> Any:
    """The loss of training ``s``, written with unstacked parameters ``p``.

    ``values`` are the parameters of targets and advantages, which have no gradient.
    """
    network, own = made.network, made.settings
    x, following = torch.from_numpy(batch.x[s]), torch.from_numpy(batch.next_x[s])
    placements = torch.from_numpy(batch.placements[s])
    rewards, going = torch.from_numpy(batch.rewards[s]), torch.from_numpy(~batch.terminated[s])
    if learner == "dqn":
        targets = rewards + own.gamma * going * network.values(values, following).amax(-1)
        chosen = network.values(p, x).gather(-1, placements.T[..., None])[..., 0]
        return functional.smooth_l1_loss(chosen, targets)
    targets = rewards + own.gamma * going * network.value(values, following)
    advantage = targets - network.value(values, x)
    if own.normalize_advantage:
        scaled = standardised(advantage.numpy().astype(np.float64))
        advantage = torch.from_numpy(scaled.astype(np.float32))
    heads = network.heads(p, x, placements)
    policy = heads.logits.softmax(-1)
    entropy = -(policy * policy.log()).sum(-1).mean()
    explored = 0.5 * policy + 0.5 / policy.shape[-1]
    log_p = explored.log().gather(-1, heads.chosen[..., None])[..., 0]
    error = network.value(p, x) - targets
    critic = {
        "squared": (error**2).mean(),
        "huber": functional.smooth_l1_loss(error, torch.zeros_like(error)),
    }[own.critic_loss]
    actor = -(advantage[:, None] * log_p).mean()
    return actor - own.ent_coef * entropy + critic + network.penalty(p)


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("mtl-a3c", {"soft_sharing_weight": 0.5}),
        ("mtl-a3c hard", {"normalize_advantage": False}),
        ("a3c", {"critic_loss": "huber"}),
        ("a3c joint", {}),
        ("dqn", {}),
    ],
)
def test_gradients_are_those_of_each_training_alone(learner: str, options: dict[str, Any]) -> None:
    explored = options | {"epsilon_start": 0.5, "epsilon_end": 0.5}
    problems = [problem(learner, scenario(), s, **explored) for s in (0, 1, 2)]
    made: Any = learning(learner, problems)
    rng = np.random.default_rng(0)
    initial = [
        {n: x + 0.1 * rng.normal(size=x.shape).astype(np.float32) for n, x in each.items()}
        for each in made.initial()
    ]
    p = {name: np.stack([each[name] for each in initial]) for name in initial[0]}
    batch = _batch(made, 7)
    found = made._gradient(p, batch, 0.0).values
    assert found.shape == (3, sum(x.size for x in initial[0].values()))
    for s, each in enumerate(initial):
        fixed = {name: torch.from_numpy(x) for name, x in each.items()}
        own = {name: x.clone().requires_grad_() for name, x in fixed.items()}
        loss = _loss(learner, made, own, fixed, batch, s)
        expected = torch.autograd.grad(loss, list(own.values()), materialize_grads=True)
        flat = np.concatenate([x.numpy().ravel() for x in expected])
        assert np.abs(flat).max() > 1e-3
        np.testing.assert_allclose(found[s], flat, rtol=2e-4, atol=2e-6)


def test_the_target_network_is_copied_in_time() -> None:
    """Every second update copies the parameters of its time."""
    own = problem("dqn", scenario(), 0, target_update_interval=2)
    made: Any = learning("dqn", [own])
    targets = []
    for update in range(5):
        p = {n: x[None] + np.float32(update) for n, x in made.initial()[0].items()}
        made._gradient(p, _batch(made, 3), 0.0)
        targets.append(made._target["q.1.bias"][0, 0, 0] - made.initial()[0]["q.1.bias"][0, 0])
    assert targets == [0.0, 0.0, 2.0, 2.0, 4.0]


# ---------------------------------------------------------------- policies


@pytest.mark.parametrize("when", ["per_task", "always", "never"])
@pytest.mark.parametrize("learner", ["mtl-a3c", "a3c"])
def test_evaluations_decide_as_the_policy_does(learner: str, when: str) -> None:
    """Also where policies sample: two trainings that differ in nothing are the same."""
    problems = [problem(learner, scenario(), 4, sample_actions=when, episodes=2)] * 2
    (one, other), (first, second) = train(learner, problems)
    assert bits(one, first) == bits(other, second)
    assert result(one).validation_reward < 0.0
