"""Measured runs by name: those that are finished are kept, the others are measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mecsim.errors import InputError, MecsimError
from mecsim.scenario.schema import Scenario
from mecsim.testbed.calibration import calibrate
from mecsim.testbed.evaluation.settings import Setup
from mecsim.testbed.run import run_testbed
from mecsim.trace import TraceFile

Report = Callable[[str], None]
"""Takes a line about the progress."""


@dataclass(frozen=True)
class Wanted:
    """A run that is to be measured."""

    name: str
    setup: Setup
    scenario: Scenario
    scheduler: str
    options: Mapping[str, Any]
    seed: int
    group: str = ""
    """Name of the study that the run is a part of."""

    @property
    def real_s(self) -> float:
        """How long it takes in seconds, without its start and its end."""
        return self.scenario.length_s * self.setup.stretch


@dataclass
class Traces:
    """The traces of an evaluation.

    Args:
        folder: Where they are; made if missing.
        again: Names or groups of runs that are measured although their trace exists.
        only: Names or groups of the runs that may be measured; all by default. Of others only
            traces that exist are used.
        report: Takes lines about the progress.
    """

    folder: Path
    again: Collection[str]
    report: Report
    only: Collection[str] | None = None
    failed: dict[str, str] = field(default_factory=dict)
    """Why runs could not be measured, by name."""

    def measured(self, wanted: Wanted) -> Path | None:
        """Return the trace of a run; measure it if it is missing or asked for again.

        Returns:
            None if the run failed, which is reported, or may not be measured.

        Raises:
            InputError: The trace that exists is of other settings.
            Interrupted: Ctrl-C was pressed.
        """
        path = self.folder / f"{wanted.name}.h5"
        names = {wanted.name, wanted.group}
        if path.exists() and names.isdisjoint(self.again):
            check_same(path, wanted)
            return path
        if self.only is not None and names.isdisjoint(self.only):
            return None
        self.report(f"{wanted.name}: measuring for {wanted.real_s:.0f} s")
        try:
            run_testbed(
                wanted.scenario,
                wanted.scheduler,
                wanted.options,
                seed=wanted.seed,
                nodes=wanted.setup.nodes,
                links=wanted.setup.links,
                stretch=wanted.setup.stretch,
                out=path,
                name=wanted.name,
            )
        except InputError as error:
            self.fail(wanted.name, error)
            return None
        return path

    def fail(self, name: str, error: MecsimError) -> None:
        """Report and keep why a run has no result."""
        self.failed[name] = str(error)
        self.report(f"{name}: failed: {error}")


def check_same(path: Path, wanted: Wanted) -> None:
    """Raise ``InputError`` if a trace was not measured with the settings of a run."""
    with TraceFile(path) as trace:
        made_by, facts = trace.made_by, trace.made_by.testbed or {}
        pairs = {
            "complete": (trace.complete, True),
            "scenario": (trace.scenario.sha256(), wanted.scenario.sha256()),
            "scheduler": (made_by.scheduler, wanted.scheduler),
            "options": (_text(made_by.scheduler_options), _text(wanted.options)),
            "seed": (made_by.seed, wanted.seed),
            "nodes": (facts.get("nodes"), wanted.setup.nodes),
            "links": (facts.get("links"), wanted.setup.links),
            "stretch": (facts.get("stretch"), wanted.setup.stretch),
        }
    for key, (found, expected) in pairs.items():
        if found != expected:
            raise InputError(
                f"{path}: was measured with another value of {key}: {found}. "
                f"Expected: {expected}. Try: --again {wanted.name}"
            )


def _text(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(options), sort_keys=True)


def calibrated(path: Path, first: float) -> tuple[Scenario, float]:
    """Calibrate the scenario of a trace on a share of its tasks.

    Returns:
        The scenario, and the release in seconds of the first task that was not used.
    """
    found = calibrate(path, first=first)
    return found.scenario, found.until_s
