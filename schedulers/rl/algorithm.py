"""What asynchronous training is made of: shared parameters, rounds, those who play them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np

from mecsim.learning import Arrays, Replicas, Task
from schedulers.rl.layers import Floats, Ints
from schedulers.rl.parameters import Flat, Shared, flat

RESTARTS: Final = 3
"""Workers that are replaced in one training before it is given up."""
VALIDATION_RUNS: Final = 8


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
