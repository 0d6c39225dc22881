"""Start and end the nodes of a testbed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from mecsim.errors import NodeFailedError
from mecsim.model.model import Model
from mecsim.scenario.testbed import host_of
from mecsim.support import signals
from mecsim.support.files import as_temporary_error, temporary_folder
from mecsim.testbed import clock, namespaces, tcp
from mecsim.testbed.connections import Connections
from mecsim.testbed.hosts import Hosts
from mecsim.testbed.link_rates import shaped_links
from mecsim.testbed.messages import Peer, Ready, Start, Stop
from mecsim.testbed.modes import Modes
from mecsim.testbed.pool import Event, NodeEnded, ScenarioClock
from mecsim.testbed.settings import NodeConfig
from mecsim.testbed.synchronized import SynchronizedPool
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

    def there(self, name: str, at: float) -> float:
        """Return a reading of the clock of the controller as one of a node."""
        return at

    def measure(self) -> None:
        """Do nothing: there are no offsets."""

    def facts(self) -> dict[str, Any]:
        """Return nothing about clocks."""
        return {}


Control: TypeAlias = dict[Literal["unix", "tcp"], str | tuple[str, int]]
Pool: TypeAlias = LocalPool | SynchronizedPool


@contextlib.contextmanager
def nodes(
    model: Model, ways: Ways, host: Hosts, modes: Modes
) -> Iterator[tuple[Pool, ScenarioClock]]:
    """Start all nodes and the clock of the scenario; end them on exit.

    Args:
        model: The resolved scenario.
        ways: Its nodes.
        host: The hosts, which have built the blocks.
        modes: How nodes and links are made.

    Yields:
        The nodes, and the clock, which starts shortly.

    Raises:
        NodeFailedError: A node cannot be started.
    """
    token, stations = secrets.token_hex(16), ways.stations()
    with contextlib.ExitStack() as stack:
        folder = None
        if here := host.address:
            listener = stack.enter_context(tcp.listen(here, len(ways.names)))
            control: Control = {"tcp": listener.getsockname()[:2]}
        else:
            folder = stack.enter_context(temporary_folder())
            path = folder / "control"  # only this user can enter the folder
            listener = stack.enter_context(_unix_listener(path, len(ways.names)))
            control = {"unix": str(path)}
        connections = Connections(listener, token, ways.names, host.reason)
        stack.callback(connections.close)
        stack.callback(connections.send, ways.names, Stop())
        for name in ways.names:
            config = NodeConfig(
                name=name,
                control=control,
                token=token,
                bind=_bind(model, ways, name, modes, here or _LOCAL),
                nodes=modes.nodes,
                links=modes.links,
                netns=modes.links == "tbf",
                stations=tuple(stations[name]),
            )
            host.fork(config)
        ready = _ready(connections, ways.names, host)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)  # nothing is left if we are killed
        peers = _shaped_peers if modes.links == "tbf" else _peers
        pool: Pool = LocalPool(connections)
        if here:
            pool = SynchronizedPool(connections, ready, clock.identity())
        pool.measure()
        yield pool, _start(pool, peers(model, ways, ready, modes), modes)


def _unix_listener(path: Path, backlog: int) -> socket.socket:
    """Listen at a path. Raises ``OutputError``."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with as_temporary_error("a socket"):
            listener.bind(str(path))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _bind(model: Model, ways: Ways, name: str, modes: Modes, default: str) -> tuple[str, int]:
    """Return the address at which a node listens."""
    if modes.links == "tbf":
        return _ANY, 0  # its namespace has no other network
    found = host_of(model.scenario.testbed, name, ways.names)
    return (default, 0) if found is None else (found.host, found.port)


def _ready(connections: Connections, names: Sequence[str], host: Hosts) -> dict[str, Ready]:
    """Wait until all nodes are ready."""
    ready, until = dict[str, Ready](), time.monotonic() + _READY_S
    with signals.between_steps(shared=True) as check:
        while len(ready) < len(names):
            event = connections.take(_STEP_S)
            check()
            if event is not None:
                ready[event.name] = _ready_of(event)
            elif time.monotonic() > until:
                raise NodeFailedError(_late(min(set(names) - set(ready)), host))
    return ready


def _late(name: str, host: Hosts) -> str:
    problem = f"node {name}: is not ready after {_READY_S:.0f} s"
    if reason := host.reason(name):
        problem += f"; it {reason}"
    if host.address:
        problem += f". Try: let its machine connect to {host.address} (firewall)"
    return problem


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


def _start(pool: Pool, peers: Mapping[str, dict[str, Peer]], modes: Modes) -> ScenarioClock:
    """Start the clock of the scenario on all nodes."""
    origin_at = time.monotonic() + _LEAD_S
    for name, reached in peers.items():
        there_at = pool.there(name, origin_at)
        start = Start(origin_at=there_at, stretch=modes.stretch, peers=reached)
        pool.send([name], start)
    return ScenarioClock(origin_at, modes.stretch)
