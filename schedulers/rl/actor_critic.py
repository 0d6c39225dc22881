"""Training of actor-critic learners: the rounds of Algorithm 1, and rounds of branches.

A *rollout* round is asynchronous advantage actor-critic (Mnih et al., ICML 2016; Eqs. 15 to 24):
B replicas play whole episodes; after every k steps the gradients of actor and critic are pushed.

A *branched* round asks, at every epoch of a run, what each of C placements drawn from the actor
would lead to until the network has drained (vine sampling: Schulman et al., Trust region policy
optimization, ICML 2015). All see the same tasks and the same queues, so the difference to their
mean is an advantage without the noise of what other epochs did. Then only the best are followed
(risk-seeking policy gradient: Petersen et al., ICLR 2021), which is what takes all the branches of
an actor out of placements that no single one of them can improve.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mecsim.learning import Diary, Task, Trained
from schedulers.rl import trainer
from schedulers.rl.layers import Arrays, Batch, Floats, Ints
from schedulers.rl.parameters import Shared, clipped
from schedulers.rl.policy_network import ActorCriticNetwork
from schedulers.rl.returns import (
    advantages,
    between,
    elite_weights,
    group_weights,
    standardised,
    within_groups,
)
from schedulers.rl.rollouts import Rounds
from schedulers.rl.settings import Settings

POOL: Final = 20
"""Batches of advantages that tell which are the best."""


def train(kind: type[ActorCriticNetwork], task: Task, diary: Diary) -> Trained:
    """Train a network of some kind. Raises ``TrainingError``."""
    return trainer.train(partial(ActorCritic, kind), task, diary)


class Sample(NamedTuple):
    """Decisions to learn from, n of them."""

    x: Batch
    places: Ints
    weights: Floats
    """How much more probable each is to become; shape (n,)."""
    states: Batch
    """Where the critic is to learn, s of them."""
    targets: Floats
    """Shape (s,)."""


class ActorCritic(Rounds):
    """Plays rounds for an actor and a critic; see the module."""

    network: ActorCriticNetwork

    def __init__(self, kind: type[ActorCriticNetwork], task: Task) -> None:
        self.settings: Settings = task.settings
        s = self.settings
        vines, runs = max(1, s.batch // s.candidates), max(1, s.batch // s.steps)
        super().__init__(kind, task, branching=vines, playing=runs)
        self._rates = self._rate_of_each()
        self._pool: deque[Floats] = deque(maxlen=POOL)

    def play_branched(
        self, number: int, shared: Shared, rng: np.random.Generator
    ) -> dict[str, float]:
        """Follow what is best among placements that are simulated from the same state."""
        s = self.settings
        self._pool.clear()
        replicas, features = self.begin_branched(number, shared, rng)
        told, total = [], 0.0
        for epoch in range(s.trunk):
            if replicas.ended.any():
                break
            progress = (number + epoch / s.trunk) / self.rounds
            p = shared.pull()
            found = self.compare(replicas, features, p, self.explore(progress), rng)
            sample = Sample(
                np.repeat(found.x, s.candidates, axis=0),
                found.placements.reshape(-1, replicas.blocks),
                self._weights(found.returns).ravel(),
                found.x,
                found.returns.mean(axis=1) / self.scale_s,
            )
            told.append(self._learn(sample, p, shared, progress))
            features, rewards, _ = replicas.step(found.best)
            total += float(rewards.sum())
        share = self.task.epochs / (max(len(told), 1) * self.branching)
        return self._told(total * share, told)

    def _weights(self, returns: Floats) -> Floats:
        """Return how much each candidate is followed, by what came of it; shape (B, C)."""
        s, found = self.settings, within_groups(returns)
        if s.elite >= 1.0:
            return standardised(found)
        if s.elite_of == "group":
            return group_weights(found, s.elite)
        self._pool.append(found)
        weights = elite_weights(found, np.concatenate(self._pool), s.elite)
        weights[:, 0] = 0.0  # else the mode strengthens itself
        return weights

    def play_whole(self, number: int, shared: Shared, rng: np.random.Generator) -> dict[str, float]:
        """Advantage actor-critic with k-step returns (Algorithm 1)."""
        s = self.settings
        replicas, features = self.begin(number, self.playing)
        x, total, told, epoch = self.encoded(features), 0.0, [], 0
        while not replicas.ended.all():
            p = shared.pull()
            seen, places, earned, going = [], [], [], []
            progress = (number + min(1.0, epoch / self.task.epochs)) / self.rounds
            for _ in range(s.steps):
                going.append(~replicas.ended)
                drawn = self.network.draw(p, x, 1, self.explore(progress), rng)[:, 0]
                features, rewards, _ = replicas.step(drawn)
                seen.append(x)
                places.append(drawn)
                earned.append(rewards)
                x = self.encoded(features)
                if replicas.ended.all():
                    break
            epoch += len(earned)
            total += float(np.sum(earned))
            shape = len(earned), self.playing
            states = np.concatenate(seen)
            values = np.asarray(self.network.value(p, states), dtype=np.float64).reshape(shape)
            value_after = np.asarray(self.network.value(p, x), dtype=np.float64)
            after = np.where(replicas.ended, 0.0, value_after)  # terminated: nothing comes
            scaled = np.array(earned) / self.scale_s
            found = advantages(scaled, values, after, s.gamma, s.decay)
            alive = np.concatenate(going)
            weights = standardised(found.ravel()[alive])
            targets = (found + values).ravel()[alive]
            states = states[alive]
            sample = Sample(states, np.concatenate(places)[alive], weights, states, targets)
            told.append(self._learn(sample, p, shared, progress))
        return self._told(total / self.playing, told)

    def _learn(self, sample: Sample, p: Arrays, shared: Shared, progress: float) -> Floats:
        """Push the gradient of the loss (Eq. 20); return entropy, actor's and critic's loss."""
        s = self.settings
        tensors = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
        weight = between(s.entropy, s.entropy_end, progress)
        actor, entropy = actor_loss(self.network, tensors, sample, self.explore(progress))
        critic = critic_loss(self.network, tensors, sample)
        loss = actor - weight * entropy + critic + self.network.penalty(tensors)
        gradients = torch.autograd.grad(loss, list(tensors.values()), materialize_grads=True)
        gradient = np.concatenate([each.numpy().ravel() for each in gradients])
        shared.push(clipped(gradient, s.clip), self._rates)
        return np.array([each.item() for each in (entropy, actor, critic)])

    def _rate_of_each(self) -> NDArray[np.float32]:
        """Return the learning rate of every parameter."""
        s = self.settings
        rates = (
            np.full(x.size, s.critic_rate if name.startswith("critic") else s.actor_rate)
            for name, x in self.initial().items()
        )
        return np.concatenate(list(rates), dtype=np.float32)

    @staticmethod
    def _told(reward: float, told: list[Floats]) -> dict[str, float]:
        entropy, actor, critic = np.mean(told, axis=0).tolist() if told else (np.nan,) * 3
        return {
            "training_reward": reward,
            "entropy": entropy,
            "actor_loss": actor,
            "critic_loss": critic,
        }


def actor_loss(
    network: ActorCriticNetwork, p: Any, sample: Sample, explore: float
) -> tuple[Tensor, Tensor]:
    """Return −mean(weight · log π) over decisions and heads (Eqs. 18 and 20), and the entropy.

    π draws uniformly with probability ``explore``.
    """
    x, places = torch.from_numpy(sample.x), torch.from_numpy(sample.places)
    heads = network.heads(p, x, places)
    log_p = functional.log_softmax(heads.logits, dim=-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1).mean()
    if explore > 0.0:
        log_p = torch.log((1.0 - explore) * log_p.exp() + explore / log_p.shape[-1])
    chosen = log_p.gather(-1, heads.chosen.unsqueeze(-1)).squeeze(-1).mean(dim=-1)
    weights = torch.from_numpy(sample.weights.astype(np.float32))
    return -(weights * chosen).mean(), entropy


def critic_loss(network: ActorCriticNetwork, p: Any, sample: Sample) -> Tensor:
    """Return the loss of the critic (Eq. 19), linear where it is large (Huber)."""
    targets = torch.from_numpy(sample.targets.astype(np.float32))
    return functional.smooth_l1_loss(network.value(p, torch.from_numpy(sample.states)), targets)
