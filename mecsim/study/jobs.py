"""A job: a small frozen value that says what to compute, and the function that computes it.

A job is the same job on every machine and in every process, and its key names its result for good.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from mecsim.errors import InputError
from mecsim.model import workload
from mecsim.model.model import resolve, self_contained
from mecsim.scenario.loading import from_json
from mecsim.scenario.schema import RecordedTasks, Reward, Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.errors import one_line
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.run import run as run_scenario
from mecsim.trace.recorded_workload import arrivals_of

RESOURCES: Final = 12
"""The busiest resources are kept of each run."""


Kind: TypeAlias = Literal["run", "train", "bound"]


@dataclass(frozen=True)
class Training:
    """How a learner is trained."""

    episodes: int
    workers: int = 1


@dataclass(frozen=True)
class Job:
    """A run, a training, or what a run's tasks cost at least.

    Mappings are held as JSON, so that a job can be hashed and compared.
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
    """Other files that the job reads, each with the hash of its content."""

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the result, the version of mecsim included."""
        text = json.dumps(self.document() | {"mecsim": version("mecsim")}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """Return the job as plain data; the job that it needs as its key."""
        return {
            "kind": self.kind,
            "scheduler": self.scheduler,
            "options": json.loads(self.options),
            "seed": self.seed,
            "kernel": self.kernel,
            "training": None if self.training is None else vars(self.training),
            "needs": None if self.needs is None else self.needs.key,
            "files": dict(self.files),
            "scenario": json.loads(self.scenario),
        }

    def __str__(self) -> str:
        """Say in a few words what the job does."""
        what = "lower bound" if self.kind == "bound" else self.scheduler
        policy = "" if self.needs is None else f" with policy {self.needs.seed}"
        return f"{'training of ' if self.kind == 'train' else ''}{what}{policy}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    result: dict[str, Any] | None
    """Its numbers; None where it failed."""
    policy: bytes | None = None
    """The policy file that a training wrote."""
    error: str = ""
    """Why it failed, in one line."""
    warnings: tuple[str, ...] = ()
    """What the run warned of; in a batch many warn of the same."""


def make_job(
    kind: Kind,
    scenario: Scenario,
    scheduler: str,
    options: Mapping[str, Any],
    seed: int,
    **more: Any,
) -> Job:
    """Return a job for a scenario; further keywords are fields of :class:`Job`.

    Raises ``InputError`` if a file that the job needs cannot be read.
    """
    with scenario.locating():
        scenario = self_contained(scenario).model_copy(update={"description": ""})
    named = [registry.source(scheduler) if scheduler else "", options.get("policy")]
    if isinstance(scenario.arrivals, RecordedTasks):
        named.append(scenario.arrivals.file)
    files = tuple((str(n), _digest(Path(n))) for n in named if n and Path(n).is_file())
    text = json.dumps(dict(options), sort_keys=True)
    return Job(kind, scenario.canonical_json(), scheduler, text, seed, files=files, **more)


def _digest(path: Path) -> str:
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def execute(job: Job, policy: bytes | None = None) -> Outcome:
    """Do a job, given the policy of the training that it needs; a failure is an outcome, too."""
    try:
        with redirect_stdout(sys.stderr):  # what a scheduler prints
            if job.kind == "run":
                return _run(job, policy)
            return _train(job) if job.kind == "train" else _bound(job)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a scheduler raises sinks its job alone
        known = isinstance(error, InputError)
        return Outcome(None, error=" ".join(str(error).split()) if known else one_line(error))


def contents(job: Job) -> dict[str, bytes]:
    """Return what the files hold that a job reads. Raises ``InputError``."""
    found = {}
    for name, digest in job.files:
        found[name] = content = _read(Path(name))
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{name}: has changed since the batch began; start it again")
    return found


def execute_apart(job: Job, policy: bytes | None, files: Mapping[str, bytes]) -> Outcome:
    """Do a job where its files are not: what they hold is laid out in a folder."""
    with tempfile.TemporaryDirectory(prefix="mecsim-") as folder:
        places = {}
        for number, (name, content) in enumerate(files.items()):
            place = Path(folder) / str(number) / Path(name).name
            place.parent.mkdir()
            place.write_bytes(content)
            places[name] = str(place)
        outcome = execute(_moved(job, places), policy)
    error = outcome.error
    for name, there in places.items():
        error = error.replace(there, name)
    return replace(outcome, error=error)


def _moved(job: Job, places: Mapping[str, str]) -> Job:
    """Return a job that reads its files at other places."""
    file, colon, cls = job.scheduler.rpartition(":")
    options, scenario = json.loads(job.options), json.loads(job.scenario)
    for holder, key in ((options, "policy"), (scenario["arrivals"], "file")):
        if holder.get(key) in places:
            holder[key] = places[holder[key]]
    return replace(
        job,
        scenario=json.dumps(scenario),
        scheduler=f"{places.get(file, file)}{colon}{cls}",
        options=json.dumps(options),
    )


def _run(job: Job, policy: bytes | None) -> Outcome:
    scenario, options = from_json(job.scenario, f"job {job.key}"), json.loads(job.options)
    with _policy_file(policy) as path, _warnings() as heard:
        if path is not None:
            options["policy"] = str(path)
        done = run_scenario(scenario, job.scheduler, options, seed=job.seed, kernel=job.kernel)
    summary = done.summary
    unsaid = ("scenario", "scheduler", "seed", "trace")  # said where the result is used
    result = {name: value for name, value in summary.items() if name not in unsaid}
    told = tuple(text.replace(str(path), f"of {job.scheduler}") for text in heard)
    return Outcome(result | {"resources": summary["resources"][:RESOURCES]}, warnings=told)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Keep what mecsim warns of, in place of telling it."""
    heard: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("mecsim")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


@contextmanager
def _policy_file(policy: bytes | None) -> Iterator[Path | None]:
    if policy is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mecsim-") as folder:
        path = Path(folder) / "policy.safetensors"
        path.write_bytes(policy)
        yield path


def _bound(job: Job) -> Outcome:
    scenario = from_json(job.scenario, f"job {job.key}")
    free = scenario.model_copy(update={"reward": Reward(beta=0.0)})  # cost without lateness: delay
    model = resolve(scenario, job.seed)
    cost, delay, tasks = LowerBound(model), LowerBound(resolve(free, job.seed)), 0
    with arrivals_of(model) as recording:
        for slot in workload.slots(model, recording):
            cost.add(slot)
            delay.add(slot)
            tasks += len(slot.tasks)
    mean = delay.total / tasks if tasks else None
    return Outcome({"cost": cost.total, "total_delay_s": mean})


def _train(job: Job) -> Outcome:
    from mecsim.learning import TrainingRequest  # noqa: PLC0415 - takes its time to load
    from mecsim.learning.training import train  # noqa: PLC0415 - takes its time to load

    assert job.training is not None
    with tempfile.TemporaryDirectory(prefix="mecsim-") as folder:
        path = Path(folder) / "policy.safetensors"
        request = TrainingRequest(
            scenario=from_json(job.scenario, f"job {job.key}"),
            scheduler=job.scheduler,
            options=json.loads(job.options),
            out=path,
            episodes=job.training.episodes,
            seed=job.seed,
            workers=job.training.workers,
            serial=job.training.workers == 1,  # then the seed decides the policy to the last bit
        )
        summary = train(request)
        files = ("policy", "curve_file", "events")  # gone with the folder
        kept = {name: value for name, value in summary.items() if name not in files}
        return Outcome(json.loads(json.dumps(kept)), path.read_bytes())
