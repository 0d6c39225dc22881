"""Many jobs whose results survive a crash: each result is written atomically when it is ready.

A result store is a folder: ``jobs/KEY.json`` holds each result, ``policies/KEY.safetensors`` each
trained policy. A key is a hash of everything that determines a result, so a batch is resumed by
running the jobs that have no stored result, in any order and on any number of processes.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from mecsim.errors import InputError, Interrupted
from mecsim.study.executors import Executor
from mecsim.study.jobs import Job, Kind, Outcome
from mecsim.support.files import as_output_error, remove_unfinished, write_whole
from mecsim.support.signals import between_steps

MAX_STACK: Final = 10
"""Trainings of a stack, at most: all of them are lost if its process dies."""


class TimeLeft(NamedTuple):
    """Estimated time until a batch is done."""

    seconds: float
    at_least: bool
    """No job of some remaining kind (training, run) has finished yet, so more time is needed."""


@dataclass(frozen=True)
class Status:
    """Progress of a batch, in jobs."""

    done: int
    running: int
    failed: int
    total: int
    left: TimeLeft | None
    """None if nothing is known yet."""


OnProgress: TypeAlias = Callable[[Status], None]
"""Called with the progress of a batch, about once a second."""


class ResultStore:
    """The results and policies of a batch, in a folder."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Open or create the folder.

        Raises:
            InputError: The folder has files and ``resume`` is false.
        """
        self.path = path
        if not resume and any(each.is_file() for each in (path, *path.rglob("*"))):
            raise InputError(
                f"{path}: already exists. Use --resume to run only missing jobs, "
                "or choose another --out"
            )
        for name in ("jobs", "policies"):
            with as_output_error(path):
                (path / name).mkdir(parents=True, exist_ok=True)
        for name in ("", "jobs", "policies", "figures"):
            remove_unfinished(path / name)

    def result(self, job: Job) -> dict[str, Any] | None:
        """Return the result of a job; None if it is missing or damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            document = json.loads(self._result_file(job).read_text(encoding="utf-8"))
            whole: bool = document.pop("sha256") == _digest(document)
            if job.kind == "train":
                whole &= document["policy_sha256"] == sha256(self.policy(job)).hexdigest()
            if whole and document["job"] == job.document():
                return dict(document["result"])
        return None

    def policy(self, job: Job) -> bytes:
        """Return the policy file of a finished training."""
        return self._policy_file(job).read_bytes()

    def keep(self, job: Job, outcome: Outcome) -> None:
        """Write the result of a job. Raises ``OutputError``."""
        document: dict[str, Any] = {"job": job.document(), "result": outcome.result}
        if outcome.policy is not None:
            write_whole(self._policy_file(job), outcome.policy)
            document["policy_sha256"] = sha256(outcome.policy).hexdigest()
        document["sha256"] = _digest(document)
        write_whole(self._result_file(job), json.dumps(document, indent=1, allow_nan=False))

    def _result_file(self, job: Job) -> Path:
        return self.path / "jobs" / f"{job.key}.json"

    def _policy_file(self, job: Job) -> Path:
        return self.path / "policies" / f"{job.key}.safetensors"


def _digest(document: dict[str, Any]) -> str:
    return sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


@dataclass
class Results:
    """The results of a batch."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key of a job to its result."""
    failures: dict[str, str] = field(default_factory=dict)
    """Key of a job to the cause of its failure."""
    found: int = 0
    """Number of jobs that had a stored result at the start."""
    computed: Counter[Kind] = field(default_factory=Counter)
    """Number of jobs of each kind that were computed."""
    warnings: set[str] = field(default_factory=set)
    """Distinct warnings of the jobs that ran."""


def with_needs(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs and the jobs that they need, each once; a needed job comes first."""
    unique: dict[str, Job] = {}
    for job in jobs:
        for each in (job.needs, job):
            if each is not None:
                unique.setdefault(each.key, each)
    return list(unique.values())


def run_batch(
    jobs: Iterable[Job],
    store: ResultStore,
    executor: Executor,
    on_progress: OnProgress | None = None,
) -> Results:
    """Run all jobs (and the jobs that they need) that have no stored result.

    Trainings start first, since runs wait for them. Trainings that can be one stack are computed in
    one process, at most :data:`MAX_STACK` of them. A failed job only fails the jobs that need it.
    A job whose process dies is retried once, alone.

    Args:
        jobs: The jobs to compute.
        store: Where results are read and written.
        executor: Where jobs are computed.
        on_progress: Called with the progress of the batch.

    Returns:
        The results of all jobs, including those found in the store.

    Raises:
        Interrupted: The user pressed Ctrl-C.
        OutputError: A result cannot be written.
    """
    batch = _Batch(with_needs(jobs), store, executor, on_progress)
    try:
        batch.run()
    except KeyboardInterrupt:
        kept = f"{len(batch.results.results)} of {batch.total} jobs are kept in {store.path}"
        raise Interrupted(f"stopped; {kept}. Use --resume to continue") from None
    return batch.results


class _Batch:
    """A batch while it runs."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: ResultStore,
        executor: Executor,
        on_progress: OnProgress | None,
    ) -> None:
        self._store, self._executor, self._on_progress = store, executor, on_progress
        self.total = len(jobs)
        self.results = Results()
        self._running: dict[Future[list[Outcome]], tuple[list[Job], float]] = {}
        self._suspects: list[Job] = []  # running when a process died: retried one by one
        self._alone: Job | None = None
        self._took: dict[tuple[str, str], list[float]] = {}
        self._waiting: list[Job] = []
        for job in sorted(jobs, key=lambda job: job.kind != "train"):  # stable: trainings first
            result = store.result(job)
            if result is None:
                self._waiting.append(job)
            else:
                self.results.results[job.key] = result
        self.results.found = len(self.results.results)

    def run(self) -> None:
        """Run all jobs without a result."""
        with between_steps() as check:
            while self._waiting or self._suspects or self._running:
                self._start()
                self._report()
                if self._running:
                    for future in wait(self._running, timeout=1, return_when=FIRST_COMPLETED).done:
                        self._take(future)
                check()
        self._report()

    def _start(self) -> None:
        if self._suspects:
            if not self._running:
                self._alone = self._suspects.pop(0)
                self._submit([self._alone])
            return
        while self._waiting and len(self._running) < self._executor.slots:
            job = next((job for job in self._waiting if self._ready(job)), None)
            if job is None:
                return
            stack = self._stack(job)
            for each in stack:
                self._waiting.remove(each)
            if job.needs is not None and job.needs.key in self.results.failures:
                self.results.failures[job.key] = f"the training that it needs failed ({job.needs})"
            else:
                self._submit(stack)

    def _stack(self, job: Job) -> list[Job]:
        """Return a job with those that are computed with it, fewer where slots would be idle."""
        if job.stack is None:
            return [job]
        alike = [each for each in self._waiting if each.stack == job.stack]
        others = sum(self._ready(each) for each in self._waiting) - len(alike)
        free = self._executor.slots - len(self._running)
        parts = max(1, free - others)
        return alike[: min(MAX_STACK, math.ceil(len(alike) / parts))]

    def _ready(self, job: Job) -> bool:
        need = job.needs
        if need is None or need.key in self.results.results:
            return True
        return need.key in self.results.failures

    def _submit(self, jobs: list[Job]) -> None:
        need = jobs[0].needs
        policy = None if need is None else self._store.policy(need)
        self._running[self._executor.submit(jobs, policy)] = jobs, time.monotonic()

    def _take(self, future: Future[list[Outcome]]) -> None:
        jobs, began = self._running.pop(future)
        error = future.exception()
        if error is not None and self._executor.lost(error):
            if jobs == [self._alone]:
                self.results.failures[jobs[0].key] = "its process died (out of memory or killed)"
            else:
                self._suspects += jobs
            return
        took = (time.monotonic() - began) / len(jobs)
        for job, outcome in zip(jobs, future.result(), strict=True):
            self._keep(job, outcome, took)

    def _keep(self, job: Job, outcome: Outcome, took: float) -> None:
        if outcome.result is None:
            self.results.failures[job.key] = outcome.error
            return
        self._store.keep(job, outcome)
        self.results.warnings |= set(outcome.warnings)
        self.results.results[job.key] = outcome.result
        self.results.computed[job.kind] += 1
        self._took.setdefault((job.kind, job.scheduler), []).append(took)

    def _report(self) -> None:
        if self._on_progress is not None:
            done, failed = len(self.results.results), len(self.results.failures)
            running = [job for jobs, _ in self._running.values() for job in jobs]
            todo = [*self._waiting, *self._suspects, *running]
            left = time_left(self._took, todo, self._executor.slots)
            self._on_progress(Status(done, len(running), failed, self.total, left))


def time_left(
    took: dict[tuple[str, str], list[float]], left: Sequence[Job], slots: int
) -> TimeLeft | None:
    """Estimate the remaining time from the durations of jobs of the same kind and scheduler.

    A scheduler without a finished job counts as the mean of the others of its kind.

    Args:
        took: (Kind, scheduler) to the durations of finished jobs in seconds.
        left: The remaining jobs.
        slots: Number of jobs that run in parallel.
    """
    means = {kind: statistics.mean(times) for kind, times in took.items()}
    typical = {
        kind: statistics.mean(mean for (each, _), mean in means.items() if each == kind)
        for kind in {kind for kind, _ in means}
    }
    known = [job for job in left if job.kind in typical]
    if not known:
        return None
    seconds = sum(means.get((job.kind, job.scheduler), typical[job.kind]) for job in known)
    return TimeLeft(seconds / slots, at_least=len(known) < len(left))
