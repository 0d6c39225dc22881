"""Gradients of Algorithm 1: an actor and a critic learn from sampled transitions."""

from __future__ import annotations

import numpy as np

from mecsim.learning import TrainingProblem
from schedulers.rl.actor_critic import Sample, actor_loss, critic_loss, learning_rates
from schedulers.rl.episode_learning import EpisodeLearning, Gradient, gradients, leaves
from schedulers.rl.layers import Arrays
from schedulers.rl.parameters import Flat
from schedulers.rl.policy_network import ActorCriticNetwork
from schedulers.rl.replay_buffer import Transitions
from schedulers.rl.returns import anneal, standardised


class EpisodicActorCritic(EpisodeLearning):
    """Trains actors and critics by the gradients of Eqs. 20 to 22."""

    network: ActorCriticNetwork

    def _gradient(self, p: Arrays, batch: Transitions, progress: float) -> Gradient:
        """Return the gradients of Eq. 20 with returns of one step (Eq. 16, k = 1)."""
        s = self.settings
        value = self.network.value(p, batch.x)
        bootstrap = np.where(batch.terminated, 0.0, self.network.value(p, batch.next_x))
        targets = batch.rewards + s.gamma * bootstrap
        advantage = (targets - value).astype(np.float64)
        if s.normalize_advantage:
            advantage = np.stack([standardised(each) for each in advantage])
        sample = Sample(batch.x, batch.placements, advantage, batch.x, targets)
        tensors = leaves(p)
        actor, entropy = actor_loss(self.network, tensors, sample, self.epsilon(progress))
        critic = critic_loss(self.network, tensors, sample)
        weight = anneal(s.ent_coef, s.ent_coef_end, progress)
        loss = (actor - weight * entropy + critic).sum() + self.network.penalty(tensors)
        names = {"entropy": entropy, "actor_loss": actor, "critic_loss": critic}
        measures = {n: each.detach().numpy().astype(np.float64) for n, each in names.items()}
        return Gradient(gradients(loss, tensors), measures)

    def learning_rates(self, problem: TrainingProblem) -> Flat:
        """Return the learning rate of every parameter of a training; shape (P,)."""
        return learning_rates(problem.settings, self.network.initial(problem.rng(0)))
