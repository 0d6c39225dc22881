"""A run whose nodes have another clock: they are in a time namespace, 1000 s ahead."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mecsim.scenario.schema import Scenario
from mecsim.testbed import hosts, run
from mecsim.trace import TraceFile
from tests.testbed.small_run import SCENARIO, Splits

pytest.importorskip("torch")

AHEAD = ("unshare", "--time", "--monotonic", "1000")


class HostsOverTcp(hosts.LocalHosts):
    """The host of this machine, whose nodes are reached as those of other machines."""

    address = "127.0.0.1"


@pytest.mark.slow
def test_times_are_those_of_the_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("unshare") or subprocess.run([*AHEAD, "true"], check=False).returncode:
        pytest.skip("this machine makes no time namespaces")
    popen = subprocess.Popen

    def started(command: list[str], **more: Any) -> Any:
        return popen([*AHEAD, *command], **more)

    monkeypatch.setattr("mecsim.testbed.host_process.subprocess.Popen", started)
    monkeypatch.setattr("mecsim.testbed.clock.identity", lambda: "that of the controller")
    monkeypatch.setattr(run, "LocalHosts", HostsOverTcp)
    out = tmp_path / "trace.h5"
    result = run.run_testbed(Scenario.model_validate(SCENARIO), Splits, out=out)
    assert result.summary.completed == result.summary.tasks == 4
    with TraceFile(out) as trace:
        facts = trace.made_by.testbed
        start_s, finish_s = trace.read("hops", "start_s"), trace.read("hops", "finish_s")
    assert facts is not None
    clock = facts["clocks"]["127.0.0.1"]
    for found in (clock, clock["after"]):
        assert abs(found["offset_s"] - 1000.0) <= found["error_s"]
    assert start_s.min() >= 0.0
    assert finish_s.max() < 60.0  # a reading that was not converted is 1000 s late
