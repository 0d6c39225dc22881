"""A study: schedulers × scenarios × points of a sweep × seeds, and the trials that it consists of.

Each trial is one job. :mod:`mecsim.study.job_queue` computes the jobs, and
:mod:`mecsim.study.summary` turns their results into rows and a summary with intervals.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from mecsim.errors import InputError
from mecsim.learning.options import check_workers
from mecsim.learning.settings import TrainingSettings
from mecsim.model.model import Model, resolve
from mecsim.scenario.loading import from_json, load
from mecsim.scenario.schema import Scenario
from mecsim.study.competitors import Competitor, CompetitorOptions, check_labels, check_options
from mecsim.study.jobs import Job, Training, make_job, try_scheduler
from mecsim.study.sweep import Point, assignments, owner, split
from mecsim.support.names import scheduler_label


@dataclass(frozen=True)
class Study:
    """The design of a comparison. All competitors run on the same seeds (common random numbers)."""

    scenarios: Mapping[str, str | os.PathLike[str]]
    """Name in the results to the path of the scenario."""
    competitors: Sequence[Competitor]
    seeds: Sequence[int]
    points: Sequence[Point] = ({},)
    settings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Overrides of each setting that a point names under ``SETTING``."""
    overrides: Sequence[str] = ()
    baseline: str = "greedy"
    kernel: str = "compiled"
    lower_bound: bool = False
    training: Training | None = None
    training_seeds: Sequence[int] = (0,)


@dataclass(frozen=True)
class Trial:
    """One job of a study: a run, a training, or a lower bound (which has no competitor)."""

    scenario: str
    point: Point
    competitor: Competitor | None
    training_seed: int | None
    job: Job


def plan(study: Study) -> list[Trial]:
    """Return the trials of a study, in the order of its results.

    Competitors that a swept option does not concern have equal jobs at its points.

    Raises:
        InputError: A scenario, point, scheduler or option is not valid. All are checked here,
            before any job starts.
    """
    _check(study)
    labels = [competitor.label for competitor in study.competitors]
    trials: list[Trial] = []
    for name, path in study.scenarios.items():
        loaded = cache(partial(_loaded, path))  # points may differ in options alone
        for point in study.points:
            swept = split(point, labels)
            named = study.settings.get(swept.setting or "", ())
            scenario = loaded((*study.overrides, *assignments(swept.scenario), *named))
            for competitor in study.competitors:
                base = loaded(tuple(study.overrides)) if competitor.train_once else None
                own = swept.options.get(competitor.label, {})
                place = _Place(name, point, scenario, base)
                trials += _trials(study, place, competitor, own)
            for seed in study.seeds if study.lower_bound else ():
                job = make_job("bound", scenario, "", {}, seed)
                trials.append(Trial(name, point, None, None, job))
    return trials


def _loaded(path: str | os.PathLike[str], overrides: tuple[str, ...]) -> Scenario:
    scenario = load(path, overrides)
    with scenario.locating():
        resolve(scenario, 0)
    return scenario


def _check(study: Study) -> None:
    check_labels(study.competitors)
    labels = [competitor.label for competitor in study.competitors]
    if study.baseline not in labels:
        raise InputError(
            f"--baseline: {study.baseline!r} is not compared; expected one of {', '.join(labels)}"
        )


@dataclass(frozen=True)
class _Place:
    """Where competitors meet: a scenario at a point of the sweep."""

    name: str
    point: Point
    scenario: Scenario
    base: Scenario | None
    """The scenario without the point, for a competitor that is trained there."""


def _with_options(
    study: Study, competitor: Competitor, swept: Mapping[str, Any]
) -> tuple[Competitor, CompetitorOptions]:
    """Return a competitor with the swept options of a point, and all of its options, checked.

    Raises:
        InputError: An option is wrong or given twice, or the training is not possible.
    """
    label = competitor.label
    where = ", ".join(f"--sweep {label}.{key}={json.dumps(v)}" for key, v in swept.items())
    if twice := competitor.options.keys() & swept.keys():
        raise InputError(f"{where}: --option {label}.{twice.pop()} is also given. Try: omit it")
    if not where and label != scheduler_label(competitor.scheduler):
        where = f"label {label!r}"
    here = replace(competitor, options={**competitor.options, **swept})
    try:
        options = check_options(here)
    except InputError as error:
        raise (type(error)(f"{where}: {error}") if where else error) from error
    _check_training(study, here, options.of_training)
    return here, options


def _check_training(
    study: Study, competitor: Competitor, settings: TrainingSettings | None
) -> None:
    if settings is None:
        for name in ("train_once", "preset", "episodes", "trainings"):
            if getattr(competitor, name):
                raise InputError(
                    f"{name}: {competitor.label!r} is not trained; expected a learning scheduler"
                )
        return
    training = _training(study, competitor)
    if training is None:
        raise InputError(
            f"scheduler {competitor.label!r}: needs training: give --episodes N "
            f"or --option {competitor.label}.policy=FILE"
        )
    check_workers(competitor.scheduler, settings, training.workers)


def _training(study: Study, competitor: Competitor) -> Training | None:
    if study.training is None:
        return None
    own = {"workers": competitor.workers, "episodes": competitor.episodes}
    return replace(study.training, **{name: n for name, n in own.items() if n is not None})


def _trials(
    study: Study, place: _Place, competitor: Competitor, swept: Mapping[str, Any]
) -> Iterator[Trial]:
    """Yield the runs at a point and the trainings for them.

    With a ``base`` scenario (``train_once``) a training is yielded once, at the first point with
    its options.
    """
    here, options = _with_options(study, competitor, swept)
    settings = options.of_training
    seeds = study.training_seeds[: competitor.trainings]
    home = {f"{competitor.label}.{key}": value for key, value in swept.items()}
    for training_seed in (None,) if settings is None else seeds:
        need = None
        if settings is not None and training_seed is not None:
            need = make_job(
                "train",
                place.base or place.scenario,
                competitor.scheduler,
                settings.model_dump(mode="json"),  # complete: the key holds presets and defaults
                training_seed,
                training=_training(study, here),
            )
            if place.base is None:
                yield Trial(place.name, place.point, competitor, training_seed, need)
            elif place.point == next(p for p in study.points if home.items() <= p.items()):
                yield Trial(place.name, home, competitor, training_seed, need)
        for seed in study.seeds[: competitor.seeds]:
            job = make_job(
                "run",
                place.scenario,
                competitor.scheduler,
                options.of_runs,
                seed,
                defaults=options.defaults,
                kernel=study.kernel,
                needs=need,
            )
            yield Trial(place.name, place.point, competitor, training_seed, job)


def check_schedulers(trials: Iterable[Trial]) -> None:
    """Make the scheduler of each run once for each shape of its scenarios, before any job starts.

    The shape: servers, devices, blocks of each class and decision epochs. Schedulers that are
    trained are left out: they need their policies.

    Raises:
        SchedulerError: A scheduler cannot be made, as for a value that its ``__init__`` refuses.
    """
    resolved: tuple[str, Model] | None = None
    passed: dict[tuple[str, str], set[tuple[object, ...]]] = {}
    for trial in trials:
        job, competitor = trial.job, trial.competitor
        if competitor is None or job.kind != "run" or job.needs is not None:
            continue
        if resolved is None or resolved[0] != job.scenario:
            scenario = from_json(job.scenario, f"job {job.key}")
            resolved = job.scenario, resolve(scenario, job.seed)
        model = resolved[1]
        shapes = passed.setdefault((job.scheduler, job.options), set())
        blocks = tuple(each.blocks for each in model.classes)
        shape = model.servers, model.devices, blocks, model.scenario.decision_epoch
        if shape in shapes:
            continue
        try:
            try_scheduler(job, model)
        except InputError as error:
            own = {key: v for key, v in trial.point.items() if owner(key, [competitor.label])}
            where = _where(competitor, trial.point if shapes else own)
            raise type(error)(f"{where}{error}") from error
        shapes.add(shape)


def _where(competitor: Competitor, point: Point) -> str:
    """Return the beginning of a message: the point of the sweep and the competitor."""
    parts = [f"--sweep {key}={json.dumps(value)}: " for key, value in point.items()]
    if competitor.label != scheduler_label(competitor.scheduler):
        parts.append(f"label {competitor.label!r}: ")
    return "".join(parts)


def name_scenarios(paths: Sequence[Path]) -> dict[str, Path]:
    """Return scenarios by their names in the results. Raises ``InputError`` for equal names."""
    names = {path.stem: path for path in paths}
    if len(names) < len(paths):
        shown = ", ".join(str(path) for path in paths)
        raise InputError(f"SCENARIO: {shown}: two files of the same name; expected different names")
    return names
