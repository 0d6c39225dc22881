"""Batches in tests: an executor in this process, and waiting for the jobs of a command."""

from __future__ import annotations

import subprocess
from concurrent.futures import Future
from pathlib import Path

from mecsim.study.executors import Executor, ExecutorLostError
from mecsim.study.jobs import Job, Outcome, execute
from tests.helpers.waiting import until

SCENARIO = Path(__file__).parents[2] / "scenarios" / "vgg16_loaded.yaml"


class Inline(Executor):
    """Computes a job when it is submitted; some break the process, ``deaths[job.key]`` times."""

    def __init__(self, slots: int = 2, deaths: dict[str, int] | None = None) -> None:
        self.slots = slots
        self.deaths = dict(deaths or {})
        self.submitted: list[Job] = []

    def submit(self, job: Job, policy: bytes | None) -> Future[Outcome]:
        self.submitted.append(job)
        future: Future[Outcome] = Future()
        if self.deaths.get(job.key, 0):
            self.deaths[job.key] -= 1
            future.set_exception(ExecutorLostError())
        else:
            future.set_result(execute(job, policy))
        return future

    def close(self) -> None: ...


def until_jobs(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a batch has finished ``count`` jobs; fail where its process ends before."""

    def finished() -> bool:
        jobs = len(list(folder.glob("jobs/*.json")))
        if jobs < count:
            assert process.poll() is None, process.communicate()
        return jobs >= count

    until(finished)
