"""Training of DQN (Mnih et al., Nature 2015), distributed over workers.

Every worker has its own replay buffer and target network; all push gradients into shared
parameters. A vine rollout (:mod:`schedulers.rl.rollouts`) stores each candidate as an episode of
one epoch, with its return until the network has drained as its reward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mecsim.learning import Replicas, TrainingProblem
from schedulers.rl.layers import Arrays, Floats
from schedulers.rl.parameters import SharedParameters, clipped
from schedulers.rl.policy_network import ValueNetwork
from schedulers.rl.replay_buffer import ReplayBuffer, Transitions
from schedulers.rl.rollouts import RolloutAlgorithm

Collect: TypeAlias = Callable[
    [Replicas, Arrays, Floats, float, np.random.Generator], tuple[Floats, Floats]
]
"""Steps environments, given parameters, features and epsilon; returns features and rewards."""

_TARGET: Final = "target."
WARM_UP_BATCHES: Final = 4
"""Batches in the replay buffer before the first update."""


class QLearning(RolloutAlgorithm):
    """Trains Q-networks; see the module."""

    network: ValueNetwork

    def __init__(self, network: type[ValueNetwork], problem: TrainingProblem) -> None:
        self.settings = s = problem.settings
        super().__init__(network, problem, vine_envs=s.n_envs, episode_envs=s.n_envs)
        self._buffer = ReplayBuffer(s.buffer_size, self.encoder.inputs, self.network.blocks)
        self._target: Arrays | None = None
        self._updates = 0

    def state(self) -> Arrays:
        """Return the replay buffer, the target network and the updates since it was copied."""
        target = {f"{_TARGET}{name}": x for name, x in (self._target or {}).items()}
        updates = self._updates % self.settings.target_update_interval
        return self._buffer.state() | target | {"updates": np.array([updates], np.float32)}

    def restore(self, state: Arrays) -> None:
        """Continue from what :meth:`state` returned."""
        self._buffer.restore(state)
        targets = {n.removeprefix(_TARGET): x for n, x in state.items() if n.startswith(_TARGET)}
        self._target, self._updates = targets or None, int(state["updates"][0])

    def vine_iteration(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> dict[str, float]:
        """Store the returns of candidates and continue with the best of them."""
        envs, features = self.start_vine(number, shared, rng)
        horizon = min(self.settings.branch_horizon, self.problem.epochs)
        return self._run(number, shared, rng, envs, features, self._collect_branches, horizon)

    def episode_iteration(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> dict[str, float]:
        """Store every step of full episodes."""
        envs, features = self.start_episodes(number, self.episode_envs)
        return self._run(number, shared, rng, envs, features, self._collect_step)

    def _run(
        self,
        number: int,
        shared: SharedParameters,
        rng: np.random.Generator,
        envs: Replicas,
        features: Floats,
        collect: Collect,
        horizon: int | None = None,
    ) -> dict[str, float]:
        """Collect transitions for ``horizon`` epochs, or to the end; update after each epoch."""
        expected = horizon or self.problem.epochs
        total, epochs, losses, epsilon = 0.0, 0, list[float](), 0.0
        while not envs.ended.all() and (horizon is None or epochs < horizon):
            epsilon = self.epsilon(self.progress(number + min(1.0, epochs / expected)))
            p, alive = shared.pull(), ~envs.ended
            features, rewards = collect(envs, p, features, epsilon, rng)
            total += float(rewards[alive].sum())
            epochs += 1
            if len(self._buffer) >= WARM_UP_BATCHES * self.settings.batch_size:
                losses.append(self._learn(p, shared, rng))
        share = self.problem.epochs / max(epochs, 1) / self.episode_envs
        loss = float(np.mean(losses)) if losses else float("nan")
        return {"training_reward": total * share, "epsilon": epsilon, "critic_loss": loss}

    def _collect_branches(
        self,
        envs: Replicas,
        p: Arrays,
        features: Floats,
        epsilon: float,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:
        found, alive = self.branch(envs, features, p, epsilon, rng), ~envs.ended
        x = np.repeat(found.x[alive], self.settings.candidates, axis=0)
        rewards = (found.returns[alive] / self.reward_scale).ravel().astype(np.float32)
        placements = found.placements[alive].reshape(-1, envs.blocks)
        terminated = np.ones(len(rewards), np.bool_)
        self._buffer.add(Transitions(x, placements, rewards, x, terminated))
        features, stepped, _ = envs.step(found.best)
        return features, stepped

    def _collect_step(
        self,
        envs: Replicas,
        p: Arrays,
        features: Floats,
        epsilon: float,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:
        x, alive = self.encoder(features), ~envs.ended
        placements = self.network.sample(p, x, 1, epsilon, rng)[:, 0]
        features, rewards, ended = envs.step(placements)
        scaled = (rewards / self.reward_scale).astype(np.float32)
        new = Transitions(x, placements, scaled, self.encoder(features), ended)
        self._buffer.add(new.rows(alive))
        return features, rewards

    def _learn(self, p: Arrays, shared: SharedParameters, rng: np.random.Generator) -> float:
        """Push the gradient of the temporal-difference error; return the loss."""
        s = self.settings
        if self._target is None or self._updates % s.target_update_interval == 0:
            self._target = p
        self._updates += 1
        batch = self._buffer.sample(s.batch_size, rng)
        best_next = self.network.best_values(self._target, batch.next_x)
        targets = td_targets(batch.rewards, best_next, batch.terminated, s.gamma)
        tensors = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
        values = self.network.values(tensors, torch.from_numpy(batch.x))
        taken = torch.from_numpy(batch.placements.T.copy()).unsqueeze(-1)
        chosen, wanted = values.gather(-1, taken).squeeze(-1), torch.from_numpy(targets)
        weights = self.network.block_weights(batch.x)
        if weights is None:
            loss = functional.smooth_l1_loss(chosen, wanted)
        else:
            errors = functional.smooth_l1_loss(chosen, wanted, reduction="none")
            loss = (errors * weights.T).sum(dim=0).mean()
        gradients = torch.autograd.grad(loss, list(tensors.values()))
        gradient = np.concatenate([each.numpy().ravel() for each in gradients])
        shared.push(clipped(gradient, s.max_grad_norm), s.learning_rate)
        return float(loss.item())


def td_targets(
    rewards: NDArray[np.float32],
    best_next: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    gamma: float,
) -> NDArray[np.float32]:
    """Return r + γ·max Q of the next state, or r where there is none; shape (M, n).

    Args:
        rewards: Shape (n,).
        best_next: The highest Q-value of the next state for each block; shape (M, n).
        terminated: Whether the episode ended with the step; shape (n,).
        gamma: Discount factor.
    """
    return (rewards + gamma * np.where(terminated, 0.0, best_next)).astype(np.float32)
