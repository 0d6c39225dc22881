"""Types of nodes: whose measured service times a server or a device has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mecsim.dnn.cuts import Blocks
from mecsim.errors import ScenarioError
from mecsim.model.nodes import device_groups, server_groups
from mecsim.scenario.document import FORMULA
from mecsim.scenario.schema import DeviceGroup, Scenario, ServerGroup
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.support.text import did_you_mean


@dataclass(frozen=True)
class NodeType:
    """A type of nodes, with what was measured for B blocks of tasks of size factor 1."""

    name: str
    seconds: Floats | None = None
    """Service time of each block, shape (B,); None where it follows from cycles and capacity."""
    joules: Floats | None = None
    """Energy of computing each block at a device, shape (B,); None where it was not measured."""

    @property
    def takes_power(self) -> bool:
        """Whether the energy of computing is service time · power: no energy was measured."""
        return self.seconds is not None and self.joules is None

    def of_blocks(self, rows: slice) -> NodeType:
        """Return the type with some of the blocks only."""
        columns = (self.seconds, self.joules)
        return NodeType(self.name, *(None if each is None else each[rows] for each in columns))


BY_FORMULA = NodeType(FORMULA)
"""Nodes whose service times are c_m / f (Eqs. 3 and 6)."""


class _Nodes(NamedTuple):
    """Nodes that a scenario describes together."""

    key: str
    type: str | None
    number: int
    compute_power_w: float | None
    """Of devices."""
    power_key: str
    """The section or the group that gives this power."""


def node_types(scenario: Scenario, blocks: Sequence[Blocks]) -> tuple[tuple[NodeType, ...], Ints]:
    """Return the types of the nodes of a scenario.

    Args:
        scenario: A valid scenario.
        blocks: The blocks of every class of tasks.

    Returns:
        The types, and the type of each server and then of each device as an index into them;
        shape (N + D,).

    Raises:
        ScenarioError: A node has no type, one that was not measured, or one without energy.
    """
    if not scenario.measured:
        count = scenario.server_count + scenario.device_count
        return (BY_FORMULA,), np.zeros(count, dtype=np.int64)
    devices = list(_described(scenario, "device", device_groups(scenario)))
    every = [*_described(scenario, "edge_server", server_groups(scenario)), *devices]
    known = _known(scenario, blocks)
    names = [_checked(each, known) for each in every]
    found = {name: _node_type(name, blocks) for name in names}
    _check_energy(devices, found)
    numbers = {name: number for number, name in enumerate(found)}
    node_type = np.repeat([numbers[name] for name in names], [each.number for each in every])
    return tuple(found.values()), node_type


def _described(
    scenario: Scenario, section: str, groups: Sequence[ServerGroup | DeviceGroup]
) -> Iterator[_Nodes]:
    for number, group in enumerate(groups):
        key = f"{section}s.{number}" if group.name else section
        power = getattr(group, "compute_power", None)
        power_key = section if power is None else key
        power_w = scenario.device.compute_power if power is None else power
        yield _Nodes(key, scenario.type_of(group), group.count, power_w, power_key)


def _known(scenario: Scenario, blocks: Sequence[Blocks]) -> list[str]:
    """Return the types that were measured for all classes of tasks."""
    for number, (of_class, each) in enumerate(zip(scenario.classes, blocks, strict=True)):
        if not each.service_ms:
            with scenario.in_class(number):
                raise ScenarioError(
                    f"dnn.service_times: {of_class.dnn.model} has no measured times. Try: "
                    "service_times: FILE.json, which `mecsim profile --measure` writes, or "
                    f"service_times: {FORMULA}"
                )
    return [
        name for name in blocks[0].service_ms if all(name in each.service_ms for each in blocks)
    ]


def _checked(nodes: _Nodes, known: Sequence[str]) -> str:
    """Return the name of the type of some nodes."""
    allowed = ", ".join([*known, f"{FORMULA} (with capacity)"])
    if nodes.type is None:
        raise ScenarioError(
            f"{nodes.key}.type: is missing; measured service times need it; allowed: {allowed}"
        )
    if nodes.type not in (*known, FORMULA):
        hint = did_you_mean(nodes.type, known)
        raise ScenarioError(
            f"{nodes.key}.type: {nodes.type!r} was not measured; {hint}allowed: {allowed}"
        )
    return nodes.type


def _node_type(name: str, blocks: Sequence[Blocks]) -> NodeType:
    if name == FORMULA:
        if any(np.isnan(each.flops).any() for each in blocks):
            raise ScenarioError(f"dnn.model.flops: is missing; nodes of type {FORMULA} need it")
        return BY_FORMULA
    seconds = np.concatenate([each.service_ms[name] for each in blocks]) / 1000.0
    joules = None
    if all(name in each.joules for each in blocks):
        joules = read_only(np.concatenate([each.joules[name] for each in blocks]))
    return NodeType(name, read_only(seconds), joules)


def _check_energy(devices: Sequence[_Nodes], found: dict[str, NodeType]) -> None:
    """Raise unless the energy of computing is known at all devices, and none is given in vain."""
    used = set()
    for each in devices:
        if found[each.type or FORMULA].takes_power:
            used.add(each.power_key)
            if each.compute_power_w is None:
                raise ScenarioError(
                    f"{each.key}.compute_power: is missing; no joules were measured at type "
                    f"{each.type!r}, so this power gives the energy of computing; 0 W leaves it out"
                )
    for each in devices:
        if each.compute_power_w is not None and each.power_key not in used:
            raise ScenarioError(
                f"{each.power_key}.compute_power: {each.compute_power_w:g} has no effect: joules "
                f"were measured at type {each.type!r}; leave it out"
            )
