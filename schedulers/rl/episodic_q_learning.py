"""Q-learning after each episode, with the memory and minibatches of Algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch.nn import functional

from mecsim.learning import TrainingProblem
from schedulers.rl.episode_learning import Gradient, MemoryLearning, gradients, leaves
from schedulers.rl.layers import Arrays
from schedulers.rl.parameters import Flat
from schedulers.rl.policy_network import PolicyNetwork, ValueNetwork
from schedulers.rl.q_learning import td_targets
from schedulers.rl.replay_buffer import Transitions

_TARGET: Final = "target."


class EpisodicQLearning(MemoryLearning):
    """Trains Q-networks with a target network."""

    network: ValueNetwork

    def __init__(self, network: type[PolicyNetwork], problems: Sequence[TrainingProblem]) -> None:
        super().__init__(network, problems)
        self._target: Arrays | None = None
        self._updates = 0

    def _gradient(self, p: Arrays, batch: Transitions, progress: float) -> Gradient:
        """Return the gradients of the temporal-difference errors."""
        del progress
        s = self.settings
        if self._target is None or self._updates % s.target_update_interval == 0:
            self._target = p
        self._updates += 1
        best_next = self.network.best_values(self._target, batch.next_x)
        rewards, terminated = batch.rewards[..., None, :], batch.terminated[..., None, :]
        targets = td_targets(rewards, best_next, terminated, s.gamma)
        tensors = leaves(p)
        values = self.network.values(tensors, torch.from_numpy(batch.x))
        taken = torch.from_numpy(np.moveaxis(batch.placements, -1, -2).copy())
        chosen = values.gather(-1, taken.unsqueeze(-1)).squeeze(-1)
        errors = functional.smooth_l1_loss(chosen, torch.from_numpy(targets), reduction="none")
        weights = self.network.block_weights(batch.x)
        if weights is None:
            losses = errors.mean(dim=(-2, -1))
        else:
            losses = (errors * weights.transpose(-1, -2)).sum(dim=-2).mean(dim=-1)
        measures = {"critic_loss": losses.detach().numpy().astype(np.float64)}
        return Gradient(gradients(losses.sum(), tensors), measures)

    def learning_rates(self, problem: TrainingProblem) -> Flat:
        """Return the learning rate of every parameter of a training; shape (P,)."""
        parameters = self.network.initial(problem.rng(0)).values()
        return np.full(sum(x.size for x in parameters), problem.settings.learning_rate, np.float32)

    def state(self, training: int) -> Arrays:
        """Return the memory, the target network and the updates since it was copied."""
        target = {_TARGET + name: x[training] for name, x in (self._target or {}).items()}
        updates = self._updates % self.settings.target_update_interval
        return super().state(training) | target | {"updates": np.array([updates], np.float32)}

    def restore(self, training: int, state: Arrays) -> None:
        """Continue a training from what :meth:`state` returned."""
        super().restore(training, state)
        self._updates = int(state["updates"][0])
        own = {n.removeprefix(_TARGET): x for n, x in state.items() if n.startswith(_TARGET)}
        if own and self._target is None:
            count = len(self.problems)
            self._target = {n: np.zeros((count, *x.shape), np.float32) for n, x in own.items()}
        for name, x in own.items():
            assert self._target is not None
            self._target[name][training] = x
