"""A3C: asynchronous advantage actor-critic for one task, with separate actor and critic."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from mecsim.learning import SchedulerError
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
from schedulers.rl.settings import PAPER_ACTOR_CRITIC, ActorCriticSettings, Positive, Share

MAX_JOINT_OUTPUTS: Final = 50_000


class A3CSettings(ActorCriticSettings):
    """Training options of A3C; defaults that differ from MTL-A3C's come from a search."""

    replayed_share: Share = 0.2
    """Share of the candidates that were recently the best of their state."""
    mutated_share: Share = 0.25
    """Share of the candidates: the greedy placement with one or two blocks moved or swapped."""
    elite_scope: Literal["pool", "group"] = "group"
    """``pool``: the best of all recent branches; ``group``: the best of each state."""
    actor_learning_rate: Positive = 4e-4
    """Learning rate η of the actor (paper: 0.01). Higher: faster, more often stuck."""
    head: Literal["blocks", "joint"] = "blocks"
    """``blocks``: N + 1 outputs, applied block by block; ``joint``: (N + 1)^M outputs."""


class _SeparateCritic(ActorCriticNetwork):
    """Actor and critic without shared parameters."""

    def _critic(self, rng: np.random.Generator) -> Arrays:
        units = self.settings.hidden_units
        layers = hidden_layers("critic", self.inputs, units, rng)
        return layers | dense("critic.value", units, 1, 0.1, rng)

    def value(self, p: Tensors, x: Any) -> Any:
        return apply(p, "critic.value", hidden(p, "critic", x))[..., 0]


class BlockwiseNetwork(_SeparateCritic):
    """One head of N + 1 outputs, given the number of the block and the places of earlier ones."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        units = self.settings.hidden_units
        inputs = self.inputs + self.blocks + self.blocks * self.places
        layers = hidden_layers("actor", inputs, units, rng)
        actor = layers | dense("actor.head", units, self.places, 0.01, rng)
        return actor | self._critic(rng)

    def sample(
        self, p: Arrays, x: Batch, count: int, epsilon: float, rng: np.random.Generator
    ) -> Ints:
        every = np.repeat(x, count, axis=-2)
        found = self._chosen(p, every, lambda logits: sample_softmax(logits, epsilon, rng))
        return self.without_unused(found.reshape(*x.shape[:-1], count, self.blocks), x)

    def greedy(self, p: Arrays, x: Batch) -> Ints:
        return self.without_unused(self._chosen(p, x, lambda logits: logits.argmax(axis=-1)), x)

    def _chosen(self, p: Arrays, x: Batch, choose: Any) -> Ints:
        places = np.zeros((*x.shape[:-1], self.blocks), dtype=np.int64)
        for block in range(self.blocks):
            inputs = np.concatenate([x, self._context(places, block)], axis=-1)
            places[..., block] = choose(apply(p, "actor.head", hidden(p, "actor", inputs)))
        return places

    def _context(self, places: Ints, block: int) -> Batch:
        """Return the number of the block and the places of earlier ones, both one-hot."""
        before = (places[..., None] == np.arange(self.places)).astype(np.float32)
        before[..., block:, :] = 0.0
        which = np.zeros_like(places, dtype=np.float32)
        which[..., block] = 1.0
        return np.concatenate([which, before.reshape(*places.shape[:-1], -1)], axis=-1)

    def heads(self, p: Tensors, x: Any, placements: Any) -> Heads:
        import torch  # noqa: PLC0415 - for training only

        chosen = placements.numpy()
        contexts = np.stack([self._context(chosen, m) for m in range(self.blocks)], axis=-2)
        every = x[..., None, :].expand(*x.shape[:-1], self.blocks, x.shape[-1])
        inputs = torch.cat([every, torch.from_numpy(contexts)], dim=-1)
        rows = inputs.flatten(-3, -2)  # layers take one axis of rows
        logits = apply(p, "actor.head", hidden(p, "actor", rows))
        logits = logits.reshape(*placements.shape, self.places)
        return Heads(logits, placements, self.block_weights(x))


class JointNetwork(_SeparateCritic):
    """One head over all (N + 1)^M placements, which shows the cost of a large action space."""

    @property
    def _outputs(self) -> int:
        outputs: int = self.places**self.blocks
        if outputs > MAX_JOINT_OUTPUTS:
            problem = f"{self.places}^{self.blocks} = {outputs:,} outputs"
            raise SchedulerError(
                f"option head: joint needs {problem}; allowed: at most {MAX_JOINT_OUTPUTS:,}. "
                "Try: head=blocks"
            )
        return outputs

    def initial(self, rng: np.random.Generator) -> Arrays:
        outputs, units = self._outputs, self.settings.hidden_units
        layers = hidden_layers("actor", self.inputs, units, rng)
        actor = layers | dense("actor.head", units, outputs, 0.01, rng)
        return actor | self._critic(rng)

    def _logits(self, p: Tensors, x: Any) -> Any:
        found = apply(p, "actor.head", hidden(p, "actor", x))
        if self.classes is None:
            return found
        unlikely = np.where(self._allowed[self.classes.numbers(x)], 0.0, -1e9).astype(np.float32)
        return found + (unlikely if isinstance(found, np.ndarray) else found.new_tensor(unlikely))

    @cached_property
    def _allowed(self) -> Any:
        """Which outputs have place 0 for all blocks that a class lacks; shape (C, outputs)."""
        assert self.classes is not None
        places = self._placements(np.arange(self._outputs))
        return ~(places.astype(np.bool_) & ~self.classes.used[:, None]).any(axis=-1)

    def sample(
        self, p: Arrays, x: Batch, count: int, epsilon: float, rng: np.random.Generator
    ) -> Ints:
        logits = self._logits(p, x)
        shape = *x.shape[:-1], count, logits.shape[-1]
        every = np.broadcast_to(logits[..., None, :], shape)
        return self.without_unused(self._placements(sample_softmax(every, epsilon, rng)), x)

    def greedy(self, p: Arrays, x: Batch) -> Ints:
        return self._placements(self._logits(p, x).argmax(axis=-1))

    @property
    def _weights(self) -> Ints:
        return self.places ** np.arange(self.blocks)

    def _placements(self, outputs: Ints) -> Ints:
        return outputs[..., None] // self._weights % self.places

    def heads(self, p: Tensors, x: Any, placements: Any) -> Heads:
        import torch  # noqa: PLC0415 - for training only

        chosen = (placements * torch.from_numpy(self._weights)).sum(dim=-1, keepdim=True)
        logits = self._logits(p, x)[..., None, :]
        if self.classes is None:
            return Heads(logits, chosen)
        outputs = self._allowed.sum(axis=-1)[self.classes.numbers(x)]
        return Heads(logits, chosen, outputs=logits.new_tensor(outputs)[..., None, None])


class A3C(ActorCriticLearner):
    """Single-task actor-critic: actor and critic apart, one head applied block by block."""

    name = "a3c"
    settings = A3CSettings
    presets = {  # noqa: RUF012
        "tuned": {},
        "paper": PAPER_ACTOR_CRITIC | {"ent_coef": 0.3, "ent_coef_end": 0.03},
    }

    @classmethod
    def network_for(cls, settings: A3CSettings) -> type[ActorCriticNetwork]:
        """Return the network with the head that the settings ask for."""
        return JointNetwork if settings.head == "joint" else BlockwiseNetwork
