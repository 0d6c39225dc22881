"""The testbed of a scenario: where its nodes run, and from which trace it was calibrated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, Field

from mecsim.scenario import groups
from mecsim.scenario.section import ExtendedSection, Section, fault
from mecsim.scenario.units import NonNegativeSeconds

_ADDRESS: Final = re.compile(r"([A-Za-z0-9_.-]{1,253})(?::([0-9]{1,5}))?")
_NUMBERS: Final = re.compile(r"[0-9.]+|0[xX].*")
"""What the operating system reads as numbers, ``0`` for all addresses among them."""
_BROADCAST: Final = IPv4Address("255.255.255.255")
_MOST_PORTS: Final = 65535


class HostAddress(NamedTuple):
    """Where a node listens."""

    host: str
    port: int
    """0 for any that is free."""


def host_address(text: str) -> HostAddress:
    """Read ``ADDRESS`` or ``ADDRESS:PORT``.

    Raises:
        ValueError: It is neither.

    Example:
        >>> host_address("10.0.0.7:9000")
        HostAddress(host='10.0.0.7', port=9000)
    """
    found = _ADDRESS.fullmatch(text)
    port = int(found[2] or 0) if found else 0
    if found is None or port > _MOST_PORTS or found[2] == "0":
        raise ValueError(f"should be ADDRESS or ADDRESS:PORT with a port up to {_MOST_PORTS}")
    if _NUMBERS.fullmatch(found[1]) and not _is_of_one_machine(found[1]):
        raise ValueError("should be the address of one machine, by which others reach it")
    return HostAddress(found[1], port)


def _is_of_one_machine(numbers: str) -> bool:
    try:
        address = IPv4Address(numbers)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or address == _BROADCAST)


def _checked(text: str) -> str:
    host_address(text)
    return text


Address: TypeAlias = Annotated[str, AfterValidator(_checked)]


class Calibrated(Section):
    """The measured trace from which a scenario was calibrated."""

    trace: str
    """Name of the file of the trace."""
    created_utc: str
    """When the trace was created, by which it is recognised."""
    until: NonNegativeSeconds
    """Release in s of the first task that was not used."""


class Testbed(ExtendedSection):
    """How ``mecsim testbed`` runs the scenario; simulations do not depend on it."""

    __test__: ClassVar[bool] = False  # no test of pytest, in spite of its name
    added_keys: ClassVar[tuple[str, ...]] = ("hosts", "on_node_failure", "calibrated")

    hosts: Annotated[Mapping[str, Address], Field(min_length=1)] | None = None
    """The address, or ``ADDRESS:PORT``, of the machine of a node or of all nodes of a group; by
    default all nodes run on this machine."""
    on_node_failure: Literal["stop", "continue"] = "stop"
    """What a run does when the process of a node ends: it stops, or continues without the node,
    whose tasks are lost."""
    calibrated: Calibrated | None = None
    """Where the numbers of the scenario come from, as ``mecsim calibrate`` writes it."""


def node_names(servers: groups.Servers, devices: groups.Devices) -> list[str]:
    """Return the names of all nodes: servers, then devices."""
    return groups.names(servers, "es") + groups.names(devices, "device", 0)


def nodes_named(name: str, nodes: list[str]) -> list[str]:
    """Return the names of the nodes that a name of a node or of a group means.

    Example:
        >>> nodes_named("rack", ["rack.1", "rack.2", "cloud"])
        ['rack.1', 'rack.2']
    """
    return [each for each in nodes if each == name or each.startswith(f"{name}.")]


def host_of(testbed: Testbed | None, node: str, nodes: list[str]) -> HostAddress | None:
    """Return the address of a node's machine; None if the scenario does not give it."""
    for name, address in (testbed.hosts or {} if testbed else {}).items():
        if node in nodes_named(name, nodes):
            return host_address(address)
    return None


def check_hosts(testbed: Testbed | None, servers: groups.Servers, devices: groups.Devices) -> None:
    """Raise pydantic's error for an address of no node, or of a port for several nodes."""
    if testbed is None or testbed.hosts is None:
        return
    nodes, ports = node_names(servers, devices), dict[HostAddress, str]()
    for name, address in testbed.hosts.items():
        keys, found = ("testbed", "hosts", name), nodes_named(name, nodes)
        if not found:
            allowed = f"allowed: a group, or a node such as {nodes[0]} or {nodes[-1]}"
            raise fault(keys, f"is the name of no node; {allowed}")
        if len(found) > 1 and host_address(address).port:
            problem = f"gives one port to {len(found)} nodes"
            raise fault(keys, f"{problem}; leave it out, or give each node an address")
        given = host_address(address)
        if given.port and ports.setdefault(given, name) != name:
            raise fault(keys, f"{address!r} is the port of {ports[given]} too; leave it out")
