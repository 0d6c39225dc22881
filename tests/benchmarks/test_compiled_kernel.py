"""`make bench`: speed of the compiled kernel as a ratio to two SimPy programs on the same hops.

Nothing is asserted about time: machines are shared and noisy. The table goes to results/.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.kernels.accounting import TASKS, RunLog, ServiceTotals, TaskTable
from mecsim.kernels.advance import account_ended, submit_epoch
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.event_loop import run as run_events
from mecsim.kernels.hops import HOP, HopBuilder, Hops
from mecsim.kernels.state import State
from mecsim.kernels.tables import KernelTables
from mecsim.model import workload
from mecsim.model.model import Model, resolve
from mecsim.scenario.loading import load
from mecsim.simulation.run import run as run_scenario
from mecsim.support.arrays import Ints
from mecsim.support.jit import compiled
from tests.benchmarks import lean_simpy, textbook_simpy
from tests.benchmarks.test_simpy_kernel import ROOT, ROUNDS, SCENARIO, ratio_table, seconds

SHARES = ("drawing the tasks", "laying out the hops", "event loop", "accounts")
PLACEMENT = [3, 4, 2, 1, 1, 0]  # of the best ones

pytestmark = pytest.mark.benchmark


def hop_tables(model: Model) -> list[tuple[float, Hops]]:
    """The start of every slot and its hops under the placement."""
    builder, placement = HopBuilder(model), np.array([PLACEMENT])
    return [
        (slot.start_s, builder.hops(slot.tasks, placement, slot)) for slot in workload.slots(model)
    ]


def routes(hops: Hops) -> list[lean_simpy.Route]:
    resource, service = hops.column("resource").tolist(), hops.column("service_s").tolist()
    return [(resource[i:j], service[i:j]) for i, j in pairwise(hops.offset.tolist())]


@compiled
def submit_epochs(
    state: State, tables: KernelTables, epochs: EpochTable, first: int, end: int, placements: Ints
) -> None:
    for epoch in range(first, end):
        submit_epoch(state, tables, epochs, epoch, placements)


def shares(model: Model) -> dict[str, float]:
    """Seconds that the parts of a run take, a few slots at a time."""
    placements, state = np.array([PLACEMENT]), State.of(model, 1 << 13)
    tables, taken, chunks = (
        KernelTables.of(model),
        dict.fromkeys(SHARES, 0.0),
        workload.chunks(model),
    )
    services = ServiceTotals.zeros(len(model.resources))
    log = RunLog.empty()._replace(tasks=TaskTable.empty(8192), services=services)

    def clocked(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        result = work(*arguments)
        taken[name] += time.perf_counter() - began
        return result

    while chunk := clocked("drawing the tasks", next, chunks, None):
        epochs, count = EpochTable.of(chunk), len(chunk.start_s)
        for at in range(0, count, 4):
            end = min(at + 4, count)
            clocked(SHARES[1], submit_epochs, state, tables, epochs, at, end, placements)
            clocked("event loop", run_events, state, chunk.start_s[end - 1] + 1.0)
            clocked("accounts", account_ended, state, tables, *log[3:6], log.filled)
            log.filled[TASKS] = 0
    return taken


def test_compiled_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, options = load(SCENARIO), {"placement": PLACEMENT}
    model = resolve(scenario)
    tables = hop_tables(model)
    slots = [(start_s, routes(hops)) for start_s, hops in tables]
    count = sum(len(hops) for _, hops in tables)
    resources = len(model.resources)

    def run(kernel: str, out: Path | None = None) -> float:
        summary = run_scenario(scenario, "fixed", options, kernel=kernel, out=out).summary
        return scenario.slots * scenario.slot_length + summary.drained_s

    works: dict[str, Callable[[], float]] = {
        "leanest SimPy program": lambda: lean_simpy.serve(slots, resources),
        "textbook SimPy program": lambda: textbook_simpy.serve(slots, resources),
        "compiled, no trace": lambda: run("compiled"),
        "compiled, trace written": lambda: run("compiled", tmp_path / "compiled.h5"),
        "SimPy kernel, trace written": lambda: run("simpy", tmp_path / "simpy.h5"),
    }
    ends = [work() for work in works.values()]  # the same work; compiled now, if not before
    assert ends == pytest.approx([ends[0]] * len(ends), rel=1e-3)
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    ratios = {
        name: float(np.median([each[slow] / each[fast] for each in rounds]))
        for name, slow, fast in (
            ("textbook SimPy program / compiled, no trace", *list(works)[1:3]),
            ("SimPy kernel / compiled, traces written", *list(works)[:2:-1]),
        )
    }
    timed = (
        f"Python {platform.python_version()}; medians of {ROUNDS} rounds, each program in turn in "
        "one process. Of mecsim the whole of `mecsim.run` is timed, resolving and summary "
        "included; the two SimPy programs are given the hops and record nothing."
    )
    parts = [shares(model) for _ in range(ROUNDS + 1)][1:]  # the first compiles
    profile = {name: float(np.median([part[name] for part in parts])) for name in SHARES}
    whole = float(np.median([each["compiled, no trace"] for each in rounds]))
    profile["the rest: resolving, sums, percentiles, Python"] = whole - sum(profile.values())
    a_task = State.of(model, 2).tasks.itemsize
    lines = [
        f"# Compiled kernel on vgg16_loaded under fixed {PLACEMENT}: {count:,} hops",
        "",
        timed,
        "",
        *ratio_table(rounds, count),
        "",
        *(f"{name}: {ratio:.2f}" for name, ratio in ratios.items()),
        "",
        "| where the time of a run without a trace goes | ms | ns a hop |",
        "|---|---:|---:|",
        *(f"| {name} | {1e3 * s:.1f} | {1e9 * s / count:.1f} |" for name, s in profile.items()),
        "",
        f"Memory: {HOP.itemsize} bytes a hop in flight, {a_task} a task.",
    ]
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks_compiled.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
