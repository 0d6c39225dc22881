"""A check of the known-answer suite, and the functions that measure and compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from mecsim.scenario import yaml_source
from mecsim.scenario.loading import validate
from mecsim.scenario.schema import Scenario
from mecsim.simulation.metrics import RunSummary
from mecsim.simulation.run import run as run_scenario
from mecsim.support.intervals import Interval
from mecsim.trace.schema import Column, MemoryTrace

ROUNDING: Final = 1e-9
"""Relative difference allowed between sums taken in another order."""


class Effort(NamedTuple):
    """The amount of simulation behind a check."""

    replications: int
    """Independent runs of a check by intervals."""
    tasks: int
    """Tasks of each run."""
    kernel: str


@dataclass(frozen=True)
class Outcome:
    """The result of a check; it passes if ``low`` ≤ ``expected`` ≤ ``high``."""

    name: str
    expected: float
    measured: float
    low: float
    high: float
    ok: bool
    note: str
    """The quantity that was measured, and the sample size."""
    known: str
    """The formula and its source."""


@dataclass(frozen=True)
class Check:
    """A known answer and the way to measure it."""

    name: str
    known: str
    """The formula and its source."""
    how: str
    """The measured quantity; may have fields of :class:`Effort` in braces."""
    expected: float
    measure: Callable[[Effort], Interval]

    def outcome(self, effort: Effort) -> Outcome:
        """Measure and compare with the known answer."""
        low, mean, high = interval = self.measure(effort)
        ok, note = interval.contains(self.expected), self.how.format_map(effort._asdict())
        return Outcome(self.name, self.expected, mean, low, high, ok, note, self.known)


def scenario_of(text: str, *overrides: str) -> Scenario:
    """Return a scenario from YAML with overrides ``KEY.PATH=VALUE``."""
    document = yaml_source.parse(text, "mecsim.verification")
    for override in overrides:
        yaml_source.assign(document, override)
    return validate(document)


def simulate(
    described: Scenario, scheduler: str | Sequence[int], effort: Effort, seed: int = 0
) -> tuple[MemoryTrace, RunSummary]:
    """Run under a scheduler or with a fixed placement; return trace and summary."""
    trace = MemoryTrace()
    name, options = "fixed", {"placement": scheduler}
    if isinstance(scheduler, str):
        name, options = scheduler, {}
    result = run_scenario(described, name, options, seed=seed, kernel=effort.kernel, memory=trace)
    return trace, result.summary


def exactly(value: float) -> Interval:
    """Return an interval that contains one value only."""
    return Interval(float(value), float(value), float(value))


def unequal(found: Column, known: Column) -> Interval:
    """Return how many numbers of two columns differ in any bit; infinity for empty columns."""
    comparable = found.shape == known.shape and found.size > 0
    return exactly((found != known).sum() if comparable else math.inf)


def relative_gap(found: Column, known: Column) -> Interval:
    """Return the greatest relative difference of two columns, plus or minus rounding."""
    comparable = found.shape == known.shape and found.size > 0
    gap = float(np.max(np.abs(found - known) / np.abs(known))) if comparable else math.inf
    return Interval(gap - ROUNDING, gap, gap + ROUNDING)
