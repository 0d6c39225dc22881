"""The networks' face, their options and input, and what decides by them; all without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from schedulers.rl.layers import Arrays, Batch, Ints, Tensors


class Network(ABC):
    """Places M blocks on P = N + 1 places, given encoded features."""

    def __init__(
        self, inputs: int, blocks: int, places: int, settings: Any, epoch: str = "per_slot"
    ) -> None:
        self.inputs, self.blocks, self.places = inputs, blocks, places
        self.settings, self.epoch = settings, epoch

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Arrays:
        """Return the parameters that training begins with."""

    @abstractmethod
    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        """Draw placements, a share ``explore`` of the places uniformly; shape (n, count, M)."""

    @abstractmethod
    def mode(self, p: Arrays, x: Batch) -> Ints:
        """Return the placements thought best; shape (n, M)."""

    def decide(self, p: Arrays, x: Batch, rng: np.random.Generator) -> Ints:
        """Return the placements of a trained policy; shape (n, M)."""
        del rng
        return self.mode(p, x)


class Heads(NamedTuple):
    """What an actor says of given placements: H distributions over O outputs each."""

    logits: Any
    """Shape (n, H, O)."""
    chosen: Any
    """The outputs that the placements stand for; shape (n, H)."""


class ActorCriticNetwork(Network):
    """An actor and a critic; their parameters begin with ``actor``, ``critic`` or ``shared``."""

    @abstractmethod
    def heads(self, p: Tensors, x: Any, places: Any) -> Heads:
        """Return what the actor says of placements of shape (n, M)."""

    @abstractmethod
    def value(self, p: Tensors, x: Any) -> Any:
        """Return V (Eq. 15); shape (n,)."""

    def decide(self, p: Arrays, x: Batch, rng: np.random.Generator) -> Ints:
        """Return the likeliest placements, or drawn ones; shape (n, M)."""
        drawn = {"tasks": self.epoch == "per_task", "always": True, "never": False}
        if drawn[self.settings.drawn]:
            return self.draw(p, x, 1, 0.0, rng)[:, 0]
        return self.mode(p, x)

    def penalty(self, p: Tensors) -> Any:
        """Return what keeps parameters together that are softly shared."""
        del p
        return 0.0


class ValueNetwork(Network):
    """Tells the values of places."""

    @abstractmethod
    def values(self, p: Tensors, x: Any) -> Any:
        """Return Q of every block and place; shape (M, n, P)."""
