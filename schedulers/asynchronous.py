"""Asynchronous training: worker processes push gradients into parameters that they share.

A training is a number of rounds, each one or more episodes of an environment. Whoever is free
plays the next round, with no lock-step between workers and no lock around the parameters
(Hogwild: Recht et al., NeurIPS 2011; Mnih et al., ICML 2016). The process that called hands out
rounds, watches over the workers and keeps the records.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from typing import ClassVar, Final, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Diary, Task, TrainingError

Arrays: TypeAlias = dict[str, NDArray[np.float32]]
Flat: TypeAlias = NDArray[np.float32]
Memory: TypeAlias = "ctypes.Array[ctypes.c_float]"

RESTARTS: Final = 3
"""Workers that are replaced in one training before it is given up."""
EVALUATIONS: Final = 10
"""How often a training is evaluated on seeds that it does not use, at most."""
EPISODES_BETWEEN: Final = 20
"""Episodes for each of them, at least."""
VALIDATION_RUNS: Final = 8
_REMEMBERED: Final = "remembered."
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


def layout_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of arrays."""
    return {name: array.shape for name, array in arrays.items()}


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

    measures: ClassVar[tuple[str, ...]] = ()
    """What :meth:`play` tells of a round."""

    rounds: int
    """Rounds of the whole training."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def initial(self) -> Arrays:
        """Return the parameters that training begins with."""

    @abstractmethod
    def play(self, number: int, shared: Shared) -> dict[str, float]:
        """Play a round, learning from it; return its measures.

        What is drawn depends on the task's seed and the number of the round alone.
        """

    @abstractmethod
    def decide(self, parameters: Arrays, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the placements that the policy thinks best; shape (B, M)."""

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
    reward = evaluate(algorithm, parameters)
    return Result(job, {"validation_reward": reward}, flat(parameters))


def evaluate(algorithm: Algorithm, parameters: Arrays) -> float:
    """Return the mean reward of runs under the policy, on seeds that training does not use."""
    seeds = algorithm.task.validation_seeds(VALIDATION_RUNS)
    replicas = algorithm.task.replicas(len(seeds))
    features, total = algorithm.task.begin(replicas, seeds), 0.0
    while not replicas.ended.all():
        features, rewards, _ = replicas.step(algorithm.decide(parameters, features))
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

    def close(self) -> None:
        """Let everybody go."""


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
    """What is still to be done of a training: rounds, and evaluations between them."""

    def __init__(
        self, rounds: int, due: set[int], done: Iterable[int] = (), evaluated: Iterable[int] = ()
    ) -> None:
        self.rounds, self.done, self.evaluated = rounds, set(done), set(evaluated)
        self._todo = deque(number for number in range(rounds) if number not in self.done)
        self._due = deque(sorted(due - self.evaluated))

    def next(self) -> Job | None:
        """Return the next job, None while there is none."""
        if self._due and self._due[0] <= len(self.done):
            return Job("evaluate", self._due.popleft())
        return Job("play", self._todo.popleft()) if self._todo else None

    def note(self, job: Job) -> None:
        """Note that a job has been done."""
        (self.done if job.kind == "play" else self.evaluated).add(job.number)

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


def train(make: Callable[[Task], Algorithm], task: Task, diary: Diary) -> tuple[Arrays, float]:
    """Train; return the best parameters by evaluation and their reward.

    Begins from the diary's checkpoint if there is one. Raises ``TrainingError``.
    """
    algorithm = make(task)
    initial = algorithm.initial()
    layout = layout_of(initial)
    memory = Shared.memory_for(layout)
    shared = Shared(layout, memory)
    shared.values[:] = flat(initial)
    due = evaluations(algorithm.rounds, task.episodes)
    course, best = _Course(algorithm.rounds, due), Best(flat(initial))
    if (kept := diary.checkpoint) is not None:
        course = _Course(algorithm.rounds, due, kept.state["done"], kept.state["evaluated"])
        best = Best(_fitting(kept.arrays["best"], shared), kept.state["best_reward"])
        shared.values[:] = _fitting(kept.arrays["values"], shared)
        shared.squares[:] = _fitting(kept.arrays["squares"], shared)
        prefix, every = _REMEMBERED, kept.arrays.items()
        algorithm.remember({n.removeprefix(prefix): x for n, x in every if n.startswith(prefix)})
    crew: Crew = (
        SerialCrew(algorithm, shared)
        if task.serial
        else ProcessCrew(make, task, layout, memory, diary.warn)
    )
    try:
        for result in _results(crew, course):
            course.note(result.job)
            best = best.or_better(result)
            diary.note(course.share, result.measures)
            arrays = {"values": shared.values, "squares": shared.squares, "best": best.values}
            arrays |= {_REMEMBERED + name: x for name, x in algorithm.remembered().items()}
            done = {"done": sorted(course.done), "evaluated": sorted(course.evaluated)}
            diary.keep(arrays, done | {"best_reward": best.reward})
    finally:
        crew.close()
    return named(layout, best.values), best.reward


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
