"""Which devices each server serves, how far they are, and how fast their radio is."""

from __future__ import annotations

from typing import Any

import numpy as np

from mecsim.model.model import Model
from mecsim.support.arrays import Floats


def radio_rates(model: Model) -> tuple[Floats, Floats]:
    """Return the least and the highest radio rate of every device without fading.

    Args:
        model: The resolved scenario.

    Returns:
        Bits per second; shape (D,) each.
    """
    return model.channel.bounds(model.gain)


def coverage_table(model: Model) -> list[dict[str, Any]]:
    """Return one row for each server about the devices that it serves.

    Args:
        model: The resolved scenario.

    Returns:
        The number of the server from 1, its position in metres, its number of devices, and the
        least and the greatest distance (m) and radio rate (bit/s, without fading) of these; None
        for a server without devices.
    """
    distance = np.linalg.norm(model.device_xy - model.server_xy[model.serving_server], axis=1)
    low, high = radio_rates(model)
    order = np.argsort(model.serving_server, kind="stable")
    ends = np.cumsum(np.bincount(model.serving_server, minlength=model.servers))
    rows = []
    for n, own in enumerate(np.split(order, ends[:-1])):
        row: dict[str, Any] = {"server": n + 1, "position_m": model.server_xy[n].tolist()}
        row["devices"] = len(own)
        row["distance_m"] = [distance[own].min(), distance[own].max()] if len(own) else None
        row["rate_bps"] = [low[own].min(), high[own].max()] if len(own) else None
        rows.append(row)
    return rows
