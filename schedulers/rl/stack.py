"""Trains a stack of trainings in lockstep, in this process.

Each training of a stack is the one that it would be alone: it has its own parameters, random
numbers, memory and record, and it fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import (
    Arrays,
    TrainingError,
    TrainingLogger,
    TrainingProblem,
    TrainingResult,
    layout_of,
)
from schedulers.rl.episode_learning import EpisodeLearning, Measures
from schedulers.rl.parameters import (
    MAX_PARAMETER,
    NOT_FINITE,
    TOO_LARGE,
    Flat,
    flat,
    named,
    rmsprop,
)
from schedulers.rl.schedule import EARLY_STOP_FACTOR, ScheduleState, evaluations
from schedulers.rl.trainer import STATE, checkpoint_vector

MakeLearning: TypeAlias = Callable[[Sequence[TrainingProblem]], EpisodeLearning]
Outcome: TypeAlias = TrainingResult | TrainingError


def train_stack(
    make: MakeLearning, problems: Sequence[TrainingProblem], loggers: Sequence[TrainingLogger]
) -> list[Outcome]:
    """Train policies, from the checkpoints of the loggers if they have some.

    Args:
        make: Makes the learning algorithm.
        problems: The trainings; they differ in their seeds and learning rates only.
        loggers: Receive metrics and checkpoints, one for each training.

    Returns:
        Of each training, the best policy by evaluation and its reward, or why it failed.

    Raises:
        TrainingError: If a checkpoint does not fit.
    """
    found: dict[int, Outcome] = {}
    for group in _at_one_position(problems, loggers):
        own = [loggers[each] for each in group]
        stack = _Stack(make([problems[each] for each in group]), own)
        stack.run()
        found |= zip(group, stack.outcomes(), strict=True)
    return [found[each] for each in range(len(loggers))]


def _at_one_position(
    problems: Sequence[TrainingProblem], loggers: Sequence[TrainingLogger]
) -> list[list[int]]:
    """Return the trainings in groups that have done the same iterations and evaluations.

    Checkpoints differ if a training failed before the others, was killed between writing two, or
    was prolonged from another length.
    """
    groups: dict[str, list[int]] = {}
    for each, logger in enumerate(loggers):
        saved = logger.checkpoint
        state = None if saved is None else ScheduleState.read(saved.state)
        position = "" if state is None else f"{state.done} {state.evaluated}"
        position += f" {problems[each].lengths}"
        groups.setdefault(position, []).append(each)
    return list(groups.values())


class _StackedParameters:
    """Parameters of S trainings and the running means of their squared gradients.

    Attributes:
        values: Shape (S, P).
        square_avg: Shape (S, P).
        failures: Why trainings have failed, by their numbers.
    """

    def __init__(self, initial: Sequence[Arrays], rates: Flat, max_norm: float) -> None:
        self._layout = layout_of(initial[0])
        self.values = np.stack([flat(each) for each in initial])
        self.square_avg = np.zeros_like(self.values)
        self.failures: dict[int, TrainingError] = {}
        self._rates, self._max_norm = rates, max_norm

    def pull(self) -> Arrays:
        """Return a copy of the parameters, each of shape (S, …)."""
        return self.named(self.values.copy())

    def named(self, values: Flat) -> Arrays:
        """Return parameters by name; shape (…, P)."""
        return named(self._layout, values)

    def push(self, gradient: Flat) -> None:
        """Apply gradients, each clipped; a training that diverges fails and stays where it is."""
        with np.errstate(over="ignore", invalid="ignore"):
            norm = np.linalg.norm(gradient, axis=1)
        self._fail(~np.isfinite(norm), NOT_FINITE)
        norm = np.where(self.active, norm, 0.0).astype(np.float64)
        scale = np.minimum(1.0, self._max_norm / np.maximum(norm, 1e-12)).astype(np.float32)
        clipped = np.where(self.active[:, None], gradient, np.float32(0.0)) * scale[:, None]
        rmsprop(self.values, self.square_avg, clipped, self._rates)
        self._fail(~(np.abs(self.values).max(axis=1) <= MAX_PARAMETER), TOO_LARGE)

    @property
    def active(self) -> NDArray[np.bool_]:
        """Whether each training continues; shape (S,)."""
        return np.array([each not in self.failures for each in range(len(self.values))])

    def _fail(self, which: NDArray[np.bool_], reason: str) -> None:
        for each in np.flatnonzero(which & self.active).tolist():
            self.failures[each] = TrainingError(reason)
            self.values[each] = 0.0


class _Stack:
    """The state of all trainings of a stack, and their records."""

    def __init__(self, learning: EpisodeLearning, loggers: Sequence[TrainingLogger]) -> None:
        self._learning, self._loggers = learning, loggers
        rates = np.stack([learning.learning_rates(each) for each in learning.problems])
        max_norm = learning.settings.max_grad_norm
        self._parameters = _StackedParameters(learning.initial(), rates, max_norm)
        self._best = self._parameters.values.copy()
        self._best_reward = np.full(len(loggers), -np.inf)
        self._due = evaluations(learning.ends, learning.problems[0].lengths)
        self._done, self._evaluated = 0, set[int]()
        self._resume()

    def run(self) -> None:
        """Run all iterations and evaluations."""
        while self._parameters.active.any():
            if self._done in self._due - self._evaluated:
                self._evaluate()
            if self._done == self._learning.iterations:
                self._save(self._active_loggers())  # from here the trainings can be prolonged
                return
            measures = self._learning.run_iteration(self._done, self._parameters)
            self._done += 1
            self._log(measures)

    def outcomes(self) -> list[Outcome]:
        """Return the best policy of each training, or why it failed."""
        failures, pairs = self._parameters.failures, zip(self._best, self._best_reward, strict=True)
        return [failures.get(each) or self._result(*pair) for each, pair in enumerate(pairs)]

    def _result(self, values: Flat, reward: float) -> TrainingResult:
        return TrainingResult(self._learning.policy(self._parameters.named(values)), float(reward))

    def _evaluate(self) -> None:
        threshold, values = EARLY_STOP_FACTOR * self._best_reward, self._parameters.values
        rewards = self._learning.evaluate(self._parameters.pull(), threshold)
        better = (rewards > self._best_reward) & self._parameters.active
        self._best[better], self._best_reward[better] = values[better], rewards[better]
        self._evaluated.add(self._done)
        self._log({"validation_reward": rewards})

    def _log(self, measures: Measures) -> None:
        share = self._done / self._learning.iterations
        active = self._active_loggers()
        for each, logger in active.items():
            logger.log(share, {name: float(x[each]) for name, x in measures.items()})
        if all(logger.checkpoint_due for logger in active.values()):  # at the same iteration
            self._save(active)

    def _active_loggers(self) -> dict[int, TrainingLogger]:
        numbers = np.flatnonzero(self._parameters.active).tolist()
        return {each: self._loggers[each] for each in numbers}

    def _save(self, loggers: Mapping[int, TrainingLogger]) -> None:
        for each, logger in loggers.items():
            logger.save_checkpoint(self._arrays(each), self._state(each).model_dump())

    def _arrays(self, each: int) -> Arrays:
        rows = self._rows()
        state = {STATE + name: x for name, x in self._learning.state(each).items()}
        return {name: x[each] for name, x in rows.items()} | state

    def _rows(self) -> dict[str, Flat]:
        """Return the arrays of a checkpoint that have a row for each training."""
        values, square_avg = self._parameters.values, self._parameters.square_avg
        return {"values": values, "square_avg": square_avg, "best": self._best}

    def _state(self, each: int) -> ScheduleState:
        return ScheduleState(
            done=list(range(self._done)),
            evaluated=sorted(self._evaluated),
            best_reward=float(self._best_reward[each]),
        )

    def _resume(self) -> None:
        """Continue from the checkpoints, if there are any: of all trainings, at one position."""
        found = [logger.checkpoint for logger in self._loggers]
        saved = [checkpoint for checkpoint in found if checkpoint is not None]
        if not saved:
            return
        states = [ScheduleState.read(each.state) for each in saved]
        self._done, self._evaluated = len(states[0].done), set(states[0].evaluated)
        for each, (checkpoint, state) in enumerate(zip(saved, states, strict=True)):
            self._best_reward[each] = state.best_reward
            for name, rows in self._rows().items():
                rows[each] = checkpoint_vector(name, checkpoint, rows[each])
            own = checkpoint.arrays.items()
            self._learning.restore(
                each, {n.removeprefix(STATE): x for n, x in own if n.startswith(STATE)}
            )
