"""Asynchronous training on Ray: the parameters with one actor, workers that may be anywhere.

The process that called is connected to a cluster. The parameter server is an actor beside it; each
worker is an actor with environments of its own, which fetches parameters and sends gradients.
Pushes are applied one after the other, to whatever the parameters have become meanwhile.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mecsim.learning import Arrays, Task, TrainingError
from schedulers.rl.algorithm import RESTARTS, Algorithm, Job, Result, perform
from schedulers.rl.parameters import Flat, Shared, named

SERVER_LOST = "the parameter server died; --resume goes on from the last checkpoint"


class Server:
    """The parameters and their squares."""

    def __init__(
        self, layout: Mapping[str, tuple[int, ...]], parameters: tuple[Flat, Flat]
    ) -> None:
        self._shared = Shared(layout, Shared.memory_for(layout))
        self._shared.values[:], self._shared.squares[:] = parameters

    def pull(self) -> Flat:
        """Return the parameters."""
        return self._shared.values

    def push(self, gradient: Flat, rate: float | Flat, decay: float, epsilon: float) -> str:
        """Follow a gradient; return why that went wrong, if it did."""
        try:
            self._shared.push(gradient, rate, decay=decay, epsilon=epsilon)
        except TrainingError as error:
            return str(error)
        return ""

    def parameters(self) -> tuple[Flat, Flat]:
        """Return the parameters and their squares."""
        return self._shared.values, self._shared.squares


class RemoteShared(Shared):
    """Parameters that lie with a server; to algorithms as :class:`Shared`."""

    def __init__(self, layout: Mapping[str, tuple[int, ...]], server: Any) -> None:
        self._layout, self._server = layout, server

    def pull(self) -> Arrays:
        """Return a copy of the parameters as they are now."""
        return named(self._layout, _answer(self._server.pull.remote()).copy())

    def push(
        self, gradient: Flat, rate: float | Flat, *, decay: float = 0.99, epsilon: float = 1e-5
    ) -> None:
        """Send a gradient and wait until it has been followed. Raises ``TrainingError``."""
        if problem := _answer(self._server.push.remote(gradient, rate, decay, epsilon)):
            raise TrainingError(problem)


def _answer(reference: Any) -> Any:
    """Wait for what the server answers. Raises ``TrainingError`` if it has died."""
    try:
        return ray.get(reference)
    except RayActorError as error:
        raise TrainingError(SERVER_LOST) from error


class Worker:
    """Plays rounds and evaluates, with environments of its own."""

    def __init__(
        self,
        make: Callable[[Task], Algorithm],
        task: Task,
        layout: Mapping[str, tuple[int, ...]],
        server: Any,
    ) -> None:
        self._make, self._task, self._shared = make, task, RemoteShared(layout, server)
        self._algorithm: Algorithm | None = None

    def perform(self, job: Job) -> Result | str:
        """Do a job; return why it failed, if it did."""
        try:
            if self._algorithm is None:
                self._algorithm = self._make(self._task)
            return perform(self._algorithm, self._shared, job)
        except TrainingError as error:
            return str(error)
        except Exception:  # noqa: BLE001 - told to the process that called
            return f"a worker failed:\n{traceback.format_exc()}"


def _actor(cls: type, **options: Any) -> Any:
    """Return a class whose instances are actors, without Ray's types: they forbid what it takes."""
    return ray.remote(cls).options(**options)


class RayCrew:
    """Worker actors, each with a CPU, and the parameter server; a worker that dies is replaced."""

    def __init__(
        self,
        make: Callable[[Task], Algorithm],
        task: Task,
        layout: Mapping[str, tuple[int, ...]],
        parameters: tuple[Flat, Flat],
        warn: Callable[[str], None],
    ) -> None:
        cpus = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        if task.workers > cpus:
            raise TrainingError(
                f"--workers: {task.workers}; allowed: {cpus}, as the cluster's CPUs"
            )
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        server = _actor(Server, num_cpus=0, scheduling_strategy=here)
        self._server = server.remote(layout, parameters)
        self._arguments, self._warn, self._restarts = (make, task, layout, self._server), warn, 0
        self._workers = [self._start(cpus=1) for _ in range(task.workers)]
        self._jobs: dict[Any, tuple[Any, Job]] = {}  # what will be the answer: who does what

    @property
    def free(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self._jobs) < len(self._workers)

    def give(self, job: Job) -> None:
        """Let a free worker do a job."""
        busy = [worker for worker, _ in self._jobs.values()]
        self._hand(next(worker for worker in self._workers if worker not in busy), job)

    def next(self) -> Result:
        """Wait for a job to be done; replace workers that die meanwhile.

        Raises ``TrainingError`` if a worker fails, if too many have died, or the server has.
        """
        while True:
            (ready,), _ = ray.wait(list(self._jobs))
            worker, job = self._jobs.pop(ready)
            try:
                answer: Result | str = ray.get(ready)
            except RayActorError:
                self._replace(worker, job)
                continue
            if isinstance(answer, str):
                raise TrainingError(answer)
            return answer

    def parameters(self) -> tuple[Flat, Flat]:
        """Fetch the parameters and their squares. Raises ``TrainingError``."""
        values, squares = _answer(self._server.parameters.remote())
        return np.asarray(values), np.asarray(squares)

    def close(self) -> None:
        """End all workers and the server, whatever they do."""
        for actor in (*self._workers, self._server):
            ray.kill(actor)

    def _start(self, cpus: int) -> Any:
        return _actor(Worker, num_cpus=cpus, scheduling_strategy="SPREAD").remote(*self._arguments)

    def _hand(self, worker: Any, job: Job) -> None:
        self._jobs[worker.perform.remote(job)] = worker, job

    def _replace(self, worker: Any, job: Job) -> None:
        """Let another one do a job; it asks for no CPU, for with a node its CPUs are gone."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise TrainingError(f"{self._restarts} workers died")
        self._warn("a worker died; another one takes its place")
        fresh = self._start(cpus=0)
        self._workers[self._workers.index(worker)] = fresh
        self._hand(fresh, job)
