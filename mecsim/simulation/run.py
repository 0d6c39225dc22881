"""Run and replay: plain functions that return values."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecsim.errors import Interrupted
from mecsim.model.model import Model, resolve, self_contained
from mecsim.model.workload import size_columns
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, SchedulerPolicy, Source, drive
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.totals import Totals
from mecsim.support import jit
from mecsim.trace import Provenance, TraceWriter
from mecsim.trace.recorded_workload import arrivals_of
from mecsim.trace.schema import MemoryTrace, Sink


@dataclass(frozen=True)
class RunResult:
    """A run that has ended."""

    summary: dict[str, Any]
    """What ``mecsim run --json`` prints."""
    trace: Path | None


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
    bound: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Simulate a scenario under a scheduler.

    Args:
        scenario: see :func:`mecsim.load`.
        scheduler: an installed name, ``package.module:Class`` or ``path/file.py:Class``.
        options: the scheduler's options.
        name: name of the scenario in the summary.
        seed: all random draws follow from it.
        kernel: ``simpy`` or ``compiled``; both give the same results.
        out: file for the trace, if wanted.
        memory: keeps the trace in memory, if wanted.
        bound: whether the summary includes the lower bound on the cost, see
            :mod:`mecsim.simulation.lower_bound`.
        progress: called with the number of slots done and of all slots.

    Returns:
        The summary and the path of the trace.

    Raises:
        InputError: the scenario, the scheduler or an option is invalid.
        OutputError: the trace cannot be written.
        Interrupted: Ctrl-C was pressed.
    """
    with scenario.locating():
        scenario = self_contained(scenario)
    model, options = resolve(scenario, seed), dict(options or {})
    spec = SchedulerSpec.of(model)
    policy = SchedulerPolicy(registry.create(scheduler, spec, options), scheduler)
    made_by = Provenance(scheduler, options, seed, kernel)
    began = working_s()
    least = LowerBound(model) if bound else None
    with (
        arrivals_of(model) as recorded,
        _trace_writer(out, model, spec, made_by, size_columns(model, recorded)) as writer,
    ):
        sinks: list[Sink] = [sink for sink in (writer, memory) if sink is not None]
        totals = drive(Source(model, spec, kernel, recorded, sinks, least, progress), policy)
    document = _document(totals, name, made_by, began, out)
    if least is not None:
        gap = None if document["failed"] else least.gap_percent(document["reward"])
        document["lower_bound"] = {"cost": least.total, "gap_percent": gap}
    return RunResult(document, out)


def working_s() -> float:
    """Return a clock in seconds that stands still while numba compiles."""
    return time.perf_counter() - jit.compile_seconds()


def _document(
    totals: Totals, name: str, made_by: Provenance, began: float, out: Path | None
) -> dict[str, Any]:
    head = {
        "scenario": name,
        "scheduler": made_by.scheduler,
        "seed": made_by.seed,
        "kernel": made_by.kernel,
    }
    tail = {"wall_s": working_s() - began, "trace": None if out is None else str(out)}
    return head | totals.summary() | tail


@contextlib.contextmanager
def _trace_writer(
    out: Path | None, model: Model, spec: SchedulerSpec, made_by: Provenance, size_factors: int
) -> Iterator[TraceWriter | None]:
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
        kept = "nothing was written yet"
        if writer.partial.exists():
            kept = f"what was simulated is kept in {writer.partial} (complete = false)"
        raise Interrupted(f"stopped; {kept}; run the same command to start again") from None
