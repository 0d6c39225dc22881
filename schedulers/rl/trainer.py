"""Asynchronous training: worker processes push gradients into parameters that they share.

A training is a number of rounds, each one or more episodes of an environment. Whoever is free
plays the next round, with no lock-step between workers and no lock around the parameters
(Hogwild: Recht et al., NeurIPS 2011; Mnih et al., ICML 2016). The process that called hands out
rounds, watches over the workers and keeps the records.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from mecsim.learning import Diary, Task, Trained, TrainingError, layout_of
from schedulers.rl.algorithm import Algorithm, Crew, Job, Result
from schedulers.rl.parameters import Flat, Shared, flat, named
from schedulers.rl.workers import ProcessCrew, SerialCrew

EVALUATIONS: Final = 10
"""How often a training is evaluated on seeds that it does not use, at most."""
HOPELESS: Final = 5.0
"""An evaluation is given up when its reward is so many times that of the best."""
EPISODES_BETWEEN: Final = 20
"""Episodes for each of them, at least."""
_REMEMBERED: Final = "remembered."


class _Course:
    """What is still to be done of a training, rounds and evaluations, and the best so far."""

    def __init__(
        self,
        rounds: int,
        due: set[int],
        best: Best,
        done: Iterable[int] = (),
        evaluated: Iterable[int] = (),
    ) -> None:
        self.rounds, self.best = rounds, best
        self.done, self.evaluated = set(done), set(evaluated)
        self._todo = deque(number for number in range(rounds) if number not in self.done)
        self._due = deque(sorted(due - self.evaluated))

    def next(self) -> Job | None:
        """Return the next job, None while there is none."""
        if self._due and self._due[0] <= len(self.done):
            return Job("evaluate", self._due.popleft(), HOPELESS * self.best.reward)
        return Job("play", self._todo.popleft()) if self._todo else None

    def note(self, result: Result) -> None:
        """Note that a job has been done, and what came of it."""
        job = result.job
        (self.done if job.kind == "play" else self.evaluated).add(job.number)
        self.best = self.best.or_better(result)

    @property
    def share(self) -> float:
        """The share of the rounds that have been played."""
        return len(self.done) / self.rounds


def evaluations(rounds: int, episodes: int) -> set[int]:
    """Return after how many rounds the parameters are evaluated.

    More often at the beginning, when they change most, and seldom in short trainings, which
    evaluations would otherwise make much longer.
    """
    count = max(2, min(EVALUATIONS, episodes // EPISODES_BETWEEN))
    return {round(rounds * (each / count) ** 2) for each in range(count + 1)}


class Best(NamedTuple):
    """The best parameters by evaluation."""

    values: Flat
    reward: float = -math.inf

    def or_better(self, result: Result) -> Best:
        """Return what was evaluated if it is better."""
        reward = result.measures.get("validation_reward", -math.inf)
        if result.parameters is None or reward <= self.reward:
            return self
        return Best(result.parameters, reward)


def train(make: Callable[[Task], Algorithm], task: Task, diary: Diary) -> Trained:
    """Train; return the best policy by evaluation and its reward.

    Begins from the diary's checkpoint if there is one. Raises ``TrainingError``.
    """
    algorithm = make(task)
    initial = algorithm.initial()
    layout = layout_of(initial)
    memory = Shared.memory_for(layout)
    shared = Shared(layout, memory)
    shared.values[:] = flat(initial)
    due = evaluations(algorithm.rounds, task.episodes)
    course = _Course(algorithm.rounds, due, Best(flat(initial)))
    if (kept := diary.checkpoint) is not None:
        best = Best(_fitting(kept.arrays["best"], shared), kept.state["best_reward"])
        course = _Course(algorithm.rounds, due, best, kept.state["done"], kept.state["evaluated"])
        shared.values[:] = _fitting(kept.arrays["values"], shared)
        shared.squares[:] = _fitting(kept.arrays["squares"], shared)
        prefix, every = _REMEMBERED, kept.arrays.items()
        algorithm.remember({n.removeprefix(prefix): x for n, x in every if n.startswith(prefix)})
    crew: Crew
    if task.serial:
        crew = SerialCrew(algorithm, shared)
    elif task.engine == "ray":
        from schedulers.rl.ray_workers import RayCrew  # noqa: PLC0415 - Ray is optional

        crew = RayCrew(make, task, layout, (shared.values, shared.squares), diary.warn)
    else:
        crew = ProcessCrew(make, task, layout, memory, diary.warn)
    try:
        for result in _results(crew, course):
            course.note(result)
            diary.note(course.share, result.measures)
            values, squares = crew.parameters()
            arrays = {"values": values, "squares": squares, "best": course.best.values}
            arrays |= {_REMEMBERED + name: x for name, x in algorithm.remembered().items()}
            done = {"done": sorted(course.done), "evaluated": sorted(course.evaluated)}
            diary.keep(arrays, done | {"best_reward": course.best.reward})
    finally:
        crew.close()
    return Trained(algorithm.policy(named(layout, course.best.values)), course.best.reward)


def _results(crew: Crew, course: _Course) -> Iterator[Result]:
    """Let a crew do all that is to be done; yield what comes of it."""
    busy = 0
    while True:
        while crew.free and (job := course.next()) is not None:
            crew.give(job)
            busy += 1
        if not busy:
            return
        yield crew.next()
        busy -= 1


def _fitting(kept: Flat, shared: Shared) -> Flat:
    if kept.shape != shared.values.shape:
        raise TrainingError("the checkpoint is of a network of another shape")
    return kept
