"""`make bench`: decisions a second of a Python scheduler that places every task separately.

Nothing is asserted about time: machines are shared and noisy. The table goes to results/.
"""

from __future__ import annotations

import platform
import sys
import time
from statistics import median
from typing import Any

import pytest

from mecsim import Observation, Placement, Scheduler, SchedulerSpec
from mecsim.scenario.loading import load
from mecsim.simulation.run import run as run_scenario
from tests.benchmarks.test_simpy_kernel import ROOT

ROUNDS = 7
DECISIONS = 20_000
DEVICES = (30, 5_000, 100_000)

pytestmark = pytest.mark.benchmark


class Local(Scheduler):
    """All blocks on the device; measures the CPU time from the first decision to the end."""

    def __init__(self, spec: SchedulerSpec, *, rates: Any) -> None:
        super().__init__(spec)
        self.rates, self.decisions, self.began_s = rates, 0, 0.0

    def decide(self, observation: Observation) -> Placement:
        self.began_s = self.began_s or time.process_time()
        self.decisions += 1
        return [0] * self.spec.blocks

    def run_ended(self) -> None:
        self.rates.append(self.decisions / (time.process_time() - self.began_s))


class Balanced(Local):
    """Reads the backlogs of the servers and of the task's device."""

    def decide(self, observation: Observation) -> Placement:
        observation.place_backlog_s.argmin()
        return super().decide(observation)


def rates(name: str, devices: int, seed: int) -> list[float]:
    """Decisions per second of CPU time, where each device releases a task every 2 s."""
    slots = max(1, 2 * DECISIONS // devices)
    changes = ["decision_epoch=per_task", f"devices={devices}", f"slots={slots}"]
    changes.append(f"arrivals={{process: poisson, rate: {devices / 2}}}")
    scenario = load(ROOT / "scenarios" / "vgg16_loaded.yaml", changes)
    found: list[float] = []
    run_scenario(scenario, f"{__name__}:{name}", {"rates": found}, seed=seed, kernel="compiled")
    return found


def test_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    how = (
        f"Python {platform.python_version()}, compiled kernel, no trace, Poisson arrivals, every "
        f"task placed separately on its device. Median of {ROUNDS} runs in turn; CPU time, from "
        "the first decision to the end of the run."
    )
    lines = ["# Decisions a second of a Python scheduler", "", how, ""]
    lines += ["| devices | reads nothing | reads the backlog of each place |", "|---:|---:|---:|"]
    names = ("Local", "Balanced")
    found: dict[tuple[int, str], list[float]] = {(d, n): [] for d in DEVICES for n in names}
    for seed in range(ROUNDS + 1):
        for (devices, name), each in found.items():
            each.extend(rates(name, devices, seed))
    for devices in DEVICES:
        cells = [f"{median(found[devices, name][1:]):,.0f}" for name in names]  # the first compiles
        lines.append(f"| {devices:,} | {' | '.join(cells)} |")
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks_decisions.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
