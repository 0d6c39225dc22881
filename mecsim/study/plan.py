"""A study: which schedulers are compared on which scenarios, at which points, on which seeds.

It becomes a list of cells, each a run as a job of a batch; their results become rows, and the rows
a summary with intervals. All of it is plain values; the work is that of :mod:`mecsim.study.batch`.
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
from mecsim.model.model import resolve
from mecsim.scenario import yaml_source
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.study.jobs import Job, Training, make_job

Point: TypeAlias = dict[str, Any]
"""Keys of a sweep to their values."""


PLACE: Final = "evaluated_on"
"""The key of a point that has a name and not a value of its own."""


@dataclass(frozen=True)
class Entrant:
    """A scheduler that takes part."""

    label: str
    """Its name in the results."""
    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    """Runs on so many of the study's seeds only, the first ones."""
    workers: int | None = None
    """Trained by so many workers, if not by as many as the study says."""
    once: bool = False
    """Trained on the scenario as it is without any point, and evaluated at all points so."""


@dataclass(frozen=True)
class Study:
    """What is compared."""

    scenarios: Mapping[str, str | os.PathLike[str]]
    """Name in the results to the path of the scenario."""
    entrants: Sequence[Entrant]
    seeds: Sequence[int]
    points: Sequence[Point] = ({},)
    places: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Overrides by the names that points have under ``PLACE``."""
    overrides: Sequence[str] = ()
    baseline: str = "greedy"
    kernel: str = "compiled"
    bound: bool = False
    training: Training | None = None
    training_seeds: Sequence[int] = (0,)


@dataclass(frozen=True)
class Cell:
    """A run of a study, a training for its runs, or the bound of its tasks (without an entrant)."""

    scenario: str
    point: Point
    entrant: Entrant | None
    training_seed: int | None
    job: Job


def parse_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``KEY.PATH=V1,V2,…``, each value as YAML. Raises ``InputError``."""
    sweep: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not key or key in sweep:
            raise InputError(f"--sweep {text}: allowed: KEY.PATH=V1,V2,…, each key once")
        if key == PLACE:
            raise InputError(f"--sweep {text}: allowed: a key of a scenario")
        found = yaml_source.parse(f"values: [{values}]", f"--sweep {text}").values["values"]
        if not found:
            raise InputError(f"--sweep {text}: has no values")
        if len({json.dumps(value, default=str) for value in found}) < len(found):
            raise InputError(f"--sweep {text}: names a value twice")
        sweep[key] = found
    return sweep


def grid(sweep: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return all combinations of the values of a sweep, the last key changing fastest."""
    return [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]


def assignments(point: Point) -> list[str]:
    """Return a point as overrides of a scenario."""
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def plan(study: Study) -> list[Cell]:
    """Return the runs of a study, in the order of its results.

    Everything that can be wrong with scenarios, points, schedulers and options is told here, as
    ``InputError``, before any work is done.
    """
    _check(study)
    cells: list[Cell] = []
    for name, path in study.scenarios.items():
        for point in study.points:
            named = study.places.get(point.get(PLACE, ""), ())
            values = {key: value for key, value in point.items() if key != PLACE}
            scenario = load(path, [*study.overrides, *assignments(values), *named])
            with scenario.locating():
                resolve(scenario, 0)
            for entrant in study.entrants:
                home = load(path, study.overrides) if entrant.once else None
                cells += _cells(study, name, point, entrant, scenario, home)
            for seed in study.seeds if study.bound else ():
                job = make_job("bound", scenario, "", {}, seed)
                cells.append(Cell(name, point, None, None, job))
    return cells


def _check(study: Study) -> None:
    labels = [entrant.label for entrant in study.entrants]
    if study.baseline not in labels:
        raise InputError(
            f"--baseline: {study.baseline!r} does not take part; allowed: {', '.join(labels)}"
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"--schedulers: {', '.join(labels)}: one is named twice")
    for entrant in study.entrants:
        _options(entrant)
        if trained(entrant) and study.training is None:
            raise InputError(
                f"scheduler {entrant.scheduler!r}: has to be trained; say for how long with "
                f"--episodes N, or give --option {entrant.label}.policy=FILE"
            )
        if entrant.once and not trained(entrant):
            raise InputError(f"once: {entrant.label!r} is not trained; allowed: for learners only")


def trained(entrant: Entrant) -> bool:
    """Whether an entrant is a learner without a policy."""
    learns = issubclass(registry.load(entrant.scheduler), Learner)
    return learns and "policy" not in entrant.options


def _options(entrant: Entrant) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the runs, and those of the training. Raises ``SchedulerError``.

    What a scheduler's ``__init__`` does not know is for its training, if it is to be trained; a
    class that has ``settings`` says by them what its training knows.
    """
    name, given = entrant.scheduler, entrant.options
    cls = registry.load(name)
    if not trained(entrant):
        registry.check_options(name, cls, given)
        return given, {}
    known = inspect.signature(cls).parameters
    of_runs = {key: value for key, value in given.items() if key in known}
    of_training = {key: value for key, value in given.items() if key not in known}
    registry.check_options(name, cls, of_runs | {"policy": "its own"})
    registry.check_options(name, getattr(cls, "settings", cls), of_training)
    return of_runs, of_training


def _cells(
    study: Study,
    name: str,
    point: Point,
    entrant: Entrant,
    scenario: Scenario,
    home: Scenario | None,
) -> Iterable[Cell]:
    """Yield runs at a point, and the trainings for them; of those at home each but once."""
    of_runs, of_training = _options(entrant)
    training = study.training
    if training is not None and entrant.workers is not None:
        training = replace(training, workers=entrant.workers)
    for training_seed in study.training_seeds if trained(entrant) else (None,):
        need = None
        if training_seed is not None:
            where = home or scenario
            need = make_job(
                "train", where, entrant.scheduler, of_training, training_seed, training=training
            )
            if home is None:
                yield Cell(name, point, entrant, training_seed, need)
            elif point == study.points[0]:
                yield Cell(name, {}, entrant, training_seed, need)
        for seed in study.seeds[: entrant.seeds]:
            job = make_job(
                "run", scenario, entrant.scheduler, of_runs, seed, kernel=study.kernel, needs=need
            )
            yield Cell(name, point, entrant, training_seed, job)


def name_scenarios(paths: Sequence[Path]) -> dict[str, Path]:
    """Return scenarios by their names in the results. Raises ``InputError`` if two share one."""
    names = {path.stem: path for path in paths}
    if len(names) < len(paths):
        shown = ", ".join(str(path) for path in paths)
        raise InputError(f"SCENARIO: {shown}: two share a name; allowed: names that differ")
    return names
