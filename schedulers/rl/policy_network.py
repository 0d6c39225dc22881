"""Interface of policy networks: parameters and inputs in, placements and values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from schedulers.rl.layers import Arrays, Batch, Ints, Tensors


class PolicyNetwork(ABC):
    """Chooses places for M blocks among P = N + 1, given encoded features.

    Args:
        inputs: Length of an encoded observation.
        blocks: M.
        places: P.
        settings: The training options.
        decision_epoch: ``per_slot`` or ``per_task``.
    """

    def __init__(
        self,
        inputs: int,
        blocks: int,
        places: int,
        settings: Any,
        decision_epoch: str = "per_slot",
    ) -> None:
        self.inputs, self.blocks, self.places = inputs, blocks, places
        self.settings, self.decision_epoch = settings, decision_epoch

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Arrays:
        """Return the initial parameters."""

    @abstractmethod
    def sample(
        self, p: Arrays, x: Batch, count: int, epsilon: float, rng: np.random.Generator
    ) -> Ints:
        """Sample placements, a share ``epsilon`` of the places uniformly; shape (n, count, M)."""

    @abstractmethod
    def greedy(self, p: Arrays, x: Batch) -> Ints:
        """Return the placements of the highest probability or value; shape (n, M)."""

    def decide(self, p: Arrays, x: Batch, rng: np.random.Generator) -> Ints:
        """Return the placements of a trained policy; shape (n, M)."""
        del rng
        return self.greedy(p, x)


class Heads(NamedTuple):
    """Output distributions of an actor at given placements: H distributions over O outputs."""

    logits: Any
    """Shape (n, H, O)."""
    chosen: Any
    """The outputs that stand for the placements; shape (n, H)."""


class ActorCriticNetwork(PolicyNetwork):
    """An actor and a critic; their parameters begin with ``actor``, ``critic`` or ``shared``."""

    @abstractmethod
    def heads(self, p: Tensors, x: Any, placements: Any) -> Heads:
        """Return the actor's distributions at placements of shape (n, M)."""

    @abstractmethod
    def value(self, p: Tensors, x: Any) -> Any:
        """Return V (Eq. 15); shape (n,)."""

    def decide(self, p: Arrays, x: Batch, rng: np.random.Generator) -> Ints:
        """Return the most probable placements, or sampled ones; shape (n, M)."""
        when = self.settings.sample_actions
        if when == "always" or when == self.decision_epoch:
            found: Ints = self.sample(p, x, 1, 0.0, rng)[..., 0, :]
            return found
        return self.greedy(p, x)

    def penalty(self, p: Tensors) -> Any:
        """Return the loss that keeps softly shared parameters close to each other."""
        del p
        return 0.0


class ValueNetwork(PolicyNetwork):
    """Estimates the values of places."""

    @abstractmethod
    def values(self, p: Tensors, x: Any) -> Any:
        """Return Q of every block and place; shape (M, n, P)."""
