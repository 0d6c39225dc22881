"""MTL-A3C: multi-task asynchronous advantage actor-critic, one actor branch per block."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from schedulers.rl.layers import (
    Arrays,
    Batch,
    Ints,
    Tensors,
    apply,
    dense,
    hidden,
    hidden_layers,
    sample_softmax,
)
from schedulers.rl.learner import ActorCriticLearner
from schedulers.rl.policy_network import ActorCriticNetwork, Heads
from schedulers.rl.settings import PAPER_ACTOR_CRITIC, ActorCriticSettings, Weight


class MTLSettings(ActorCriticSettings):
    """Training options of MTL-A3C."""

    sharing: Literal["soft", "hard"] = "soft"
    """``soft``: separate hidden layers of actor and critic, kept close; ``hard``: the same ones."""
    soft_sharing_weight: Weight = 1e-3
    """Weight of the squared distance between softly shared layers (paper: not given)."""

    def without_effect(self) -> dict[str, str]:
        hard = {"soft_sharing_weight": "sharing=hard"} if self.sharing == "hard" else {}
        return super().without_effect() | hard


class MultiTaskNetwork(ActorCriticNetwork):
    """Shared hidden layers, M actor branches of N + 1 outputs, and one critic (section 4.3)."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        units, outputs = self.settings.hidden_units, self.blocks * self.places
        layers = hidden_layers(self._bodies[0], self.inputs, units, rng)
        if self.settings.sharing == "soft":  # both begin with equal parameters
            layers |= {n.replace("actor", "critic"): x.copy() for n, x in layers.items()}
        actor = dense("actor.branches", units, outputs, 0.01, rng)
        return layers | actor | dense("critic.value", units, 1, 0.1, rng)

    @property
    def _bodies(self) -> tuple[str, str]:
        """Names of the hidden layers of actor and critic."""
        hard = self.settings.sharing == "hard"
        return ("shared", "shared") if hard else ("actor", "critic")

    def _logits(self, p: Tensors, x: Any) -> Any:
        found = apply(p, "actor.branches", hidden(p, self._bodies[0], x))
        return found.reshape(*x.shape[:-1], self.blocks, self.places)

    def sample(
        self, p: Arrays, x: Batch, count: int, epsilon: float, rng: np.random.Generator
    ) -> Ints:
        logits = self._logits(p, x)[..., None, :, :]
        shape = *x.shape[:-1], count, self.blocks, self.places
        every = np.broadcast_to(logits, shape)
        return self.without_unused(sample_softmax(every, epsilon, rng), x)

    def greedy(self, p: Arrays, x: Batch) -> Ints:
        return self.without_unused(self._logits(p, x).argmax(axis=-1), x)

    def heads(self, p: Tensors, x: Any, placements: Any) -> Heads:
        return Heads(self._logits(p, x), placements, self.block_weights(x))

    def value(self, p: Tensors, x: Any) -> Any:
        return apply(p, "critic.value", hidden(p, self._bodies[1], x))[..., 0]

    def penalty(self, p: Tensors) -> Any:
        if self.settings.sharing == "hard":
            return 0.0
        names = [name for name in p if name.startswith(("actor.1", "actor.2"))]
        apart = sum(((p[n] - p[n.replace("actor", "critic")]) ** 2).sum() for n in names)
        return self.settings.soft_sharing_weight * apart


class MTLA3C(ActorCriticLearner):
    """The paper's multi-task actor-critic: shared layers, one branch a block, one critic."""

    name = "mtl-a3c"
    settings = MTLSettings
    network = MultiTaskNetwork
    presets = {  # noqa: RUF012
        "tuned": {},
        "paper": PAPER_ACTOR_CRITIC | {"ent_coef": 0.1, "ent_coef_end": 0.01},
    }
