"""Many jobs, whose results survive: each is written, whole or not at all, as soon as it is there.

A batch has a folder: ``jobs/KEY.json`` holds each result, ``policies/KEY.safetensors`` each trained
policy. A key is a hash of all that decides a result, so to go on with a batch is to do what is
missing, in whatever order and on however many processes.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mecsim.errors import InputError, Interrupted
from mecsim.study.executors import Engine
from mecsim.study.jobs import Job, Outcome
from mecsim.support.files import as_output_error, remove_unfinished, write_whole
from mecsim.support.signals import between_steps


class TimeLeft(NamedTuple):
    """How long a batch will still take."""

    seconds: float
    at_least: bool
    """There are jobs left of a kind (training, run) of which none has been done yet."""


@dataclass(frozen=True)
class Status:
    """How far a batch is."""

    done: int
    running: int
    failed: int
    total: int
    left: TimeLeft | None
    """None if nothing is known yet."""


Watch: TypeAlias = Callable[[Status], None]


class Folder:
    """The folder of a batch."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Open or make it. Raises ``InputError`` if it holds files and is not to be resumed."""
        self.path = path
        if not resume and any(each.is_file() for each in (path, *path.rglob("*"))):
            raise InputError(
                f"{path}: is there already; allowed: --resume to do only what is missing in it, "
                "or another folder with --out"
            )
        for name in ("jobs", "policies"):
            with as_output_error(path):
                (path / name).mkdir(parents=True, exist_ok=True)
        for name in ("", "jobs", "policies", "figures"):
            remove_unfinished(path / name)

    def result(self, job: Job) -> dict[str, Any] | None:
        """Return the result of a job, None if there is none yet, or none that is as written."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            document = json.loads(self._result_file(job).read_text(encoding="utf-8"))
            whole: bool = document.pop("sha256") == _digest(document)
            if job.kind == "train":
                whole &= document["policy_sha256"] == sha256(self.policy(job)).hexdigest()
            if whole and document["job"] == job.document():
                return dict(document["result"])
        return None

    def policy(self, job: Job) -> bytes:
        """Return the policy that a training has yielded."""
        return self._policy_file(job).read_bytes()

    def keep(self, job: Job, outcome: Outcome) -> None:
        """Write what a job has yielded. Raises ``OutputError``."""
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
    """What a batch has yielded."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Key of a job to its result."""
    failures: dict[str, str] = field(default_factory=dict)
    """Key of a job to why it failed."""
    found: int = 0
    """Jobs that were there already."""
    warnings: set[str] = field(default_factory=set)
    """What jobs that were done now warned of, each but once."""


def with_needs(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs and all that they need, each once, before those that need it."""
    unique: dict[str, Job] = {}
    for job in jobs:
        for each in (job.needs, job):
            if each is not None:
                unique.setdefault(each.key, each)
    return list(unique.values())


def run_batch(
    jobs: Iterable[Job], folder: Folder, engine: Engine, watch: Watch | None = None
) -> Results:
    """Do what is missing of the jobs and of what they need; return the results of all.

    Trainings go first, for others wait for them. A job that fails sinks only those that need it. A
    job whose process dies is tried once more, alone; if it dies then, too, it has failed. Raises
    ``Interrupted`` on Ctrl-C and ``OutputError`` where a result cannot be written.
    """
    batch = _Batch(with_needs(jobs), folder, engine, watch)
    try:
        batch.run()
    except KeyboardInterrupt:
        kept = f"{len(batch.results.results)} of {batch.total} jobs are kept in {folder.path}"
        raise Interrupted(f"stopped; {kept}; go on with the same command and --resume") from None
    return batch.results


class _Batch:
    """A batch while it runs."""

    def __init__(
        self, jobs: Sequence[Job], folder: Folder, engine: Engine, watch: Watch | None
    ) -> None:
        self._folder, self._engine, self._watch = folder, engine, watch
        self.total = len(jobs)
        self.results = Results()
        self._running: dict[Future[Outcome], tuple[Job, float]] = {}
        self._suspects: list[Job] = []  # in flight when a process died: tried again, one by one
        self._alone: Job | None = None
        self._took: dict[tuple[str, str], list[float]] = {}
        self._waiting: list[Job] = []
        for job in sorted(jobs, key=lambda job: job.kind != "train"):  # stable: trainings first
            result = folder.result(job)
            if result is None:
                self._waiting.append(job)
            else:
                self.results.results[job.key] = result
        self.results.found = len(self.results.results)

    def run(self) -> None:
        """Do all that is missing."""
        with between_steps() as check:
            while self._waiting or self._suspects or self._running:
                self._start()
                self._tell()
                if self._running:
                    for future in wait(self._running, timeout=1, return_when=FIRST_COMPLETED).done:
                        self._take(future)
                check()
        self._tell()

    def _start(self) -> None:
        if self._suspects:
            if not self._running:
                self._alone = self._suspects.pop(0)
                self._submit(self._alone)
            return
        while self._waiting and len(self._running) < self._engine.slots:
            job = next((job for job in self._waiting if self._ready(job)), None)
            if job is None:
                return
            self._waiting.remove(job)
            if job.needs is not None and job.needs.key in self.results.failures:
                self.results.failures[job.key] = f"needs a training that failed ({job.needs})"
            else:
                self._submit(job)

    def _ready(self, job: Job) -> bool:
        need = job.needs
        if need is None or need.key in self.results.results:
            return True
        return need.key in self.results.failures

    def _submit(self, job: Job) -> None:
        policy = None if job.needs is None else self._folder.policy(job.needs)
        self._running[self._engine.submit(job, policy)] = job, time.monotonic()

    def _take(self, future: Future[Outcome]) -> None:
        job, began = self._running.pop(future)
        error = future.exception()
        if error is not None and self._engine.lost(error):
            if job is self._alone:
                self.results.failures[job.key] = "its process died (out of memory, or killed)"
            else:
                self._suspects.append(job)
            return
        outcome = future.result()
        if outcome.result is None:
            self.results.failures[job.key] = outcome.error
            return
        self._folder.keep(job, outcome)
        self.results.warnings |= set(outcome.warnings)
        self.results.results[job.key] = outcome.result
        self._took.setdefault((job.kind, job.scheduler), []).append(time.monotonic() - began)

    def _tell(self) -> None:
        if self._watch is not None:
            done, failed = len(self.results.results), len(self.results.failures)
            todo = [*self._waiting, *self._suspects, *(job for job, _ in self._running.values())]
            left = time_left(self._took, todo, self._engine.slots)
            self._watch(Status(done, len(self._running), failed, self.total, left))


def time_left(
    took: dict[tuple[str, str], list[float]], left: Sequence[Job], slots: int
) -> TimeLeft | None:
    """Estimate the time for jobs from how long those of the same kind and scheduler took.

    Schedulers of which none is done yet count as the mean of the others of their kind.
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
