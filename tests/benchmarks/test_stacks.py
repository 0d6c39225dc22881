"""`make bench`: ten trainings of preset `paper` as a stack and one alone, in turn, on one core.

Nothing is asserted about time: machines are shared and noisy. The table goes to results/.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import pytest

from mecsim.learning.training import train_stack
from tests.benchmarks.test_simpy_kernel import ROOT
from tests.benchmarks.tune_paper import paper_trainings

STACK, EPISODES, ROUNDS = 10, 400, 2

pytestmark = pytest.mark.benchmark


def seconds(learner: str, seeds: range, episodes: int, slots: int) -> float:
    """What a stack takes; ``slots`` are those of an episode, 0 for all of the scenario."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"episode_slots": slots}
        requests = paper_trainings(learner, seeds, episodes, options, Path(folder))
        began = time.perf_counter()
        train_stack(requests)
        return time.perf_counter() - began


def test_stacks(capsys: pytest.CaptureFixture[str]) -> None:
    core = {max(os.sched_getaffinity(0))}
    for thread in Path("/proc/self/task").iterdir():  # those of BLAS, too
        os.sched_setaffinity(int(thread.name), core)
    how = (
        f"Python {platform.python_version()}; one core; medians of {ROUNDS} rounds, in which a "
        f"stack of {STACK} and one training alone are timed in turn."
    )
    lines = [
        f"# {STACK} trainings of preset `paper`, {EPISODES} episodes each",
        "",
        how,
        "",
        "| learner | slots an episode | stack of ten | one alone | ten alone / stack |",
        "|---|---:|---:|---:|---:|",
    ]
    for learner, slots in (("mtl-a3c", 600), ("mtl-a3c", 32), ("a3c", 32), ("dqn", 32)):
        seconds(learner, range(1), 2, slots)
        rounds = [
            (
                seconds(learner, range(STACK), EPISODES, slots),
                seconds(learner, range(1), EPISODES, slots),
            )
            for _ in range(ROUNDS)
        ]
        stack, alone = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(STACK * one / ten for ten, one in rounds)
        lines.append(f"| {learner} | {slots} | {stack:.1f} s | {alone:.1f} s | {ratio:.1f} |")
    report = "\n".join(lines) + "\n"
    (ROOT / "results" / "benchmarks_stacks.md").write_text(report, encoding="utf-8")
    with capsys.disabled():
        sys.stdout.write("\n" + report)
