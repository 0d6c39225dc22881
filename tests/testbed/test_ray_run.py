"""A run on a Ray cluster whose only node is this machine, at 127.0.0.1."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from mecsim.model.task_status import COMPLETED
from mecsim.testbed.run import run_testbed
from mecsim.trace import TraceFile
from tests.helpers.cli import mecsim, started
from tests.helpers.waiting import until
from tests.testbed.test_robustness import ended
from tests.testbed.test_run import SCENARIO, Splits

pytest.importorskip("torch")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = pytest.mark.slow

HOSTS = {"testbed": {"hosts": {"es1": "127.0.0.1"}}}  # the device is at the controller


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of this machine, without a CPU for jobs: hosts take none."""
    folder = tempfile.mkdtemp(prefix="ray-")  # pytest's are too long for the names of sockets
    head = {
        "num_cpus": 0,
        "node_ip_address": "127.0.0.1",
        "include_dashboard": False,
        "include_log_monitor": False,
        "temp_dir": folder,
    }
    Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)  # ray expects it
    made = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SCENARIO | HOSTS | changes), encoding="utf-8")
    return path


def host_processes() -> list[psutil.Process]:
    """Hosts and nodes of this test: children of the cluster, which is ours, and of commands."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "mecsim.testbed.host_start" in each.cmdline():
                found.append(each)
    return found


def test_a_run_on_two_hosts(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All share a clock that the controller takes for another one: it finds offset 0 by pings."""
    monkeypatch.setattr("mecsim.testbed.clock.identity", lambda: "that of the controller")
    out, scenario = tmp_path / "trace.h5", written(tmp_path)
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
    command = (
        "testbed", str(written(tmp_path, slots=600)), "--scheduler", "edge", "--engine", "ray",
        "--ray-address", cluster.address, "--out", str(tmp_path / "trace.h5"),
    )  # fmt: skip
    with started(*command) as run:
        until(lambda: len(host_processes()) == 4, seconds=300)  # two hosts, two nodes
        mine = [each.pid for each in host_processes()]
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
    until(lambda: all(map(ended, mine)))
