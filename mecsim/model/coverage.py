"""Which devices each server serves, how far they are, and how fast their radio is."""

from __future__ import annotations

from typing import Any

import numpy as np

from mecsim.model import equations, topology
from mecsim.model.model import Model
from mecsim.scenario.schema import UniformRate
from mecsim.support.arrays import Floats


def radio_rates(model: Model) -> tuple[Floats, Floats]:
    """Return the least and the highest radio rate of every device without fading.

    Args:
        model: The resolved scenario.

    Returns:
        Bits per second; shape (D,) each.
    """
    radio = model.scenario.radio
    if isinstance(radio.rate, UniformRate):
        low, high = radio.rate.uniform
    elif radio.rate is not None:
        low = high = radio.rate
    else:
        rates = equations.shannon_rate(
            radio.bandwidth, radio.transmit_power, model.gain, radio.noise_density
        )
        return rates, rates
    return np.full(model.devices, low), np.full(model.devices, high)


def coverage_table(model: Model) -> list[dict[str, Any]]:
    """Return one row for each server about the devices that it serves.

    Args:
        model: The resolved scenario.

    Returns:
        The number of the server from 1, its position in metres, its number of devices, and the
        least and the greatest distance (m) and radio rate (bit/s, without fading) of these; None
        for a server without devices.
    """
    spec, device = model.scenario.edge_server, model.scenario.device
    servers = topology.server_positions(spec, model.servers)
    devices = topology.device_positions(
        device, servers, spec.coverage_radius, model.devices, model.seed
    )
    distance = np.linalg.norm(devices - servers[model.serving_server], axis=1)
    low, high = radio_rates(model)
    order = np.argsort(model.serving_server, kind="stable")
    ends = np.cumsum(np.bincount(model.serving_server, minlength=model.servers))
    rows = []
    for n, own in enumerate(np.split(order, ends[:-1])):
        row: dict[str, Any] = {"server": n + 1, "position_m": servers[n].tolist()}
        row["devices"] = len(own)
        row["distance_m"] = [distance[own].min(), distance[own].max()] if len(own) else None
        row["rate_bps"] = [low[own].min(), high[own].max()] if len(own) else None
        rows.append(row)
    return rows
