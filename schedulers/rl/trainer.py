"""Asynchronous training: workers push gradients into parameters that they share.

A training is a number of iterations. Every free worker runs the next one, without waiting for the
others and without a lock around the parameters (Hogwild: Recht et al., NeurIPS 2011; Mnih et al.,
ICML 2016). This process submits jobs, replaces dead workers and keeps the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from mecsim.learning import (
    Arrays,
    Checkpoint,
    TrainingError,
    TrainingLogger,
    TrainingProblem,
    TrainingResult,
    layout_of,
)
from schedulers.rl.algorithm import Algorithm, JobResult
from schedulers.rl.parameters import Flat, Layout, SharedMemory, SharedParameters, flat, named
from schedulers.rl.schedule import Best, ScheduleState, TrainingSchedule, evaluations
from schedulers.rl.workers import MakeAlgorithm, ProcessPool, SerialPool, WorkerPool

STATE: Final = "state."
"""Prefix of the algorithm's arrays in a checkpoint."""


def train(make: MakeAlgorithm, problem: TrainingProblem, logger: TrainingLogger) -> TrainingResult:
    """Train a policy, from the logger's checkpoint if it has one.

    Args:
        make: Makes the algorithm; called in every worker.
        problem: The problem to solve.
        logger: Receives metrics and checkpoints.

    Returns:
        The best policy by evaluation, and its reward.

    Raises:
        TrainingError: If the training fails.
    """
    algorithm = make(problem)
    initial = algorithm.initial()
    layout = layout_of(initial)
    memory = SharedParameters.memory_for(layout)
    shared = SharedParameters(layout, memory)
    shared.values[:] = flat(initial)
    schedule = _schedule(algorithm, shared, logger.checkpoint)
    with closing(_pool(make, algorithm, layout, memory, logger)) as pool:
        for result in _results(pool, schedule):
            schedule.record(result)
            logger.log(schedule.share, result.measures)
            arrays = _checkpoint_arrays(pool, schedule, algorithm)
            logger.save_checkpoint(arrays, schedule.state().model_dump())
    best = schedule.best
    return TrainingResult(algorithm.policy(named(layout, best.values)), best.reward)


def _schedule(
    algorithm: Algorithm, shared: SharedParameters, saved: Checkpoint | None
) -> TrainingSchedule:
    """Return the schedule of a training; restore all from a checkpoint if there is one."""
    iterations = algorithm.iterations
    due = evaluations(algorithm.ends, algorithm.problem.lengths)
    if saved is None:
        return TrainingSchedule(iterations, due, Best(shared.values.copy()))
    state = ScheduleState.read(saved.state)
    best = Best(checkpoint_vector("best", saved, shared.values), state.best_reward)
    shared.values[:] = checkpoint_vector("values", saved, shared.values)
    shared.square_avg[:] = checkpoint_vector("square_avg", saved, shared.values)
    every = saved.arrays.items()
    algorithm.restore({n.removeprefix(STATE): x for n, x in every if n.startswith(STATE)})
    return TrainingSchedule(iterations, due, best, state.done, state.evaluated)


def checkpoint_vector(name: str, saved: Checkpoint, like: Flat) -> Flat:
    """Return a vector of a checkpoint. Raises ``TrainingError`` if its length does not fit."""
    found = saved.arrays.get(name)
    if found is None or found.shape != like.shape:
        raise TrainingError("the checkpoint belongs to a network of another shape")
    return found


def _checkpoint_arrays(
    pool: WorkerPool[Any], schedule: TrainingSchedule, algorithm: Algorithm
) -> Arrays:
    values, square_avg = pool.parameters()
    arrays = {"values": values, "square_avg": square_avg, "best": schedule.best.values}
    return arrays | {STATE + name: x for name, x in algorithm.state().items()}


def _pool(
    make: MakeAlgorithm,
    algorithm: Algorithm,
    layout: Layout,
    memory: SharedMemory,
    logger: TrainingLogger,
) -> WorkerPool[Any]:
    """Start the workers that the problem asks for."""
    problem, shared = algorithm.problem, SharedParameters(layout, memory)
    if problem.serial:
        return SerialPool(algorithm, shared)
    if problem.engine == "ray":
        from schedulers.rl.ray_workers import RayPool  # noqa: PLC0415 - Ray is optional

        initial = shared.values, shared.square_avg
        return RayPool(make, problem, layout, initial, logger.warn)
    return ProcessPool(make, problem, layout, memory, logger.warn)


def _results(pool: WorkerPool[Any], schedule: TrainingSchedule) -> Iterator[JobResult]:
    """Perform all jobs of a schedule; yield their results as they come."""
    busy = 0
    while True:
        while pool.free and (job := schedule.next()) is not None:
            pool.submit(job)
            busy += 1
        if not busy:
            return
        yield pool.result()
        busy -= 1
