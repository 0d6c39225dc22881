"""Observations as vectors, for many epochs at once; named by ``scheduler.feature_names``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mecsim.arrays import Floats, Ints


class Seen(NamedTuple):
    """What is seen at B epochs of as many replicas of a scenario: one row each.

    For the fields see :class:`mecsim.scheduler.Observation`.
    """

    tasks: Floats
    """Number of tasks and their mean size factor; shape (B, 2)."""
    blocks: Floats
    """Cycles, parameter bytes and input bits of all blocks; shape (B, 3·M)."""
    rate_bps: Floats
    server_backlog_s: Floats
    device_backlog_s: Floats
    uplink_backlog_s: Floats
    downlink_backlog_s: Floats
    link_backlog_s: Floats
    battery_j: Floats
    access: Ints
    """Shape (B, D)."""
    link_source: Ints
    """The server that each link starts from; shape (L,)."""
    device: Ints | None
    """The device of each epoch's task, shape (B,), or None where an epoch is a whole slot."""


def features(seen: Seen) -> Floats:
    """Return B observations as vectors; shape (B, features)."""
    servers = seen.server_backlog_s.shape[1]
    of_devices = (
        seen.rate_bps,
        seen.device_backlog_s,
        seen.uplink_backlog_s,
        seen.downlink_backlog_s,
    )
    if seen.device is None:
        radio = [means_per_server(values, seen.access, servers) for values in of_devices]
        battery_j = np.add.reduce(seen.battery_j, axis=1, keepdims=True)
        radio.append(battery_j / seen.battery_j.shape[1])
    else:
        own = np.arange(len(seen.device)), seen.device
        columns = (*of_devices, seen.battery_j, seen.access + 1)
        radio = [np.asarray(values[own], dtype=np.float64)[:, None] for values in columns]
    source = np.broadcast_to(seen.link_source, seen.link_backlog_s.shape)
    links_out = _sums(seen.link_backlog_s, source, servers)
    return np.concatenate(
        [seen.tasks, seen.blocks, seen.server_backlog_s, links_out, *radio], axis=1
    )


def means_per_server(values: Floats, access: Ints, servers: int) -> Floats:
    """Return the means over the devices of every server, 0 where it has none; shape (B, N)."""
    devices = _sums(np.ones(values.shape), access, servers)
    return _sums(values, access, servers) / np.maximum(devices, 1)


def _sums(values: Floats, group: Ints, groups: int) -> Floats:
    """Return the sums of every row by group; shape (B, groups)."""
    rows = len(values)
    flat = (group + groups * np.arange(rows)[:, None]).ravel()
    sums = np.bincount(flat, weights=values.ravel(), minlength=rows * groups)
    return np.asarray(sums, dtype=np.float64).reshape(rows, groups)
