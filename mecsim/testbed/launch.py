"""Start and end the nodes of a testbed on this machine."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mecsim.errors import NodeFailedError
from mecsim.model.model import Model
from mecsim.scenario.testbed import host_address, nodes_named
from mecsim.support import signals
from mecsim.support.files import as_temporary_error, temporary_folder
from mecsim.testbed import namespaces
from mecsim.testbed.connections import Connections
from mecsim.testbed.host_process import HostProcess
from mecsim.testbed.link_rates import shaped_links
from mecsim.testbed.messages import Peer, Ready, Start, Stop
from mecsim.testbed.modes import Modes
from mecsim.testbed.pool import Event, NodeEnded, ScenarioClock
from mecsim.testbed.settings import NodeConfig
from mecsim.testbed.way import Ways

_READY_S: Final = 120.0
"""How long nodes may take to get ready: they compute every block once."""
_LEAD_S: Final = 0.5
"""From the last message of the start to the start."""
_STEP_S: Final = 0.1
_LOCAL: Final = "127.0.0.1"
_ANY: Final = "0.0.0.0"


class LocalPool:
    """The nodes of one machine, which share its clock."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.send, self.take = connections.send, connections.take

    def here(self, name: str, at: float) -> float:
        """Return a reading of the clock of a node as one of the controller."""
        return at


@contextlib.contextmanager
def nodes(
    model: Model, ways: Ways, host: HostProcess, modes: Modes
) -> Iterator[tuple[LocalPool, ScenarioClock]]:
    """Start all nodes and the clock of the scenario; end them on exit.

    Args:
        model: The resolved scenario.
        ways: Its nodes.
        host: Has built the blocks.
        modes: How nodes and links are made.

    Yields:
        The nodes, and the clock, which starts shortly.

    Raises:
        NodeFailedError: A node cannot be started.
    """
    token, stations = secrets.token_hex(16), ways.stations()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        path = folder / "control"  # only this user can enter the folder
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        with as_temporary_error("a socket"):
            listener.bind(str(path))
        listener.listen(len(ways.names))
        connections = Connections(listener, token, ways.names, host.reason)
        stack.callback(connections.close)
        stack.callback(connections.send, ways.names, Stop())
        for name in ways.names:
            config = NodeConfig(
                name=name,
                control={"unix": str(path)},
                token=token,
                bind=_bind(model, ways, name, modes),
                nodes=modes.nodes,
                links=modes.links,
                netns=modes.links == "tbf",
                stations=tuple(stations[name]),
            )
            host.fork(config)
        ready = _ready(connections, ways.names)
        shutil.rmtree(folder, ignore_errors=True)  # nothing is left if we are killed
        peers = _shaped_peers if modes.links == "tbf" else _peers
        yield LocalPool(connections), _start(connections, peers(model, ways, ready, modes), modes)


def _bind(model: Model, ways: Ways, name: str, modes: Modes) -> tuple[str, int]:
    """Return the address at which a node listens."""
    if modes.links == "tbf":
        return _ANY, 0  # of its own network
    testbed = model.scenario.testbed
    for each, address in (testbed.hosts or {} if testbed else {}).items():
        if name in nodes_named(each, ways.names):
            found = host_address(address)
            return found.host, found.port
    return _LOCAL, 0


def _ready(connections: Connections, names: Sequence[str]) -> dict[str, Ready]:
    """Wait until all nodes are ready."""
    ready, until = dict[str, Ready](), time.monotonic() + _READY_S
    with signals.between_steps(shared=True) as check:
        while len(ready) < len(names):
            event = connections.take(_STEP_S)
            check()
            if event is not None:
                ready[event.name] = _ready_of(event)
            elif time.monotonic() > until:
                late = min(set(names) - set(ready))
                raise NodeFailedError(f"node {late}: is not ready after {_READY_S:.0f} s")
    return ready


def _ready_of(event: Event) -> Ready:
    name, what = event
    if isinstance(what, Ready):
        return what
    reason = what.reason if isinstance(what, NodeEnded) else getattr(what, "message", repr(what))
    raise NodeFailedError(f"node {name}: cannot be started: {reason}")


def _peers(
    model: Model, ways: Ways, ready: Mapping[str, Ready], modes: Modes
) -> dict[str, dict[str, Peer]]:
    """Return for each node how it reaches the others."""
    everyone = {name: Peer(each.address, each.clock) for name, each in ready.items()}
    return dict.fromkeys(ready, everyone)


def _shaped_peers(
    model: Model, ways: Ways, ready: Mapping[str, Ready], modes: Modes
) -> dict[str, dict[str, Peer]]:
    """Join the nodes by links of the kernel; return for each node how it reaches the others."""
    links = shaped_links(model, modes.stretch, ways.names)
    pids = {name: each.pid for name, each in ready.items()}
    ports = {name: each.address[1] for name, each in ready.items()}
    found = namespaces.connect(links, pids, ports)
    return {
        name: {
            target: Peer(address, ready[target].clock)
            for target, address in found.get(name, {}).items()
        }
        for name in ready
    }


def _start(
    connections: Connections, peers: Mapping[str, dict[str, Peer]], modes: Modes
) -> ScenarioClock:
    """Start the clock of the scenario on all nodes."""
    origin_at = time.monotonic() + _LEAD_S
    for name, reached in peers.items():
        start = Start(origin_at=origin_at, stretch=modes.stretch, peers=reached)
        connections.send([name], start)
    return ScenarioClock(origin_at, modes.stretch)
