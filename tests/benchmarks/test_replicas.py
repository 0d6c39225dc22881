"""`make bench`: 16 replicas on two threads against one, stepped and rolled in turn.

Nothing is asserted about time: machines are shared and noisy. The table goes to results/.
"""

from __future__ import annotations

import itertools
import platform
import sys
import time
from statistics import median

import numpy as np
import pytest

from mecsim.scenario.loading import load
from mecsim.simulation.replicas import Replicas
from tests.benchmarks.test_compiled_kernel import PLACEMENT
from tests.benchmarks.test_simpy_kernel import ROOT, ROUNDS, SCENARIO

REPLICAS = 16

pytestmark = pytest.mark.benchmark


SEEDS = itertools.count(step=REPLICAS)


def seconds(replicas: Replicas, epochs: int) -> float:
    """What an episode takes under new seeds, with ``epochs`` epochs a call."""
    first = next(SEEDS)
    placements = np.tile(PLACEMENT, (epochs, REPLICAS, 1))
    began = time.perf_counter()
    replicas.reset(range(first, first + REPLICAS))
    while not replicas.ended.all():
        replicas.roll(placements)
    return time.perf_counter() - began


def test_replicas(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = load(SCENARIO)
    one, two = (Replicas(scenario, REPLICAS, threads=threads) for threads in (1, 2))
    how = (
        f"Python {platform.python_version()}; medians of {ROUNDS} rounds, one and two threads in "
        "turn in one process. Whole episodes are timed, each with a reset to new seeds; every call "
        "gives observations and rewards."
    )
    lines = [
        f"# {REPLICAS} replicas of vgg16_loaded, {scenario.slots} epochs each",
        "",
        how,
        "",
        "| epochs a call | one thread: µs an epoch of one replica | two threads | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for epochs in (1, 10, 64):
        seconds(one, epochs)
        seconds(two, epochs)
        rounds = [(seconds(one, epochs), seconds(two, epochs)) for _ in range(ROUNDS)]
        each = [
            1e6 * median(column) / (REPLICAS * scenario.slots)
            for column in zip(*rounds, strict=True)
        ]
        ratio = median(first / second for first, second in rounds)
        lines.append(f"| {epochs} | {each[0]:.1f} | {each[1]:.1f} | {ratio:.2f} |")
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks_replicas.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
