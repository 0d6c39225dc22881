"""A run whose work in flight grows without bound ends before memory does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.errors import InputError, OverloadedError
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.run import run
from mecsim.support import memory
from mecsim.trace import TraceFile
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.cli import mecsim
from tests.helpers.schedulers import LISTENING

LIMIT = 1.28e6  # bytes: 4000 hops in flight in a session


def overloaded(**changes: Any) -> Scenario:
    """100 tasks of 1 s each a second, all at one server: one ends a second, 99 are added."""
    base: dict[str, Any] = {
        "slots": 1000,
        "dnn": chain([1e9], [1]),
        "arrivals": {"process": "slotted", "rate": 100},
        "edge_server": {"capacity": 1e9},
        "radio": {"rate": 1e9},
    }
    return scenario(**(base | changes))


@pytest.fixture(autouse=True)
def _limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.VARIABLE, str(LIMIT))


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize("scheduler", ["fixed", LISTENING])
@pytest.mark.parametrize("traced", [False, True])
def test_an_overloaded_run_ends(kernel: str, scheduler: str, traced: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"placement": [1]}
    if scheduler == LISTENING:
        options = {"placements": [[1]], "heard": []}
    out = tmp_path / "run.h5" if traced else None
    with pytest.raises(OverloadedError) as caught:
        run(overloaded(), scheduler, options, kernel=kernel, out=out)
    message = str(caught.value)
    assert message.startswith("overloaded: in slot ")
    slot = int(message.split()[3])
    assert 20 <= slot <= 90  # two hops a task: 4000 hops in slot 20; buffers grow by doubling
    found = r"tasks are in flight and take about [12]\.\d MB of memory; the longest backlog is "
    assert re.search(found + r"[\d,]+ s, at es1\.cpu\. Expected: at most 1\.3 MB\.", message)
    if traced:
        partial = tmp_path / "run.partial.h5"
        assert message.endswith(f"the rows until then are kept in {partial} (complete = false)")
        with TraceFile(partial) as trace:
            assert not trace.complete
            assert trace.length("decisions") > 0


def test_replicas_of_an_overloaded_network_end() -> None:
    replicas = Replicas(overloaded(), 2)
    replicas.reset([0, 1])
    placements = np.ones((1000, 2, 1), dtype=np.int64)
    with pytest.raises(OverloadedError, match=r"overloaded: in slot 40 .* at es1\.cpu"):
        replicas.roll(placements)


def test_a_busy_network_is_not_overloaded() -> None:
    """2000 hops wait at once, and 20,000 are made."""
    spec = overloaded(slots=10, slot_length=1100.0, arrivals={"process": "slotted", "rate": 1000})
    assert simulate(spec, "fixed", {"placement": [1]}).summary["completed"] == 10_000


def test_the_command_prints_one_line_and_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "over.yaml"
    path.write_text(
        "slots: 1000\n"
        "dnn: {model: vgg16, blocks: 6}\n"
        "arrivals: {process: slotted, rate: 1000}\n"
        "edge_server: {capacity: 1 GHz}\n"
    )
    result = mecsim(
        "run", str(path), "--scheduler", "edge", "--kernel", "compiled", "--no-trace", code=1
    )
    assert result.stderr.startswith("mecsim: overloaded: in slot ")
    assert result.stderr.count("\n") == 1


# ---------------------------------------------------------------- the limit


def test_the_limit_is_a_quarter_of_the_available_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(memory.VARIABLE)
    info, container = tmp_path / "meminfo", tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_MEMINFO", info)
    monkeypatch.setattr(memory, "_CONTAINER", container)
    assert memory.limit_bytes() == float("inf")
    info.write_text("MemTotal:       9000 kB\nMemAvailable:    4000 kB\n")
    assert memory.limit_bytes() == 1000 * 1024
    assert memory.limit_bytes(used_bytes=4096) == 1001 * 1024
    container.write_text("max\n")
    assert memory.limit_bytes() == 1000 * 1024
    container.write_text("2048000\n")
    assert memory.limit_bytes() == 512000


@pytest.mark.parametrize("given", ["", "much", "0", "-1", "nan", "4 GB"])
def test_a_limit_is_a_positive_number_of_bytes(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(memory.VARIABLE, given)
    with pytest.raises(InputError, match=memory.VARIABLE):
        memory.limit_bytes()
