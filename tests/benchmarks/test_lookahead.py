"""`make bench`: lookahead against every other scheduler that does not learn, over ten seeds.

Runs under one seed meet the same tasks on the same channels, so differences are taken seed by
seed. The table goes to results/.
"""

from __future__ import annotations

import sys
import time

import pytest

from mecsim.scenario.loading import load
from mecsim.simulation.run import run as run_scenario
from mecsim.support.intervals import Interval, mean_interval
from tests.benchmarks.test_simpy_kernel import ROOT, SCENARIO

SEEDS = range(10)
POINTS = {
    "λ = 60, N = 4": [],
    "λ = 30": ["arrivals.rate=30"],
    "λ = 110": ["arrivals.rate=110"],
    "N = 2": ["edge_servers=2"],
    "N = 9": ["edge_servers=9"],
}
OTHERS = ("greedy", "single-cut", "rpdi", "apdi", "edge", "local", "viterbi")

pytestmark = pytest.mark.benchmark


def reported(interval: Interval) -> str:
    return f"{interval.mean:,.0f} [{interval.low:,.0f}, {interval.high:,.0f}]"


def test_lookahead(capsys: pytest.CaptureFixture[str]) -> None:
    told_how = (
        "vgg16_loaded, 600 slots, seeds 0 to 9: mean reward of lookahead, and by how much it is "
        "above the others' on the same tasks and channels, with 95% confidence intervals. "
        "Decisions are timed on the compiled kernel, the copy of the network's state included."
    )
    lines = [
        "# lookahead against the other schedulers that do not learn",
        "",
        told_how,
        "",
        "| | lookahead | ms a decision | " + " | ".join(f"above {name}" for name in OTHERS) + " |",
        "|---|---:|---:|" + "---:|" * len(OTHERS),
    ]
    for point, changes in POINTS.items():
        scenario = load(SCENARIO, changes)
        rewards: dict[str, list[float]] = {name: [] for name in ("lookahead", *OTHERS)}
        seconds = 0.0
        for seed in SEEDS:
            for name, found in rewards.items():
                began = time.perf_counter()
                result = run_scenario(scenario, name, seed=seed, kernel="compiled")
                seconds += (time.perf_counter() - began) * (name == "lookahead")
                found.append(result.summary.reward)
        ours, cells = rewards["lookahead"], []
        for name in OTHERS:
            above = [one - other for one, other in zip(ours, rewards[name], strict=True)]
            interval = mean_interval(above, 0.95)
            assert interval.low > 0, f"{point}: lookahead is not better than {name}"
            cells.append(reported(interval))
        each = 1000 * seconds / (len(SEEDS) * scenario.slots)
        row = [point, reported(mean_interval(ours, 0.95)), f"{each:.1f}", *cells]
        lines.append("| " + " | ".join(row) + " |")
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "lookahead.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
