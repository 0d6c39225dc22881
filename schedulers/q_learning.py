"""Training of DQN (Mnih et al., Nature 2015), distributed over workers.

Every worker has a replay memory and a target network of its own; gradients go into parameters that
all share. A branched round (see :mod:`schedulers.actor_critic`) remembers every branch as an
episode of one epoch that has ended: its return until the network has drained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mecsim.learning import Diary, Replicas, Task, Trained
from schedulers import asynchronous
from schedulers.branches import Proposals, led_on
from schedulers.networks import Arrays, Batch, Ints, Tensors
from schedulers.policies import Encoded
from schedulers.returns import between, usual_cost_s
from schedulers.shared import Algorithm, Shared, clipped

Floats = NDArray[np.float64]

_TARGET: Final = "target."
WARM_UP: Final = 4
"""Batches that are remembered before the first update."""


class ValueNetwork(Protocol):
    """Networks that tell the values of places."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Return the parameters of all networks."""

    def values(self, p: Tensors, x: Any) -> Any:
        """Return Q of every block and place; shape (M, n, N + 1)."""

    def mode(self, p: Arrays, x: Batch) -> Ints:
        """Return the place of the highest value for every block; shape (n, M)."""

    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        """Return ε-greedy placements; shape (n, count, M)."""


MakeNetwork: TypeAlias = Callable[[int, int, int, Any], ValueNetwork]
"""From inputs, blocks, places and settings."""


def train(make_network: MakeNetwork, task: Task, diary: Diary) -> Trained:
    """Train the networks. Raises ``TrainingError``."""
    make = partial(QLearning, make_network)
    arrays, reward = asynchronous.train(make, task, diary)
    return Trained(arrays | make(task).encoded.arrays(), reward)


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


class QLearning(Algorithm):
    """Plays rounds for the Q-networks; see the module."""

    measures: ClassVar[tuple[str, ...]] = ("training_reward", "exploration", "critic_loss")

    def __init__(self, make_network: MakeNetwork, task: Task) -> None:
        super().__init__(task)
        torch.set_num_threads(1)
        self.settings = s = task.settings
        self._replicas = task.replicas(s.replicas)
        spec = self._replicas.spec
        self.encoded = Encoded.of(spec, s.observe)
        self.network = make_network(self.encoded.inputs, spec.blocks, spec.servers + 1, s)
        self._memory = Memory(s.memory, self.encoded.inputs, spec.blocks)
        self._target: Arrays | None = None
        self._updates = 0
        each = s.cost(s.replicas, task.epochs)
        self._branched = round(task.episodes * task.epochs * s.branched / each)
        self._proposals = Proposals(s, s.replicas, spec.servers + 1)
        rollouts = round(task.episodes * (1.0 - s.branched) / s.replicas)
        self.rounds = max(1, self._branched + rollouts)
        tasks = float(task.begin(task.replicas(1), task.validation_seeds(1))[0, 0])
        self._scale_s = usual_cost_s(spec, tasks)

    def initial(self) -> Arrays:
        """Return the parameters that training begins with."""
        return self.network.initial(self.task.rng(0))

    def decide(self, parameters: Arrays, features: Floats) -> Ints:
        """Return the placements of the highest values; shape (B, M)."""
        return self.network.mode(parameters, self.encoded(features))

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

    def play(self, number: int, shared: Shared) -> dict[str, float]:
        """Play a round; branched ones come first."""
        rng, branched = self.task.rng(1, number), number < self._branched
        replicas, s = self._replicas, self.settings
        features = self.task.begin(replicas, self.task.training_seeds(number, s.replicas))
        most = min(s.trunk, self.task.epochs) if branched else self.task.epochs
        self._proposals.forget()
        if branched:
            further = (self.task.epochs - s.trunk) * number / self.rounds
            decide = partial(self.decide, shared.pull())
            run = replicas, features, int(rng.random() * further), decide
            features = led_on(*run, self.encoded.backlogs)
        total, epochs, losses, explore = 0.0, 0, list[float](), 0.0
        while not replicas.ended.all() and (epochs < most or not branched):
            progress = (number + min(1.0, epochs / most)) / self.rounds
            explore = between(s.exploration, s.exploration_end, progress)
            p = shared.pull()
            going = ~replicas.ended
            step = self._branch if branched else self._step
            features, rewards = step(replicas, p, features, explore, rng)
            total += float(rewards[going].sum())
            epochs += 1
            if len(self._memory) >= WARM_UP * s.batch:
                losses.append(self._learn(p, shared, rng))
        share = self.task.epochs / max(epochs, 1) / s.replicas
        loss = float(np.mean(losses)) if losses else float("nan")
        return {"training_reward": total * share, "exploration": explore, "critic_loss": loss}

    def _branch(
        self,
        replicas: Replicas,
        p: Arrays,
        features: Floats,
        explore: float,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:
        """Remember what placements would lead to, and go on with the best of them."""
        s, x = self.settings, self.encoded(features)
        fresh = self.network.draw(p, x, s.candidates, explore, rng)
        drawn = self._proposals.candidates(self.network.mode(p, x), fresh, rng)
        returns = -replicas.what_if(drawn).cost
        going = ~replicas.ended
        seen = np.repeat(x[going], s.candidates, axis=0)
        earned = (returns[going] / self._scale_s).ravel().astype(np.float32)
        places = drawn[going].reshape(-1, replicas.blocks)
        self._memory.add(Transitions(seen, places, earned, seen, np.ones(len(earned), np.bool_)))
        best = drawn[np.arange(len(drawn)), returns.argmax(axis=1)]
        self._proposals.remember(best)
        features, rewards, _ = replicas.step(best)
        return features, rewards

    def _step(
        self,
        replicas: Replicas,
        p: Arrays,
        features: Floats,
        explore: float,
        rng: np.random.Generator,
    ) -> tuple[Floats, Floats]:
        """Remember an epoch of every replica that has not ended."""
        x, going = self.encoded(features), ~replicas.ended
        places = self.network.draw(p, x, 1, explore, rng)[:, 0]
        features, rewards, ended = replicas.step(places)
        earned = (rewards / self._scale_s).astype(np.float32)
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
