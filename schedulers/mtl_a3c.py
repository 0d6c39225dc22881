"""MTL-A3C: multi-task asynchronous advantage actor-critic, one actor branch a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mecsim.learning import Diary, Task, Trained
from schedulers.rl.layers import Arrays, Batch, Ints, Tensors, apply, body, dense, drawn, hidden
from schedulers.rl.learner import NetworkLearner
from schedulers.rl.policy_network import ActorCriticNetwork, Heads
from schedulers.rl.settings import Settings, Weight


@dataclass(frozen=True, kw_only=True)
class MTLSettings(Settings):
    """Training options of MTL-A3C."""

    sharing: Literal["soft", "hard"] = "soft"
    """``soft``: hidden layers of their own for actor and critic, held close; ``hard``: the same."""
    closeness: Weight = 1e-3
    """Weight of the squared distance between softly shared layers (paper: not said)."""


class Branches(ActorCriticNetwork):
    """Shared layers, M actor branches of N + 1 outputs, and one critic (section 4.3)."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        width, outputs = self.settings.width, self.blocks * self.places
        bodies = body(self._bodies[0], self.inputs, width, rng)
        if self.settings.sharing == "soft":  # both begin alike
            own = {n.replace("actor", "critic"): x.copy() for n, x in bodies.items()}
            bodies |= own
        actor = dense("actor.branches", width, outputs, 0.01, rng)
        return bodies | actor | dense("critic.value", width, 1, 0.1, rng)

    @property
    def _bodies(self) -> tuple[str, str]:
        """Names of the hidden layers of actor and critic."""
        hard = self.settings.sharing == "hard"
        return ("shared", "shared") if hard else ("actor", "critic")

    def _logits(self, p: Tensors, x: Any) -> Any:
        found = apply(p, "actor.branches", hidden(p, self._bodies[0], x))
        return found.reshape(len(x), self.blocks, self.places)

    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        logits = self._logits(p, x)[:, None]
        every = np.broadcast_to(logits, (len(x), count, self.blocks, self.places))
        return drawn(every, explore, rng)

    def mode(self, p: Arrays, x: Batch) -> Ints:
        found: Ints = self._logits(p, x).argmax(axis=-1)
        return found

    def heads(self, p: Tensors, x: Any, places: Any) -> Heads:
        return Heads(self._logits(p, x), places)

    def value(self, p: Tensors, x: Any) -> Any:
        return apply(p, "critic.value", hidden(p, self._bodies[1], x))[:, 0]

    def penalty(self, p: Tensors) -> Any:
        if self.settings.sharing == "hard":
            return 0.0
        names = [name for name in p if name.startswith(("actor.1", "actor.2"))]
        apart = sum(((p[n] - p[n.replace("actor", "critic")]) ** 2).sum() for n in names)
        return self.settings.closeness * apart


class MTLA3C(NetworkLearner):
    """The paper's multi-task actor-critic: shared layers, one branch a block, one critic."""

    name = "mtl-a3c"
    settings = MTLSettings

    @classmethod
    def kind(cls, settings: MTLSettings) -> type[Branches]:
        del settings
        return Branches

    @classmethod
    def train(cls, task: Task, diary: Diary) -> Trained:
        from schedulers.rl import actor_critic  # noqa: PLC0415 - PyTorch is for training only

        return actor_critic.train(Branches, task, diary)
