"""Run and replay: plain functions that return values."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from mecsim import interrupts, registry, workload
from mecsim.arrays import Ints
from mecsim.comparison import Comparison
from mecsim.errors import (
    InputError,
    Interrupted,
    MecsimError,
    PlacementError,
    SchedulerError,
    TraceError,
)
from mecsim.kernels.base import IdleKernel, Kernel
from mecsim.kernels.compiled import CompiledKernel
from mecsim.kernels.play import Player
from mecsim.kernels.shadowed import ShadowedKernel
from mecsim.lower_bound import LowerBound
from mecsim.metrics import Totals
from mecsim.model import Model, resolve, self_contained
from mecsim.played import TracedPlayer, slots_at_once
from mecsim.recording import arrivals_of, recorded_channels, recorded_tasks
from mecsim.scenario import RecordedTasks, Scenario
from mecsim.scheduler import Scheduler, SchedulerSpec, check_placement
from mecsim.session import Epoch, Session
from mecsim.store import Provenance, TraceFile, TraceWriter
from mecsim.trace import Difference, MemoryTrace, Sink
from mecsim.workload import size_columns

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the slots done and the slots to do."""

KERNELS: Final = ("simpy", "compiled")


@dataclass(frozen=True)
class RunResult:
    """A run that has ended."""

    summary: dict[str, Any]
    """What ``mecsim run --json`` prints."""
    trace: Path | None


def check_kernel(name: str) -> None:
    """Raise ``InputError`` for a name that no kernel has."""
    if name not in KERNELS:
        raise InputError(f"kernel: {name!r} is not known; allowed: {', '.join(KERNELS)}")


def make_kernel(name: str, model: Model) -> Kernel:
    """Return a new kernel by its name. Raises ``InputError`` for an unknown name."""
    check_kernel(name)
    if name == "compiled":
        return CompiledKernel(model)
    from mecsim.kernels.simpy_kernel import SimpyKernel  # noqa: PLC0415 - takes its time to load

    return SimpyKernel(model)


def _kernel_for(scheduler: Scheduler, name: str, model: Model) -> Kernel:
    """Return a kernel from which runs can branch off if the scheduler explores them."""
    kernel = make_kernel(name, model)
    if not scheduler.explores or isinstance(kernel, CompiledKernel):
        return kernel
    return ShadowedKernel(kernel, model)


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
    also has what all tasks cost at least, see :mod:`mecsim.lower_bound`. Raises
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
        played = kernel == "compiled" and made.constant and not (made.explores or _learns(made))
        played &= spec.epoch == "slot" or not sinks
        length = workload.CHUNK
        if played and sinks:
            length = slots_at_once(model, workload.mean_tasks(model, recording), length)
        chunks = _bounded(workload.chunks(model, recording, length), least)
        if played:
            totals = _play(model, chunks, made, scheduler, progress, sinks)
        else:
            each = (slot for chunk in chunks for slot in chunk.slots())
            slots = _counted(each, scenario.slots, progress)
            kernel_ = _kernel_for(made, kernel, model)
            session = Session(model, slots, kernel_, spec, sinks, explores=made.explores)
            totals = _drive(session, made, scheduler)
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


def _counted(
    slots: Iterator[workload.Slot], total: int, progress: Progress | None
) -> Iterator[workload.Slot]:
    with interrupts.between_steps() as check:
        for done, slot in enumerate(slots, start=1):
            yield slot
            check()
            if progress is not None:
                progress(done, total)


def _play(
    model: Model,
    chunks: Iterator[workload.Chunk],
    scheduler: Scheduler,
    name: str,
    progress: Progress | None,
    sinks: Sequence[Sink],
) -> Totals:
    """Let a scheduler decide the first epoch, and put all tasks where it says."""
    totals, done = Totals(model), 0
    traced = TracedPlayer(model, totals, sinks) if sinks else None
    player = traced or Player(model, totals.services)
    placements = _Constant(model, scheduler, name)
    with interrupts.between_steps() as check:
        for chunk in chunks:
            totals.released += len(chunk.device)
            totals.add(player.play(chunk, placements.of(chunk)))
            done += len(chunk.start_s)
            check()
            if progress is not None:
                progress(done, model.scenario.slots)
    totals.add(player.drain())
    with _blaming(name, done):
        scheduler.run_ended()
    return totals


class _Constant:
    """The decisions of a scheduler to which nothing matters that changes during a run."""

    def __init__(self, model: Model, scheduler: Scheduler, name: str) -> None:
        self._scheduler, self._name = scheduler, name
        self._session = Session(model, [], IdleKernel(model), scheduler.spec)
        devices = model.devices if scheduler.spec.epoch == "task" else 1
        self._placements = np.zeros((devices, model.blocks), dtype=np.int64)
        self._asked = np.zeros(devices, dtype=np.bool_)

    def of(self, chunk: workload.Chunk) -> Ints:
        """Return the placements of all devices that have tasks in a chunk, or one for all."""
        if self._asked.all():
            return self._placements
        slot = next(chunk.slots())
        if self._scheduler.spec.epoch == "slot":
            self._ask(Epoch(0, slot.start_s, slot, slot.tasks, None))
            return self._placements
        _, rows = np.unique(chunk.device, return_index=True)
        for row in np.sort(rows).tolist():  # in order of their first tasks, as in any run
            device = int(chunk.device[row])
            if not self._asked[device]:
                task = chunk.tasks(slot.number, row, row + 1)
                self._ask(Epoch(row, float(task.release_s[0]), slot, task, device))
        return self._placements

    def _ask(self, epoch: Epoch) -> None:
        spec, row = self._scheduler.spec, epoch.device or 0
        with _blaming(self._name, epoch.number):
            answer = self._scheduler.decide(self._session.observe(epoch))
            placement = check_placement(answer, spec, self._name, epoch.number, epoch.device)
        self._placements[row], self._asked[row] = placement, True


def _learns(scheduler: Scheduler) -> bool:
    return type(scheduler).epoch_ended is not Scheduler.epoch_ended


def _drive(session: Session, scheduler: Scheduler, name: str) -> Totals:
    """Let a scheduler decide every epoch, and learn if it has the hook."""
    learns = _learns(scheduler)
    before, known = None, dict[int | None, Ints]()
    try:
        for epoch in session:
            if epoch.device in known:
                session.act(epoch, known[epoch.device])
                continue
            observation = session.observe(epoch)
            with _blaming(name, epoch.number):
                if learns and before is not None:
                    scheduler.epoch_ended(*before, session.reward())
                answer = scheduler.decide(observation)
                placement = check_placement(answer, session.spec, name, epoch.number, epoch.device)
            session.act(epoch, placement)
            before = observation, placement
            if scheduler.constant and not learns:
                known[epoch.device] = placement
    except BaseException:
        session.account()  # so that the trace keeps all that has happened
        raise
    with _blaming(name, session.epochs):
        if learns and before is not None:
            scheduler.epoch_ended(*before, session.reward())
        scheduler.run_ended()
    return session.totals


@contextlib.contextmanager
def _blaming(name: str, epoch: int) -> Iterator[None]:
    """Tell whatever a scheduler raises as bad input that names it."""
    try:
        yield
    except MecsimError:
        raise
    except (Exception, SystemExit) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise SchedulerError(f"scheduler {name!r}, epoch {epoch}: raised {cause}") from error


@dataclass(frozen=True)
class ReplayResult:
    """A replay that has ended."""

    difference: Difference | None
    """The first difference from the recorded trace, None where they are identical."""
    rows: dict[str, int]
    """Rows compared in each group."""
    complete: bool
    summary: dict[str, Any]


def replay(
    path: Path, *, kernel: str | None = None, progress: Progress | None = None
) -> ReplayResult:
    """Rebuild a run from its trace alone and compare every column with ``==``.

    The workload is drawn again from scenario and seed, the decisions are the recorded ones. A
    trace of a run that was killed is compared as far as it goes. Raises ``TraceError``.
    """
    with TraceFile(path) as trace:
        model = resolve(trace.scenario, trace.made_by.seed)
        recorded = isinstance(trace.scenario.arrivals, RecordedTasks)
        recording = recorded_tasks(model, trace) if recorded else None
        comparison = Comparison(trace)
        slots = _counted(workload.slots(model, recording), model.scenario.slots, progress)
        kernel_ = make_kernel(kernel or trace.made_by.kernel, model)
        session = Session(model, slots, kernel_, SchedulerSpec.of(model), [comparison])
        began = time.perf_counter()
        _follow(session, trace, comparison)
        comparison.finish(session)
        summary = _document(session.totals, path.stem, trace.made_by, began, path)
        return ReplayResult(comparison.difference, comparison.rows(), trace.complete, summary)


def _follow(session: Session, trace: TraceFile, comparison: Comparison) -> None:
    """Act as recorded, until the record ends or a difference is found."""
    name = f"the recorded {trace.made_by.scheduler}"
    decisions = _decisions(trace)
    for epoch in session:
        recorded = next(decisions, None)
        if recorded is None or comparison.difference is not None:
            session.account()
            return
        try:
            placement = check_placement(recorded, session.spec, name, epoch.number, epoch.device)
        except PlacementError as error:
            raise TraceError(f"{trace.path}: column /decisions/placement: {error}") from error
        session.act(epoch, placement)


def _decisions(trace: TraceFile) -> Iterator[Ints]:
    total, rows = trace.length("decisions"), 4096
    for begin in range(0, total, rows):
        yield from trace.read("decisions", "placement", begin, min(begin + rows, total))


def replay_with(
    path: Path,
    scheduler: str,
    options: Mapping[str, Any] | None = None,
    *,
    kernel: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Put another scheduler on the recorded tasks and channels of a complete trace."""
    if out is not None and out.resolve() == path.resolve():
        raise InputError(f"{out}: is the recorded trace itself; write the other one elsewhere")
    with TraceFile(path) as trace:
        if not trace.complete:
            raise TraceError(f"{path}: is the trace of a run that was cut short; allowed: complete")
        seed, options = trace.made_by.seed, dict(options or {})
        model = resolve(trace.scenario, seed)
        spec = SchedulerSpec.of(model)
        made = registry.create(scheduler, spec, options)
        made_by = Provenance(scheduler, options, seed, kernel or trace.made_by.kernel)
        began = time.perf_counter()
        recording = recorded_channels(model, trace)
        sizes = size_columns(model, recording)
        with _trace_writer(out, model, spec, made_by, sizes) as writer:
            slots = workload.slots(model, recording)
            counted = _counted(slots, model.scenario.slots, progress)
            sinks = [] if writer is None else [writer]
            kernel_ = _kernel_for(made, made_by.kernel, model)
            session = Session(model, counted, kernel_, spec, sinks, explores=made.explores)
            totals = _drive(session, made, scheduler)
        return RunResult(_document(totals, path.stem, made_by, began, out), out)
