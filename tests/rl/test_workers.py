"""Pools of workers, with scripted answers: jobs, failures and deaths."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mecsim.learning import TrainingError
from schedulers.rl.algorithm import Job, JobResult
from schedulers.rl.parameters import Flat
from schedulers.rl.workers import MAX_RESTARTS, Answer, Died, WorkerPool, failure


class ScriptedPool(WorkerPool[str]):
    """Gives prepared answers."""

    def __init__(self, workers: int, answers: Sequence[tuple[int, Answer]] = ()) -> None:
        self.answers, self.sent = list(answers), list[tuple[str, int]]()
        self.started, self.warnings = 0, list[str]()
        super().__init__(workers, self.warnings.append)

    def _start(self, *, replaces: bool = False) -> str:
        self.started += 1
        return f"{'substitute' if replaces else 'worker'} {self.started}"

    def _send(self, number: int, job: Job) -> None:
        self.sent.append((self._workers[number], job.number))

    def _receive(self) -> tuple[int, Answer]:
        return self.answers.pop(0)

    def parameters(self) -> tuple[Flat, Flat]:
        raise NotImplementedError

    def close(self) -> None:
        """Do nothing."""


def done(number: int) -> JobResult:
    return JobResult(Job("train", number), {}, None)


def test_jobs_go_to_free_workers() -> None:
    pool = ScriptedPool(2, [(1, done(11)), (0, done(10))])
    free = []
    for number in (10, 11):
        free.append(pool.free)
        pool.submit(Job("train", number))
    assert [*free, pool.free] == [True, True, False]
    assert pool.result() == done(11)
    pool.submit(Job("train", 12))
    assert pool.sent == [("worker 1", 10), ("worker 2", 11), ("worker 2", 12)]
    assert pool.result() == done(10)


def test_the_job_of_a_dead_worker_is_repeated() -> None:
    pool = ScriptedPool(1, [(0, Died("with exit code -9")), (0, done(5))])
    pool.submit(Job("train", 5))
    assert pool.result() == done(5)
    assert pool.sent == [("worker 1", 5), ("substitute 2", 5)]
    assert pool.warnings == ["a worker died with exit code -9; another one replaces it"]
    assert pool.free


def test_an_idle_worker_that_dies_is_replaced() -> None:
    pool = ScriptedPool(2, [(1, Died()), (0, done(5))])
    pool.submit(Job("train", 5))
    assert pool.result() == done(5)
    assert pool.sent == [("worker 1", 5)]
    assert pool.warnings == ["a worker died; another one replaces it"]


@pytest.mark.parametrize(
    ("how", "end"), [("", ""), ("with exit code 1", " (the last with exit code 1)")]
)
def test_too_many_deaths_end_the_training(how: str, end: str) -> None:
    pool = ScriptedPool(1, [(0, Died(how))] * (MAX_RESTARTS + 1))
    pool.submit(Job("train", 0))
    with pytest.raises(TrainingError) as caught:
        pool.result()
    assert str(caught.value) == f"{MAX_RESTARTS + 1} workers died{end}"
    assert len(pool.warnings) == MAX_RESTARTS


def test_a_failed_job_ends_the_training() -> None:
    pool = ScriptedPool(1, [(0, "the training diverged")])
    pool.submit(Job("train", 0))
    with pytest.raises(TrainingError, match=r"^the training diverged$"):
        pool.result()


def test_a_failure_has_a_traceback_unless_it_is_expected() -> None:
    assert failure(TrainingError("it diverged")) == "it diverged"
    text = failure(ValueError("out of luck"))
    assert text.startswith("a worker failed:\n")
    assert text.endswith("ValueError: out of luck\n")
