"""Interface of policy networks: parameters and inputs in, placements and values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mecsim import SchedulerSpec
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.layers import Arrays, Batch, Ints, Tensors


class TaskClasses(NamedTuple):
    """The blocks of C classes of tasks, of which encoded observations say the class."""

    used: NDArray[np.bool_]
    """Which of M blocks the tasks of each class have; shape (C, M)."""
    first: int
    """The first of the C inputs that say of which class the tasks are."""

    @classmethod
    def of(cls, spec: SchedulerSpec, encoder: FeatureEncoder) -> TaskClasses | None:
        """Return the classes of a scenario; None if there is only one."""
        blocks = np.array([[each.blocks] for each in spec.classes])
        if len(blocks) == 1:
            return None
        return cls(np.arange(spec.most_blocks) < blocks, encoder.first_class)

    def numbers(self, x: Any) -> Ints:
        """Return the class of observations, NumPy or PyTorch; shape of x without the last axis."""
        inputs = np.asarray(x)[..., self.first : self.first + len(self.used)]
        found: Ints = inputs.argmax(axis=-1)
        return found

    def blocks(self, x: Any) -> NDArray[np.bool_]:
        """Return which blocks the tasks of observations have; shape (…, n, M)."""
        return self.used[self.numbers(x)]


class PolicyNetwork(ABC):
    """Chooses places for M blocks among P = N + 1, given encoded features.

    Where tasks are of several classes, M is the largest number of blocks of a class. Places of the
    blocks that a class lacks are 0, and what a network says of them is left out of losses.

    Args:
        inputs: Length of an encoded observation.
        blocks: M.
        places: P.
        settings: The training options.
        decision_epoch: ``per_slot`` or ``per_task``.
        classes: The classes of tasks, if there are several.
    """

    def __init__(
        self,
        inputs: int,
        blocks: int,
        places: int,
        settings: Any,
        decision_epoch: str = "per_slot",
        classes: TaskClasses | None = None,
    ) -> None:
        self.inputs, self.blocks, self.places = inputs, blocks, places
        self.settings, self.decision_epoch = settings, decision_epoch
        self.classes = classes

    @classmethod
    def of(cls, spec: SchedulerSpec, settings: Any, encoder: FeatureEncoder) -> Self:
        """Return the network for a scenario's observations."""
        shape = encoder.inputs, spec.most_blocks, spec.servers + 1
        classes = TaskClasses.of(spec, encoder)
        return cls(*shape, settings, spec.decision_epoch, classes)

    def without_unused(self, placements: Ints, x: Batch) -> Ints:
        """Return placements with place 0 for the blocks that the class of the tasks lacks.

        Args:
            placements: Shape (…, n, M) or (…, n, count, M).
            x: Shape (…, n, inputs).
        """
        if self.classes is None:
            return placements
        used = self.classes.blocks(x)
        if placements.ndim > x.ndim:
            used = used[..., None, :]
        return np.where(used, placements, 0)

    def block_weights(self, x: Any) -> Any:
        """Return weights with which to average over blocks, as a PyTorch tensor; (…, n, M).

        They are 0 for blocks that the class of the tasks lacks. None stands for equal weights.
        """
        if self.classes is None:
            return None
        import torch  # noqa: PLC0415 - for training only

        used = self.classes.blocks(x)
        return torch.from_numpy((used / used.sum(axis=-1, keepdims=True)).astype(np.float32))

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
    weights: Any = None
    """Weights with which to average over the distributions, shape (n, H); None for equal ones."""
    outputs: Any = None
    """Number of outputs that can be sampled, shape (n, 1) or (n, H, 1); None for all O."""


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

    def best_values(self, p: Arrays, x: Batch) -> Batch:
        """Return the highest Q of each block; shape (M, n).

        For blocks that the class of the tasks lacks, whose values nothing trains, it is the mean
        over its blocks: all estimate the same return.
        """
        best: Batch = self.values(p, x).max(axis=-1)
        if self.classes is None:
            return best
        used = np.moveaxis(self.classes.blocks(x), -1, -2)
        total = np.where(used, best, 0.0).sum(axis=-2, keepdims=True)
        return np.where(used, best, total / used.sum(axis=-2, keepdims=True)).astype(np.float32)
