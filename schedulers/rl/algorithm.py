"""Interface of training algorithms, and the jobs that workers perform with them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from mecsim.learning import Arrays, Replicas, TrainingProblem
from schedulers.rl.layers import Floats, Ints
from schedulers.rl.parameters import Flat, SharedParameters, flat

VALIDATION_RUNS: Final = 8
"""Runs of an evaluation."""


class Iterations:
    """The iterations of a training, which may have been prolonged."""

    ends: Sequence[int]
    """The number of iterations at each length of the training; see ``TrainingProblem.lengths``."""

    @property
    def iterations(self) -> int:
        """Iterations of the whole training."""
        return self.ends[-1]

    def progress(self, at: float) -> float:
        """Return how far the schedules, which follow the first length, are after iterations."""
        return min(at, self.ends[0]) / self.ends[0]


class Algorithm(Iterations, ABC):
    """A training algorithm. Every worker makes its own from the same problem."""

    def __init__(self, problem: TrainingProblem) -> None:
        self.problem = problem
        self._envs: dict[int, Replicas] = {}

    def envs(self, count: int) -> Replicas:
        """Return ``count`` environments, which must be reset before their first step."""
        if count not in self._envs:
            self._envs[count] = self.problem.make_envs(count)
        return self._envs[count]

    @abstractmethod
    def initial(self) -> Arrays:
        """Return the initial parameters."""

    @abstractmethod
    def run_iteration(self, number: int, shared: SharedParameters) -> dict[str, float]:
        """Run an iteration, which updates the shared parameters; return its measures.

        Random numbers depend on nothing but the seed of the problem and ``number``.
        """

    @abstractmethod
    def decide(self, parameters: Arrays, features: Floats, rng: np.random.Generator) -> Ints:
        """Return the placements of a trained policy; shape (B, M)."""

    def policy(self, parameters: Arrays) -> Arrays:
        """Return the arrays of a policy file."""
        return parameters

    def state(self) -> Arrays:
        """Return the state that iterations carry over, apart from parameters, for a checkpoint."""
        return {}

    def restore(self, state: Arrays) -> None:
        """Continue from a state that :meth:`state` returned."""
        del state


@dataclass(frozen=True)
class Job:
    """A job of a worker."""

    kind: Literal["train", "evaluate"]
    number: int
    """Of the iteration; of an evaluation: the iterations before it."""
    stop_below: float = -math.inf
    """Early-stop threshold: an evaluation ends when its reward is certain to be lower."""


class JobResult(NamedTuple):
    """The result of a job."""

    job: Job
    measures: dict[str, float]
    parameters: Flat | None
    """The evaluated parameters."""


def perform(algorithm: Algorithm, shared: SharedParameters, job: Job) -> JobResult:
    """Perform a job."""
    if job.kind == "train":
        return JobResult(job, algorithm.run_iteration(job.number, shared), None)
    parameters = shared.pull()
    reward = evaluate(algorithm, parameters, job.stop_below)
    return JobResult(job, {"validation_reward": reward}, flat(parameters))


def evaluate(algorithm: Algorithm, parameters: Arrays, stop_below: float = -math.inf) -> float:
    """Return the mean reward of runs under a policy, on seeds that training does not use.

    Rewards are never positive, so the evaluation stops once the mean is below ``stop_below``:
    runs with growing queues take long. The value is then an upper bound of the reward.
    """
    seeds = algorithm.problem.validation_seeds(VALIDATION_RUNS)
    envs = algorithm.envs(len(seeds))
    features, total = envs.reset(seeds), 0.0
    rng, scale = algorithm.problem.rng(2), algorithm.problem.episodes_a_run
    while not envs.ended.all() and total * scale >= stop_below * len(seeds):
        features, rewards, _ = envs.step(algorithm.decide(parameters, features, rng))
        total += float(rewards.sum())
    return total / len(seeds) * scale
