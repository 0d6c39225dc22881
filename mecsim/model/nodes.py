"""The servers and devices of a scenario: a value for each, drawn or given."""

from __future__ import annotations

from typing import Any

import numpy as np

from mecsim.model import topology
from mecsim.model.channel import Channel
from mecsim.model.random_streams import Stream
from mecsim.scenario.schema import Capacity, Repeat, Scenario, Uniform, UniformRate
from mecsim.support.arrays import Floats


def given(scenario: Scenario) -> dict[str, Any]:
    """Return the fields of a model about its servers and devices that no seed changes."""
    servers, devices = scenario.edge_servers, scenario.devices
    battery = scenario.device.battery
    return {
        "cores": np.full(servers, scenario.edge_server.cores),
        "radio": np.ones(servers, dtype=np.bool_),
        "channel": _channel(scenario),
        "battery_j": np.full(devices, np.inf if battery == "unlimited" else battery),
        "kappa": np.full(devices, scenario.energy.kappa),
        "server_group": np.zeros(servers, dtype=np.int64),
        "device_group": np.zeros(devices, dtype=np.int64),
        "server_groups": (),
        "device_groups": (),
    }


def _channel(scenario: Scenario) -> Channel:
    radio, devices = scenario.radio, scenario.devices
    bounds, redrawn = (np.nan, np.nan), False
    if isinstance(radio.rate, UniformRate):
        bounds, redrawn = radio.rate.uniform, radio.rate.redraw == "slot"
    elif radio.rate is not None:
        bounds = radio.rate, radio.rate
    return Channel(
        bandwidth_hz=np.full(devices, radio.bandwidth),
        power_w=np.full(devices, radio.transmit_power),
        noise_w_per_hz=radio.noise_density,
        fades=np.full(devices, radio.fading == "rayleigh"),
        low_bps=np.full(devices, bounds[0]),
        high_bps=np.full(devices, bounds[1]),
        redrawn=np.full(devices, redrawn),
    )


def drawn(scenario: Scenario, seed: int) -> dict[str, Any]:
    """Return the fields of a model about its servers and devices that depend on the seed."""
    servers = topology.server_positions(scenario.edge_server, scenario.edge_servers)
    coverage = scenario.edge_server.coverage_radius
    devices = topology.device_positions(scenario.device, servers, coverage, scenario.devices, seed)
    serving_server, gain = topology.associate(devices, servers, coverage, scenario.radio)
    draws = Stream(seed, "capacities").uniform(0, np.array([len(servers) + len(devices)]))
    uniform = len(servers) if isinstance(scenario.edge_server.capacity, Uniform) else 0
    return {
        "server_hz": _spread(scenario.edge_server.capacity, len(servers), draws),
        "device_hz": _spread(scenario.device.capacity, len(devices), draws[uniform:]),
        "server_xy": servers,
        "device_xy": devices,
        "serving_server": serving_server,
        "gain": gain,
    }


def _spread(capacity: Capacity, count: int, draws: Floats) -> Floats:
    if isinstance(capacity, Uniform):
        low, high = capacity.uniform
        return low + (high - low) * draws[:count]
    values = capacity.repeat if isinstance(capacity, Repeat) else capacity
    return np.resize(np.array(values, dtype=np.float64), count)
