"""Distributed DQN: a Q-network a block, each with the same reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mecsim.learning import Diary, Task, Trained
from schedulers.rl.encoding import Observed
from schedulers.rl.layers import Arrays, Batch, Ints, Tensors, body, dense, stacked_apply, tanh
from schedulers.rl.learner import NetworkLearner
from schedulers.rl.policy_network import ValueNetwork
from schedulers.rl.settings import BranchSettings, Count, Positive, Share, Width


@dataclass(frozen=True, kw_only=True)
class DQNSettings(BranchSettings):
    """Training options of DQN. In brackets: what the paper says, if anything."""

    recalled: Share = 0.1
    """Share of the candidates that were the best of their state lately."""
    observe: Observed = "full"
    """``paper``: no backlogs. With them the policy knows what earlier epochs left behind."""
    width: Width = 64
    """Units of each of the two hidden layers of every Q-network."""
    replicas: Count = 8
    """Environments of a worker."""
    batch: Count = 128
    """Transitions in an update (paper: 32)."""
    memory: Annotated[int, Field(ge=100)] = 20_000
    """Transitions that each worker remembers."""
    target_every: Count = 50
    """Updates between two copies into the target network."""
    gamma: Share = 0.95
    """Discount factor (paper: 0.95)."""
    rate: Positive = 3e-4
    """Learning rate η (paper: 0.01)."""
    exploration: Share = 1.0
    """ε, the share of places drawn uniformly, at the beginning; falls geometrically (paper: 1)."""
    exploration_end: Share = 0.1
    """ε at the end (paper: 0.01)."""
    clip: Positive = 1.0
    """Largest norm of a gradient."""


class Values(ValueNetwork):
    """M networks of two hidden layers; each tells the values of its block's N + 1 places."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Return the parameters of the M networks, stacked along their first axis."""
        width = self.settings.width
        each = [
            body("q", self.inputs, width, rng) | dense("q.places", width, self.places, 0.01, rng)
            for _ in range(self.blocks)
        ]
        return {name: np.stack([p[name] for p in each]) for name in each[0]}

    def values(self, p: Tensors, x: Any) -> Any:
        first = tanh(stacked_apply(p, "q.1", x[None]))
        return stacked_apply(p, "q.places", tanh(stacked_apply(p, "q.2", first)))

    def mode(self, p: Arrays, x: Batch) -> Ints:
        found: Ints = self.values(p, x).argmax(axis=-1).T
        return found

    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        """Return ε-greedy placements; shape (n, count, M)."""
        shape = len(x), count, self.blocks
        best = np.broadcast_to(self.mode(p, x)[:, None], shape)
        uniform = rng.integers(self.places, size=shape)
        return np.where(rng.random(shape) < explore, uniform, best)


class DQN(NetworkLearner):
    """A Q-network a block with replay memory, target network and epsilon-greedy exploration."""

    name = "dqn"
    settings = DQNSettings

    @classmethod
    def kind(cls, settings: DQNSettings) -> type[Values]:
        del settings
        return Values

    @classmethod
    def train(cls, task: Task, diary: Diary) -> Trained:
        from schedulers.rl import q_learning  # noqa: PLC0415 - PyTorch is for training only

        return q_learning.train(Values, task, diary)
