"""Links between nodes that the kernel shapes: network namespaces, veth pairs, token buckets.

A node moves itself into a namespace without a name, and the controller joins nodes that exchange
maps by one veth pair for each direction. Namespaces and all in them vanish with the last process
inside, so nothing needs to be removed, however the testbed ends.

Each direction has a veth pair whose way back is not shaped: acknowledgements of TCP would otherwise
wait behind maps of the other direction.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, NamedTuple

from mecsim.errors import InputError, NodeFailedError
from mecsim.testbed.messages import Address
from mecsim.testbed.shaping import ShapedLink, bucket_bytes

NETWORK: Final = IPv4Network("198.18.0.0/15")
"""Addresses reserved for tests of networks; each veth pair gets four of them."""
MOST_LINKS: Final = NETWORK.num_addresses // 4
QUEUE_BYTES: Final = 2**26
"""Queue of a link, longer than what a socket sends ahead, so that no packet is dropped."""
PROGRAMS: Final = ("ip", "tc", "nsenter")
_STATUS: Final = Path("/proc/self/status")
_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_GET_FLAGS: Final = 0x8913  # SIOCGIFFLAGS
_SET_FLAGS: Final = 0x8914  # SIOCSIFFLAGS
_UP: Final = 1  # IFF_UP


def check_machine() -> None:
    """Raise `InputError` if this machine or user cannot shape links."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise _refused(
            f"{', '.join(missing)} not found", "the packages iproute2 and util-linux of Linux"
        )
    lacking = [name for name, bit in _CAPABILITIES.items() if not _effective() >> bit & 1]
    if lacking:
        raise _refused(f"the process lacks {' and '.join(lacking)}", "root with all capabilities")


def _refused(problem: str, expected: str) -> InputError:
    return InputError(f"--links tbf: {problem}. Expected: {expected}. Try: --links pacing")


def _effective() -> int:
    """Return the effective capabilities of this process as bits."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text("utf-8").splitlines():
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def enter() -> None:
    """Move this process into a new network namespace that has only the loopback interface.

    Call it before any thread or socket is made.

    Raises:
        OSError: If the process may not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace: {os.strerror(number)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sH14x", b"lo", 0))
        _, up = struct.unpack("16sH14x", flags)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", up | _UP))


def connect(
    links: Sequence[ShapedLink], pids: Mapping[str, int], ports: Mapping[str, int]
) -> dict[str, dict[str, Address]]:
    """Join nodes by links that the kernel shapes.

    Args:
        links: The directed links; no two with the same ends.
        pids: Process of every node; it has called `enter`.
        ports: Port on which every node listens, on all addresses.

    Returns:
        For each sending node the addresses of the nodes to which it has links.

    Raises:
        InputError: If the kernel refuses, or a process has no namespace.
        NodeFailedError: If a process has ended.
    """
    if len(links) > MOST_LINKS:
        raise _refused(f"{len(links):,} directed links", f"at most {MOST_LINKS:,}")
    with contextlib.ExitStack() as opened:
        namespaces = {name: opened.enter_context(_namespace(name, pids[name])) for name in pids}
        batches = _Batches(namespaces)
        addresses: dict[str, dict[str, Address]] = defaultdict(dict)
        for number, link in enumerate(links):
            host = batches.add(number, link)
            addresses[link.source][link.target] = (host, ports[link.target])
        batches.run()
    return dict(addresses)


@contextlib.contextmanager
def _namespace(name: str, pid: int) -> Iterator[int]:
    """Open the namespace of a node. An open one is right even if the number is used again."""
    try:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NodeFailedError(f"node {name}: has ended before its links were made") from error
    try:
        if os.fstat(descriptor).st_ino == os.stat("/proc/self/ns/net").st_ino:  # noqa: PTH116
            raise InputError(f"--links tbf: node {name} has no network namespace")
        yield descriptor
    finally:
        os.close(descriptor)


class _End(NamedTuple):
    """One end of a veth pair."""

    node: str
    device: str
    address: IPv4Address
    mac: str


class _Batches:
    """Commands for `ip` and `tc`, few processes for all links."""

    def __init__(self, namespaces: Mapping[str, int]) -> None:
        """Take the open namespace of every node."""
        self._namespaces = namespaces
        self._pairs: list[str] = []
        self._ip: dict[str, list[str]] = defaultdict(list)
        self._tc: dict[str, list[str]] = defaultdict(list)

    def add(self, number: int, link: ShapedLink) -> str:
        """Add the commands for a link; return the address of its target."""
        first = int(NETWORK.network_address) + 4 * number
        source, target = (
            _End(link.source, f"out{number}", IPv4Address(first + 1), _mac(0, number)),
            _End(link.target, f"in{number}", IPv4Address(first + 2), _mac(1, number)),
        )
        self._pairs.append(f"link add {self._made(source)} type veth peer {self._made(target)}")
        for end, other in ((source, target), (target, source)):
            self._ip[end.node] += [
                f"link set dev {end.device} addrgenmode none",  # no packets of IPv6
                f"addr add {end.address}/30 dev {end.device}",
                f"link set dev {end.device} up",
                f"neigh replace {other.address} lladdr {other.mac} nud permanent dev {end.device}",
            ]
        self._tc[link.source].append(
            f"qdisc add dev {source.device} root tbf rate {round(link.bytes_per_s)}bps "
            f"burst {bucket_bytes(link.bytes_per_s)} limit {QUEUE_BYTES}"
        )
        return str(target.address)

    def _made(self, end: _End) -> str:
        namespace = f"/proc/self/fd/{self._namespaces[end.node]}"
        return f"name {end.device} address {end.mac} netns {namespace}"

    def run(self) -> None:
        """Run the commands: all pairs, then the rest in each namespace."""
        self._run(("ip",), self._pairs)
        for program, commands in (("ip", self._ip), ("tc", self._tc)):
            for node, lines in commands.items():
                inside = ("nsenter", f"--net=/proc/self/fd/{self._namespaces[node]}", program)
                self._run(inside, lines)

    def _run(self, command: tuple[str, ...], lines: Sequence[str]) -> None:
        try:
            subprocess.run(
                [*command, "-batch", "-"],
                input="\n".join(lines) + "\n",
                text=True,
                check=True,
                capture_output=True,
                pass_fds=tuple(self._namespaces.values()),
                start_new_session=True,
            )
        except OSError as error:
            raise _refused(f"{command[0]}: {error.strerror}", "a command that runs") from error
        except subprocess.CalledProcessError as error:
            said = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
            expected = "a kernel that has network namespaces, veth and tbf"
            raise _refused(f"{command[-1]}: {said}", expected) from error


def _mac(end: int, number: int) -> str:
    """Return an address of the range for local use."""
    return ":".join(f"{byte:02x}" for byte in (2, end, *number.to_bytes(4, "big")))
