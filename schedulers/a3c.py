"""A3C: asynchronous advantage actor-critic for one task, actor and critic apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from mecsim.learning import Diary, SchedulerError, Task, Trained
from schedulers.rl.layers import Arrays, Batch, Ints, Tensors, apply, body, dense, drawn, hidden
from schedulers.rl.learner import NetworkLearner
from schedulers.rl.policy_network import ActorCriticNetwork, Heads
from schedulers.rl.settings import Positive, Settings, Share

MOST_JOINT: Final = 50_000
"""Outputs that a joint head may have."""


@dataclass(frozen=True, kw_only=True)
class A3CSettings(Settings):
    """Training options of A3C; where they differ from MTL-A3C's, the search found them better."""

    recalled: Share = 0.2
    """Share of the candidates that were the best of their state lately."""
    varied: Share = 0.25
    """Share of the candidates: the policy's best with one or two blocks moved, or two swapped."""
    elite_of: Literal["pool", "group"] = "group"
    """Whether the best of all recent branches are followed, or the best of each state."""
    actor_rate: Positive = 4e-4
    """Learning rate η of the actor (paper: 0.01). Faster: fewer episodes, oftener stuck."""
    head: Literal["blocks", "joint"] = "blocks"
    """``blocks``: N + 1 outputs, applied block by block; ``joint``: (N + 1)^M outputs."""


class _Apart(ActorCriticNetwork):
    """Actor and critic without a parameter in common."""

    def _critic(self, rng: np.random.Generator) -> Arrays:
        width = self.settings.width
        return body("critic", self.inputs, width, rng) | dense("critic.value", width, 1, 0.1, rng)

    def value(self, p: Tensors, x: Any) -> Any:
        return apply(p, "critic.value", hidden(p, "critic", x))[:, 0]


class BlockByBlock(_Apart):
    """One head of N + 1 outputs, told which block it is and where the blocks before it are."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        width = self.settings.width
        inputs = self.inputs + self.blocks + self.blocks * self.places
        actor = body("actor", inputs, width, rng) | dense(
            "actor.head", width, self.places, 0.01, rng
        )
        return actor | self._critic(rng)

    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        found = self._chosen(p, np.repeat(x, count, axis=0), lambda z: drawn(z, explore, rng))
        return found.reshape(len(x), count, self.blocks)

    def mode(self, p: Arrays, x: Batch) -> Ints:
        return self._chosen(p, x, lambda logits: logits.argmax(axis=-1))

    def _chosen(self, p: Arrays, x: Batch, choose: Any) -> Ints:
        places = np.zeros((len(x), self.blocks), dtype=np.int64)
        for block in range(self.blocks):
            context = self._context(places, block)
            logits = apply(
                p, "actor.head", hidden(p, "actor", np.concatenate([x, context], axis=1))
            )
            places[:, block] = choose(logits)
        return places

    def _context(self, places: Ints, block: int) -> Batch:
        """Return which block it is, and the places of those before it, one-hot."""
        before = np.zeros((len(places), self.blocks, self.places), dtype=np.float32)
        rows, earlier = np.arange(len(places))[:, None], np.arange(block)
        before[rows, earlier, places[:, :block]] = 1.0
        which = np.zeros((len(places), self.blocks), dtype=np.float32)
        which[:, block] = 1.0
        return np.concatenate([which, before.reshape(len(places), -1)], axis=1)

    def heads(self, p: Tensors, x: Any, places: Any) -> Heads:
        import torch  # noqa: PLC0415 - only training comes here

        chosen = places.numpy()
        contexts = np.stack([self._context(chosen, m) for m in range(self.blocks)], axis=1)
        every = x[:, None].expand(-1, self.blocks, -1)
        inputs = torch.cat([every, torch.from_numpy(contexts)], dim=-1)
        return Heads(apply(p, "actor.head", hidden(p, "actor", inputs)), places)


class Joint(_Apart):
    """One head over all (N + 1)^M placements: what the growth of the action space costs."""

    @property
    def _outputs(self) -> int:
        outputs: int = self.places**self.blocks
        if outputs > MOST_JOINT:
            problem = f"{self.places}^{self.blocks} = {outputs:,} outputs"
            raise SchedulerError(
                f"option head: joint needs {problem}; allowed: at most {MOST_JOINT:,}; use blocks"
            )
        return outputs

    def initial(self, rng: np.random.Generator) -> Arrays:
        outputs, width = self._outputs, self.settings.width
        actor = body("actor", self.inputs, width, rng) | dense(
            "actor.head", width, outputs, 0.01, rng
        )
        return actor | self._critic(rng)

    def _logits(self, p: Tensors, x: Any) -> Any:
        return apply(p, "actor.head", hidden(p, "actor", x))

    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        logits = self._logits(p, x)
        every = np.broadcast_to(logits[:, None], (len(x), count, logits.shape[1]))
        return self._places(drawn(every, explore, rng))

    def mode(self, p: Arrays, x: Batch) -> Ints:
        return self._places(self._logits(p, x).argmax(axis=-1))

    @property
    def _weights(self) -> Ints:
        return self.places ** np.arange(self.blocks)

    def _places(self, outputs: Ints) -> Ints:
        return outputs[..., None] // self._weights % self.places

    def heads(self, p: Tensors, x: Any, places: Any) -> Heads:
        import torch  # noqa: PLC0415 - only training comes here

        chosen = (places * torch.from_numpy(self._weights)).sum(dim=-1, keepdim=True)
        return Heads(self._logits(p, x)[:, None], chosen)


class A3C(NetworkLearner):
    """Single-task actor-critic: actor and critic apart, one head applied block by block."""

    name = "a3c"
    settings = A3CSettings

    @classmethod
    def kind(cls, settings: A3CSettings) -> type[ActorCriticNetwork]:
        return Joint if settings.head == "joint" else BlockByBlock

    @classmethod
    def train(cls, task: Task, diary: Diary) -> Trained:
        from schedulers.rl import actor_critic  # noqa: PLC0415 - PyTorch is for training only

        return actor_critic.train(cls.kind(task.settings), task, diary)
