"""Run and replay: plain functions that return values."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecsim.errors import Interrupted, OverloadedError
from mecsim.model.clock_resolution import warn_of_short_services
from mecsim.model.model import Model, resolve, self_contained
from mecsim.model.workload import size_columns
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, SchedulerPolicy, Source, drive
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.metrics import BoundGap, RunSummary
from mecsim.simulation.totals import Totals
from mecsim.support import jit
from mecsim.trace import Provenance, TraceWriter
from mecsim.trace.recorded_workload import arrivals_of
from mecsim.trace.schema import MemoryTrace, Sink


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run."""

    summary: RunSummary
    trace: Path | None
    """The trace file, None if none was written."""


def run(
    scenario: Scenario,
    scheduler: str = "greedy",
    options: Mapping[str, Any] | None = None,
    *,
    name: str = "scenario",
    seed: int = 0,
    kernel: str = "simpy",
    out: Path | None = None,
    memory: MemoryTrace | None = None,
    lower_bound: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Simulate a scenario under a scheduler.

    Args:
        scenario: The scenario, see :func:`mecsim.load`.
        scheduler: An installed name, ``package.module:Class`` or ``path/file.py:Class``.
        options: Options of the scheduler.
        name: Name of the scenario in the summary.
        seed: Seed of all random numbers.
        kernel: ``simpy`` (reference) or ``compiled`` (fast); both give the same results.
        out: Trace file to write.
        memory: Trace in memory to fill.
        lower_bound: Whether to compute the lower bound on the cost, see
            :mod:`mecsim.simulation.lower_bound`.
        progress: Called with the slots done and the slots in all.

    Returns:
        The summary and the path of the trace.

    Raises:
        InputError: The scenario, the scheduler or its options are not valid.
        OutputError: The trace cannot be written.
        OverloadedError: The work in flight would take too much memory.
        Interrupted: The user pressed Ctrl-C.

    Example:
        >>> from mecsim import load
        >>> result = run(load("scenarios/vgg16_4es.yaml", ["slots=2"]), "greedy", seed=1)
        >>> result.summary.tasks, result.trace
        (120, None)
    """
    with scenario.locating():
        scenario = self_contained(scenario)
    model, options = resolve(scenario, seed), dict(options or {})
    warn_of_short_services(model)
    spec = SchedulerSpec.of(model)
    policy = SchedulerPolicy(registry.create(scheduler, spec, options), scheduler)
    made_by = Provenance(scheduler, options, seed, kernel)
    began = working_s()
    least = LowerBound(model) if lower_bound else None
    with (
        arrivals_of(model) as recorded,
        trace_writer(out, model, spec, made_by, size_columns(model, recorded)) as writer,
    ):
        sinks: list[Sink] = [sink for sink in (writer, memory) if sink is not None]
        totals = drive(Source(model, spec, kernel, recorded, sinks, least, progress), policy)
    summary = totals.summary(
        name,
        made_by,
        wall_s=working_s() - began,
        trace=out,
        lower_bound=None if least is None else _bound_gap(least, totals),
    )
    return RunResult(summary, out)


def _bound_gap(least: LowerBound, totals: Totals) -> BoundGap:
    gap = None if totals.failed else least.gap_percent(totals.reward())
    return BoundGap(cost=least.total, gap_percent=gap)


def working_s() -> float:
    """Return a clock in seconds that stands still while numba compiles."""
    return time.perf_counter() - jit.compile_seconds()


@contextlib.contextmanager
def trace_writer(
    out: Path | None, model: Model, spec: SchedulerSpec, made_by: Provenance, size_factors: int
) -> Iterator[TraceWriter | None]:
    """Open a trace file, if one is wanted; say what is kept if the user presses Ctrl-C."""
    if out is None:
        try:
            yield None
        except KeyboardInterrupt:
            raise Interrupted("stopped; nothing is kept of a run without a trace") from None
        return
    writer = TraceWriter(out, model, spec, made_by, size_factors=size_factors)
    try:
        with writer:
            yield writer
    except KeyboardInterrupt:
        kept = _kept(writer)
        raise Interrupted(f"stopped; {kept}; run the same command to start again") from None
    except OverloadedError as error:
        raise OverloadedError(f"{error}; {_kept(writer)}") from None


def _kept(writer: TraceWriter) -> str:
    if not writer.partial.exists():
        return "nothing was written yet"
    return f"what was simulated is kept in {writer.partial} (complete = false)"
