"""A study: schedulers × scenarios × points of a sweep × seeds, and the trials that it consists of.

Each trial is one job. :mod:`mecsim.study.job_queue` computes the jobs, and
:mod:`mecsim.study.summary` turns their results into rows and a summary with intervals.
"""

from __future__ import annotations

import inspect
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from mecsim.errors import InputError
from mecsim.learning.interface import Learner
from mecsim.learning.options import check_workers, resolve_settings
from mecsim.learning.settings import TrainingSettings
from mecsim.model.model import resolve
from mecsim.scenario import yaml_source
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.study.jobs import Job, Training, make_job

Point: TypeAlias = dict[str, Any]
"""A point of a sweep: keys of the scenario to their values."""


SETTING: Final = "evaluated_on"
"""The key of a point that names a group of overrides (a setting) in place of a value."""


@dataclass(frozen=True)
class Competitor:
    """A scheduler in a comparison."""

    label: str
    """Name in the results."""
    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    """Preset of a learner's training options; None for the defaults."""
    seeds: int | None = None
    """Run only the first n seeds of the study; None for all."""
    workers: int | None = None
    """Number of training workers; None for that of the study."""
    episodes: int | None = None
    """Episodes of a training; None for those of the study."""
    trainings: int | None = None
    """Train only with the first n training seeds of the study; None for all."""
    train_once: bool = False
    """Train once on the base scenario and evaluate that policy at every point of the sweep."""


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


def parse_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read sweeps of the form ``KEY.PATH=V1,V2,…``, each value as YAML.

    >>> parse_sweep(["edge_servers=2,3", "radio.rate=0.8 MB/s"])
    {'edge_servers': [2, 3], 'radio.rate': ['0.8 MB/s']}

    Raises:
        InputError: The form is wrong, or a key or a value occurs twice.
    """
    sweep: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not key or key in sweep:
            raise InputError(f"--sweep {text}: expected KEY.PATH=V1,V2,…, each key once")
        if key == SETTING:
            raise InputError(f"--sweep {text}: {key} is reserved; expected a key of the scenario")
        found = yaml_source.parse(f"values: [{values}]", f"--sweep {text}").values["values"]
        if not found:
            raise InputError(f"--sweep {text}: no values")
        if len({json.dumps(value, default=str) for value in found}) < len(found):
            raise InputError(f"--sweep {text}: the same value twice")
        sweep[key] = found
    return sweep


def grid(sweep: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return all combinations of the values of a sweep; the last key changes fastest.

    >>> grid({"a": [1, 2], "b": [3]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def assignments(point: Point) -> list[str]:
    """Return a point as overrides of a scenario.

    >>> assignments({"edge_servers": 3})
    ['edge_servers=3']
    """
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def plan(study: Study) -> list[Trial]:
    """Return the trials of a study, in the order of its results.

    Raises:
        InputError: A scenario, point, scheduler or option is not valid. All are checked here,
            before any job starts.
    """
    _check(study)
    trials: list[Trial] = []
    for name, path in study.scenarios.items():
        for point in study.points:
            named = study.settings.get(point.get(SETTING, ""), ())
            values = {key: value for key, value in point.items() if key != SETTING}
            scenario = load(path, [*study.overrides, *assignments(values), *named])
            with scenario.locating():
                resolve(scenario, 0)
            for competitor in study.competitors:
                base = load(path, study.overrides) if competitor.train_once else None
                trials += _trials(study, name, point, competitor, scenario, base)
            for seed in study.seeds if study.lower_bound else ():
                job = make_job("bound", scenario, "", {}, seed)
                trials.append(Trial(name, point, None, None, job))
    return trials


def _check(study: Study) -> None:
    labels = [competitor.label for competitor in study.competitors]
    if study.baseline not in labels:
        raise InputError(
            f"--baseline: {study.baseline!r} is not compared; expected one of {', '.join(labels)}"
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"--schedulers: {', '.join(labels)}: the same name twice")
    for competitor in study.competitors:
        _check_competitor(study, competitor)


def _check_competitor(study: Study, competitor: Competitor) -> None:
    settings = _options(competitor).of_training
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
            f"scheduler {competitor.scheduler!r}: needs training: give --episodes N "
            f"or --option {competitor.label}.policy=FILE"
        )
    check_workers(competitor.scheduler, settings, training.workers)


def trained(competitor: Competitor) -> bool:
    """Whether a competitor learns and was not given a policy."""
    learns = issubclass(registry.load(competitor.scheduler), Learner)
    return learns and "policy" not in competitor.options


def _training(study: Study, competitor: Competitor) -> Training | None:
    if study.training is None:
        return None
    own = {"workers": competitor.workers, "episodes": competitor.episodes}
    return replace(study.training, **{name: n for name, n in own.items() if n is not None})


@dataclass(frozen=True)
class _Options:
    """The options of a competitor."""

    of_runs: dict[str, Any]
    """Those that were given to its runs."""
    defaults: str
    """The defaults of the options of runs, as JSON."""
    of_training: TrainingSettings | None
    """All those of its training, if there is one."""


def _options(competitor: Competitor) -> _Options:
    """Return the options of the runs, and all those of the training if there is one.

    Options that are no parameters of the scheduler's ``__init__`` belong to its training; the
    ``settings`` of the class list them.

    Raises:
        SchedulerError: An option or the preset is wrong.
    """
    name, given = competitor.scheduler, competitor.options
    cls = registry.load(name)
    defaults = json.dumps(registry.default_options(name, cls))
    if not trained(competitor):
        registry.check_options(name, cls, given)
        return _Options(given, defaults, None)
    known = inspect.signature(cls).parameters
    of_runs = {key: value for key, value in given.items() if key in known}
    of_training = {key: value for key, value in given.items() if key not in known}
    registry.check_options(name, cls, of_runs | {"policy": "its own"})
    return _Options(of_runs, defaults, resolve_settings(name, of_training, competitor.preset))


def _trials(
    study: Study,
    name: str,
    point: Point,
    competitor: Competitor,
    scenario: Scenario,
    base: Scenario | None,
) -> Iterable[Trial]:
    """Yield the runs at a point and the trainings for them.

    With a ``base`` scenario (``train_once``) its trainings are yielded once, at the first point.
    """
    options = _options(competitor)
    settings = options.of_training
    training = _training(study, competitor)
    seeds = study.training_seeds[: competitor.trainings]
    for training_seed in (None,) if settings is None else seeds:
        need = None
        if settings is not None and training_seed is not None:
            need = make_job(
                "train",
                base or scenario,
                competitor.scheduler,
                settings.model_dump(mode="json"),  # complete: the key holds presets and defaults
                training_seed,
                training=training,
            )
            if base is None:
                yield Trial(name, point, competitor, training_seed, need)
            elif point == study.points[0]:
                yield Trial(name, {}, competitor, training_seed, need)
        for seed in study.seeds[: competitor.seeds]:
            job = make_job(
                "run",
                scenario,
                competitor.scheduler,
                options.of_runs,
                seed,
                defaults=options.defaults,
                kernel=study.kernel,
                needs=need,
            )
            yield Trial(name, point, competitor, training_seed, job)


def name_scenarios(paths: Sequence[Path]) -> dict[str, Path]:
    """Return scenarios by their names in the results. Raises ``InputError`` for equal names."""
    names = {path.stem: path for path in paths}
    if len(names) < len(paths):
        shown = ", ".join(str(path) for path in paths)
        raise InputError(f"SCENARIO: {shown}: two files of the same name; expected different names")
    return names
