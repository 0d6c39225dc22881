"""A study: which schedulers are compared on which scenarios, at which points, on which seeds.

It becomes a list of cells, each a run as a job of a batch; their results become rows, and the rows
a summary with intervals. All of it is plain values; the work is that of :mod:`mecsim.batch`.
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

from mecsim import documents, registry, statistics
from mecsim.errors import InputError
from mecsim.jobs import Job, Training, make_job
from mecsim.model import resolve
from mecsim.scenario import Scenario, load

Point: TypeAlias = dict[str, Any]
"""Keys of a sweep to their values."""
Sample: TypeAlias = dict[tuple[int, int], float]
"""(Training seed, workload seed) to a number; the training seed is 0 where nothing is trained."""

METRICS: Final = (
    "total_delay_s",
    "edge_delay_s",
    "local_delay_s",
    "energy_J",
    "reward",
    "late_blocks",
    "failed",
    "bound_gap_percent",
)
"""Means over completed tasks, then numbers of a whole run; the last with ``bound`` only."""
YARDSTICK: Final = "lookahead"
"""Where this scheduler takes part, the others are compared with it, too."""
BOUND: Final = "lower bound"
"""The name under which a summary holds what the tasks cost, and take, at least."""

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
        found = documents.parse(f"values: [{values}]", f"--sweep {text}").values["values"]
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
    learns = getattr(registry.load(entrant.scheduler), "learns", False)
    return bool(learns) and "policy" not in entrant.options


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


def rows(cells: Sequence[Cell], results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of those runs that have one, as ``mecsim compare --json`` prints them."""
    bounds = {
        _meeting(cell): results[cell.job.key]
        for cell in cells
        if cell.entrant is None and cell.job.key in results
    }
    found = []
    for cell in cells:
        result = results.get(cell.job.key)
        if cell.entrant is None or result is None or cell.job.kind != "run":
            continue
        row: dict[str, Any] = {
            "scenario": cell.scenario,
            "sweep": cell.point,
            "scheduler": cell.entrant.label,
            "seed": cell.job.seed,
            "training_seed": cell.training_seed,
        }
        row |= result
        if (bound := bounds.get(_meeting(cell))) is not None:
            row["lower_bound"] = {**bound, "gap_percent": _gap(row, bound["cost"])}
        found.append(row)
    return found


def curves(cells: Iterable[Cell], results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the learning curves of the trainings, as rows with ``episode`` and ``reward``."""
    return [
        {
            "scenario": cell.scenario,
            "sweep": cell.point,
            "scheduler": cell.entrant.label,
            "training_seed": cell.training_seed,
            "episode": point["episode"],
            "reward": point["reward"],
        }
        for cell in cells
        if cell.entrant is not None and cell.job.kind == "train" and cell.job.key in results
        for point in results[cell.job.key].get("curve", ())
    ]


def _meeting(cell: Cell) -> tuple[str, str, int]:
    return cell.scenario, json.dumps(cell.point), cell.job.seed


def _gap(row: Mapping[str, Any], cost: float) -> float | None:
    """Return by how much a run costs more than its tasks do at least, in percent."""
    return None if row["failed"] or not cost else 100 * (-row["reward"] - cost) / cost


def metric(row: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a row; of delays and energies the mean. None where there is none."""
    if name == "bound_gap_percent":
        gap = row.get("lower_bound", {}).get("gap_percent")
        return None if gap is None else float(gap)
    value = row[name]["mean"] if isinstance(row[name], Mapping) else row[name]
    return None if value is None else float(value)


def summarise(rows: Iterable[Mapping[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Return mean and interval of each metric of each scheduler at each point.

    And its paired difference from the baseline and from the yardstick, over the seeds that both
    have met.
    """
    samples: dict[tuple[str, str], dict[str, dict[str, Sample]]] = {}
    points: dict[tuple[str, str], Point] = {}
    for row in rows:
        place = row["scenario"], json.dumps(row["sweep"])
        points[place] = row["sweep"]
        for name in METRICS:
            value = metric(row, name)
            if value is not None:
                by_scheduler = samples.setdefault(place, {}).setdefault(name, {})
                seeds = row["training_seed"] or 0, row["seed"]
                by_scheduler.setdefault(row["scheduler"], {})[seeds] = value
        for name, value in _least(row).items():
            samples[place][name].setdefault(BOUND, {})[0, row["seed"]] = value
    return [
        {"scenario": place[0], "sweep": points[place], "scheduler": label, "metric": name}
        | _summary(label, by_scheduler, baseline)
        for place, by_metric in samples.items()
        for name, by_scheduler in by_metric.items()
        for label in sorted(by_scheduler, key=lambda label: label == BOUND)  # stable: it goes last
    ]


def _least(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the bounds of a row's tasks as numbers of a scheduler of their own."""
    bound = row.get("lower_bound")
    if bound is None or bound["total_delay_s"] is None:
        return {}
    return {"total_delay_s": bound["total_delay_s"], "reward": 0.0 - bound["cost"]}


def _summary(label: str, by_scheduler: Mapping[str, Sample], baseline: str) -> dict[str, Any]:
    values = by_scheduler[label]
    seeds = statistics.complete_seeds(values)
    mean, low, high = (
        statistics.estimate(statistics.matrix(values, seeds)) if seeds else (None, None, None)
    )
    others = {
        other: _versus(values, by_scheduler[other])
        for other in dict.fromkeys((baseline, YARDSTICK))
        if other != label and other in by_scheduler
    }
    head = {"seeds": len(seeds), "mean": mean, "ci95_low": low, "ci95_high": high}
    return head | {"vs": {other: versus for other, versus in others.items() if versus}}


def _versus(values: Sample, others: Sample) -> dict[str, Any] | None:
    shared = set(statistics.complete_seeds(others))
    seeds = [seed for seed in statistics.complete_seeds(values) if seed in shared]
    if not seeds:
        return None
    sample, baseline = statistics.alike(*(statistics.matrix(x, seeds) for x in (values, others)))
    difference = statistics.paired(sample, baseline)
    percent = statistics.improvement(sample, baseline)
    return {
        "seeds": len(seeds),
        "paired_difference": difference.mean,
        "ci95_low": difference.low,
        "ci95_high": difference.high,
        "percent": percent and percent.percent,
        "percent_ci95_low": percent and percent.low,
        "percent_ci95_high": percent and percent.high,
    }


def name_scenarios(paths: Sequence[Path]) -> dict[str, Path]:
    """Return scenarios by their names in the results. Raises ``InputError`` if two share one."""
    names = {path.stem: path for path in paths}
    if len(names) < len(paths):
        shown = ", ".join(str(path) for path in paths)
        raise InputError(f"SCENARIO: {shown}: two share a name; allowed: names that differ")
    return names
