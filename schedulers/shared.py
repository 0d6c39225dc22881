"""What asynchronous training is made of: shared parameters, rounds, those who play them."""

from __future__ import annotations

import ctypes
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Arrays, Replicas, Task, TrainingError
from schedulers.networks import Floats, Ints

Flat: TypeAlias = NDArray[np.float32]
Memory: TypeAlias = "ctypes.Array[ctypes.c_float]"

RESTARTS: Final = 3
"""Workers that are replaced in one training before it is given up."""
VALIDATION_RUNS: Final = 8
LARGEST: Final = 1e6
"""Parameters that training may lead to; with larger ones networks overflow."""


class Shared:
    """Parameters, and their running mean squares of gradients, in memory that workers share."""

    def __init__(self, layout: Mapping[str, tuple[int, ...]], memory: Memory) -> None:
        self._layout = layout
        both: Flat = np.ctypeslib.as_array(memory)
        self.values, self.squares = both[: len(both) // 2], both[len(both) // 2 :]

    @classmethod
    def memory_for(cls, layout: Mapping[str, tuple[int, ...]]) -> Memory:
        """Return memory for parameters of the given names and shapes."""
        return RawArray(ctypes.c_float, 2 * sum(int(np.prod(each)) for each in layout.values()))

    def pull(self) -> Arrays:
        """Return a copy of the parameters as they are now."""
        return named(self._layout, self.values.copy())

    def push(
        self, gradient: Flat, rate: float | Flat, *, decay: float = 0.99, epsilon: float = 1e-5
    ) -> None:
        """Follow a gradient downhill by RMSProp (Eqs. 23 and 24).

        Raises ``TrainingError`` if that leads beyond all sense.
        """
        self.squares *= decay
        self.squares += (1.0 - decay) * gradient * gradient
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            self.values -= rate * gradient / np.sqrt(self.squares + epsilon)
        if not np.abs(self.values).max() <= LARGEST:
            problem = f"a parameter is larger than {LARGEST:g}, or no number"
            raise TrainingError(f"the training diverged: {problem}; use lower rates")


def flat(arrays: Mapping[str, NDArray[np.float32]]) -> Flat:
    """Return arrays as one vector."""
    return np.concatenate([array.ravel() for array in arrays.values()])


def named(layout: Mapping[str, tuple[int, ...]], vector: Flat) -> Arrays:
    """Return the parts of a vector as arrays, as views."""
    found, begin = {}, 0
    for name, shape in layout.items():
        end = begin + int(np.prod(shape))
        found[name], begin = vector[begin:end].reshape(shape), end
    return found


def clipped(gradient: Flat, limit: float) -> Flat:
    """Return a gradient whose norm is at most ``limit``. Raises ``TrainingError`` if it is none."""
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(gradient))
    if not np.isfinite(norm):
        raise TrainingError("the training diverged: a gradient is not finite; use lower rates")
    return gradient * np.float32(min(1.0, limit / max(norm, 1e-12)))


class Algorithm(ABC):
    """A way to learn; every worker makes one of its own from the same task."""

    rounds: int
    """Rounds of the whole training."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._environments: dict[int, Replicas] = {}

    def environment(self, count: int) -> Replicas:
        """Return so many environments, which are to be started anew."""
        if count not in self._environments:
            self._environments[count] = self.task.replicas(count)
        return self._environments[count]

    @abstractmethod
    def initial(self) -> Arrays:
        """Return the parameters that training begins with."""

    @abstractmethod
    def play(self, number: int, shared: Shared) -> dict[str, float]:
        """Play a round, learning from it; return its measures.

        What is drawn depends on the task's seed and the number of the round alone.
        """

    @abstractmethod
    def decide(self, parameters: Arrays, features: Floats, rng: np.random.Generator) -> Ints:
        """Return the placements that the policy decides for; shape (B, M)."""

    def policy(self, parameters: Arrays) -> Arrays:
        """Return what a policy file is to hold."""
        return parameters

    def remembered(self) -> Arrays:
        """Return what later rounds depend on beside the parameters, for a checkpoint."""
        return {}

    def remember(self, arrays: Arrays) -> None:
        """Go on from what :meth:`remembered` returned."""
        del arrays


@dataclass(frozen=True)
class Job:
    """What a worker is to do."""

    kind: Literal["play", "evaluate"]
    number: int
    floor: float = -math.inf
    """Rewards below that need not be known exactly."""


class Result(NamedTuple):
    """What a worker did."""

    job: Job
    measures: dict[str, float]
    parameters: Flat | None
    """Those that were evaluated."""


def perform(algorithm: Algorithm, shared: Shared, job: Job) -> Result:
    """Do a job."""
    if job.kind == "play":
        return Result(job, algorithm.play(job.number, shared), None)
    parameters = shared.pull()
    reward = evaluate(algorithm, parameters, job.floor)
    return Result(job, {"validation_reward": reward}, flat(parameters))


def evaluate(algorithm: Algorithm, parameters: Arrays, floor: float = -math.inf) -> float:
    """Return the mean reward of runs under the policy, on seeds that training does not use.

    As rewards are never positive, it is given up where the mean is below ``floor``: runs whose
    queues explode take long. What is returned then is at least the reward.
    """
    seeds = algorithm.task.validation_seeds(VALIDATION_RUNS)
    replicas = algorithm.environment(len(seeds))
    features, total = algorithm.task.begin(replicas, seeds), 0.0
    rng = algorithm.task.rng(2)
    while not replicas.ended.all() and total >= floor * len(seeds):
        features, rewards, _ = replicas.step(algorithm.decide(parameters, features, rng))
        total += float(rewards.sum())
    return total / len(seeds)


class Crew(Protocol):
    """Those who do the jobs."""

    @property
    def free(self) -> bool:
        """Whether another job can be given."""

    def give(self, job: Job) -> None:
        """Let somebody who is free do a job."""

    def next(self) -> Result:
        """Wait for a job to be done. Raises ``TrainingError``."""

    def parameters(self) -> tuple[Flat, Flat]:
        """Return the parameters as they are now, and their squares."""

    def close(self) -> None:
        """Let everybody go."""
