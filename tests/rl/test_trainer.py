"""Workers that push into shared parameters, and may die or fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from mecsim.learning import Arrays, Checkpoint, TrainingError, TrainingProblem
from mecsim.scenario.schema import Scenario
from schedulers.rl import workers
from schedulers.rl.algorithm import Algorithm, evaluate
from schedulers.rl.parameters import SharedParameters
from schedulers.rl.schedule import evaluations
from schedulers.rl.trainer import train

SMALL = Scenario.model_validate(
    {"slots": 2, "devices": 1, "edge_servers": 1, "dnn": {"blocks": 1}}
    | {"arrivals": {"process": "slotted", "rate": 1}}
)


class Counting(Algorithm):
    """Adds one to its parameter in each iteration; its settings say what fails."""

    ends = (20,)

    def initial(self) -> Arrays:
        return {"w": np.zeros(3, np.float32)}

    def run_iteration(self, number: int, shared: SharedParameters) -> dict[str, float]:
        trouble: Mapping[str, Any] = self.problem.settings
        time.sleep(trouble.get("seconds", 0.0))
        if number in trouble.get("dies", ()) and self._first_time(number):
            os.kill(os.getpid(), signal.SIGKILL)
        if number in trouble.get("fails", ()):
            raise RuntimeError("out of luck")
        if number in trouble.get("diverges", ()):
            raise TrainingError("the training diverged")
        shared.values += 1.0
        return {"training_reward": float(number)}

    def _first_time(self, number: int) -> bool:
        mark = Path(self.problem.settings["folder"]) / str(number)
        if self.problem.settings.get("always") or not mark.exists():
            mark.touch()
            return True
        return False

    def decide(
        self, parameters: Arrays, features: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return np.ones((len(features), 1), dtype=np.int64)


class MemoryLogger:
    """Keeps everything that is logged, and all checkpoints."""

    measures: ClassVar[tuple[str, ...]] = ()
    checkpoint_due = True

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.checkpoint = checkpoint
        self.rows: list[dict[str, float]] = []
        self.shares: list[float] = []
        self.kept: list[Checkpoint] = []
        self.warnings: list[str] = []

    def log(self, share: float, measures: Mapping[str, float]) -> None:
        self.shares.append(share)
        self.rows.append(dict(measures))

    def save_checkpoint(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        self.kept.append(Checkpoint({n: x.copy() for n, x in arrays.items()}, dict(state)))

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def problem(workers: int = 2, *, serial: bool = False, **trouble: Any) -> TrainingProblem:
    return TrainingProblem(SMALL, trouble, 0, 20, workers, serial)


def iterations_run(logger: MemoryLogger) -> list[float]:
    return sorted(row["training_reward"] for row in logger.rows if "training_reward" in row)


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Any:
    yield
    left = [each for each in psutil.Process().children() if "spawn_main" in str(each.cmdline())]
    assert left == []


# ---------------------------------------------------------------- all is well


@pytest.mark.quick("0")
@pytest.mark.parametrize("workers", [0, 2])
def test_every_iteration_runs_once_between_evaluations(workers: int) -> None:
    logger = MemoryLogger()
    train(Counting, problem(max(workers, 1), serial=workers == 0), logger)
    assert iterations_run(logger) == list(range(20))
    assert logger.kept[-1].arrays["values"].tolist() == [20.0] * 3
    assert logger.kept[-1].state["done"] == list(range(20))
    assert logger.kept[-1].state["evaluated"] == [0, 5, 20]
    assert len([row for row in logger.rows if "validation_reward" in row]) == 3
    assert logger.shares == sorted(logger.shares)
    assert logger.shares[-1] == 1.0
    assert logger.warnings == []


def test_serial_evaluations_come_in_order() -> None:
    logger = MemoryLogger()
    train(Counting, problem(serial=True), logger)
    evaluated = [
        s
        for s, r in zip(logger.shares, logger.rows, strict=True)
        if len(r) and "validation_reward" in r
    ]
    assert evaluated == pytest.approx([0.0, 0.25, 1.0])


def test_evaluations_are_dense_at_the_beginning_and_rare_in_short_trainings() -> None:
    assert sorted(evaluations([100], [400])) == [0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100]
    assert sorted(evaluations([25], [100])) == [0, 1, 4, 9, 16, 25]
    assert sorted(evaluations([1], [1])) == [0, 1]


def test_the_best_parameters_are_the_first_of_the_best() -> None:
    """All rewards are equal here: the parameters that training began with are not replaced."""
    arrays, reward = train(Counting, problem(serial=True), MemoryLogger())
    assert arrays["w"].tolist() == [0.0] * 3
    assert np.isfinite(reward)


def test_a_resumed_training_runs_the_missing_iterations() -> None:
    first = MemoryLogger()
    train(Counting, problem(serial=True), first)
    middle = next(kept for kept in first.kept if len(kept.state["done"]) == 7)
    logger = MemoryLogger(middle)
    train(Counting, problem(serial=True), logger)
    assert iterations_run(logger) == list(range(7, 20))
    assert logger.kept[-1].arrays["values"].tolist() == [20.0] * 3
    assert first.kept[-1].state == logger.kept[-1].state


def test_a_checkpoint_of_another_network_is_refused() -> None:
    arrays = {name: np.zeros(5, np.float32) for name in ("values", "square_avg", "best")}
    state = {"done": [], "evaluated": [], "best_reward": -1.0}
    with pytest.raises(TrainingError, match="network of another shape"):
        train(Counting, problem(serial=True), MemoryLogger(Checkpoint(arrays, state)))


@pytest.mark.parametrize("state", [{}, {"done": [1], "evaluated": "none", "best_reward": 0.0}])
def test_a_checkpoint_of_another_learner_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="does not belong to this learner"):
        train(Counting, problem(serial=True), MemoryLogger(Checkpoint({}, state)))


# ---------------------------------------------------------------- workers in trouble


def test_a_dead_worker_is_replaced_and_its_iteration_repeated(tmp_path: Path) -> None:
    logger = MemoryLogger()
    train(Counting, problem(1, dies=(5,), folder=str(tmp_path)), logger)
    assert iterations_run(logger) == list(range(20))
    assert logger.warnings == ["a worker died with exit code -9; another one replaces it"]


@pytest.mark.slow
def test_workers_that_keep_dying_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_RESTARTS", 1)
    logger = MemoryLogger()
    with pytest.raises(TrainingError, match=r"^2 workers died \(the last with exit code -9\)$"):
        train(Counting, problem(1, dies=(2,), always=True, folder=str(tmp_path)), logger)
    assert len(logger.warnings) == 1


def test_a_worker_that_fails_says_why() -> None:
    with pytest.raises(TrainingError, match=r"a worker failed:\n(.|\n)*RuntimeError: out of luck"):
        train(Counting, problem(1, fails=(3,)), MemoryLogger())


@pytest.mark.slow
def test_a_worker_that_finds_the_training_diverged_ends_it() -> None:
    with pytest.raises(TrainingError, match=r"^the training diverged$"):
        train(Counting, problem(1, diverges=(3,)), MemoryLogger())


class Fragile:
    """Cannot be read by another process."""

    def __reduce__(self) -> Any:
        return {}.__getitem__, ("missing",)


@pytest.mark.slow
def test_workers_that_cannot_begin_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_RESTARTS", 0)
    with pytest.raises(TrainingError, match=r"^1 workers died \(the last with exit code 1\)$"):
        train(Counting, problem(1, fails=Fragile()), MemoryLogger())


def test_evaluations_of_equal_parameters_are_equal() -> None:
    algorithm = Counting(problem(serial=True))
    reward = evaluate(algorithm, algorithm.initial())
    assert reward == evaluate(algorithm, algorithm.initial()) < 0.0
