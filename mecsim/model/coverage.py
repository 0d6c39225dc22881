"""What a resolved network looks like: devices of each server, links, times when it is idle."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from mecsim.model.empty_network import EmptyNetwork, Work, costs_to_go
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints


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
        The number of the server from 1, its name, its position in metres (None without a radio),
        its number of devices, their numbers by group, and the least and the greatest distance (m)
        and radio rate (bit/s, without fading) of these; None for a server without devices.
    """
    distance = np.linalg.norm(model.device_xy - model.server_xy[model.serving_server], axis=1)
    low, high = radio_rates(model)
    order = np.argsort(model.serving_server, kind="stable")
    ends = np.cumsum(np.bincount(model.serving_server, minlength=model.servers))
    rows = []
    names = model.server_names("ES ")
    for n, own in enumerate(np.split(order, ends[:-1])):
        row: dict[str, Any] = {"server": n + 1, "name": names[n]}
        row["position_m"] = model.server_xy[n].tolist() if model.radio[n] else None
        row["devices"] = len(own)
        row["members"] = _members(model, own)
        row["distance_m"] = [distance[own].min(), distance[own].max()] if len(own) else None
        row["rate_bps"] = [low[own].min(), high[own].max()] if len(own) else None
        rows.append(row)
    return rows


def _members(model: Model, devices: Ints) -> dict[str, list[int]]:
    """Return the numbers that some devices have in their groups: from 1, or 0 without groups."""
    if not model.device_groups:
        return {"device": devices.tolist()}
    first = np.searchsorted(model.device_group, np.arange(len(model.device_groups)))
    return {
        name: (devices[model.device_group[devices] == group] - first[group] + 1).tolist()
        for group, name in enumerate(model.device_groups)
        if (model.device_group[devices] == group).any()
    }


def link_table(model: Model) -> list[dict[str, Any]]:
    """Return one row for each directed wired link: its ends, rate (bit/s) and latency (s)."""
    names = model.server_names("ES ")
    links = model.links
    ends = zip(links.source.tolist(), links.target.tolist(), strict=True)
    return [
        {"from": names[source], "to": names[target], "rate_bps": rate_bps, "latency_s": latency_s}
        for (source, target), rate_bps, latency_s in zip(
            ends, links.rate_bps.tolist(), links.latency_s.tolist(), strict=True
        )
    ]


MOST_COSTS: Final = 20_000_000
"""Most delays of a block from place to place that are computed for a table."""


def place_times(model: Model) -> list[dict[str, Any]]:
    """Return how long a task takes on an empty network, by the place of its blocks.

    Tasks have size factor 1, and the radio does not fade.

    Returns:
        A row for each place, for a task whose blocks are all there, and one for the best placement:
        the name, and by group of devices the least and the greatest time (s). No rows where a
        network is so large that they would take long. With several classes of tasks, a row names
        its class; where tasks have a deadline, it has that, too (s from the release).
    """
    if len(model.classes) > 1:
        return [
            {"class": each.name} | row
            for each in model.classes
            for row in place_times(model.of_class(each.number))
        ]
    network, places = EmptyNetwork(model), model.servers + 1
    if model.blocks * places**2 * model.devices > MOST_COSTS:
        return []
    low, high = (_times(model, network, rate_bps) for rate_bps in reversed(radio_rates(model)))
    groups = model.device_groups or ("devices",)
    names = ["device", *model.server_names("ES "), "best placement"]
    (task_class,) = model.classes
    due = {"deadline_s": task_class.deadline_s} if math.isfinite(task_class.deadline_s) else {}
    return [
        due
        | {
            "place": name,
            "seconds": {
                group: [least[own].min(), most[own].max()]
                for number, group in enumerate(groups)
                if (own := model.device_group == number).any()
            },
        }
        for name, least, most in zip(names, low, high, strict=True)
    ]


def _times(model: Model, network: EmptyNetwork, rate_bps: Floats) -> Floats:
    """Return the time of a task of each device at each place and at the best; shape (N + 2, D)."""
    size = np.ones((1, model.devices))
    work = Work(np.arange(model.devices), model.serving_server, rate_bps, size)
    found = np.empty((model.servers + 2, model.devices))
    stay = np.arange(model.servers + 1)
    for piece in network.pieces(len(work)):
        delays = network.delays(work[piece])
        found[:-1, piece] = delays[0, 0] + delays[1:, stay, stay].sum(axis=0)
        found[-1, piece] = costs_to_go(delays)[0, 0]
    return found
