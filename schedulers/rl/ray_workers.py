"""A pool of workers on a Ray cluster, with the parameters in an actor.

This process is connected to a cluster. The parameter server is an actor on its node; each worker
is an actor with its own environments, which fetches parameters and sends gradients. The server
applies gradients one after the other, to parameters that may have changed since they were fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mecsim.learning import Arrays, TrainingError, TrainingProblem
from schedulers.rl.algorithm import Algorithm, Job, JobResult, perform
from schedulers.rl.parameters import Flat, Layout, SharedParameters, named
from schedulers.rl.workers import Answer, Died, MakeAlgorithm, WorkerPool, failure

SERVER_LOST = "the parameter server died. Try: --resume, which continues from the last checkpoint"


class ParameterServer:
    """Holds the parameters and their RMS accumulators."""

    def __init__(self, layout: Layout, parameters: tuple[Flat, Flat]) -> None:
        self._shared = SharedParameters(layout, SharedParameters.memory_for(layout))
        self._shared.values[:], self._shared.square_avg[:] = parameters

    def pull(self) -> Flat:
        """Return the parameters."""
        return self._shared.values

    def push(self, gradient: Flat, rate: float | Flat, decay: float, epsilon: float) -> str:
        """Apply a gradient; return the reason if that fails."""
        try:
            self._shared.push(gradient, rate, decay=decay, epsilon=epsilon)
        except TrainingError as error:
            return str(error)
        return ""

    def parameters(self) -> tuple[Flat, Flat]:
        """Return the parameters and their RMS accumulators."""
        return self._shared.values, self._shared.square_avg


class RemoteParameters(SharedParameters):
    """The parameters of a server, which algorithms use like :class:`SharedParameters`."""

    def __init__(self, layout: Layout, server: Any) -> None:
        self._layout, self._server = layout, server

    def pull(self) -> Arrays:
        """Return a copy of the current parameters."""
        return named(self._layout, _answer(self._server.pull.remote()).copy())

    def push(
        self,
        gradient: Flat,
        learning_rate: float | Flat,
        *,
        decay: float = 0.99,
        epsilon: float = 1e-5,
    ) -> None:
        """Send a gradient and wait until it is applied. Raises ``TrainingError``."""
        if problem := _answer(self._server.push.remote(gradient, learning_rate, decay, epsilon)):
            raise TrainingError(problem)


def _answer(reference: Any) -> Any:
    """Wait for an answer of the server. Raises ``TrainingError`` if it has died."""
    try:
        return ray.get(reference)
    except RayActorError as error:
        raise TrainingError(SERVER_LOST) from error


class Worker:
    """An actor that performs jobs with its own environments."""

    def __init__(
        self, make: MakeAlgorithm, problem: TrainingProblem, layout: Layout, server: Any
    ) -> None:
        self._make, self._problem = make, problem
        self._shared = RemoteParameters(layout, server)
        self._algorithm: Algorithm | None = None

    def perform(self, job: Job) -> JobResult | str:
        """Perform a job; return the reason if that fails."""
        try:
            if self._algorithm is None:
                self._algorithm = self._make(self._problem)
            return perform(self._algorithm, self._shared, job)
        except Exception as error:  # noqa: BLE001 - reported to the process that submitted the job
            return failure(error)


def _actor(cls: type, **options: Any) -> Any:
    """Return a class whose instances are actors, without Ray's types, which are too narrow."""
    return ray.remote(cls).options(**options)


class RayPool(WorkerPool[Any]):
    """Worker actors, each with a CPU, and the parameter server."""

    def __init__(
        self,
        make: MakeAlgorithm,
        problem: TrainingProblem,
        layout: Layout,
        parameters: tuple[Flat, Flat],
        warn: Callable[[str], None],
    ) -> None:
        cpus = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        if problem.workers > cpus:
            raise TrainingError(
                f"--workers: {problem.workers}; allowed: {cpus}, the CPUs of the cluster"
            )
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        server = _actor(ParameterServer, num_cpus=0, scheduling_strategy=here)
        self._server = server.remote(layout, parameters)
        self._arguments = make, problem, layout, self._server
        self._answers: dict[Any, int] = {}  # reference to an answer: number of its worker
        super().__init__(problem.workers, warn)

    def _start(self, *, replaces: bool = False) -> Any:
        """Start a worker; a replacement asks for no CPU, since those of a lost node are gone."""
        cpus = 0 if replaces else 1
        return _actor(Worker, num_cpus=cpus, scheduling_strategy="SPREAD").remote(*self._arguments)

    def _send(self, number: int, job: Job) -> None:
        self._answers[self._workers[number].perform.remote(job)] = number

    def _receive(self) -> tuple[int, Answer]:
        (ready,), _ = ray.wait(list(self._answers))
        number = self._answers.pop(ready)
        try:
            answer: JobResult | str = ray.get(ready)
        except RayActorError:
            return number, Died()
        return number, answer

    def parameters(self) -> tuple[Flat, Flat]:
        """Fetch the parameters and their RMS accumulators. Raises ``TrainingError``."""
        values, square_avg = _answer(self._server.parameters.remote())
        return np.asarray(values), np.asarray(square_avg)

    def close(self) -> None:
        for actor in (*self._workers, self._server):
            ray.kill(actor)
