"""Training on a Ray cluster: a parameter server and workers that are actors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mecsim.learning import Arrays, TrainingError, TrainingProblem, TrainingRequest
from mecsim.learning.training import train
from mecsim.study.executors import cluster_for
from schedulers.rl.algorithm import Algorithm
from schedulers.rl.parameters import SharedParameters
from tests.rl.test_learners import KINDS, decisions, obvious
from tests.rl.test_trainer import SMALL, MemoryLogger, iterations_run

ray = pytest.importorskip("ray")
asynchronous = pytest.importorskip("schedulers.rl.trainer")


class Pushing(Algorithm):
    """Takes one step of a known length in each iteration; its settings say what fails."""

    ends = (20,)

    def initial(self) -> Arrays:
        return {"w": np.zeros(3, np.float32), "b": np.ones((1, 2), np.float32)}

    def run_iteration(self, number: int, shared: SharedParameters) -> dict[str, float]:
        trouble: Mapping[str, Any] = self.problem.settings
        time.sleep(0.02)
        if number in trouble.get("dies", ()):
            mark = Path(trouble["folder"]) / str(number)
            if trouble.get("always") or not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if number in trouble.get("fails", ()):
            raise RuntimeError("out of luck")
        p = shared.pull()
        assert p["b"].shape == (1, 2)
        p["w"] += 1.0  # a copy of one's own
        rate = float(trouble.get("rate", 1.0))
        shared.push(np.full(5, -1.0, np.float32), rate, decay=1.0, epsilon=1.0)
        return {"training_reward": float(number)}

    def decide(
        self, parameters: Arrays, features: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return np.ones((len(features), 1), dtype=np.int64)


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with cluster_for("ray", 2):
        yield


def problem(workers: int = 2, **trouble: Any) -> TrainingProblem:
    return TrainingProblem(SMALL, trouble, 0, 20, workers, serial=False, engine="ray")


@pytest.mark.slow
def test_every_push_of_every_worker_counts_once() -> None:
    logger = MemoryLogger()
    asynchronous.train(Pushing, problem(), logger)
    assert iterations_run(logger) == list(range(20))
    assert logger.kept[-1].arrays["values"].tolist() == [20.0] * 3 + [21.0] * 2
    assert logger.kept[-1].arrays["square_avg"].tolist() == [0.0] * 5
    assert logger.warnings == []


@pytest.mark.slow
def test_a_resumed_training_runs_the_missing_iterations() -> None:
    first, second = MemoryLogger(), MemoryLogger()
    asynchronous.train(Pushing, problem(), first)
    second.checkpoint = next(kept for kept in first.kept if len(kept.state["done"]) == 7)
    asynchronous.train(Pushing, problem(), second)
    assert len(iterations_run(second)) == 13
    at_least = 20.0  # the checkpoint may hold a push of an unfinished iteration
    assert at_least <= second.kept[-1].arrays["values"][0] <= at_least + 1


@pytest.mark.slow
def test_a_dead_worker_is_replaced_and_its_iteration_repeated(tmp_path: Path) -> None:
    logger = MemoryLogger()
    asynchronous.train(Pushing, problem(dies=(5,), folder=str(tmp_path)), logger)
    assert iterations_run(logger) == list(range(20))
    assert logger.kept[-1].arrays["values"].tolist() == [20.0] * 3 + [21.0] * 2
    assert logger.warnings == ["a worker died; another one replaces it"]


@pytest.mark.slow
def test_workers_that_keep_dying_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schedulers.rl.workers.MAX_RESTARTS", 1)
    with pytest.raises(TrainingError, match=r"^2 workers died$"):
        asynchronous.train(
            Pushing, problem(1, dies=(2,), always=True, folder=str(tmp_path)), MemoryLogger()
        )


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"fails": (3,)}, r"^a worker failed:\n(.|\n)*RuntimeError: out of luck"),
        pytest.param(
            {"rate": 1e20},
            r"^the training diverged: a parameter exceeds",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_worker_that_fails_says_why(trouble: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        asynchronous.train(Pushing, problem(1, **trouble), MemoryLogger())


def test_more_workers_than_the_cluster_has_cpus_are_refused() -> None:
    with pytest.raises(TrainingError, match="workers: 3; allowed: 2"):
        asynchronous.train(Pushing, problem(3), MemoryLogger())


@pytest.mark.slow
def test_a_server_that_dies_ends_the_training() -> None:
    from schedulers.rl import ray_workers  # noqa: PLC0415 - needs ray

    shared = np.zeros(5, np.float32), np.zeros(5, np.float32)
    layout = {"w": (3,), "b": (1, 2)}
    pool = ray_workers.RayPool(Pushing, problem(1), layout, shared, MemoryLogger().warn)
    ray.kill(pool._server)
    with pytest.raises(TrainingError, match=r"the parameter server died\. Try: --resume"):
        pool.parameters()
    pool.close()


@pytest.mark.slow
def test_two_workers_find_the_fast_server(tmp_path: Path) -> None:
    out = tmp_path / "p.safetensors"
    scheduler, options = KINDS["mtl-a3c"]
    how: dict[str, Any] = {
        "episodes": 150,
        "seed": 0,
        "workers": 2,
        "serial": False,
        "engine": "ray",
    }
    train(TrainingRequest(scenario=obvious(), scheduler=scheduler, options=options, out=out, **how))
    assert (decisions(out, "mtl-a3c", obvious()) == 2).all()
