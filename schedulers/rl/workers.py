"""Pools of workers that perform the jobs of a training: in this process or in others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from mecsim.learning import SchedulerError, TrainingError, TrainingProblem
from schedulers.rl.algorithm import Algorithm, Job, JobResult, perform
from schedulers.rl.parameters import Flat, Layout, SharedMemory, SharedParameters

MAX_RESTARTS: Final = 3
"""Dead workers that a training replaces before it fails."""

MakeAlgorithm: TypeAlias = Callable[[TrainingProblem], Algorithm]

W = TypeVar("W")
"""A pool's handle of a worker."""


class Died(NamedTuple):
    """The answer of a worker that has died."""

    how: str = ""
    """For a message: its exit code, if known."""


Answer: TypeAlias = JobResult | str | Died
"""The result of a job, the reason of its failure, or the death of its worker."""


class WorkerPool(ABC, Generic[W]):
    """Workers that perform jobs; one that dies is replaced and its job is repeated.

    Args:
        workers: Their number.
        warn: Called with a message when a worker is replaced.
    """

    def __init__(self, workers: int, warn: Callable[[str], None]) -> None:
        self._warn, self._restarts = warn, 0
        self._jobs: dict[int, Job] = {}
        self._workers = [self._start() for _ in range(workers)]

    @property
    def free(self) -> bool:
        """Whether a worker has no job."""
        return len(self._jobs) < len(self._workers)

    def submit(self, job: Job) -> None:
        """Give a job to a free worker."""
        self._assign(next(n for n in range(len(self._workers)) if n not in self._jobs), job)

    def result(self) -> JobResult:
        """Wait for a job to be done and return its result.

        Raises ``TrainingError`` if a job fails, or if too many workers have died.
        """
        while True:
            number, answer = self._receive()
            if isinstance(answer, Died):
                self._replace(number, answer.how)
                continue
            if isinstance(answer, str):
                raise TrainingError(answer)
            del self._jobs[number]
            return answer

    def _assign(self, number: int, job: Job) -> None:
        self._jobs[number] = job
        self._send(number, job)

    def _replace(self, number: int, how: str) -> None:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            last = f" (the last {how})" if how else ""
            raise TrainingError(f"{self._restarts} workers died{last}")
        self._warn(f"a worker died{f' {how}' if how else ''}; another one replaces it")
        self._workers[number] = self._start(replaces=True)
        if (job := self._jobs.pop(number, None)) is not None:
            self._assign(number, job)

    @abstractmethod
    def _start(self, *, replaces: bool = False) -> W:
        """Start a worker."""

    @abstractmethod
    def _send(self, number: int, job: Job) -> None:
        """Send a job to a worker."""

    @abstractmethod
    def _receive(self) -> tuple[int, Answer]:
        """Wait for an answer; return it and the number of its worker."""

    @abstractmethod
    def parameters(self) -> tuple[Flat, Flat]:
        """Return the current parameters and their RMS accumulators."""

    @abstractmethod
    def close(self) -> None:
        """End all workers, busy ones too."""


class SerialPool(WorkerPool[Algorithm]):
    """One worker in this process: jobs are performed one after the other, in a fixed order."""

    def __init__(self, algorithm: Algorithm, shared: SharedParameters) -> None:
        self._algorithm, self._shared = algorithm, shared
        super().__init__(1, warn=lambda _: None)

    def _start(self, *, replaces: bool = False) -> Algorithm:
        del replaces
        return self._algorithm

    def _send(self, number: int, job: Job) -> None:
        self._answer = perform(self._workers[number], self._shared, job)

    def _receive(self) -> tuple[int, Answer]:
        return 0, self._answer

    def parameters(self) -> tuple[Flat, Flat]:
        return self._shared.values, self._shared.square_avg

    def close(self) -> None:
        """Do nothing."""


class _Process(NamedTuple):
    process: BaseProcess
    pipe: Connection


class ProcessPool(WorkerPool[_Process]):
    """Worker processes, each with its own environments."""

    def __init__(
        self,
        make: MakeAlgorithm,
        problem: TrainingProblem,
        layout: Layout,
        memory: SharedMemory,
        warn: Callable[[str], None],
    ) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._arguments = make, problem, layout, memory
        self._shared = SharedParameters(layout, memory)
        super().__init__(problem.workers, warn)

    def _start(self, *, replaces: bool = False) -> _Process:
        del replaces
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(*self._arguments, theirs, os.getpid()), daemon=True
        )
        with _sigint_blocked():
            process.start()
        theirs.close()
        return _Process(process, ours)

    def _send(self, number: int, job: Job) -> None:
        with suppress(OSError):  # it has died, which _receive reports
            self._workers[number].pipe.send(job)

    def _receive(self) -> tuple[int, Answer]:
        pipes = [worker.pipe for worker in self._workers]
        ready = wait(pipes)[0]
        assert isinstance(ready, Connection)
        number = pipes.index(ready)
        try:
            answer: JobResult | str = ready.recv()
        except (EOFError, OSError):
            return number, self._buried(self._workers[number])
        return number, answer

    @staticmethod
    def _buried(worker: _Process) -> Died:
        worker.process.join()
        worker.pipe.close()
        return Died(f"with exit code {worker.process.exitcode}")

    def parameters(self) -> tuple[Flat, Flat]:
        return self._shared.values, self._shared.square_avg

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Start child processes with SIGINT blocked; raise a pending KeyboardInterrupt afterwards."""
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
    make: MakeAlgorithm,
    problem: TrainingProblem,
    layout: Layout,
    memory: SharedMemory,
    pipe: Connection,
    parent: int,
) -> None:
    """Perform jobs until the pipe closes or the parent process ends."""
    try:
        algorithm, shared = make(problem), SharedParameters(layout, memory)
        while os.getppid() == parent:
            if pipe.poll(1.0):
                pipe.send(perform(algorithm, shared, pipe.recv()))
    except (EOFError, ConnectionError):
        return
    except Exception as error:  # noqa: BLE001 - reported to the parent process, if it is there
        with suppress(OSError):
            pipe.send(failure(error))


def failure(error: Exception) -> str:
    """Return the reason of a failed job, with a traceback unless its message says all."""
    if isinstance(error, TrainingError | SchedulerError):
        return str(error)
    return f"a worker failed:\n{''.join(traceback.format_exception(error))}"
