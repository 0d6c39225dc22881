"""The test as the controller of a host process. Imports no PyTorch, so that it starts quickly."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from mecsim.testbed import frames
from mecsim.testbed.frames import Decoder
from mecsim.testbed.messages import TO_CONTROLLER, Message, Ready
from mecsim.testbed.settings import ENVIRONMENT
from tests.helpers.waiting import PATIENCE_S

MODULE = {
    "factory": "tests.testbed.tiny_module:make",
    "input_shape": [4],
    "raw_type": "uint8",
    "input_type": None,
}
CLASSES = [{"source": MODULE, "cuts": ["first"]}]
TOKEN = "secret"


def node_line(folder: Path, **changes: Any) -> dict[str, Any]:
    settings = {
        "name": "device0",
        "control": {"unix": str(folder / "control")},
        "token": TOKEN,
        "bind": ["127.0.0.1", 0],
        "nodes": "padded",
        "links": "pacing",
        "stations": [[0, "cpu", 1]],
    }
    return settings | changes


class Controller:
    """The test as the controller of a host process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "control"))
        self.listener.listen()
        self.listener.settimeout(PATIENCE_S)
        self.host = subprocess.Popen(
            [sys.executable, "-m", "mecsim.testbed.host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ENVIRONMENT,
            start_new_session=True,
            text=True,
        )
        self.connections: list[socket.socket] = []

    def write(self, line: dict[str, Any]) -> None:
        assert self.host.stdin is not None
        self.host.stdin.write(json.dumps(line) + "\n")
        self.host.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.host.stdout is not None
        return json.loads(self.host.stdout.readline())

    def fork(self, name: str) -> tuple[int, socket.socket, Ready]:
        """Let the host fork a node; return its process, its connection and what it says."""
        self.write(node_line(self.folder, name=name))
        forked = self.read()["forked"]
        assert forked["name"] == name
        connection, _ = self.listener.accept()
        self.connections.append(connection)
        assert frames.greet(connection, TOKEN, PATIENCE_S) == name
        connection.settimeout(PATIENCE_S)
        ready = message_from(connection)
        assert isinstance(ready, Ready)
        assert ready.pid == forked["pid"]
        return forked["pid"], connection, ready

    def close(self) -> None:
        self.host.kill()
        self.host.communicate()
        for each in (self.listener, *self.connections):
            each.close()


def message_from(connection: socket.socket) -> Message:
    received = frames.receive(connection, Decoder(TO_CONTROLLER))
    assert received is not None
    return received.message


def alive(process: int) -> bool:
    """Return whether a process runs; one that has ended may wait for its parent."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return False
    return state[0] not in "ZX"
