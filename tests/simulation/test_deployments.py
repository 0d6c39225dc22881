"""Shipped scenarios of deployments: both kernels, replay, and that their features take effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mecsim import load
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay
from mecsim.simulation.run import run
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import simulate
from tests.helpers.shipped import DEPLOYMENTS, FOLDER

LAB = FOLDER / "lab.yaml"
FEW = ["slots=4", "measurement.warm_up=0 s"]
FAILS = ["failures.0.at=[[1 s, 2.5 s]]"]


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: path.stem)
def test_both_kernels_give_the_same(path: Path) -> None:
    spec = load(path, [*FEW, *(FAILS if path == LAB else [])])
    one, other = (simulate(spec, "greedy", seed=3, kernel=kernel).trace for kernel in KERNELS)
    assert one.first_difference(other) is None
    assert len(one["tasks/finish_s"]) > 20


@pytest.mark.parametrize("scheduler", ["rpdi", "single-cut"])
def test_the_lab_replays_exactly(scheduler: str, tmp_path: Path) -> None:
    trace = tmp_path / "lab.h5"
    run(load(LAB, [*FEW, *FAILS]), scheduler, out=trace, kernel="compiled")
    assert replay(trace, kernel="simpy").difference is None


def columns(*overrides: str) -> MemoryTrace:
    placement: dict[str, Any] = {"detect": [2] * 6, "classify": [2] * 4}
    return simulate(load(LAB, [*FEW, *overrides]), "fixed", {"placement": placement}).trace


def test_each_feature_of_the_lab_takes_effect() -> None:
    """All tasks are placed on rack.2, which fails for a while."""
    trace = columns(*FAILS)
    release_s, finish_s = trace["tasks/release_s"], trace["tasks/finish_s"]
    lost = trace["tasks/status"] == 2
    assert (finish_s[lost] == 1.0).all()
    assert (release_s[lost] < 1.0).all()
    assert 0 < lost.sum() < len(lost)
    late = trace["tasks/status"] == 3  # wait for the repair longer than their deadline
    assert late.any()
    assert (trace["tasks/class"][late] == 0).all()
    assert set(trace["tasks/device"][trace["tasks/class"] == 0]) <= set(range(12, 20))
    assert set(trace["tasks/device"][trace["tasks/class"] == 1]) <= set(range(12))
    rates = trace["slots/rate_bps"][:, 0]
    assert rates.tolist() == [40.3e6, 40.3e6, 43.5e6, 43.5e6]
