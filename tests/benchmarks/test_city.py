"""`make bench`: a city of 1,000 servers and 100,000 devices, up to 10 million tasks.

Each run is a process of its own, so that its peak memory is known. The table goes to results/.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from tests.benchmarks.test_simpy_kernel import ROOT

PROGRAM = """
import json, resource, sys, time
from mecsim import load, run

scenario = load("scenarios/city.yaml", sys.argv[1:])
began = time.perf_counter()
summary = run(scenario, "edge", kernel="compiled").summary
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([summary.tasks, summary.events, seconds, peak / 1024]))
"""
SLOTS = {10**4: ["slots=1", "arrivals.rate=10000"], 10**5: ["slots=6"]}
SLOTS |= {10**6: ["slots=60"], 10**7: ["slots=600"]}

pytestmark = pytest.mark.benchmark


def measured(changes: list[str]) -> tuple[int, int, float, float]:
    """Tasks, events, seconds and peak MiB of a run."""
    command = [sys.executable, "-c", PROGRAM, *changes]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    tasks, events, seconds, peak = json.loads(done.stdout)
    return tasks, events, seconds, peak


def test_city(capsys: pytest.CaptureFixture[str]) -> None:
    measured(SLOTS[10**4])  # compiles, or loads what is compiled
    how = (
        f"Python {platform.python_version()}; every task at its device's serving server "
        "(`edge`), one decision a device. Resolving the city and asking the scheduler for 100,000 "
        "devices is included; a process each."
    )
    lines = [
        "# The city: 1,000 servers, 100,000 devices",
        "",
        how,
        "",
        "| tasks | events | seconds | µs an event | µs a further event | peak MiB |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    before = (0, 0.0)
    for changes in SLOTS.values():
        tasks, events, seconds, peak = measured(changes)
        further = (seconds - before[1]) / (events - before[0])
        each = f"{1e6 * seconds / events:.2f} | {1e6 * further:.2f}"
        lines.append(f"| {tasks:,} | {events:,} | {seconds:.1f} | {each} | {peak:.0f} |")
        before = (events, seconds)
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks_city.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
