"""Trains a stack of trainings in lockstep, in this process.

Each training of a stack is the one that it would be alone: it has its own parameters, random
numbers, memory and record, and it fails alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    stack = _Stack(make(problems), loggers)
    stack.run()
    return stack.outcomes()


class _Stack:
    """The parameters of all trainings, and their records."""

    def __init__(self, learning: EpisodeLearning, loggers: Sequence[TrainingLogger]) -> None:
        self._learning, self._loggers = learning, loggers
        initial = learning.initial()
        self._layout = layout_of(initial[0])
        self._values = np.stack([flat(each) for each in initial])
        self._square_avg = np.zeros_like(self._values)
        self._rates = np.stack([learning.learning_rates(each) for each in learning.problems])
        self._best, self._best_reward = self._values.copy(), np.full(len(initial), -np.inf)
        self._failures: dict[int, TrainingError] = {}
        self._max_norm = learning.settings.max_grad_norm
        self._due = evaluations(learning.iterations, learning.iterations)
        self._done, self._evaluated = 0, set[int]()
        self._resume()

    def run(self) -> None:
        """Run all iterations and evaluations."""
        while True:
            if self._done in self._due - self._evaluated:
                self._evaluate()
            if self._done == self._learning.iterations or len(self._failures) == len(self._loggers):
                return
            self._iterate()

    def outcomes(self) -> list[Outcome]:
        """Return the best policy of each training, or why it failed."""
        return [
            self._failures.get(each)
            or TrainingResult(self._learning.policy(named(self._layout, values)), float(reward))
            for each, (values, reward) in enumerate(zip(self._best, self._best_reward, strict=True))
        ]

    def _iterate(self) -> None:
        parameters = named(self._layout, self._values.copy())
        gradients, measures = self._learning.run_iteration(self._done, parameters)
        for gradient in gradients:
            self._push(gradient)
        self._done += 1
        self._log(measures)

    def _push(self, gradient: Flat) -> None:
        """Apply gradients, each clipped; a training that diverges fails and stays where it is."""
        with np.errstate(over="ignore", invalid="ignore"):
            norm = np.linalg.norm(gradient, axis=1)
        self._fail(~np.isfinite(norm), NOT_FINITE)
        scale = np.minimum(1.0, self._max_norm / np.maximum(norm, 1e-12)).astype(np.float32)
        clipped = np.where(self._active[:, None], gradient * scale[:, None], np.float32(0.0))
        rmsprop(self._values, self._square_avg, clipped, self._rates)
        self._fail(~(np.abs(self._values).max(axis=1) <= MAX_PARAMETER), TOO_LARGE)

    @property
    def _active(self) -> NDArray[np.bool_]:
        return np.array([each not in self._failures for each in range(len(self._loggers))])

    def _fail(self, which: NDArray[np.bool_], reason: str) -> None:
        for each in np.flatnonzero(which & self._active).tolist():
            self._failures[each] = TrainingError(reason)
            self._values[each] = 0.0

    def _evaluate(self) -> None:
        rewards = self._learning.evaluate(
            named(self._layout, self._values), EARLY_STOP_FACTOR * self._best_reward
        )
        better = (rewards > self._best_reward) & self._active
        self._best[better], self._best_reward[better] = self._values[better], rewards[better]
        self._evaluated.add(self._done)
        self._log({"validation_reward": rewards})

    def _log(self, measures: Measures) -> None:
        share = self._done / self._learning.iterations
        for each, logger in enumerate(self._loggers):
            if each not in self._failures:
                logger.log(share, {name: float(x[each]) for name, x in measures.items()})
                if logger.checkpoint_due:
                    logger.save_checkpoint(self._arrays(each), self._state(each).model_dump())

    def _arrays(self, each: int) -> Arrays:
        rows = {"values": self._values, "square_avg": self._square_avg, "best": self._best}
        state = {STATE + name: x for name, x in self._learning.state(each).items()}
        return {name: x[each] for name, x in rows.items()} | state

    def _state(self, each: int) -> ScheduleState:
        return ScheduleState(
            done=list(range(self._done)),
            evaluated=sorted(self._evaluated),
            best_reward=float(self._best_reward[each]),
        )

    def _resume(self) -> None:
        """Continue from the checkpoints, if every training has one."""
        found = [logger.checkpoint for logger in self._loggers]
        saved = [checkpoint for checkpoint in found if checkpoint is not None]
        if len(saved) < len(found):
            return
        states = [ScheduleState.read(each.state) for each in saved]
        if len({(len(state.done), *state.evaluated) for state in states}) > 1:
            raise TrainingError("the checkpoints of a stack are of different iterations")
        self._done, self._evaluated = len(states[0].done), set(states[0].evaluated)
        for each, (checkpoint, state) in enumerate(zip(saved, states, strict=True)):
            self._best_reward[each] = state.best_reward
            for name in ("values", "square_avg", "best"):
                rows: Flat = getattr(self, f"_{name}")
                rows[each] = checkpoint_vector(name, checkpoint, rows[each])
            own = checkpoint.arrays.items()
            self._learning.restore(
                each, {n.removeprefix(STATE): x for n, x in own if n.startswith(STATE)}
            )
