"""Workers of a training: in this process or in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from mecsim.learning import Task, TrainingError
from schedulers.rl.algorithm import RESTARTS, Algorithm, Job, Result, perform
from schedulers.rl.parameters import Flat, Memory, Shared


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
