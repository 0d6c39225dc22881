"""The servers and devices of a scenario: a value for each, given or drawn.

What a group does not give, it takes from the sections of the scenario. Without groups, all servers
are one group that gives nothing, and so are all devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import ScenarioError
from mecsim.model import paths, topology
from mecsim.model.channel import Channel
from mecsim.model.mobility import mobility
from mecsim.model.random_streams import Stream
from mecsim.scenario.document import FORMULA
from mecsim.scenario.groups import names
from mecsim.scenario.network import RadioRate
from mecsim.scenario.schema import (
    Capacity,
    DeviceGroup,
    Repeat,
    Scenario,
    ServerGroup,
    Uniform,
    UniformRate,
)
from mecsim.support.arrays import Bools, Floats, Ints

_Value = TypeVar("_Value")
_Groups: TypeAlias = Sequence[ServerGroup] | Sequence[DeviceGroup]


class Nodes:
    """The servers and devices of a scenario, and what a seed draws about them."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._servers, self._devices = server_groups(scenario), device_groups(scenario)
        usual_m = scenario.edge_server.coverage_radius
        radius_m = [float(_or(group.coverage_radius, usual_m)) for group in self._servers]
        self._coverage_m = _each(self._servers, radius_m)
        self._server_xy = _server_positions(scenario, self._servers)
        self._server_capacities = [_capacity(scenario, group) for group in self._servers]
        self._device_capacities = [_capacity(scenario, group) for group in self._devices]

    def given(self) -> dict[str, Any]:
        """Return the fields of a model about its servers and devices that no seed changes."""
        scenario, servers, devices = self._scenario, self._servers, self._devices
        batteries = [_or(group.battery, scenario.device.battery) for group in devices]
        battery = [np.inf if joules == "unlimited" else float(joules) for joules in batteries]
        return {
            "cores": _each(servers, [_or(g.cores, scenario.edge_server.cores) for g in servers]),
            "radio": _each(servers, [group.radio for group in servers]),
            "server_xy": self._server_xy,
            "channel": _channel(scenario, devices),
            "battery_j": _each(devices, battery),
            "kappa": _each(devices, [float(_or(g.kappa, scenario.energy.kappa)) for g in devices]),
            "compute_power_w": _each(devices, [_compute_power(scenario, g) for g in devices]),
            "server_group": _each(servers, range(len(servers))),
            "device_group": _each(devices, range(len(devices))),
            "server_groups": tuple(group.name for group in servers if group.name),
            "device_groups": tuple(group.name for group in devices if group.name),
        }

    def drawn(self, seed: int) -> dict[str, Any]:
        """Return the fields of a model about its servers and devices that depend on the seed.

        Raises:
            ScenarioError: A device is, or may be, out of coverage, or its path gain is too small.
        """
        scenario, server_xy = self._scenario, self._server_xy
        standing = paths.Servers(server_xy, self._coverage_m)
        moving = paths.paths(scenario, seed, standing)
        placed = np.ones(scenario.device_count, dtype=np.bool_)
        if moving is not None:
            placed[moving.device] = False
        device_xy = self._device_positions(placed, seed)
        if moving is not None:
            device_xy[moving.device] = moving.xy_at(0.0)
        serving_server, gain = topology.associate(
            device_xy, server_xy, self._coverage_m, scenario.radio, self._named
        )
        server_hz, device_hz = self._capacities(seed)
        return {
            "server_hz": server_hz,
            "device_hz": device_hz,
            "device_xy": device_xy,
            "serving_server": serving_server,
            "gain": gain,
            "mobility": moving and mobility(scenario, moving, standing, serving_server),
        }

    def _device_positions(self, placed: Bools, seed: int) -> Floats:
        """Return the positions of devices: given, or in rings around servers in turn; shape (D, 2).

        Groups of which no device is to be ``placed`` are left out: paths say where these start.
        """
        scenario, count = self._scenario, len(placed)
        draws = Stream(seed, "positions").uniform(0, np.array([2 * count])).reshape(-1, 2)
        found, first = np.empty((count, 2)), 0
        for number, group in enumerate(self._devices):
            rows = slice(first, first + group.count)
            positions = _or(group.positions, scenario.device.positions)
            if not placed[rows].any():
                found[rows] = 0.0
            elif positions is not None:
                found[rows] = positions
            else:
                distance_m = _or(group.distance, scenario.device.distance)
                around = _around(self._servers, group)
                key = "device" if group.distance is None else f"devices.{number}"
                of_group = f" of {group.name}" if group.name else ""
                _check_ring(key, of_group, distance_m[1], float(self._coverage_m[around].min()))
                centre = self._server_xy[around[np.arange(group.count) % len(around)]]
                found[rows] = topology.ring_positions(distance_m, centre, draws[rows])
            first += group.count
        return found

    def _named(self, device: int) -> str:
        if isinstance(self._scenario.devices, int):
            return f"device: device {device}"
        return f"devices: {names(self._scenario.devices, 'device')[device]}"

    def _capacities(self, seed: int) -> tuple[Floats, Floats]:
        """Return cycles per second of each core of every server and of every device."""
        of_servers, of_devices = self._server_capacities, self._device_capacities
        n, d = self._scenario.server_count, self._scenario.device_count
        draws = Stream(seed, "capacities").uniform(0, np.array([n + d]))
        used = n if any(isinstance(capacity, Uniform) for capacity in of_servers) else 0
        servers = _spread(self._servers, of_servers, draws)
        return servers, _spread(self._devices, of_devices, draws[used:])


def server_groups(scenario: Scenario) -> Sequence[ServerGroup]:
    """Return the groups of servers: one that gives nothing where the scenario names none."""
    nodes = scenario.edge_servers
    return [ServerGroup.model_construct(name="", count=nodes)] if isinstance(nodes, int) else nodes


def device_groups(scenario: Scenario) -> Sequence[DeviceGroup]:
    """Return the groups of devices: one that gives nothing where the scenario names none."""
    nodes = scenario.devices
    return [DeviceGroup.model_construct(name="", count=nodes)] if isinstance(nodes, int) else nodes


def _or(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value


def _each(groups: _Groups, values: Sequence[Any]) -> NDArray[Any]:
    """Return the value of each node, given that of each group."""
    return np.repeat(np.array(values), [group.count for group in groups])


def _compute_power(scenario: Scenario, group: DeviceGroup) -> float:
    power = _or(group.compute_power, scenario.device.compute_power)
    return np.nan if power is None else power


def _channel(scenario: Scenario, devices: Sequence[DeviceGroup]) -> Channel:
    radio = scenario.radio
    rates = [_or(group.rate, radio.rate) for group in devices]
    bounds = [_bounds(rate) for rate in rates]
    fades = [
        rate is None and _or(group.fading, radio.fading) == "rayleigh"
        for group, rate in zip(devices, rates, strict=True)
    ]
    return Channel(
        bandwidth_hz=_each(devices, [float(_or(g.bandwidth, radio.bandwidth)) for g in devices]),
        power_w=_each(
            devices, [float(_or(g.transmit_power, radio.transmit_power)) for g in devices]
        ),
        noise_w_per_hz=radio.noise_density,
        fades=_each(devices, fades),
        low_bps=_each(devices, [low for low, _ in bounds]),
        high_bps=_each(devices, [high for _, high in bounds]),
        redrawn=_each(devices, [isinstance(r, UniformRate) and r.redraw == "slot" for r in rates]),
    )


def _bounds(rate: RadioRate | None) -> tuple[float, float]:
    """Return the bounds of a given rate, NaN where the rate follows from the channel.

    It does not change over time: see :func:`mecsim.model.over_time.with_nominal`.
    """
    if isinstance(rate, UniformRate):
        return rate.uniform
    return (rate, rate) if isinstance(rate, float) else (np.nan, np.nan)


def _server_positions(scenario: Scenario, servers: Sequence[ServerGroup]) -> Floats:
    """Return the positions of servers, NaN for those without a radio; shape (N, 2).

    Those whose positions are not given stand on one square grid, in order.
    """
    of_groups = [_or(group.positions, scenario.edge_server.positions) for group in servers]
    on_grid = [g.radio and given is None for g, given in zip(servers, of_groups, strict=True)]
    standing = sum(g.count for g, free in zip(servers, on_grid, strict=True) if free)
    grid = topology.grid_positions(scenario.edge_server.spacing, standing) if standing else None
    found, used = np.full((scenario.server_count, 2), np.nan), 0
    first = 0
    for group, positions, free in zip(servers, of_groups, on_grid, strict=True):
        rows = slice(first, first + group.count)
        if free and grid is not None:
            found[rows], used = grid[used : used + group.count], used + group.count
        elif group.radio and positions is not None:
            found[rows] = positions
        first += group.count
    return found


def _around(servers: Sequence[ServerGroup], devices: DeviceGroup) -> Ints:
    """Return the numbers of the servers around which a group of devices is placed."""
    chosen = [g.radio and (devices.servers is None or g.name in devices.servers) for g in servers]
    return np.flatnonzero(_each(servers, chosen))


def _check_ring(key: str, of_group: str, far_m: float, coverage_m: float) -> None:
    if far_m > coverage_m * topology.ROUNDING:
        raise ScenarioError(
            f"{key}.distance: reaches {far_m:g} m, and a device{of_group} may be placed at any "
            f"distance up to that from its server; allowed: at most coverage_radius = "
            f"{coverage_m:g} m"
        )


def _capacity(scenario: Scenario, group: ServerGroup | DeviceGroup) -> Capacity:
    """Return the capacity of a group; NaN where its service times are measured."""
    if scenario.type_of(group) != FORMULA:
        return np.nan
    return _or(group.capacity, scenario.section_of(group).capacity)


def _spread(groups: _Groups, capacities: Sequence[Capacity], draws: Floats) -> Floats:
    """Return the capacity of each node; node n uses draw n if its capacity is drawn."""
    found: list[Floats] = []
    first = 0
    for group, capacity in zip(groups, capacities, strict=True):
        if isinstance(capacity, Uniform):
            low, high = capacity.uniform
            found.append(low + (high - low) * draws[first : first + group.count])
        else:
            values = capacity.repeat if isinstance(capacity, Repeat) else capacity
            found.append(np.resize(np.array(values, dtype=np.float64), group.count))
        first += group.count
    return np.concatenate(found)
