"""Distributed DQN: one Q-network per block; all blocks receive the same reward."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from schedulers.rl.encoding import Observed
from schedulers.rl.layers import (
    Arrays,
    Batch,
    Ints,
    Tensors,
    apply,
    dense,
    hidden,
    hidden_layers,
)
from schedulers.rl.learner import NetworkLearner
from schedulers.rl.policy_network import ValueNetwork
from schedulers.rl.settings import PAPER, Count, Positive, Share, Units, VineSettings


class DQNSettings(VineSettings):
    """Training options of DQN. In brackets: the paper's value, if it gives one."""

    replayed_share: Share = 0.1
    """Share of the candidates that were recently the best of their state."""
    observe: Observed = "full"
    """``paper``: without backlogs. ``full``: with them, which shows the load of earlier epochs."""
    hidden_units: Units = 64
    """Units of each of the two hidden layers of every Q-network."""
    n_envs: Count = 8
    """Environments of a worker."""
    batch_size: Count = 128
    """Transitions in an update (paper: 32)."""
    buffer_size: Annotated[int, Field(ge=100)] = 20_000
    """Transitions in the replay buffer of each worker."""
    target_update_interval: Count = 50
    """Updates between two copies into the target network."""
    gamma: Share = 0.95
    """Discount factor (paper: 0.95)."""
    learning_rate: Positive = 3e-4
    """Learning rate η (paper: 0.01)."""
    epsilon_start: Share = 1.0
    """Share ε of places sampled uniformly at the beginning; falls geometrically (paper: 1)."""
    epsilon_end: Share = 0.1
    """Share ε at the end (paper: 0.01)."""
    max_grad_norm: Positive = 1.0
    """Largest norm of a gradient; longer ones are clipped."""


class QNetworks(ValueNetwork):
    """M networks with two hidden layers, each for the values of its block's N + 1 places."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        """Return the initial parameters of the M networks, stacked along their first axis."""
        units = self.settings.hidden_units
        each = [
            hidden_layers("q", self.inputs, units, rng)
            | dense("q.places", units, self.places, 0.01, rng)
            for _ in range(self.blocks)
        ]
        return {name: np.stack([p[name] for p in each]) for name in each[0]}

    def values(self, p: Tensors, x: Any) -> Any:
        return apply(p, "q.places", hidden(p, "q", x[..., None, :, :]))

    def greedy(self, p: Arrays, x: Batch) -> Ints:
        return self.without_unused(np.moveaxis(self.values(p, x).argmax(axis=-1), -2, -1), x)

    def sample(
        self, p: Arrays, x: Batch, count: int, epsilon: float, rng: np.random.Generator
    ) -> Ints:
        """Return ε-greedy placements; shape (…, n, count, M)."""
        shape = *x.shape[:-1], count, self.blocks
        best = np.broadcast_to(self.greedy(p, x)[..., None, :], shape)
        uniform = rng.integers(self.places, size=shape)
        return self.without_unused(np.where(rng.random(shape) < epsilon, uniform, best), x)


class DQN(NetworkLearner):
    """A Q-network a block with replay buffer, target network and epsilon-greedy exploration."""

    name = "dqn"
    settings = DQNSettings
    network = QNetworks
    algorithm = "schedulers.rl.q_learning:QLearning"
    presets = {  # noqa: RUF012
        "tuned": {},
        # The paper gives neither interval nor memory: the best of four (results/tuning_paper.csv).
        "paper": PAPER
        | {"learning_rate": 0.01, "target_update_interval": 10, "buffer_size": 3_200},
    }
    episodic = "schedulers.rl.episodic_q_learning:EpisodicQLearning"
