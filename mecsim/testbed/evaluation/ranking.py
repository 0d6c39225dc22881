"""Whether simulation ranks schedulers as measurement does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from mecsim.errors import InputError, MecsimError
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.simulation.metrics import RunSummary
from mecsim.simulation.recorded import recorded_summary
from mecsim.simulation.run import run
from mecsim.study.report_tables import Table
from mecsim.study.statistics import Estimate, estimate, paired
from mecsim.support.arrays import Floats
from mecsim.testbed.evaluation.measuring import Report, Traces, Wanted
from mecsim.testbed.evaluation.settings import Ranking, with_policy
from mecsim.testbed.prediction import predict
from mecsim.trace import TraceFile

RANKING: Final = "ranking"
MEASURED, SIMULATED, CALIBRATED = "measured", "simulated", "predicted, calibrated"
_OF_WORKLOAD: Final = ("description", "slots", "slot_length", "arrivals", "decision_epoch",
                       "measurement")  # fmt: skip
"""Keys that a calibrated scenario takes from the scenario of the ranking."""


class Delays(NamedTuple):
    """Delays of the tasks of a run in seconds."""

    mean: float
    p95: float


@dataclass(frozen=True)
class Ranked:
    """Mean and p95 of each source (measured or simulated), scheduler and seed."""

    seeds: Sequence[int]
    """The seeds of which all schedulers have all delays."""
    delays: Mapping[str, Mapping[str, Mapping[int, Delays]]]
    """By source, by scheduler, by seed."""

    def sample(self, source: str, scheduler: str) -> Floats:
        """Return the mean delays by seed; shape (1, seeds)."""
        of_seed = self.delays[source][scheduler]
        return np.array([[of_seed[seed].mean for seed in self.seeds]])

    def estimate(self, source: str, scheduler: str) -> Estimate:
        """Return the mean over the seeds with its 95% interval."""
        return estimate(self.sample(source, scheduler))

    def order(self, source: str) -> list[str]:
        """Return the schedulers by their mean delays, the least first."""
        return sorted(self.delays[source], key=lambda name: self.estimate(source, name).mean)

    def inversions(self, source: str) -> list[tuple[str, str, Estimate]]:
        """Return the pairs whose order is another one in a simulation than measured.

        Returns:
            The scheduler that was measured as the better one, the other, and how much more the
            other one takes, paired by seeds, with its 95% interval.
        """
        place = {name: row for row, name in enumerate(self.order(source))}
        return [
            (one, other, paired(self.sample(MEASURED, other), self.sample(MEASURED, one)))
            for one, other in combinations(self.order(MEASURED), 2)
            if place[one] > place[other]
        ]

    def kendall(self, source: str) -> float:
        """Return Kendall's rank correlation of a simulation with the measurement."""
        count = len(self.delays[source])
        return 1 - 4 * len(self.inversions(source)) / (count * (count - 1))

    def error_percent(self, source: str, scheduler: str) -> float:
        """Return the error of a simulated mean in percent."""
        measured = self.estimate(MEASURED, scheduler).mean
        return 100 * (self.estimate(source, scheduler).mean / measured - 1)

    def table(self) -> Table:
        """Return a row for each source, scheduler and seed."""
        rows = [
            (source, scheduler, seed, *found)
            for source, by_scheduler in self.delays.items()
            for scheduler, by_seed in by_scheduler.items()
            for seed, found in by_seed.items()
        ]
        names = ("source", "scheduler", "seed", "mean_s", "p95_s")
        return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def ranked(
    ranking: Ranking, folder: Path, traces: Traces, fitted: Scenario | None, slots: int | None
) -> Ranked | None:
    """Measure every scheduler on every seed, simulate the same, and predict the measured runs.

    Args:
        ranking: Scheduler, seeds and scenario.
        folder: The folder to which files are relative.
        traces: Measures, and keeps traces.
        fitted: A calibrated scenario of the same network, if there is one.
        slots: Number of slots; that of the scenario by default.

    Returns:
        None if no seed has all results; the reasons are in ``traces``.
    """
    scenario = ranking.load(folder, slots)
    calibrated = None if fitted is None else _merged(fitted, scenario)
    delays: dict[str, dict[str, dict[int, Delays]]] = {}
    for seed in ranking.seeds:  # all schedulers of a seed first: an interrupted study is balanced
        for scheduler, given in ranking.schedulers.items():
            options = with_policy(given, folder)
            wanted = Wanted(
                f"{RANKING}-{scheduler}-{seed}",
                ranking,
                scenario,
                scheduler,
                options,
                seed,
                RANKING,
            )
            path = traces.measured(wanted)
            if path is None:
                continue
            runs = {MEASURED: partial(_recorded, path), SIMULATED: partial(_simulated, wanted)}
            if calibrated is not None:
                runs[CALIBRATED] = partial(_predicted, path, calibrated)
            for source, each in runs.items():
                try:
                    found = _delays(each())
                except MecsimError as error:
                    traces.fail(f"{wanted.name}, {source}", error)
                else:
                    delays.setdefault(source, {}).setdefault(scheduler, {})[seed] = found
    return _complete(ranking, delays, traces.report)


def _complete(
    ranking: Ranking, delays: dict[str, dict[str, dict[int, Delays]]], report: Report
) -> Ranked | None:
    """Return the seeds and the sources of which every scheduler has a result."""
    if not delays:
        return None
    names = set(ranking.schedulers)
    whole = {source: found for source, found in delays.items() if set(found) == names}
    seeds = [
        seed
        for seed in ranking.seeds
        if all(seed in each for found in whole.values() for each in found.values())
    ]
    if MEASURED not in whole or len(whole) < 2 or len(seeds) < 2:
        report("ranking: fewer than two seeds have results of all schedulers")
        return None
    return Ranked(seeds, whole)


def _merged(fitted: Scenario, scenario: Scenario) -> Scenario:
    """Return a calibrated scenario with the workload of another one."""
    changes = {key: getattr(scenario, key) for key in _OF_WORKLOAD}
    return fitted.model_copy(update=changes)


def _recorded(path: Path) -> RunSummary:
    with TraceFile(path) as trace:
        return recorded_summary(trace, resolve(trace.scenario, trace.made_by.seed))


def _simulated(wanted: Wanted) -> RunSummary:
    """Let the scheduler decide in a simulation of the scenario as planned."""
    scenario, options = wanted.scenario, wanted.options
    return run(scenario, wanted.scheduler, options, seed=wanted.seed, kernel="compiled").summary


def _predicted(path: Path, calibrated: Scenario) -> RunSummary:
    """Repeat the measured decisions: learned policies do not fit scenarios of measured times."""
    return predict(path, calibrated, kernel="compiled").simulated_run


def _delays(summary: RunSummary) -> Delays:
    found = summary.total_delay_s
    if found.mean is None or found.p95 is None:
        raise InputError(f"{summary.title}: no task completed")
    return Delays(found.mean, found.p95)
