"""What the learners' algorithms share: branched rounds first, then rounds of whole episodes."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from mecsim.learning import Replicas, Task
from schedulers.rl.algorithm import Algorithm
from schedulers.rl.candidates import Proposals, led_on
from schedulers.rl.encoding import Encoded
from schedulers.rl.layers import Arrays, Batch, Floats, Ints
from schedulers.rl.parameters import Shared
from schedulers.rl.policy_network import Network
from schedulers.rl.returns import between, usual_cost_s


class Compared(NamedTuple):
    """What C placements would lead to from each of B states."""

    x: Batch
    """The states, as the network sees them; shape (B, inputs)."""
    placements: Ints
    """The network's own choice first; shape (B, C, M)."""
    returns: Floats
    """Until the network of servers has drained; shape (B, C)."""
    best: Ints
    """Shape (B, M)."""


class Rounds(Algorithm):
    """Plays rounds for a network of some kind.

    ``branching`` and ``playing``: replicas of a branched round, and of one of whole episodes.
    """

    network: Any
    """Of the kind that the algorithm is for."""

    def __init__(self, kind: type[Network], task: Task, *, branching: int, playing: int) -> None:
        super().__init__(task)
        torch.set_num_threads(1)
        s, spec = task.settings, task.spec
        self.encoded = Encoded.of(spec, s.observe)
        inputs, places = self.encoded.inputs, spec.servers + 1
        self.network = kind(inputs, spec.blocks, places, s, spec.decision_epoch)
        self.branching, self.playing = branching, playing
        self._proposals = Proposals(s, branching, spec.servers + 1)
        whole, each = task.episodes * task.epochs, s.cost(branching, task.epochs)
        self._branched = round(whole * s.branched / each)
        rollouts = round(task.episodes * (1.0 - s.branched) / playing)
        if not self._branched + rollouts:
            self._branched, rollouts = (1, 0) if s.branched else (0, 1)
        self.rounds = self._branched + rollouts
        tasks = float(task.begin(self.environment(1), task.validation_seeds(1))[0, 0])
        self.scale_s = usual_cost_s(spec, tasks)
        """What rewards are divided by."""

    def initial(self) -> Arrays:
        """Return the parameters that training begins with."""
        found: Arrays = self.network.initial(self.task.rng(0))
        return found

    def decide(self, parameters: Arrays, features: Floats, rng: np.random.Generator) -> Ints:
        """Return the network's placements; shape (B, M)."""
        found: Ints = self.network.decide(parameters, self.encoded(features), rng)
        return found

    def policy(self, parameters: Arrays) -> Arrays:
        """Return the parameters, and how observations are encoded."""
        return parameters | self.encoded.arrays()

    def play(self, number: int, shared: Shared) -> dict[str, float]:
        """Play a round; branched ones come first."""
        rng = self.task.rng(1, number)
        if number < self._branched:
            return self.play_branched(number, shared, rng)
        return self.play_whole(number, shared, rng)

    @abstractmethod
    def play_branched(
        self, number: int, shared: Shared, rng: np.random.Generator
    ) -> dict[str, float]:
        """Play a round that compares placements; return its measures."""

    @abstractmethod
    def play_whole(self, number: int, shared: Shared, rng: np.random.Generator) -> dict[str, float]:
        """Play a round of whole episodes; return its measures."""

    def begin(self, number: int, count: int) -> tuple[Replicas, Floats]:
        """Start the episodes of a round; return what is seen, of shape (B, features), with them."""
        replicas = self.environment(count)
        return replicas, self.task.begin(replicas, self.task.training_seeds(number, count))

    def begin_branched(
        self, number: int, shared: Shared, rng: np.random.Generator
    ) -> tuple[Replicas, Floats]:
        """Start the episodes of a branched round and let the policy lead them somewhere.

        The later the round, the further they may be led.
        """
        self._proposals.forget()
        replicas, features = self.begin(number, self.branching)
        most = (self.task.epochs - self.task.settings.trunk) * number / self.rounds
        decide = partial(self.decide, shared.pull(), rng=rng)
        run = replicas, features, int(rng.random() * most), decide
        return replicas, led_on(*run, self.encoded.backlogs)

    def compare(
        self,
        replicas: Replicas,
        features: Floats,
        p: Arrays,
        explore: float,
        rng: np.random.Generator,
    ) -> Compared:
        """Simulate candidates from the state of every replica."""
        x = self.encoded(features)
        fresh = self.network.draw(p, x, self.task.settings.candidates, explore, rng)
        placements = self._proposals.candidates(self.network.mode(p, x), fresh, rng)
        returns = -replicas.what_if(placements).cost
        best = placements[np.arange(len(placements)), returns.argmax(axis=1)]
        self._proposals.remember(best)
        return Compared(x, placements, returns, best)

    def explore(self, progress: float) -> float:
        """Return the share of places that are drawn uniformly at some point of the training."""
        s = self.task.settings
        return between(s.exploration, s.exploration_end, progress)
