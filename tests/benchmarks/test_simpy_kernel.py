"""`make bench`: speed of the SimPy kernel as a ratio to the leanest SimPy program; memory.

Nothing is asserted about time: machines are shared and noisy. The table goes to results/.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.simulation.run import run as run_scenario
from mecsim.trace.schema import MemoryTrace
from tests.benchmarks import lean_simpy

ROOT = Path(__file__).parents[2]
SCENARIO = ROOT / "scenarios" / "vgg16_loaded.yaml"
ROUNDS = 15

pytestmark = pytest.mark.benchmark


def lean_input() -> tuple[list[tuple[float, list[lean_simpy.Route]]], int, int, float]:
    """The hops of a greedy run, slot by slot; the resources, the hops, and when the run ended."""
    scenario = load(SCENARIO)
    trace = MemoryTrace()
    run_scenario(scenario, "greedy", memory=trace)
    task, resource = trace["hops/task"], trace["hops/resource"].tolist()
    service = (trace["hops/finish_s"] - trace["hops/start_s"]).tolist()
    bounds = np.flatnonzero(np.diff(task, prepend=-1, append=-1)).tolist()
    routes = [(resource[begin:end], service[begin:end]) for begin, end in pairwise(bounds)]
    slots: dict[float, list[lean_simpy.Route]] = {}
    for release, route in zip(trace["tasks/release_s"].tolist(), routes, strict=True):
        slots.setdefault(release, []).append(route)
    end_s = float(trace["tasks/finish_s"].max())
    return list(slots.items()), len(resolve(scenario).resources), len(resource), end_s


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratio_table(rounds: list[dict[str, float]], hops: int) -> list[str]:
    """The rows of a table: medians, and each program's ratio to the first one, round by round."""
    first = next(iter(rounds[0]))
    rows = [
        "| program | seconds | hops a second | ratio to the leanest (median of rounds) |",
        "|---|---:|---:|---:|",
    ]
    for name in rounds[0]:
        taken = median(each[name] for each in rounds)
        ratio = median(each[first] / each[name] for each in rounds)
        rows.append(f"| {name} | {taken:.3f} | {hops / taken:,.0f} | {ratio:.2f} |")
    return rows


def peak_mib(slots: int, out: Path | None) -> float:
    """Peak memory of a whole `mecsim run` in a process of its own."""
    program = (
        "import sys; from pathlib import Path; from mecsim import load, run\n"
        "scenario, slots, out = sys.argv[1:]\n"
        "run(load(scenario, [f'slots={slots}']), out=Path(out) if out else None)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.partition('VmHWM:')[2].split()[0])"
    )
    arguments = [str(SCENARIO), str(slots), "" if out is None else str(out)]
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout) / 1024


def test_simpy_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slots, resources, hops, end_s = lean_input()
    assert lean_simpy.serve(slots, resources) == pytest.approx(end_s, rel=1e-3)  # the same work
    scenario, trace = load(SCENARIO), tmp_path / "trace.h5"
    works = {
        "leanest SimPy program": lambda: lean_simpy.serve(slots, resources),
        "mecsim, no trace": lambda: run_scenario(scenario, "greedy"),
        "mecsim, trace written": lambda: run_scenario(scenario, "greedy", out=trace),
    }
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    lines = [
        f"# SimPy kernel on vgg16_loaded under greedy: {hops:,} hops",
        "",
        f"Python {platform.python_version()}; medians of {ROUNDS} rounds, the programs in turn in",
        "one process. The whole of `mecsim.run` is timed, resolving and summary included.",
        "",
        *ratio_table(rounds, hops),
    ]
    lines += ["", "| peak memory (MiB) | 600 slots | 6,000 slots |", "|---|---:|---:|"]
    for name, out in (("no trace", None), ("trace written", tmp_path / "m.h5")):
        one, ten = peak_mib(600, out), peak_mib(6000, out)
        assert ten < 1.2 * one, "memory grows with the number of slots"
        lines.append(f"| {name} | {one:.1f} | {ten:.1f} |")
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
