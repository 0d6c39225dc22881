"""Batches in tests: an executor in this process, and waiting for the jobs of a command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from mecsim.study.executors import Executor, ExecutorLostError, local
from mecsim.study.jobs import Job, Outcome, execute
from tests.helpers.waiting import until

SCENARIO = Path(__file__).parents[2] / "scenarios" / "vgg16_loaded.yaml"


class Inline(Executor):
    """Computes jobs when they are submitted; some break the process, ``deaths[job.key]`` times."""

    def __init__(self, slots: int = 2, deaths: dict[str, int] | None = None) -> None:
        self.slots = slots
        self.deaths = dict(deaths or {})
        self.calls: list[list[Job]] = []

    @property
    def submitted(self) -> list[Job]:
        return [job for jobs in self.calls for job in jobs]

    def submit(self, jobs: Sequence[Job], policy: bytes | None) -> Future[list[Outcome]]:
        self.calls.append(list(jobs))
        future: Future[list[Outcome]] = Future()
        doomed = [job.key for job in jobs if self.deaths.get(job.key, 0)]
        for key in doomed:
            self.deaths[key] -= 1
        if doomed:
            future.set_exception(ExecutorLostError())
        else:
            future.set_result(execute(jobs, policy))
        return future

    def close(self) -> None: ...


class InThisProcess:
    """Stands in for the pool of processes of a batch."""

    def __init__(self, *_arguments: Any, **_settings: Any) -> None: ...

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(function(*arguments))
        return done

    def shutdown(self, **_how: Any) -> None: ...


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands compute batches without processes, each of which takes a second to start."""
    monkeypatch.setattr(local, "ProcessPoolExecutor", InThisProcess)


def until_jobs(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a batch has finished ``count`` jobs; fail where its process ends before."""

    def finished() -> bool:
        jobs = len(list(folder.glob("jobs/*.json")))
        if jobs < count:
            assert process.poll() is None, process.communicate()
        return jobs >= count

    until(finished)
