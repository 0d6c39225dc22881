"""The host process of a machine: ``python -m mecsim.testbed.host``.

Reads JSON lines on standard input. From the first, a `HostConfig`, it builds the blocks of all task
classes, measures them and writes ``{"built": …}``. For each further line, a `NodeConfig`, it forks
a node process, which shares the weights, and writes ``{"forked": …}``; when one ends,
``{"exited": …}``. A line that is not valid, or blocks that cannot be built, give ``{"error": …}``
and exit code 2. At the end of its input the host exits, and its nodes with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import numpy as np
import torch
from pydantic import ValidationError

from mecsim.dnn.modules import ModuleSource
from mecsim.dnn.split import block_seconds
from mecsim.dnn.timing import machine
from mecsim.errors import InputError, MecsimError
from mecsim.support.validation import first_fault
from mecsim.testbed import clock, namespaces, tcp
from mecsim.testbed.computation import Computation
from mecsim.testbed.messages import Error
from mecsim.testbed.node import Node
from mecsim.testbed.settings import ENVIRONMENT, HostConfig, NodeConfig, Settings

_PR_SET_PDEATHSIG: Final = 1
Report = Callable[[str, Any], None]
"""Writes a key and its value for the controller."""
_Config = TypeVar("_Config", bound=Settings)


class Host:
    """Forks nodes and reports their ends."""

    def __init__(self, computation: Computation, report: Report) -> None:
        """Make a host without nodes.

        Args:
            computation: The blocks.
            report: Reports to the controller.
        """
        self._computation, self._report = computation, report
        self._selector = selectors.DefaultSelector()
        self._names: dict[int, str] = {}  # by process
        self._sockets: set[Path] = set()
        self._lines = b""

    def run(self, source: int) -> None:
        """Fork a node for each line of a file until its end.

        Args:
            source: The file's descriptor.

        Raises:
            InputError: If a line is not valid.
        """
        self._selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._ended(key.fd, key.data)
                elif not self._read(source):
                    self._tidy()
                    return

    def _read(self, source: int) -> bool:
        """Read settings; return whether more text follows."""
        data = os.read(source, 2**16)
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            self._fork(_parsed(NodeConfig, line))
        return bool(data)

    def _fork(self, config: NodeConfig) -> None:
        if isinstance(path := config.control.get("unix"), str):
            self._sockets.add(Path(path))
        parent = os.getpid()
        alive, held = os.pipe()  # the node holds one end; that the other one ends shows its end
        process = os.fork()
        if not process:
            _be_node(config, self._computation, parent)
        os.close(held)
        self._names[process] = config.name
        self._selector.register(alive, selectors.EVENT_READ, process)
        self._report("forked", {"name": config.name, "pid": process})

    def _tidy(self) -> None:
        """Remove the socket of a controller that was killed, and its folder if that is empty."""
        for path in self._sockets:
            with contextlib.suppress(OSError):  # a controller that ends by itself removes them
                path.unlink(missing_ok=True)
                path.parent.rmdir()

    def _ended(self, alive: int, process: int) -> None:
        self._selector.unregister(alive)
        os.close(alive)
        _, status = os.waitpid(process, 0)
        name = self._names.pop(process)
        self._report("exited", {"name": name, "status": os.waitstatus_to_exitcode(status)})


def _be_node(config: NodeConfig, computation: Computation, parent: int) -> NoReturn:
    """Be a node process, after the fork. It dies with the host and exits without any clean-up."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            _detach()
            if config.netns:
                namespaces.enter()
            clock.sharpen()
            clock.prioritise()
            _run_node(config, computation)
            status = 0
    except (MecsimError, OSError) as error:
        sys.stderr.write(f"{config.name}: {error}\n")
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        os._exit(status)


def _detach() -> None:
    """Let the streams of the host be its own."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)


def _run_node(config: NodeConfig, computation: Computation) -> None:
    control = connect(config.control)
    node = Node(config, computation, control)

    def fail(failure: threading.ExceptHookArgs) -> None:
        """A thread that dies would let tasks wait forever."""
        threading.__excepthook__(failure)
        problem = f"{failure.exc_type.__name__}: {failure.exc_value}"
        node.tell(Error(message=f"{config.name}: {problem}"[:2000]))
        os._exit(1)

    threading.excepthook = fail
    node.run()


def connect(control: Any) -> socket.socket:
    """Connect to the controller.

    Args:
        control: ``{"unix": path}`` or ``{"tcp": [host, port]}``.

    Raises:
        OSError: If it does not listen there.
    """
    if "unix" in control:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(control["unix"])
        return connection
    connection = socket.create_connection(control["tcp"], timeout=30)
    connection.settimeout(None)
    tcp.set_options(connection)
    return connection


def build(config: HostConfig) -> tuple[Computation, list[list[float]]]:
    """Build the blocks of all classes; equal ones share their weights.

    Args:
        config: The settings.

    Returns:
        The blocks, and the median time of each block in ms by class; no times if they are not to be
        measured.

    Raises:
        ProfileError: If a module cannot be made or split.
    """
    built, classes, raw_inputs = {}, [], []
    for each in config.classes:
        source = ModuleSource(**each.source.model_dump())
        if each not in built:
            built[each] = source.blocks(each.cuts)
        classes.append(built[each])
        raw_inputs.append((source.raw_input(),))
    times_ms = []
    for blocks, (stored,) in zip(classes if config.measure else (), raw_inputs, strict=False):
        times_ms.append(
            (1e3 * np.median(block_seconds(blocks, stored, cpu_time=True), axis=0)).tolist()
        )
    return Computation(classes, raw_inputs), times_ms


def _parsed(kind: type[_Config], line: bytes) -> _Config:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise InputError(f"settings of a {kind.__name__}: {first_fault(error)}") from error


def _start_no_monitor() -> None:
    """Keep tqdm, which PyTorch uses, from starting a thread."""
    with contextlib.suppress(ImportError):
        import_module("tqdm").tqdm.monitor_interval = 0


def _check_threads() -> None:
    """Raise unless the process has one thread: a fork would copy the locks of the others."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and (count := len(list(tasks.iterdir()))) > 1:
        names = ", ".join(thread.name for thread in threading.enumerate())
        settings = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        raise MecsimError(
            f"the host has {count} threads before it forks nodes (those of Python: {names}). "
            f"Expected: 1. Try: a module that starts none; {settings} in the environment"
        )


def _first_line(source: int) -> bytes:
    """Read a line without reading beyond it."""
    line = bytearray()
    while (byte := os.read(source, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def main() -> int:
    """Be the host process; return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the controller
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # modules may print

    def report(key: str, value: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # then the input has ended, too
            out.write(json.dumps({key: value}) + "\n")
            out.flush()

    try:
        torch.set_num_threads(1)
        _start_no_monitor()
        computation, block_ms = build(_parsed(HostConfig, _first_line(0)))
        _check_threads()
        report("built", {"block_ms": block_ms, **machine()})
        gc.collect()
        gc.freeze()  # collections in nodes leave shared memory alone
        Host(computation, report).run(0)
    except MecsimError as error:
        report("error", str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
