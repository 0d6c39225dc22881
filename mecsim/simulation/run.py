"""Run and replay: plain functions that return values."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mecsim.errors import (
    Interrupted,
)
from mecsim.model import workload
from mecsim.model.model import Model, resolve, self_contained
from mecsim.model.workload import size_columns
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, counted, drive_session, kernel_for, wants_rewards
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.session import Session
from mecsim.simulation.static_run import run_static, slots_at_once
from mecsim.simulation.totals import Totals
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

    The trace goes to the file ``out`` and into ``memory``, if given. With ``bound`` the summary
    also has what all tasks cost at least, see :mod:`mecsim.simulation.lower_bound`. Raises
    ``InputError`` for whatever is wrong with the input and ``Interrupted`` on Ctrl-C.
    """
    with scenario.locating():
        scenario = self_contained(scenario)
    model, options = resolve(scenario, seed), dict(options or {})
    spec = SchedulerSpec.of(model)
    made = registry.create(scheduler, spec, options)
    made_by = Provenance(scheduler, options, seed, kernel)
    began = time.perf_counter()
    with (
        arrivals_of(model) as recording,
        _trace_writer(out, model, spec, made_by, size_columns(model, recording)) as writer,
    ):
        sinks: list[Sink] = [sink for sink in (writer, memory) if sink is not None]
        least = LowerBound(model) if bound else None
        played = (
            kernel == "compiled" and made.static and not (made.uses_rollouts or wants_rewards(made))
        )
        played &= spec.decision_epoch == "per_slot" or not sinks
        length = workload.CHUNK
        if played and sinks:
            length = slots_at_once(model, workload.mean_tasks(model, recording), length)
        chunks = _bounded(workload.chunks(model, recording, length), least)
        if played:
            totals = run_static(model, chunks, made, scheduler, progress, sinks)
        else:
            each = (slot for chunk in chunks for slot in chunk.slots())
            slots = counted(each, scenario.slots, progress)
            kernel_ = kernel_for(made, kernel, model)
            session = Session(model, slots, kernel_, spec, sinks, uses_rollouts=made.uses_rollouts)
            totals = drive_session(session, made, scheduler)
    document = _document(totals, name, made_by, began, out)
    if least is not None:
        gap = None if document["failed"] else least.gap_percent(document["reward"])
        document["lower_bound"] = {"cost": least.total, "gap_percent": gap}
    return RunResult(document, out)


def _bounded(
    chunks: Iterator[workload.Chunk], least: LowerBound | None
) -> Iterator[workload.Chunk]:
    for chunk in chunks:
        if least is not None:
            for slot in chunk.slots():
                least.add(slot)
        yield chunk


def _document(
    totals: Totals, name: str, made_by: Provenance, began: float, out: Path | None
) -> dict[str, Any]:
    head = {
        "scenario": name,
        "scheduler": made_by.scheduler,
        "seed": made_by.seed,
        "kernel": made_by.kernel,
    }
    wall = time.perf_counter() - began
    tail = {"wall_s": wall, "trace": None if out is None else str(out)}
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
