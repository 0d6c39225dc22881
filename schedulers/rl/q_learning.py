"""Training of DQN (Mnih et al., Nature 2015), distributed over workers.

Every worker has a replay memory and a target network of its own; gradients go into parameters that
all share. A branched round (see :mod:`schedulers.rl.actor_critic`) remembers every branch as an
episode of one epoch that has ended: its return until the network has drained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mecsim.learning import Diary, Replicas, Task, Trained
from schedulers.rl import trainer
from schedulers.rl.layers import Arrays, Floats
from schedulers.rl.parameters import Shared, clipped
from schedulers.rl.policy_network import ValueNetwork
from schedulers.rl.replay_buffer import Memory, Transitions
from schedulers.rl.rollouts import Rounds

Step: TypeAlias = Callable[
    [Replicas, Arrays, Floats, float, np.random.Generator], tuple[Floats, Floats]
]
"""From replicas, parameters, features and exploration to what is seen then, and rewards."""

_TARGET: Final = "target."
WARM_UP: Final = 4
"""Batches that are remembered before the first update."""


def train(kind: type[ValueNetwork], task: Task, diary: Diary) -> Trained:
    """Train networks of some kind. Raises ``TrainingError``."""
    return trainer.train(partial(QLearning, kind), task, diary)


class QLearning(Rounds):
    """Plays rounds for the Q-networks; see the module."""

    network: ValueNetwork

    def __init__(self, kind: type[ValueNetwork], task: Task) -> None:
        self.settings = s = task.settings
        super().__init__(kind, task, branching=s.replicas, playing=s.replicas)
        self._memory = Memory(s.memory, self.encoded.inputs, task.spec.blocks)
        self._target: Arrays | None = None
        self._updates = 0

    def remembered(self) -> Arrays:
        """Return the memory, the target network and when it is due."""
        target = {f"{_TARGET}{name}": x for name, x in (self._target or {}).items()}
        updates = self._updates % self.settings.target_every
        return self._memory.arrays() | target | {"updates": np.array([updates], np.float32)}

    def remember(self, arrays: Arrays) -> None:
        """Go on from what :meth:`remembered` returned."""
        self._memory.restore(arrays)
        targets = {n.removeprefix(_TARGET): x for n, x in arrays.items() if n.startswith(_TARGET)}
        self._target, self._updates = targets or None, int(arrays["updates"][0])

    def play_branched(
        self, number: int, shared: Shared, rng: np.random.Generator
    ) -> dict[str, float]:
        """Remember what placements would lead to, and go on with the best of them."""
        seen = self.begin_branched(number, shared, rng)
        most = min(self.settings.trunk, self.task.epochs)
        return self._go_on(number, shared, rng, *seen, self._compare, most)

    def play_whole(self, number: int, shared: Shared, rng: np.random.Generator) -> dict[str, float]:
        """Remember every epoch."""
        seen = self.begin(number, self.playing)
        return self._go_on(number, shared, rng, *seen, self._step)

    def _go_on(
        self,
        number: int,
        shared: Shared,
        rng: np.random.Generator,
        replicas: Replicas,
        features: Floats,
        step: Step,
        most: int | None = None,
    ) -> dict[str, float]:
        """Go on for so many epochs, or to the end; learn after each."""
        expected = most or self.task.epochs
        total, epochs, losses, explore = 0.0, 0, list[float](), 0.0
        while not replicas.ended.all() and (most is None or epochs < most):
            explore = self.explore((number + min(1.0, epochs / expected)) / self.rounds)
            p, going = shared.pull(), ~replicas.ended
            features, rewards = step(replicas, p, features, explore, rng)
            total += float(rewards[going].sum())
            epochs += 1
            if len(self._memory) >= WARM_UP * self.settings.batch:
                losses.append(self._learn(p, shared, rng))
        share = self.task.epochs / max(epochs, 1) / self.playing
        loss = float(np.mean(losses)) if losses else float("nan")
        return {"training_reward": total * share, "exploration": explore, "critic_loss": loss}

    def _compare(
        self,
        replicas: Replicas,
        p: Arrays,
        features: Floats,
        explore: float,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:
        found, going = self.compare(replicas, features, p, explore, rng), ~replicas.ended
        x = np.repeat(found.x[going], self.settings.candidates, axis=0)
        earned = (found.returns[going] / self.scale_s).ravel().astype(np.float32)
        places = found.placements[going].reshape(-1, replicas.blocks)
        self._memory.add(Transitions(x, places, earned, x, np.ones(len(earned), np.bool_)))
        features, rewards, _ = replicas.step(found.best)
        return features, rewards

    def _step(
        self,
        replicas: Replicas,
        p: Arrays,
        features: Floats,
        explore: float,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:
        x, going = self.encoded(features), ~replicas.ended
        places = self.network.draw(p, x, 1, explore, rng)[:, 0]
        features, rewards, ended = replicas.step(places)
        earned = (rewards / self.scale_s).astype(np.float32)
        after = self.encoded(features)
        self._memory.add(Transitions(x, places, earned, after, ended).rows(going))
        return features, rewards

    def _learn(self, p: Arrays, shared: Shared, rng: np.random.Generator) -> float:
        """Push the gradient of the temporal-difference error; return the loss."""
        if self._target is None or self._updates % self.settings.target_every == 0:
            self._target = p
        self._updates += 1
        batch = self._memory.sample(self.settings.batch, rng)
        best_after = self.network.values(self._target, batch.after).max(axis=-1)
        targets = td_targets(batch.reward, best_after, batch.ended, self.settings.gamma)
        tensors = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
        values = self.network.values(tensors, torch.from_numpy(batch.x))
        taken = torch.from_numpy(batch.places.T.copy()).unsqueeze(-1)
        loss = functional.smooth_l1_loss(
            values.gather(-1, taken).squeeze(-1), torch.from_numpy(targets)
        )
        gradients = torch.autograd.grad(loss, list(tensors.values()))
        gradient = np.concatenate([each.numpy().ravel() for each in gradients])
        shared.push(clipped(gradient, self.settings.clip), self.settings.rate)
        return float(loss.item())


def td_targets(
    reward: NDArray[np.float32],
    best_after: NDArray[np.float32],
    ended: NDArray[np.bool_],
    gamma: float,
) -> NDArray[np.float32]:
    """Return r + γ·max Q of what comes after, if anything does; shape (M, n).

    ``reward`` and ``ended`` have the shape (n,), ``best_after`` (M, n).
    """
    return (reward + gamma * np.where(ended, 0.0, best_after)).astype(np.float32)
