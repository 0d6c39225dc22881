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
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mecsim.learning import Diary, Replicas, Task, Trained
from schedulers import asynchronous
from schedulers.branches import Proposals, led_on
from schedulers.networks import Arrays, Batch, Ints
from schedulers.policies import Encoded, Network, Settings
from schedulers.returns import (
    advantages,
    between,
    elite_weights,
    group_weights,
    standardised,
    usual_cost_s,
    within_groups,
)
from schedulers.shared import Algorithm, Shared, clipped

Floats = NDArray[np.float64]

POOL: Final = 20
"""Batches of advantages that tell which are the best."""


def train(kind: type[Network], task: Task, diary: Diary) -> Trained:
    """Train a network of some kind. Raises ``TrainingError``."""
    make = partial(ActorCritic, kind)
    arrays, reward = asynchronous.train(make, task, diary)
    return Trained(arrays | make(task).encoded.arrays(), reward)


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


class ActorCritic(Algorithm):
    """Plays rounds for a network; see the module."""

    measures: ClassVar[tuple[str, ...]] = (
        "training_reward",
        "entropy",
        "actor_loss",
        "critic_loss",
    )

    def __init__(self, kind: type[Network], task: Task) -> None:
        super().__init__(task)
        torch.set_num_threads(1)
        self.settings: Settings = task.settings
        s = self.settings
        spec = task.replicas(1).spec
        self.encoded = Encoded.of(spec, s.observe)
        self.network = kind(self.encoded.inputs, spec.blocks, spec.servers + 1, s)
        self._vines, self._runs = max(1, s.batch // s.candidates), max(1, s.batch // s.steps)
        whole = task.episodes * task.epochs
        each = s.cost(self._vines, task.epochs)
        self._branched = round(whole * s.branched / each)
        self._rollouts = round(task.episodes * (1.0 - s.branched) / self._runs)
        if not self._branched + self._rollouts:
            self._branched, self._rollouts = (1, 0) if s.branched else (0, 1)
        self.rounds = self._branched + self._rollouts
        tasks = float(task.begin(task.replicas(1), task.validation_seeds(1))[0, 0])
        self._scale_s = usual_cost_s(spec, tasks)
        self._rates = self._rate_of_each()
        self._environments: dict[int, Replicas] = {}
        self._pool: deque[Floats] = deque(maxlen=POOL)
        self._proposals = Proposals(s, self._vines, spec.servers + 1)

    def initial(self) -> Arrays:
        """Return the parameters that training begins with."""
        return self.network.initial(self.task.rng(0))

    def decide(self, parameters: Arrays, features: Floats) -> Ints:
        """Return the actor's best placements; shape (B, M)."""
        return self.network.mode(parameters, self.encoded(features))

    def play(self, number: int, shared: Shared) -> dict[str, float]:
        """Play a round; branched ones come first."""
        rng = self.task.rng(1, number)
        self._pool.clear()
        self._proposals.forget()
        if number < self._branched:
            return self._branch(number, shared, rng)
        return self._roll_out(number, shared, rng)

    def _environment(self, count: int) -> Replicas:
        return self._environments.setdefault(count, self.task.replicas(count))

    def _branch(self, number: int, shared: Shared, rng: np.random.Generator) -> dict[str, float]:
        s, replicas = self.settings, self._environment(self._vines)
        features = self.task.begin(replicas, self.task.training_seeds(number, self._vines))
        most = (self.task.epochs - s.trunk) * number / self.rounds  # the further, the longer
        decide = partial(self.decide, shared.pull())
        run = replicas, features, int(rng.random() * most), decide
        features = led_on(*run, self.encoded.backlogs)
        every, told, total = np.arange(self._vines), [], 0.0
        for epoch in range(s.trunk):
            if replicas.ended.any():
                break
            progress = (number + epoch / s.trunk) / self.rounds
            x, p = self.encoded(features), shared.pull()
            fresh = self.network.draw(p, x, s.candidates, self._explore(progress), rng)
            drawn = self._proposals.candidates(self.network.mode(p, x), fresh, rng)
            returns = -replicas.what_if(drawn).cost
            weights = self._weights(returns)
            sample = Sample(
                np.repeat(x, s.candidates, axis=0),
                drawn.reshape(-1, replicas.blocks),
                weights.ravel(),
                x,
                returns.mean(axis=1) / self._scale_s,
            )
            told.append(self._learn(sample, p, shared, progress))
            best = drawn[every, returns.argmax(axis=1)]
            self._proposals.remember(best)
            features, rewards, _ = replicas.step(best)
            total += float(rewards.sum())
        share = self.task.epochs / (max(len(told), 1) * self._vines)
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

    def _roll_out(self, number: int, shared: Shared, rng: np.random.Generator) -> dict[str, float]:
        s, replicas = self.settings, self._environment(self._runs)
        features = self.task.begin(replicas, self.task.training_seeds(number, self._runs))
        x, total, told, epoch = self.encoded(features), 0.0, [], 0
        while not replicas.ended.all():
            p = shared.pull()
            seen, places, earned, going = [], [], [], []
            progress = (number + min(1.0, epoch / self.task.epochs)) / self.rounds
            for _ in range(s.steps):
                going.append(~replicas.ended)
                drawn = self.network.draw(p, x, 1, self._explore(progress), rng)[:, 0]
                features, rewards, _ = replicas.step(drawn)
                seen.append(x)
                places.append(drawn)
                earned.append(rewards)
                x = self.encoded(features)
                if replicas.ended.all():
                    break
            epoch += len(earned)
            total += float(np.sum(earned))
            shape = len(earned), self._runs
            states = np.concatenate(seen)
            values = np.asarray(self.network.value(p, states), dtype=np.float64).reshape(shape)
            value_after = np.asarray(self.network.value(p, x), dtype=np.float64)
            after = np.where(replicas.ended, 0.0, value_after)  # terminated: nothing comes
            scaled = np.array(earned) / self._scale_s
            found = advantages(scaled, values, after, s.gamma, s.decay)
            alive = np.concatenate(going)
            weights = standardised(found.ravel()[alive])
            targets = (found + values).ravel()[alive]
            states = states[alive]
            sample = Sample(states, np.concatenate(places)[alive], weights, states, targets)
            told.append(self._learn(sample, p, shared, progress))
        return self._told(total / self._runs, told)

    def _learn(self, sample: Sample, p: Arrays, shared: Shared, progress: float) -> Floats:
        """Push the gradient of the loss (Eq. 20); return entropy, actor's and critic's loss."""
        s = self.settings
        tensors = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
        weight = between(s.entropy, s.entropy_end, progress)
        actor, entropy = actor_loss(self.network, tensors, sample, self._explore(progress))
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

    def _explore(self, progress: float) -> float:
        return between(self.settings.exploration, self.settings.exploration_end, progress)

    @staticmethod
    def _told(reward: float, told: list[Floats]) -> dict[str, float]:
        entropy, actor, critic = np.mean(told, axis=0).tolist() if told else (np.nan,) * 3
        return {
            "training_reward": reward,
            "entropy": entropy,
            "actor_loss": actor,
            "critic_loss": critic,
        }


def actor_loss(network: Network, p: Any, sample: Sample, explore: float) -> tuple[Tensor, Tensor]:
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


def critic_loss(network: Network, p: Any, sample: Sample) -> Tensor:
    """Return the loss of the critic (Eq. 19), linear where it is large (Huber)."""
    targets = torch.from_numpy(sample.targets.astype(np.float32))
    return functional.smooth_l1_loss(network.value(p, torch.from_numpy(sample.states)), targets)
