"""The host process: settings, blocks, nodes as processes, and that nothing outlives its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mecsim.errors import InputError, ProfileError
from mecsim.testbed import frames, host
from mecsim.testbed.messages import (
    Error,
    Hop,
    Peer,
    Record,
    Release,
    Start,
    Stop,
)
from mecsim.testbed.settings import HostConfig, NodeConfig
from tests.helpers.waiting import PATIENCE_S, until
from tests.testbed.host_process import CLASSES, MODULE, Controller, alive, message_from, node_line


def test_equal_classes_share_their_blocks_and_each_is_measured() -> None:
    line = json.dumps({"classes": CLASSES * 2})
    computation, block_ms = host.build(HostConfig.model_validate_json(line))
    assert [len(each) for each in block_ms] == [2, 2]
    assert all(ms > 0 for each in block_ms for ms in each)
    assert computation.has_block(3)
    assert not computation.has_block(4)
    assert computation.inputs(0) == computation.inputs(2)
    computation.warm_up()
    (crossing,) = computation.compute(0, computation.raw_input(1))
    (result,) = computation.compute(1, (crossing,))
    assert result.shape == (1, 2)
    assert torch.isfinite(result).all()


def test_blocks_that_cannot_be_made() -> None:
    line = json.dumps({"classes": [{"source": MODULE, "cuts": ["third"]}], "measure": False})
    with pytest.raises(ProfileError, match="third"):
        host.build(HostConfig.model_validate_json(line))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nodes": "slow"}, "nodes: 'slow' should be 'natural' or 'padded'"),
        ({"bind": ["127.0.0.1"]}, "bind.1: is missing"),
        ({"control": {}}, "control: "),
        ({"control": {"pipe": "x"}}, "control.pipe"),
        ({"stations": [[0, "gpu", 1]]}, "stations.0."),
        ({"stations": [[0, "cpu", 0]]}, "stations.0."),
        ({"token": ""}, "token: "),
        ({"speed": 1}, "speed: "),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    line = json.dumps(node_line(tmp_path, **changes)).encode()
    with pytest.raises(InputError) as raised:
        host._parsed(NodeConfig, line)
    assert f"settings of a NodeConfig: {reason}" in str(raised.value)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = Controller(tmp_path)
    yield made
    made.close()


@pytest.mark.slow
def test_nodes_compute_in_processes_and_end_with_what_they_depend_on(
    controller: Controller,
) -> None:
    controller.write({"classes": CLASSES, "measure": True})
    built = controller.read()["built"]
    assert [len(each) for each in built["block_ms"]] == [2]
    assert built["threads"] == 1
    works, connection, ready = controller.fork("works")
    stopped, _, _ = controller.fork("stopped")
    killed, _, _ = controller.fork("killed")
    orphaned, _, _ = controller.fork("orphaned")

    peers = {"works": Peer(ready.address, ready.clock)}
    frames.send(connection, Start(origin_at=time.monotonic(), stretch=1.0, peers=peers))
    hops = tuple(Hop(0, block, 0.001, 0.0, 0.0, "works", None) for block in (0, 1))
    task = Release(task=7, task_class=0, release_s=0.0, drop_s=None, hops=hops)
    frames.send(connection, task)
    records = [message_from(connection), message_from(connection)]
    assert [r.hop for r in records if isinstance(r, Record)] == [0, 1]

    frames.send(controller.connections[1], Stop())
    assert controller.read()["exited"] == {"name": "stopped", "status": 0}
    os.kill(killed, signal.SIGKILL)
    assert controller.read()["exited"] == {"name": "killed", "status": -signal.SIGKILL}
    controller.connections[3].close()
    assert controller.read()["exited"] == {"name": "orphaned", "status": 0}
    controller.connections[0].sendall(b"nonsense" * 10)
    error = message_from(connection)
    assert isinstance(error, Error)
    assert "begins with b'nons'" in error.message
    assert controller.read()["exited"] == {"name": "works", "status": 1}

    last, _, _ = controller.fork("last")
    controller.host.kill()
    until(lambda: not alive(last))
    assert not any(map(alive, (works, stopped, killed, orphaned)))


CONTROLLER = """
import sys, json
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.testbed.host_process import CLASSES, Controller
controller = Controller(Path(sys.argv[1]))
controller.write({"classes": CLASSES, "measure": False})
controller.read()
nodes = [controller.fork(f"n{n}")[0] for n in range(2)]
print(json.dumps([controller.host.pid, *nodes]), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_kill_9_of_the_controller_leaves_nothing(tmp_path: Path) -> None:
    root, folder = str(Path(__file__).parents[2]), tmp_path / "run"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(folder), root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stdout is not None
        processes = json.loads(killed.stdout.readline())
        assert all(map(alive, processes))
        killed.kill()
        until(lambda: not any(map(alive, processes)))
    assert len(processes) == 3
    assert not folder.exists()


@pytest.mark.slow
def test_a_host_reports_a_wrong_line_and_ends(controller: Controller) -> None:
    controller.write({"classes": []})
    assert controller.read()["error"].startswith("settings of a HostConfig: classes: ")
    assert controller.host.wait(PATIENCE_S) == 2
