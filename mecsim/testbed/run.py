"""Run a scenario on real processes: the same scheduler, measured times, the same trace."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mecsim.errors import Interrupted
from mecsim.kernels.simpy_kernel import SimpyKernel
from mecsim.model import blocks, workload
from mecsim.model.model import Model, resolve
from mecsim.model.workload import RecordedWorkload, size_columns
from mecsim.scenario.loading import with_overrides
from mecsim.scenario.schema import Scenario
from mecsim.scenario.testbed import host_of
from mecsim.scheduler.choice import Choice, SchedulerLike, choose
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import Progress, SchedulerPolicy, Source, drive
from mecsim.simulation.result import RunResult
from mecsim.simulation.run import trace_path, trace_writer, whole_scenario
from mecsim.simulation.session import Session
from mecsim.simulation.totals import Totals
from mecsim.support.files import check_target
from mecsim.testbed import launch, refusals
from mecsim.testbed.calibrated_scenario import keys_of_dnns
from mecsim.testbed.host_process import BlocksOfClass
from mecsim.testbed.hosts import Hosts, LocalHosts
from mecsim.testbed.kernel import TestbedKernel
from mecsim.testbed.load import check_load, load_of
from mecsim.testbed.modes import LinkMode, Modes, NodeMode
from mecsim.testbed.ray_hosts import ray_hosts
from mecsim.testbed.way import Ways
from mecsim.trace import Provenance, TraceWriter
from mecsim.trace.provenance import MEASURED
from mecsim.trace.recorded_workload import arrivals_of
from mecsim.trace.schema import MemoryTrace, Sink

_MANY_LATE: Final = 0.01
"""Share of late executions from which a run is reported as too fast for the machine."""
_log = logging.getLogger(__name__)


def run_testbed(
    scenario: Scenario | str | os.PathLike[str],
    scheduler: SchedulerLike | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    nodes: NodeMode = "padded",
    links: LinkMode = "pacing",
    stretch: float = 1.0,
    modules: Sequence[str] | None = None,
    engine: str = "local",
    ray_address: str = "",
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a scenario under a scheduler on real processes of this machine, or of several.

    Each device and each server is a process. Blocks are computed by PyTorch, and what crosses a cut
    is sent over sockets. The run takes the time of the scenario, stretched.

    Args:
        scenario: A scenario, the path of its file, or the name of a shipped one.
        scheduler: As in :func:`mecsim.run`.
        options: Options of the scheduler.
        seed: Seed of all random numbers; tasks are those of a simulation with this seed.
        nodes: ``padded``: a service lasts as long as in the scenario; ``natural``: as this machine
            takes.
        links: ``pacing``: the sender keeps to the rate of a link; ``tbf``: the operating system.
        stretch: Real seconds for one second of the scenario.
        modules: Texts ``NAME=FACTORY``: where the module of a model is from.
        engine: ``local``: all nodes are on this machine; ``ray``: those of ``testbed.hosts`` are on
            machines of a Ray cluster.
        ray_address: ``HOST:PORT`` of the cluster; by default ``$RAY_ADDRESS``.
        out: Trace file to write; by default in the folder of temporary files, then removed.
        name: Name of the scenario in the summary; by default that of its file.
        progress: Called with the slots done and the slots in all.

    Returns:
        The summary, the path of the trace, and the rows of the run.

    Raises:
        InputError: The scenario, the scheduler or an option is not valid, a testbed cannot do what
            the scenario asks, a machine is too slow for it, or the cluster lacks a machine.
        OutputError: The trace cannot be written.
        NodeFailedError: A node has ended.
        Interrupted: The user pressed Ctrl-C.
    """
    if out is not None:
        check_target(trace_path(out))
    modes = Modes(nodes, links, stretch)
    refusals.check_modes(modes)
    refusals.check_torch()
    given = with_overrides(scenario)
    refusals.check_engine(engine, ray_address, links, given.testbed)
    refusals.check_scenario(given)
    model = resolve(whole_scenario(given), seed)
    refusals.check_model(model)
    refusals.check_links(model, modes)
    spec = SchedulerSpec.of(model)
    plan = _Plan(
        model=model,
        spec=spec,
        chosen=choose(scheduler, spec, dict(options or {})),
        options=dict(options or {}),
        modes=modes,
        cluster=(ray_address or os.environ["RAY_ADDRESS"]) if engine == "ray" else "",
        classes=_classes(given, modules or ()),
        dnns=keys_of_dnns(given),
        out=None if out is None else trace_path(out),
        memory=MemoryTrace() if out is None else None,
        progress=progress,
    )
    began = time.monotonic()
    try:
        totals, made_by = _run(plan)
    except KeyboardInterrupt:
        raise Interrupted("stopped before the run began; nothing was written") from None
    summary = totals.summary(
        name or model.scenario.label, made_by, wall_s=time.monotonic() - began, trace=plan.out
    ).model_copy(update={"scheduler_reason": plan.chosen.reason})
    memory = plan.memory
    rows = None if memory is None else lambda: memory
    return RunResult(summary, plan.out, tuple(feature_names(spec)), rows)


@dataclass(frozen=True)
class _Plan:
    """A run that can start."""

    model: Model
    spec: SchedulerSpec
    chosen: Choice
    options: Mapping[str, Any]
    modes: Modes
    cluster: str
    """Address of the Ray cluster; empty if all nodes are on this machine."""
    classes: list[BlocksOfClass]
    dnns: list[dict[str, Any]]
    """What names the DNN of each class."""
    out: Path | None
    memory: MemoryTrace | None
    """Takes the rows where no trace is written."""
    progress: Progress | None


def _run(plan: _Plan) -> tuple[Totals, Provenance]:
    model, spec, ways = plan.model, plan.spec, Ways(plan.model)
    _warm_up(model, spec)
    with contextlib.ExitStack() as stack:
        recorded = stack.enter_context(arrivals_of(model))
        hosts = stack.enter_context(_hosts(plan, ways))
        facts = _facts(plan, _measured(plan, ways, hosts, recorded))
        made_by = Provenance(plan.chosen.name, plan.options, model.seed, MEASURED, facts)
        writer = stack.enter_context(
            trace_writer(plan.out, model, spec, made_by, size_columns(model, recorded))
        )
        pool, clock = stack.enter_context(launch.nodes(model, ways, hosts, plan.modes))
        testbed = model.scenario.testbed
        continues = testbed is not None and testbed.on_node_failure == "continue"
        kernel = TestbedKernel(model, ways, pool, clock, continues=continues)
        stack.enter_context(_described_at_end(writer, pool, kernel, facts))
        sinks: list[Sink] = [sink for sink in (writer, plan.memory) if sink is not None]
        source = Source(model, spec, lambda _: kernel, recorded, sinks, progress=plan.progress)
        policy = SchedulerPolicy(plan.chosen.scheduler, plan.chosen.name)
        totals = drive(source, policy)
    if plan.modes.nodes == "padded" and kernel.lateness.late_share > _MANY_LATE:
        _log.warning(
            "testbed: %.1f%% of the executions of blocks took at least 5%% longer than in the "
            "scenario. Try: a larger --stretch",
            100.0 * kernel.lateness.late_share,
        )
    return totals, made_by


def _classes(scenario: Scenario, given: Sequence[str]) -> list[BlocksOfClass]:
    """Return where the blocks of each class are from. Raises ``InputError``."""
    from mecsim.dnn.modules import modules_for  # noqa: PLC0415 - imports PyTorch, which is optional

    every = [scenario.of_class(number) for number in range(len(scenario.classes))]
    with scenario.locating():
        graphs = [blocks.graph_of(each) for each in every]
        cuts = [blocks.blocks_of(each).cuts for each in every]
    sources = modules_for(graphs, given)
    return [BlocksOfClass(*each) for each in zip(sources, cuts, strict=True)]


@contextlib.contextmanager
def _hosts(plan: _Plan, ways: Ways) -> Iterator[Hosts]:
    """Start the hosts, on this machine or on those of the cluster; end them on exit."""
    if plan.cluster:
        testbed = plan.model.scenario.testbed
        found = {name: host_of(testbed, name, ways.names) for name in ways.names}
        addresses = {name: each.host for name, each in found.items() if each is not None}
        with ray_hosts(plan.cluster, addresses, ways.names) as remote:
            yield remote
        return
    with contextlib.closing(LocalHosts()) as local:
        yield local


def _measured(
    plan: _Plan, ways: Ways, hosts: Hosts, recorded: RecordedWorkload | None
) -> dict[str, dict[str, Any]]:
    """Let all hosts build the blocks; check that each machine can do its part.

    Returns:
        What is known of each machine, for the trace.
    """
    facts, classes = dict[str, dict[str, Any]](), [each.name for each in plan.model.classes]
    for address, built in hosts.build(plan.classes).items():
        names = hosts.names_at(address)
        nodes = None if names is None else [ways.names.index(name) for name in names]
        cores = built.machine["cores"]
        load = load_of(plan.model, built.block_ms, cores, plan.modes, recorded, nodes)
        check_load(load, address or "this machine")
        facts[address] = {
            "machine": built.machine,
            "block_ms": dict(zip(classes, built.block_ms, strict=True)),
            "load": load.share,
            "padding": None if load.padding == np.inf else load.padding,
        } | ({} if names is None else {"nodes": names})
    return facts


def _facts(plan: _Plan, machines: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what is known of a testbed before it starts, for the trace."""
    modes, first = plan.modes, next(iter(machines.values()))
    facts = {
        **first,
        "nodes": modes.nodes,
        "links": modes.links,
        "stretch": modes.stretch,
        "load_average": os.getloadavg()[0],
        "clocks": {},
        "dnns": plan.dnns,
    }
    return facts | {"hosts": machines} if plan.cluster else facts


@contextlib.contextmanager
def _described_at_end(
    writer: TraceWriter | None, pool: launch.Pool, kernel: TestbedKernel, facts: Mapping[str, Any]
) -> Iterator[None]:
    """Put what was measured about the run into its trace, also if it ends early."""
    try:
        yield
        pool.measure()
    finally:
        if writer is not None:
            writer.describe_testbed({**facts, **kernel.lateness.facts(), **pool.facts()})


def _warm_up(model: Model, spec: SchedulerSpec) -> None:
    """Load compiled code, which takes up to a minute, by simulating the first tasks."""
    slots = (slot for slot in workload.slots(model) if len(slot.tasks))
    some = [slot for slot, _ in zip(slots, range(1), strict=False)]
    session = Session(model, some, SimpyKernel(model), spec, [MemoryTrace()])
    for epoch in session:
        blocks_of_class = spec.classes[epoch.task_class].blocks
        session.observe(epoch).features()
        session.act(epoch, np.zeros(blocks_of_class, dtype=np.int64))
