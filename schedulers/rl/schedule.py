"""The schedule of a training: its iterations and evaluations, and the best parameters so far."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from mecsim.learning import TrainingError
from schedulers.rl.algorithm import Job, JobResult
from schedulers.rl.parameters import Flat

MAX_EVALUATIONS: Final = 10
"""Evaluations of a training on validation seeds, at most, apart from the one before it."""
EPISODES_PER_EVALUATION: Final = 20
"""Least episodes of training for each of them."""
EARLY_STOP_FACTOR: Final = 5.0
"""An evaluation stops early when its cost exceeds the best one by this factor."""


class Best(NamedTuple):
    """The best parameters by evaluation."""

    values: Flat
    reward: float = -math.inf

    def or_better(self, result: JobResult) -> Best:
        """Return the evaluated parameters if they are better, else these."""
        reward = result.measures.get("validation_reward", -math.inf)
        if result.parameters is None or reward <= self.reward:
            return self
        return Best(result.parameters, reward)


class ScheduleState(BaseModel):
    """The part of a schedule that a checkpoint keeps as plain values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: list[int]
    """Iterations that have run."""
    evaluated: list[int]
    """Evaluations that are done."""
    best_reward: float

    @classmethod
    def read(cls, values: dict[str, Any]) -> ScheduleState:
        """Return the state in a checkpoint. Raises ``TrainingError``."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise TrainingError("the checkpoint does not belong to this learner") from error


class TrainingSchedule:
    """The jobs that a training still has to do, and its best parameters.

    Args:
        iterations: Iterations of the whole training.
        due: Numbers of iterations after which parameters are evaluated.
        best: The best parameters so far.
        done: Iterations that have run.
        evaluated: Evaluations that are done.
    """

    def __init__(
        self,
        iterations: int,
        due: Iterable[int],
        best: Best,
        done: Iterable[int] = (),
        evaluated: Iterable[int] = (),
    ) -> None:
        self.iterations, self.best = iterations, best
        self.done, self.evaluated = set(done), set(evaluated)
        self._todo = deque(number for number in range(iterations) if number not in self.done)
        self._due = deque(sorted(set(due) - self.evaluated))

    def next(self) -> Job | None:
        """Return the next job; None if there is none at the moment."""
        if self._due and self._due[0] <= len(self.done):
            threshold = EARLY_STOP_FACTOR * self.best.reward
            return Job("evaluate", self._due.popleft(), threshold)
        return Job("train", self._todo.popleft()) if self._todo else None

    def record(self, result: JobResult) -> None:
        """Record the result of a job."""
        job = result.job
        (self.done if job.kind == "train" else self.evaluated).add(job.number)
        self.best = self.best.or_better(result)

    @property
    def share(self) -> float:
        """The share of the iterations that have run."""
        return len(self.done) / self.iterations

    def state(self) -> ScheduleState:
        """Return the plain values that a checkpoint keeps."""
        return ScheduleState(
            done=sorted(self.done),
            evaluated=sorted(self.evaluated),
            best_reward=self.best.reward,
        )


def evaluations(ends: Sequence[int], lengths: Sequence[int]) -> set[int]:
    """Return the numbers of iterations after which parameters are evaluated.

    They are dense at the beginning, where parameters change most. Short trainings have few, since
    evaluations would otherwise take most of the time. A prolonged training has those of the longer
    one in its new iterations.

    Args:
        ends: The number of iterations at each length of the training.
        lengths: These lengths, in episodes.

    Examples:
        >>> sorted(evaluations([100], [80]))
        [0, 6, 25, 56, 100]
        >>> sorted(evaluations([100, 200], [80, 160]))
        [0, 6, 25, 56, 100, 112, 153, 200]
    """
    found, before = set[int](), -1
    for end, episodes in zip(ends, lengths, strict=True):
        count = max(2, min(MAX_EVALUATIONS, episodes // EPISODES_PER_EVALUATION))
        due = {round(end * (each / count) ** 2) for each in range(count + 1)}
        found |= {number for number in due if number > before}
        before = end
    return found
