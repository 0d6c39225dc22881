"""Groups of devices and of servers: nodes of one kind each, in place of equal ones.

What a group does not give, it takes from `device`, `edge_server`, `radio` and `energy`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from mecsim.errors import ScenarioError
from mecsim.scenario.network import Battery, Cores, NodeType, Position, RadioRate
from mecsim.scenario.section import Capacity, Pair, Section, fault, one_of, ordered
from mecsim.scenario.units import (
    Hertz,
    Metres,
    NonNegative,
    NonNegativeWatts,
    PositiveMetres,
    Watts,
)
from mecsim.support.text import did_you_mean
from mecsim.support.validation import Whole, Within

MOST_SERVERS: Final = 100_000
MOST_DEVICES: Final = 10_000_000
MOST: Final = {"edge_servers": MOST_SERVERS, "devices": MOST_DEVICES}
"""Most nodes of all groups together."""

_NAME: Final = re.compile(r"(?!(es|device)\d*$)[A-Za-z][A-Za-z0-9_]*")
_MEMBER: Final = re.compile(r"[1-9][0-9]{0,7}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        allowed = "letters, digits and _, beginning with a letter; not es or device with a number"
        raise ValueError(f"should be a word of {allowed}, the names without groups")
    return text


GroupName: TypeAlias = Annotated[str, AfterValidator(_name)]


class _Group(Section):
    """What groups of devices and of servers have in common."""

    name: GroupName
    """Name of the group: a word of letters, digits and _. Its nodes are NAME.1, NAME.2, and so on;
    a single one is NAME."""
    count: Annotated[int, Within(1), Whole] = 1
    """Number of nodes."""
    type: NodeType | None = None
    """Whose measured service times the nodes have; by default ``device.type`` or
    ``edge_server.type``."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the group does not give."""
        given: dict[str, Any] = handler(self)
        return {key: value for key, value in given.items() if value is not None}

    def _refuse(self, key: str, *idle: str) -> None:
        """Refuse keys that have no effect next to another one."""
        for name in idle:
            if getattr(self, name) is not None:
                value = getattr(self, key)
                other = f"{key}: {str(value).lower()}" if isinstance(value, bool) else key
                raise fault((name,), f"has no effect next to {other}; leave one of them out")


class ServerGroup(_Group):
    """Servers of one kind."""

    radio: bool = True
    """Whether devices can be associated with these servers. Others, as in a cloud, are reached over
    wired links, and stand nowhere."""
    capacity: Capacity | None = None
    """F_n, cycles per second of each core; by default ``edge_server.capacity``."""
    cores: Cores | None = None
    """Number of cores of each server; by default ``edge_server.cores``."""
    coverage_radius: PositiveMetres | None = None
    """Largest distance of a device from its server in m; by default
    ``edge_server.coverage_radius``."""
    positions: tuple[Position, ...] | None = None
    """Position [x, y] of each server in m; by default the next places on the square grid."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.radio:
            self._refuse("radio", "coverage_radius", "positions")
        _one_each(self, ("capacity", "positions"))
        return self


class DeviceGroup(_Group):
    """Devices of one kind."""

    capacity: Capacity | None = None
    """f_d, cycles per second of a device; by default ``device.capacity``."""
    battery: Battery | None = None
    """Energy of each device at the start of a run in J, or ``unlimited``; by default
    ``device.battery``."""
    transmit_power: Watts | None = None
    """p, the transmit power of a device in W; by default ``radio.transmit_power``."""
    compute_power: NonNegativeWatts | None = None
    """Power in W of a device that computes, for measured service times without joules; by default
    ``device.compute_power``."""
    kappa: NonNegative | None = None
    """κ, the effective capacitance; by default ``energy.kappa``."""
    rate: RadioRate | None = None
    """R itself in bit/s, in place of the channel model: one rate, or ``{uniform: [low, high]}``; by
    default ``radio.rate``."""
    bandwidth: Hertz | None = None
    """B, the bandwidth of a channel in Hz; by default ``radio.bandwidth``."""
    fading: Literal["none", "rayleigh"] | None = None
    """Small-scale fading, drawn for every device and slot; by default ``radio.fading``."""
    distance: Pair[Metres] | None = None
    """Smallest and largest distance from a server in m; by default ``device.distance``."""
    servers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Groups of servers around which the devices are placed, in turn; by default all with radio."""
    positions: tuple[Position, ...] | None = None
    """Position [x, y] of each device in m; by default drawn by ``distance``."""

    @field_validator("distance", mode="after")
    @classmethod
    def _bounds(cls, value: Pair[float] | None) -> Pair[float] | None:
        return value and ordered(value)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.positions is not None:
            self._refuse("positions", "distance", "servers")
        if self.rate is not None:
            self._refuse("rate", "bandwidth", "fading")
        _one_each(self, ("capacity", "positions"))
        return self


def _one_each(group: _Group, keys: Sequence[str]) -> None:
    for key in keys:
        values = getattr(group, key)
        if isinstance(values, tuple) and len(values) != group.count:
            raise fault((key,), f"has {len(values)} entries; allowed: {group.count}, one each")


def _groups_shape(value: Any) -> str | None:
    if isinstance(value, dict):
        return None
    return "(groups)" if isinstance(value, list | tuple) else "(number)"


_WAYS: Final = one_of(_groups_shape, "a number or a list of groups")

Servers: TypeAlias = Annotated[
    Annotated[int, Within(1, MOST_SERVERS), Whole, Tag("(number)")]
    | Annotated[tuple[ServerGroup, ...], Field(min_length=1), Tag("(groups)")],
    _WAYS,
]
"""The number of equal servers, or groups of them."""

Devices: TypeAlias = Annotated[
    Annotated[int, Within(1, MOST_DEVICES), Whole, Tag("(number)")]
    | Annotated[tuple[DeviceGroup, ...], Field(min_length=1), Tag("(groups)")],
    _WAYS,
]
"""The number of equal devices, or groups of them."""


Nodes: TypeAlias = int | Sequence[ServerGroup] | Sequence[DeviceGroup]


def count(nodes: Nodes) -> int:
    """Return how many servers or devices there are."""
    return nodes if isinstance(nodes, int) else sum(group.count for group in nodes)


def names(nodes: Nodes, word: str, first: int = 1) -> list[str]:
    """Return the name of every server or device.

    Args:
        nodes: Their number, or the groups.
        word: What precedes the number of a node where there are no groups.
        first: The number of the first node there.

    Example:
        >>> names((ServerGroup(name="rack", count=2), ServerGroup(name="cloud")), "es")
        ['rack.1', 'rack.2', 'cloud']
    """
    if isinstance(nodes, int):
        return [f"{word}{number}" for number in range(first, first + nodes)]
    return [
        f"{group.name}.{k + 1}" if group.count > 1 else group.name
        for group in nodes
        for k in range(group.count)
    ]


def numbers(nodes: Nodes, wanted: int | str) -> range:
    """Return the numbers, from 0, of the nodes that a number from 1, GROUP or GROUP.k means.

    Raises:
        ValueError: There is no such node. The message says what is allowed.
    """
    every, groups = count(nodes), () if isinstance(nodes, int) else nodes
    if isinstance(wanted, int):
        if not 1 <= wanted <= every:
            raise ValueError(f"{wanted}; allowed: 1 to {every}")
        return range(wanted - 1, wanted)
    name, dot, member = wanted.partition(".")
    first = 0
    for group in groups:
        if group.name == name:
            if not dot:
                return range(first, first + group.count)
            if _MEMBER.fullmatch(member) and int(member) <= group.count:
                return range(first + int(member) - 1, first + int(member))
            raise ValueError(f"{wanted!r}; allowed: {name}, or {name}.1 to {name}.{group.count}")
        first += group.count
    known = [group.name for group in groups]
    by_name = f", or a group ({', '.join(known)})" if known else ""
    raise ValueError(f"{wanted!r}; {did_you_mean(name, known)}allowed: 1 to {every}{by_name}")


def numbers_at(path: str, nodes: Nodes, wanted: int | str, first: int) -> range:
    """Return the numbers, from 0, of the nodes that an entry means; see :func:`numbers`.

    Args:
        path: Key of the entry, for messages.
        nodes: Their number, or the groups.
        wanted: A number or a name.
        first: The number of the first node, where numbers do not begin with 1.

    Raises:
        ScenarioError: There is no such node.
    """
    last = first + count(nodes) - 1
    if isinstance(wanted, int) and not first <= wanted <= last:
        raise ScenarioError(f"{path}: {wanted}; allowed: {first} to {last}")
    try:
        return numbers(nodes, wanted + 1 - first if isinstance(wanted, int) else wanted)
    except ValueError as error:
        raise ScenarioError(f"{path}: {error}") from error


def members(path: str, nodes: Nodes, wanted: str | Sequence[int | str], first: int) -> list[int]:
    """Return the numbers, from 0, of all nodes that a list means, entry by entry, or ``all``.

    Raises:
        ScenarioError: There is no such node; the message begins with the path of the entry.
    """
    if wanted == "all":
        return list(range(count(nodes)))
    return [
        node
        for row, each in enumerate(wanted)
        for node in numbers_at(f"{path}.{row}", nodes, each, first)
    ]
