"""Asynchronous training: worker processes push gradients into parameters that they share.

A training is a number of rounds, each one or more episodes of an environment. Whoever is free
plays the next round, with no lock-step between workers and no lock around the parameters
(Hogwild: Recht et al., NeurIPS 2011; Mnih et al., ICML 2016). The process that called hands out
rounds, watches over the workers and keeps the records.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, NamedTuple

from mecsim.learning import Diary, Task, Trained, TrainingError, layout_of
from schedulers.shared import (
    RESTARTS,
    Algorithm,
    Crew,
    Flat,
    Job,
    Memory,
    Result,
    Shared,
    flat,
    named,
    perform,
)

EVALUATIONS: Final = 10
"""How often a training is evaluated on seeds that it does not use, at most."""
HOPELESS: Final = 5.0
"""An evaluation is given up when its reward is so many times that of the best."""
EPISODES_BETWEEN: Final = 20
"""Episodes for each of them, at least."""
_REMEMBERED: Final = "remembered."


class SerialCrew:
    """Does every job at once, in this process: the same update rule, in an order that is fixed."""

    def __init__(self, algorithm: Algorithm, shared: Shared) -> None:
        self._algorithm, self._shared = algorithm, shared
        self._results: deque[Result] = deque()

    @property
    def free(self) -> bool:
        """Whether it takes another job."""
        return not self._results

    def give(self, job: Job) -> None:
        """Do a job."""
        self._results.append(perform(self._algorithm, self._shared, job))

    def next(self) -> Result:
        """Return what has been done."""
        return self._results.popleft()

    def parameters(self) -> tuple[Flat, Flat]:
        """Return the parameters and their squares."""
        return self._shared.values, self._shared.squares

    def close(self) -> None:
        """Nothing is to be let go."""


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class ProcessCrew:
    """Worker processes, each with environments of its own; one that dies is replaced."""

    def __init__(
        self,
        make: Callable[[Task], Algorithm],
        task: Task,
        layout: Mapping[str, tuple[int, ...]],
        memory: Memory,
        warn: Callable[[str], None],
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._arguments, self._warn, self._restarts = (make, task, layout, memory), warn, 0
        self._shared = Shared(layout, memory)
        self._workers = [self._start() for _ in range(task.workers)]
        self._jobs: dict[Connection, Job] = {}

    @property
    def free(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self._jobs) < len(self._workers)

    def give(self, job: Job) -> None:
        """Let a free worker do a job."""
        worker = next(worker for worker in self._workers if worker.pipe not in self._jobs)
        self._hand(worker, job)

    def next(self) -> Result:
        """Wait for a job to be done; replace workers that die meanwhile.

        Raises ``TrainingError`` if a worker fails, or if too many have died.
        """
        while True:
            pipes = {worker.pipe: worker for worker in self._workers}
            for ready in wait(list(pipes)):
                assert isinstance(ready, Connection)
                try:
                    answer = ready.recv()
                except (EOFError, OSError):
                    self._replace(pipes[ready])
                    break
                if isinstance(answer, str):
                    raise TrainingError(answer)
                del self._jobs[ready]
                return answer

    def parameters(self) -> tuple[Flat, Flat]:
        """Return the parameters and their squares as they are now."""
        return self._shared.values, self._shared.squares

    def close(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(*self._arguments, theirs, os.getpid()), daemon=True
        )
        with _ctrl_c_waits():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand(self, worker: _Worker, job: Job) -> None:
        self._jobs[worker.pipe] = job
        try:
            worker.pipe.send(job)
        except OSError:  # it has died: next() will find out
            return

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        code, job = worker.process.exitcode, self._jobs.pop(worker.pipe, None)
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise TrainingError(f"{self._restarts} workers died (the last with exit code {code})")
        self._warn(f"a worker died with exit code {code}; another one takes its place")
        worker.pipe.close()
        fresh = self._start()
        self._workers[self._workers.index(worker)] = fresh
        if job is not None:
            self._hand(fresh, job)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Start processes that Ctrl-C is not for; here it is told afterwards."""
    resource_tracker.ensure_running()  # which would unblock it
    pressed: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *_: pressed.append(1)) if here else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if here:
            signal.signal(signal.SIGINT, handler)
    if pressed:
        raise KeyboardInterrupt


def _work(
    make: Callable[[Task], Algorithm],
    task: Task,
    layout: Mapping[str, tuple[int, ...]],
    memory: Memory,
    pipe: Connection,
    parent: int,
) -> None:
    """Do jobs until the other end is closed, or whoever is there is no longer the parent."""
    try:
        algorithm, shared = make(task), Shared(layout, memory)
        while os.getppid() == parent:
            if pipe.poll(1.0):
                pipe.send(perform(algorithm, shared, pipe.recv()))
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # noqa: BLE001 - told to the process that called, if it is there
        expected = isinstance(error, TrainingError)
        with suppress(OSError):
            pipe.send(str(error) if expected else f"a worker failed:\n{traceback.format_exc()}")


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
        from schedulers.asynchronous_ray import RayCrew  # noqa: PLC0415 - Ray is optional

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
