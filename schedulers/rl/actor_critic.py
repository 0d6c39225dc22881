"""Actor-critic training: vine rollouts with risk-seeking gradients, and Algorithm 1.

Iterations of full episodes are asynchronous advantage actor-critic (Mnih et al., ICML 2016;
Eqs. 15 to 24): after every k steps of B environments the gradients of actor and critic are pushed.

In vine rollouts (:mod:`schedulers.rl.rollouts`) the advantage of a candidate is its return minus
the mean return of its state. Only the best candidates are reinforced (risk-seeking policy
gradient: Petersen et al., ICLR 2021). This lets all branches of an actor leave a placement that no
single branch can improve.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mecsim.learning import Replicas, TrainingProblem
from schedulers.rl.layers import Arrays, Batch, Floats, Ints
from schedulers.rl.parameters import Flat, SharedParameters, clipped
from schedulers.rl.policy_network import ActorCriticNetwork
from schedulers.rl.returns import (
    advantages,
    anneal,
    elite_weights,
    group_weights,
    standardised,
    within_groups,
)
from schedulers.rl.rollouts import BranchReturns, RolloutAlgorithm
from schedulers.rl.settings import ActorCriticSettings

POOL: Final = 20
"""Recent batches of advantages among which the best are found."""


class Rollout(NamedTuple):
    """k steps of B environments."""

    x: Batch
    """Encoded observations; shape (k, B, inputs)."""
    placements: Ints
    """Shape (k, B, M)."""
    rewards: Floats
    """Shape (k, B)."""
    alive: NDArray[np.bool_]
    """Whether the episode had not ended before the step; shape (k, B)."""
    next_x: Batch
    """Encoded observations after the last step; shape (B, inputs)."""
    terminated: NDArray[np.bool_]
    """Whether the episode has ended; shape (B,)."""


class Sample(NamedTuple):
    """n decisions and s states to learn from."""

    x: Batch
    """Encoded observations of the decisions; shape (n, inputs)."""
    placements: Ints
    """Shape (n, M)."""
    weights: Floats
    """How much the probability of each decision is increased; shape (n,)."""
    states: Batch
    """Encoded observations for the critic; shape (s, inputs)."""
    targets: Floats
    """Shape (s,)."""


class ActorCritic(RolloutAlgorithm):
    """Trains an actor and a critic; see the module."""

    network: ActorCriticNetwork

    def __init__(self, network: type[ActorCriticNetwork], problem: TrainingProblem) -> None:
        self.settings: ActorCriticSettings = problem.settings
        s = self.settings
        vine_envs, episode_envs = s.batch_size // s.candidates, s.batch_size // s.n_steps
        super().__init__(
            network, problem, vine_envs=max(1, vine_envs), episode_envs=max(1, episode_envs)
        )
        self._rates = learning_rates(s, self.initial())
        self._pool: deque[Floats] = deque(maxlen=POOL)

    def vine_iteration(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> dict[str, float]:
        """Reinforce the best of the candidates that are simulated from each state."""
        s = self.settings
        self._pool.clear()
        envs, features = self.start_vine(number, shared, rng)
        losses, total = [], 0.0
        for epoch in range(s.branch_horizon):
            if envs.ended.any():
                break
            progress = self.progress(number + epoch / s.branch_horizon)
            p = shared.pull()
            found = self.branch(envs, features, p, self.epsilon(progress), rng)
            losses.append(self._learn(self._vine_sample(found), p, shared, progress))
            features, rewards, _ = envs.step(found.best)
            total += float(rewards.sum())
        share = self.problem.epochs / (max(len(losses), 1) * self.vine_envs)
        return _measures(total * share, losses)

    def _vine_sample(self, found: BranchReturns) -> Sample:
        envs, candidates, blocks = found.placements.shape
        return Sample(
            np.repeat(found.x, candidates, axis=0),
            found.placements.reshape(envs * candidates, blocks),
            self._vine_weights(found.returns).ravel(),
            found.x,
            found.returns.mean(axis=1) / self.reward_scale,
        )

    def _vine_weights(self, returns: Floats) -> Floats:
        """Return how much each candidate is reinforced; shape (B, C)."""
        s, found = self.settings, within_groups(returns)
        if s.elite_share >= 1.0:
            return standardised(found)
        if s.elite_scope == "group":
            return group_weights(found, s.elite_share)
        self._pool.append(found)
        weights = elite_weights(found, np.concatenate(self._pool), s.elite_share)
        weights[:, 0] = 0.0  # else the greedy placement reinforces itself
        return weights

    def episode_iteration(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> dict[str, float]:
        """Learn from k-step returns of full episodes (Algorithm 1)."""
        envs, features = self.start_episodes(number, self.episode_envs)
        x, epoch, total, losses = self.encoder(features), 0, 0.0, list[Floats]()
        while not envs.ended.all():
            p = shared.pull()
            progress = self.progress(number + min(1.0, epoch / self.problem.epochs))
            rollout = self._collect_rollout(envs, x, p, self.epsilon(progress), rng)
            losses.append(self._learn(self._rollout_sample(rollout, p), p, shared, progress))
            x, epoch = rollout.next_x, epoch + len(rollout.rewards)
            total += float(np.sum(rollout.rewards))
        return _measures(total / self.episode_envs, losses)

    def _collect_rollout(
        self, envs: Replicas, x: Batch, p: Arrays, epsilon: float, rng: np.random.Generator
    ) -> Rollout:
        """Step the environments k times, or until all episodes have ended."""
        steps = []
        for _ in range(self.settings.n_steps):
            alive = ~envs.ended
            placements = self.network.sample(p, x, 1, epsilon, rng)[:, 0]
            features, rewards, _ = envs.step(placements)
            steps.append((x, placements, rewards, alive))
            x = self.encoder(features)
            if envs.ended.all():
                break
        seen, placed, earned, going = (np.stack(column) for column in zip(*steps, strict=True))
        return Rollout(seen, placed, earned, going, x, envs.ended.copy())

    def _rollout_sample(self, rollout: Rollout, p: Arrays) -> Sample:
        """Return the alive decisions of a rollout with their advantages and returns."""
        s, shape = self.settings, rollout.rewards.shape
        states = rollout.x.reshape(-1, rollout.x.shape[-1])
        values = np.asarray(self.network.value(p, states), dtype=np.float64).reshape(shape)
        next_value = np.asarray(self.network.value(p, rollout.next_x), dtype=np.float64)
        bootstrap = np.where(rollout.terminated, 0.0, next_value)
        rewards = rollout.rewards / self.reward_scale
        found = advantages(rewards, values, bootstrap, s.gamma, s.gae_lambda)
        alive = rollout.alive.ravel()
        states = states[alive]
        return Sample(
            states,
            rollout.placements.reshape(-1, rollout.placements.shape[-1])[alive],
            standardised(found.ravel()[alive]),
            states,
            (found + values).ravel()[alive],
        )

    def _learn(
        self, sample: Sample, p: Arrays, shared: SharedParameters, progress: float
    ) -> Floats:
        """Push the gradient of the loss (Eq. 20); return entropy, actor loss and critic loss."""
        s = self.settings
        tensors = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
        ent_coef = anneal(s.ent_coef, s.ent_coef_end, progress)
        actor, entropy = actor_loss(self.network, tensors, sample, self.epsilon(progress))
        critic = critic_loss(self.network, tensors, sample)
        loss = actor - ent_coef * entropy + critic + self.network.penalty(tensors)
        gradients = torch.autograd.grad(loss, list(tensors.values()), materialize_grads=True)
        gradient = np.concatenate([each.numpy().ravel() for each in gradients])
        shared.push(clipped(gradient, s.max_grad_norm), self._rates)
        return np.array([each.item() for each in (entropy, actor, critic)])


def learning_rates(settings: ActorCriticSettings, parameters: Arrays) -> Flat:
    """Return the learning rate of every parameter; shape (P,)."""
    actor, critic = settings.actor_learning_rate, settings.critic_learning_rate
    rates = [
        np.full(x.size, critic if name.startswith("critic") else actor)
        for name, x in parameters.items()
    ]
    return np.concatenate(rates, dtype=np.float32)


def _measures(reward: float, losses: list[Floats]) -> dict[str, float]:
    """Return the measures of an iteration from the losses of its updates."""
    entropy, actor, critic = np.mean(losses, axis=0).tolist() if losses else (np.nan,) * 3
    return {
        "training_reward": reward,
        "entropy": entropy,
        "actor_loss": actor,
        "critic_loss": critic,
    }


def actor_loss(
    network: ActorCriticNetwork, p: Any, sample: Sample, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return −mean(weight · log π) over decisions and heads (Eqs. 18 and 20), and the entropy.

    π samples uniformly with probability ``epsilon``. Both have the leading axes of the sample.
    """
    x, placements = torch.from_numpy(sample.x), torch.from_numpy(sample.placements)
    heads = network.heads(p, x, placements)
    log_p = functional.log_softmax(heads.logits, dim=-1)
    of_each = (log_p.exp() * log_p).sum(dim=-1)
    if heads.weights is None:
        entropy = -of_each.mean(dim=(-2, -1))
    else:
        entropy = -(of_each * heads.weights).sum(dim=-1).mean(dim=-1)
    if epsilon > 0.0:
        outputs = log_p.shape[-1] if heads.outputs is None else heads.outputs
        log_p = torch.log((1.0 - epsilon) * log_p.exp() + epsilon / outputs)
    found = log_p.gather(-1, heads.chosen.unsqueeze(-1)).squeeze(-1)
    chosen = found.mean(dim=-1) if heads.weights is None else (found * heads.weights).sum(dim=-1)
    weights = torch.from_numpy(sample.weights.astype(np.float32))
    return -(weights * chosen).mean(dim=-1), entropy


def critic_loss(network: ActorCriticNetwork, p: Any, sample: Sample) -> Tensor:
    """Return the loss of the critic: Eq. 19, or linear where errors are large (Huber)."""
    targets = torch.from_numpy(sample.targets.astype(np.float32))
    values = network.value(p, torch.from_numpy(sample.states))
    loss = {"huber": functional.smooth_l1_loss, "squared": functional.mse_loss}
    errors = loss[network.settings.critic_loss](values, targets, reduction="none")
    return errors.mean(dim=-1)
