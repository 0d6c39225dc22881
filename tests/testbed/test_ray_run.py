"""A run on a Ray cluster whose only node is this machine, at 127.0.0.1."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mecsim.model.task_status import COMPLETED
from mecsim.testbed.run import run_testbed
from mecsim.trace import TraceFile
from tests.helpers.cli import mecsim, started
from tests.helpers.ray_cluster import ray_cluster
from tests.helpers.waiting import until
from tests.testbed.small_run import LONG, Splits, ended, host_processes, written

pytest.importorskip("torch")
pytest.importorskip("ray")
pytestmark = pytest.mark.slow

HOSTS = {"testbed": {"hosts": {"es1": "127.0.0.1"}}}  # the device is at the controller


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster without a CPU for jobs: hosts take none."""
    with ray_cluster(cpus=0) as made:
        yield made


def test_a_run_on_two_hosts(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All share a clock that the controller takes for another one: it finds offset 0 by pings."""
    monkeypatch.setattr("mecsim.testbed.clock.identity", lambda: "that of the controller")
    out, scenario = tmp_path / "trace.h5", written(tmp_path, **HOSTS)
    result = run_testbed(scenario, Splits, out=out, engine="ray", ray_address=cluster.address)
    assert result.summary.completed == result.summary.tasks == 4
    with TraceFile(out) as trace:
        assert trace.complete
        assert (trace.read("tasks", "status") == COMPLETED).all()
        facts = trace.made_by.testbed
        assert facts is not None
        resources = trace.read("hops", "resource").tolist()
    assert resources == [1, 2, 0, 3] * 4
    (clock,) = facts["clocks"].values()
    for found in (clock, clock["after"]):
        assert abs(found["offset_s"]) <= found["error_s"] < 1.0
    assert facts["hosts"]["127.0.0.1"]["nodes"] == ["es1", "device0"]
    until(lambda: not host_processes())


def test_an_address_without_a_node(cluster: Any, tmp_path: Path) -> None:
    scenario = written(tmp_path, testbed={"hosts": {"es1": "203.0.113.7"}})
    arguments = ("--scheduler", "edge", "--engine", "ray", "--ray-address", cluster.address)
    out = tmp_path / "trace.h5"
    error = mecsim("testbed", str(scenario), *arguments, "--out", str(out), code=2).stderr
    assert "is no node of the Ray cluster. Its nodes: 127.0.0.1" in " ".join(error.split())
    assert list(tmp_path.iterdir()) == [scenario]


def test_a_killed_controller_leaves_nothing(cluster: Any, tmp_path: Path) -> None:
    scenario = written(tmp_path, **LONG, **HOSTS)
    command = (
        "testbed", str(scenario), "--scheduler", "edge", "--engine", "ray",
        "--ray-address", cluster.address, "--out", str(tmp_path / "trace.h5"),
    )  # fmt: skip
    with started(*command) as run:
        until(lambda: len(host_processes()) == 4, seconds=300)  # two hosts, two nodes
        mine = [each.pid for each in host_processes()]
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
    until(lambda: all(map(ended, mine)))
