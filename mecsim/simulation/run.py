"""Run and replay: plain functions that return values."""

from __future__ import annotations

import contextlib
import os
import reprlib
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mecsim.errors import InputError, Interrupted, NodeFailedError, OverloadedError
from mecsim.model.clock_resolution import warn_of_short_services
from mecsim.model.model import Model, resolve, self_contained
from mecsim.model.workload import size_columns
from mecsim.scenario.loading import with_overrides
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.choice import Choice, SchedulerLike, choose
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, SchedulerPolicy, Source, drive
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.metrics import BoundGap, RunSummary
from mecsim.simulation.result import KeptRows, RunResult
from mecsim.simulation.totals import Totals
from mecsim.support import jit
from mecsim.support.names import TRACE_ENDINGS
from mecsim.trace import Provenance, TraceWriter
from mecsim.trace.recorded_workload import arrivals_of
from mecsim.trace.schema import MemoryTrace, Sink


def run(
    scenario: Scenario | str | os.PathLike[str],
    scheduler: SchedulerLike | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    kernel: str = "simpy",
    out: str | os.PathLike[str] | None = None,
    memory: MemoryTrace | None = None,
    lower_bound: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Simulate a scenario under a scheduler.

    Args:
        scenario: A scenario, the path of its file, or the name of a shipped one.
        scheduler: An installed name, ``NAME:FILE`` with a policy, ``package.module:Class`` or
            ``path/file.py:Class``; a subclass of :class:`mecsim.Scheduler`; a function that makes a
            scheduler of a :class:`mecsim.SchedulerSpec`; or an instance that was made for this
            scenario and seed.
            By default ``mtl-a3c``, if a policy was trained on this scenario, else ``greedy``.
        options: Options of the scheduler.
        name: Name of the scenario in the summary; by default that of its file.
        seed: Seed of all random numbers.
        kernel: ``simpy`` (reference) or ``compiled`` (fast); both give the same results.
        out: Trace file to write.
        memory: Trace in memory to fill.
        lower_bound: Whether to compute the lower bound on the cost, see
            :mod:`mecsim.simulation.lower_bound`.
        progress: Called with the slots done and the slots in all.

    Returns:
        The summary, the path of the trace, and the rows of the run.

    Raises:
        InputError: The scenario, the scheduler or its options are not valid.
        OutputError: The trace cannot be written.
        OverloadedError: The work in flight would take too much memory.
        Interrupted: The user pressed Ctrl-C.

    Example:
        >>> from mecsim import load
        >>> result = run(load("vgg16_4es", ["slots=2"]), "greedy", seed=1)
        >>> result.summary.tasks, result.trace
        (120, None)
    """
    scenario, options = whole_scenario(scenario), _mapping(options)
    model = resolve(scenario, seed)
    warn_of_short_services(model)
    spec = SchedulerSpec.of(model)
    chosen = choose(scheduler, spec, options)
    policy = SchedulerPolicy(chosen.scheduler, chosen.name)
    made_by = Provenance(chosen.name, options, seed, kernel)
    path = None if out is None else trace_path(out)
    began = working_s()
    least = LowerBound(model) if lower_bound else None
    with (
        arrivals_of(model) as recorded,
        trace_writer(path, model, spec, made_by, size_columns(model, recorded)) as writer,
    ):
        sinks: list[Sink] = [sink for sink in (writer, memory) if sink is not None]
        totals = drive(Source(model, spec, kernel, recorded, sinks, least, progress), policy)
    summary = totals.summary(
        name or scenario.label,
        made_by,
        wall_s=working_s() - began,
        trace=path,
        lower_bound=None if least is None else _bound_gap(least, totals),
    ).model_copy(update={"scheduler_reason": chosen.reason})
    again = chosen.name if scheduler is None else scheduler
    repeated = None  # an instance may have learned from the run
    if not isinstance(again, Scheduler):
        repeated = partial(_repeated, scenario, again, options, summary)
    rows = repeated if memory is None else partial(_given, memory)
    return RunResult(summary, path, tuple(feature_names(spec)), rows)


def default_scheduler(scenario: Scenario, options: Mapping[str, Any], seed: int = 0) -> Choice:
    """Return the scheduler that :func:`run` chooses if none is named. Raises ``InputError``."""
    return choose(None, SchedulerSpec.of(resolve(whole_scenario(scenario), seed)), options)


def trace_path(out: str | os.PathLike[str]) -> Path:
    """Return the path of a trace file. Raises ``InputError`` for another ending."""
    path = Path(out)
    if path.suffix not in TRACE_ENDINGS:
        raise InputError(f"out: {path}: expected a file name that ends in {TRACE_ENDINGS[0]}")
    return path


def whole_scenario(scenario: Scenario | str | os.PathLike[str]) -> Scenario:
    """Return a scenario that needs no profile file."""
    found = with_overrides(scenario)
    with found.locating():
        return self_contained(found)


def _mapping(options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping | None):
        shown = reprlib.repr(options)
        raise InputError(f"options: {shown}; expected a mapping of names to values")
    return dict(options or {})


def _given(memory: MemoryTrace) -> MemoryTrace:
    return memory


def _repeated(
    scenario: Scenario, scheduler: SchedulerLike, options: Mapping[str, Any], first: RunSummary
) -> MemoryTrace:
    """Repeat a run and return its rows. Raises ``InputError`` if the decisions differ."""
    kept = KeptRows()
    again = run(
        scenario, scheduler, options, seed=first.seed, kernel="compiled", memory=kept
    ).summary
    if (again.reward, again.completed) != (first.reward, first.completed):
        raise InputError(
            f"scheduler {first.scheduler!r}: decided differently when the run was repeated for "
            "its rows. Try: give the first run out=FILE"
        )
    return kept


def _bound_gap(least: LowerBound, totals: Totals) -> BoundGap:
    gap = None if totals.failed or totals.retried else least.gap_percent(totals.reward())
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
    except (OverloadedError, NodeFailedError) as error:
        raise type(error)(f"{error}; {_kept(writer)}") from None


def _kept(writer: TraceWriter) -> str:
    if not writer.partial.exists():
        return "nothing was written yet"
    return f"the rows until then are kept in {writer.partial} (complete = false)"
