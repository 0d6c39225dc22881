"""Testbeds that are killed or stopped, or find no room: nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mecsim.errors import InputError, OutputError
from mecsim.model.model import resolve
from mecsim.testbed import launch
from mecsim.testbed.host_process import HostProcess
from mecsim.testbed.modes import Modes
from mecsim.testbed.namespaces import check_machine
from mecsim.testbed.way import Ways
from tests.helpers.builders import scenario
from tests.helpers.cli import started
from tests.helpers.waiting import until
from tests.testbed.small_run import LONG, ended, host_processes, written


def shapes() -> bool:
    try:
        check_machine()
    except InputError:
        return False
    return True


CONTROLLER = """
import time
from mecsim.testbed.host_process import HostProcess
host = HostProcess()
print(host._process.pid, flush=True)
time.sleep(3600)
"""


def test_host_dies_with_controller_while_it_starts() -> None:
    """It imports PyTorch then, and does not read its input."""
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER], stdout=subprocess.PIPE, text=True
    ) as controller:
        assert controller.stdout is not None
        host = int(controller.stdout.readline())
        until(lambda: "mecsim.testbed.host_start" in " ".join(psutil.Process(host).cmdline()))
        maps = Path(f"/proc/{host}/maps")
        until(lambda: "numpy" in maps.read_text("utf-8", "replace"))  # it has begun
        controller.send_signal(signal.SIGKILL)
    until(lambda: ended(host), seconds=20)


def test_host_that_builds_is_not_waited_for() -> None:
    host = HostProcess()
    number = host._process.pid
    host.close()
    assert host._process.returncode == -signal.SIGKILL
    assert ended(number)


def test_host_without_its_parent() -> None:
    """The parent has died before the host could ask to die with it."""
    command = [sys.executable, "-m", "mecsim.testbed.host_start", str(os.getppid())]
    assert subprocess.run(command, check=False).returncode == 1


def test_no_room_for_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    model = resolve(scenario(), seed=0)
    host: Any = SimpleNamespace(address="")
    with (
        pytest.raises(OutputError, match="a socket cannot be written: AF_UNIX path too long"),
        launch.nodes(model, Ways(model), host, Modes()),
    ):
        pass
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("links", ["pacing", "tbf"])
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_stopped_run(
    links: str, sent: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    if links == "tbf" and not shapes():
        pytest.skip("this machine cannot shape links")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    file, out = written(tmp_path, **LONG), tmp_path / "trace.h5"
    command = ("testbed", str(file), "--scheduler", "greedy", "--links", links, "--out", str(out))
    with started(*command) as run:
        until(lambda: len(host_processes(run.pid)) == 3, seconds=300)
        until(lambda: not list(temporary.glob("mecsim-*")), seconds=300)  # nodes are connected
        mine = host_processes(run.pid)
        run.send_signal(sent)
        _, err = run.communicate(timeout=300)
    assert run.returncode == (-sent if sent == signal.SIGKILL else 130)
    assert "Traceback" not in err
    until(lambda: all(ended(each.pid) for each in mine))
    assert not out.exists()
    until(lambda: not list(temporary.iterdir()))
