"""A job: a small frozen value that describes one computation, and the functions that compute it.

A job is equal on every machine and in every process; its key identifies its result for good.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mecsim.errors import InputError, TrainingError
from mecsim.model import workload
from mecsim.model.model import Model, resolve, self_contained
from mecsim.scenario.loading import from_json
from mecsim.scenario.schema import Measurement, RecordedTasks, Reward, Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.errors import one_line
from mecsim.scheduler.sources import Sources, file_sources, sources
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.run import run as run_scenario
from mecsim.support.files import temporary_folder, write_whole
from mecsim.support.text import finite
from mecsim.trace.recorded_workload import arrivals_of

if TYPE_CHECKING:
    from mecsim.learning import TrainingRequest

RESOURCES: Final = 12
"""Number of resources kept of each run, the busiest ones."""

Kind: TypeAlias = Literal["run", "train", "bound"]


@dataclass(frozen=True)
class Training:
    """How a learner is trained."""

    episodes: int
    workers: int = 1


@dataclass(frozen=True)
class Job:
    """A run, a training, or the lower bound on the cost of a run's tasks.

    Mappings are held as JSON, so that jobs can be hashed and compared.
    """

    kind: Kind
    scenario: str
    """The resolved scenario without its description, as JSON."""
    scheduler: str
    options: str
    """The scheduler's options, as JSON."""
    seed: int
    kernel: str = "compiled"
    training: Training | None = None
    needs: Job | None = None
    """The training that yields the policy of this run."""
    files: tuple[tuple[str, str], ...] = ()
    """Other files that the job reads, each with the SHA-256 of its content."""
    defaults: str = "{}"
    """The defaults of the scheduler's options, as JSON."""
    versions: tuple[tuple[str, str], ...] = ()
    """Installed packages that compute the result, each with its version."""

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the result, including versions."""
        text = json.dumps(self.document(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """Return the job as plain data; the job that it needs is given by its key."""
        return {
            "kind": self.kind,
            "scheduler": self.scheduler,
            "options": json.loads(self.defaults) | json.loads(self.options),
            "seed": self.seed,
            "kernel": self.kernel,
            "training": None if self.training is None else vars(self.training),
            "needs": None if self.needs is None else self.needs.key,
            "files": dict(self.files),
            "versions": dict(self.versions),
            "scenario": json.loads(self.scenario),
        }

    @cached_property
    def stack(self) -> tuple[Hashable, ...] | None:
        """What trainings that can be one stack have in common; None for all other jobs."""
        from mecsim.learning.options import stack_key  # noqa: PLC0415 - takes its time to load

        if self.training is None or self.training.workers > 1:
            return None
        key = stack_key(self.scheduler, json.loads(self.options))
        alike = self.scenario, self.scheduler, self.kernel, self.training, self.files
        return None if key is None else (key, *alike)

    def __str__(self) -> str:
        """Describe the job in a few words."""
        return self.described(self.scheduler)

    def described(self, scheduler: str) -> str:
        """Describe the job in a few words, with a name for its scheduler."""
        what = "lower bound" if self.kind == "bound" else scheduler
        policy = "" if self.needs is None else f" with policy {self.needs.seed}"
        return f"{'training of ' if self.kind == 'train' else ''}{what}{policy}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """The result of a job that was computed, or its error."""

    result: dict[str, Any] | None
    """The numbers as JSON; None if the job failed."""
    policy: bytes | None = None
    """The policy file that a training wrote."""
    error: str = ""
    """The cause of a failure, in one line."""
    warnings: tuple[str, ...] = ()
    """Warnings logged by the run."""


def make_job(
    kind: Kind,
    scenario: Scenario,
    scheduler: str,
    options: Mapping[str, Any],
    seed: int,
    **more: Any,
) -> Job:
    """Return a job for a scenario.

    Args:
        kind: ``run``, ``train`` or ``bound``.
        scenario: The scenario, whose files are read into the job.
        scheduler: Name of the scheduler; empty for a bound.
        options: Options of the scheduler or of its training.
        seed: Seed of the workload or of the training.
        **more: Further fields of :class:`Job`.

    Raises:
        InputError: A file that the job needs cannot be read.
    """
    with scenario.locating():
        scenario = self_contained(scenario).model_copy(update={"description": ""})
    if kind == "train":  # rewards of a training are those of whole runs
        scenario = scenario.model_copy(update={"measurement": Measurement()})
    code = sources(scheduler) if scheduler else Sources()
    named = [*code.files, options.get("policy"), *_feature_files(options)]
    arrivals = [each.arrivals for each in scenario.classes]
    named += [each.file for each in arrivals if isinstance(each, RecordedTasks)]
    files = tuple((str(n), _digest(Path(n))) for n in named if n and Path(n).is_file())
    text = json.dumps(dict(options), sort_keys=True)
    versions = tuple(code.versions(*(["torch"] if kind == "train" else ())).items())
    more = {"files": files, "versions": versions} | more
    return Job(kind, scenario.canonical_json(), scheduler, text, seed, **more)


def _feature_files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sources of custom features."""
    place = str(options.get("features", "")).rpartition(":")[0]
    return file_sources(Path(place)).files if place.endswith(".py") else ()


def _digest(path: Path) -> str:
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def execute(jobs: Sequence[Job], policy: bytes | None = None) -> list[Outcome]:
    """Compute a job, or the trainings of a stack. Never raises for a failure.

    Args:
        jobs: One job, or trainings of equal :attr:`Job.stack`.
        policy: The policy file of the training that the job needs.

    Returns:
        The outcome of each job.
    """
    outcomes = _attempt(jobs, policy)
    if isinstance(outcomes, Outcome):  # the stack failed as a whole: find out whose fault it is
        return [outcomes] if len(jobs) == 1 else [execute([job])[0] for job in jobs]
    return outcomes


def _attempt(jobs: Sequence[Job], policy: bytes | None) -> list[Outcome] | Outcome:
    """Return the outcome of each job, or an outcome with the error that all of them met."""
    try:
        with redirect_stdout(sys.stderr):  # a scheduler may print
            contents(jobs[0])  # raises if one has changed
            outcomes = _computed(jobs, policy)
        return [replace(each, result=finite(each.result)) for each in outcomes]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - an error fails these jobs only
        return _failed(error)


def _failed(error: BaseException) -> Outcome:
    known = isinstance(error, InputError)
    return Outcome(None, error=" ".join(str(error).split()) if known else one_line(error))


def _computed(jobs: Sequence[Job], policy: bytes | None) -> list[Outcome]:
    if jobs[0].kind == "train":
        return _train(jobs)
    return [_run(job, policy) if job.kind == "run" else _bound(job) for job in jobs]


def contents(job: Job) -> dict[str, bytes]:
    """Return the contents of the files that a job reads, by path; a stack reads the same ones.

    Raises:
        InputError: A file cannot be read or has changed since the job was made.
    """
    found = {}
    for name, digest in job.files:
        found[name] = content = _read(Path(name))
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{name}: changed after the batch started. Try: start the batch again")
    return found


def execute_apart(
    jobs: Sequence[Job], policy: bytes | None, files: Mapping[str, bytes]
) -> list[Outcome]:
    """Compute jobs on a machine without their files: the contents go to a temporary folder.

    Files keep their places relative to each other: schedulers import their siblings.
    """
    with temporary_folder() as folder:
        places = {}
        for name, content in files.items():
            here = Path(os.path.abspath(name))  # noqa: PTH100 - links stay next to their siblings
            place = folder / here.relative_to(here.anchor)
            write_whole(place, content)
            places[name] = str(place)
        outcomes = execute([_moved(job, places) for job in jobs], policy)
    for name, there in places.items():
        outcomes = [replace(each, error=each.error.replace(there, name)) for each in outcomes]
    return outcomes


def _moved(job: Job, places: Mapping[str, str]) -> Job:
    """Return the job with other paths for its files."""
    file, colon, cls = job.scheduler.rpartition(":")
    options, scenario = json.loads(job.options), json.loads(job.scenario)
    arrivals = [each["arrivals"] for each in scenario.get("tasks") or [scenario]]
    for holder, key in ((options, "policy"), *((each, "file") for each in arrivals)):
        if holder.get(key) in places:
            holder[key] = places[holder[key]]
    place, colon_, name = str(options.get("features", "")).rpartition(":")
    if place in places:
        options["features"] = f"{places[place]}{colon_}{name}"
    return replace(
        job,
        scenario=json.dumps(scenario),
        scheduler=f"{places.get(file, file)}{colon}{cls}",
        options=json.dumps(options),
        files=(),
    )


def _run(job: Job, policy: bytes | None) -> Outcome:
    scenario, options = from_json(job.scenario, f"job {job.key}"), json.loads(job.options)
    with _policy_file(policy) as path, _captured_warnings() as captured:
        if path is not None:
            options["policy"] = str(path)
        done = run_scenario(scenario, job.scheduler, options, seed=job.seed, kernel=job.kernel)
    document = done.summary.as_json()
    document["total_delay_quantiles_s"] = done.summary.total_delay_quantiles_s
    for name in ("scenario", "scheduler", "seed", "trace"):  # known where the result is used
        del document[name]
    warnings = tuple(text.replace(str(path), f"of {job.scheduler}") for text in captured)
    return Outcome(document | {"resources": document["resources"][:RESOURCES]}, warnings=warnings)


@contextmanager
def _captured_warnings() -> Iterator[list[str]]:
    """Collect the warnings of mecsim's logger in place of printing them."""
    captured: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: captured.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("mecsim")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield captured
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


@contextmanager
def _policy_file(policy: bytes | None) -> Iterator[Path | None]:
    if policy is None:
        yield None
        return
    with temporary_folder() as folder:
        path = folder / "policy.safetensors"
        write_whole(path, policy)
        yield path


def _bound(job: Job) -> Outcome:
    scenario = from_json(job.scenario, f"job {job.key}")
    free = scenario.model_copy(
        update={"reward": Reward(beta=0.0, aggregation="sum")}
    )  # without tardiness the cost is the delay
    model = resolve(scenario, job.seed)
    cost, delay = LowerBound(model), LowerBound(resolve(free, job.seed))
    with arrivals_of(model) as recording:
        for slot in workload.slots(model, recording):
            cost.add(slot)
            delay.add(slot)
    found: dict[str, Any] = {"cost": cost.total, "total_delay_s": _mean(delay.total, delay.tasks)}
    if len(model.classes) > 1:
        columns = cost.total_of_class, delay.total_of_class, delay.tasks_of_class
        found["classes"] = [
            {"name": each.name, "cost": least, "total_delay_s": _mean(total_s, tasks)}
            for each, least, total_s, tasks in zip(model.classes, *columns, strict=True)
        ]
    return Outcome(found)


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def try_scheduler(job: Job, model: Model) -> None:
    """Make the scheduler of a run that needs no training, as the run will.

    Args:
        job: The run.
        model: Its scenario, resolved under its seed.

    Raises:
        SchedulerError: It cannot be made.
    """
    with redirect_stdout(sys.stderr), _captured_warnings():  # the run repeats its warnings
        registry.create(job.scheduler, SchedulerSpec.of(model), json.loads(job.options))


def _train(jobs: Sequence[Job]) -> list[Outcome]:
    from mecsim.learning.training import train_stack  # noqa: PLC0415 - takes its time to load

    with temporary_folder() as folder:
        requests = [
            _request(job, folder / f"policy-{number}.safetensors")
            for number, job in enumerate(jobs)
        ]
        found = train_stack(requests)
        return [
            _failed(each) if isinstance(each, TrainingError) else _trained(each, request.out)
            for each, request in zip(found, requests, strict=True)
        ]


def _request(job: Job, out: Path) -> TrainingRequest:
    from mecsim.learning import TrainingRequest  # noqa: PLC0415 - takes its time to load

    assert job.training is not None
    return TrainingRequest(
        scenario=from_json(job.scenario, f"job {job.key}"),
        scheduler=job.scheduler,
        options=json.loads(job.options),
        out=out,
        episodes=job.training.episodes,
        seed=job.seed,
        workers=job.training.workers,
        serial=job.training.workers == 1,  # then the seed determines every bit of the policy
    )


def _trained(summary: Mapping[str, Any], policy: Path) -> Outcome:
    gone = ("policy", "curve_file", "events", "preset")  # files of the folder; options are resolved
    kept = {name: value for name, value in summary.items() if name not in gone}
    return Outcome(json.loads(json.dumps(kept)), policy.read_bytes())
