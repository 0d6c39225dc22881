"""Training of DQN (Mnih et al., Nature 2015), distributed over workers.

Every worker has a replay memory and a target network of its own; gradients go into parameters that
all share. A branched round (see :mod:`schedulers.actor_critic`) remembers every branch as an
episode of one epoch that has ended: its return until the network has drained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mecsim.learning import Diary, Replicas, Task, Trained
from schedulers import asynchronous
from schedulers.networks import Arrays, Batch, Floats, Ints
from schedulers.policies import ValueNetwork
from schedulers.rounds import Rounds
from schedulers.shared import Shared, clipped

Step: TypeAlias = Callable[
    [Replicas, Arrays, Floats, float, np.random.Generator], tuple[Floats, Floats]
]
"""From replicas, parameters, features and exploration to what is seen then, and rewards."""

_TARGET: Final = "target."
WARM_UP: Final = 4
"""Batches that are remembered before the first update."""


def train(kind: type[ValueNetwork], task: Task, diary: Diary) -> Trained:
    """Train networks of some kind. Raises ``TrainingError``."""
    return asynchronous.train(partial(QLearning, kind), task, diary)


class Transitions(NamedTuple):
    """n steps: what was seen, done and earned, and what was seen then."""

    x: Batch
    places: Ints
    reward: NDArray[np.float32]
    after: Batch
    ended: NDArray[np.bool_]
    """Terminated: nothing comes after."""

    def rows(self, which: NDArray[Any]) -> Transitions:
        """Return some of them."""
        x, places, reward, after, ended = self
        return Transitions(x[which], places[which], reward[which], after[which], ended[which])


class Memory:
    """The latest transitions."""

    def __init__(self, size: int, inputs: int, blocks: int) -> None:
        self._rows = Transitions(
            np.zeros((size, inputs), np.float32),
            np.zeros((size, blocks), np.int64),
            np.zeros(size, np.float32),
            np.zeros((size, inputs), np.float32),
            np.zeros(size, np.bool_),
        )
        self._size, self._seen = size, 0

    def __len__(self) -> int:
        return min(self._seen, self._size)

    def add(self, new: Transitions) -> None:
        """Remember transitions in place of the oldest."""
        rows = np.arange(self._seen, self._seen + len(new.reward)) % self._size
        columns: tuple[Any, ...] = self._rows
        for column, values in zip(columns, new, strict=True):
            column[rows] = values
        self._seen += len(new.reward)

    def arrays(self) -> Arrays:
        """Return all that is remembered, and how far the oldest have been replaced."""
        columns: dict[str, NDArray[Any]] = self._rows._asdict()
        found = {name: x[: len(self)].astype(np.float32) for name, x in columns.items()}
        seen = len(self) if self._seen <= self._size else self._size + self._seen % self._size
        return found | {"seen": np.array([seen], np.float32)}

    def restore(self, arrays: Arrays) -> None:
        """Remember what :meth:`arrays` returned."""
        columns: dict[str, NDArray[Any]] = self._rows._asdict()
        for name, column in columns.items():
            column[: len(arrays[name])] = arrays[name]
        self._seen = int(arrays["seen"][0])

    def sample(self, count: int, rng: np.random.Generator) -> Transitions:
        """Draw transitions uniformly."""
        rows = rng.integers(len(self), size=count)
        return self._rows.rows(rows)


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
