"""Actor-critic trainings as stacks: Algorithm 1 with its memory, and k-step returns without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mecsim.learning import TrainingProblem
from schedulers.rl.actor_critic import Sample, actor_loss, critic_loss, learning_rates
from schedulers.rl.episode_learning import (
    EpisodeLearning,
    Gradient,
    Measures,
    MemoryLearning,
    Parameters,
    gradients,
    leaves,
)
from schedulers.rl.episodes import Steps, at_least
from schedulers.rl.layers import Arrays, Floats
from schedulers.rl.parameters import Flat
from schedulers.rl.policy_network import ActorCriticNetwork, PolicyNetwork
from schedulers.rl.replay_buffer import Transitions
from schedulers.rl.returns import advantages, anneal, standardised


class _ActorCritic(EpisodeLearning):
    """Gradients of an actor and a critic (Eqs. 20 to 22)."""

    network: ActorCriticNetwork

    def _loss_gradient(self, p: Arrays, sample: Sample, progress: float) -> Gradient:
        """Return the gradients of Eq. 20 at a sample with a leading axis S."""
        s = self.settings
        if s.normalize_advantage:
            weights = np.stack([standardised(each) for each in sample.weights])
            sample = sample._replace(weights=weights)
        tensors = leaves(p)
        actor, entropy = actor_loss(self.network, tensors, sample, self.epsilon(progress))
        critic = critic_loss(self.network, tensors, sample)
        weight = anneal(s.ent_coef, s.ent_coef_end, progress)
        loss = (actor - weight * entropy + critic).sum() + self.network.penalty(tensors)
        names = {"entropy": entropy, "actor_loss": actor, "critic_loss": critic}
        measures = {n: each.detach().numpy().astype(np.float64) for n, each in names.items()}
        return Gradient(gradients(loss, tensors), measures)

    def _value(self, p: Arrays, x: Any) -> Floats:
        return np.asarray(self.network.value(p, x), dtype=np.float64)

    def learning_rates(self, problem: TrainingProblem) -> Flat:
        """Return the learning rate of every parameter of a training; shape (P,)."""
        return learning_rates(problem.settings, self.network.initial(problem.rng(0)))


class EpisodicActorCritic(_ActorCritic, MemoryLearning):
    """Algorithm 1: one-step returns (Eq. 16, k = 1) of transitions sampled from the memory."""

    def _gradient(self, p: Arrays, batch: Transitions, progress: float) -> Gradient:
        value = self._value(p, batch.x)
        bootstrap = np.where(batch.terminated, 0.0, self._value(p, batch.next_x))
        targets = batch.rewards + self.settings.gamma * bootstrap
        sample = Sample(batch.x, batch.placements, targets - value, batch.x, targets)
        return self._loss_gradient(p, sample, progress)


class RolloutActorCritic(_ActorCritic):
    """Section 4.2: learn from the k-step returns of every k steps of a batch's environments."""

    def __init__(self, network: type[PolicyNetwork], problems: Sequence[TrainingProblem]) -> None:
        s = problems[0].settings
        super().__init__(network, problems, max(1, s.batch_size // s.n_steps))

    def iterations_of(self, episodes: int) -> int:
        """Return the iterations of a length: an episode of every environment each."""
        return round(episodes / self.runs)

    def run_iteration(self, number: int, parameters: Parameters) -> Measures:
        """Play an episode in every environment; learn after every k steps."""
        progress, rewards, found = self.progress(number), [], list[Measures]()
        steps_of = self.play(number, parameters, self.generators(number), self.settings.n_steps)
        for steps in at_least(self.settings.n_steps, steps_of):
            gradient = self._gradient(parameters.pull(), steps, progress)
            parameters.push(gradient.values)
            rewards.append(steps.rewards.sum(axis=2))
            found.append(gradient.measures)
        return self.measures(np.sum(rewards, axis=0), found)

    def _gradient(self, p: Arrays, steps: Steps, progress: float) -> Gradient:
        s, stack, inputs = self.settings, len(self.problems), steps.x.shape[-1]
        states = steps.x.reshape(stack, -1, inputs)
        values = self._value(p, states).reshape(steps.shape)
        after = self._value(p, steps.next_x.reshape(stack, -1, inputs))
        bootstrap = np.where(steps.ended, 0.0, after)
        found = advantages(
            np.moveaxis(steps.rewards / self.reward_scale, 2, 0),
            np.moveaxis(values, 2, 0),
            bootstrap,
            s.gamma,
            s.gae_lambda,
        )
        advantage = np.moveaxis(found, 0, 2)
        placements = steps.placements.reshape(stack, -1, steps.placements.shape[-1])
        weights, targets = (each.reshape(stack, -1) for each in (advantage, advantage + values))
        return self._loss_gradient(
            p, Sample(states, placements, weights, states, targets), progress
        )
