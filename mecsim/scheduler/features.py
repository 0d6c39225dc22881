"""Observations as vectors, for many epochs at once; see ``names_of_features`` for their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled


class ObservationTable(NamedTuple):
    """What schedulers see at B epochs of one scenario: a row each.

    For the fields see :class:`mecsim.scheduler.observation.Observation`. Arrays are C-contiguous
    and writable, so that numba compiles one specialisation.
    """

    tasks: Floats
    """Number of tasks and their mean size factor; shape (B, 2)."""
    blocks: Floats
    """Cycles (or mean service times), parameter bytes and input bits of all blocks; (B, 3·M)."""
    rate_bps: Floats
    """Shape (B, D)."""
    backlog_s: Floats
    """Of every resource, as numbered by :class:`mecsim.model.model.Resources`; shape (B, R)."""
    battery_j: Floats
    """Shape (B, D)."""
    serving_server: Ints
    """Shape (B, D)."""
    link_source: Ints
    """Server from which each link starts; shape (L,)."""
    device: Ints
    """Device of each epoch's task, or −1 where an epoch is a slot; shape (B,)."""
    servers: int
    """N."""
    class_: Ints
    """Class of each epoch's tasks; shape (B,)."""
    classes: int
    """C."""
    committed_s: Floats
    """Work placed at this instant that has joined no queue, of the CPUs of servers and devices, in
    seconds of all cores; shape (B, N + D), or (B, 0) where tasks are of one class."""

    def rows(self, which: Ints) -> ObservationTable:
        """Return some of the rows."""
        return ObservationTable(
            tasks=self.tasks[which],
            blocks=self.blocks[which],
            rate_bps=self.rate_bps[which],
            backlog_s=self.backlog_s[which],
            battery_j=self.battery_j[which],
            serving_server=self.serving_server[which],
            link_source=self.link_source,
            device=self.device[which],
            servers=self.servers,
            class_=self.class_[which],
            classes=self.classes,
            committed_s=self.committed_s[which],
        )

    def features(self) -> Floats:
        """Return the observations as vectors; shape (B, features)."""
        of_devices = 4 * self.servers + 1 if self.device[0] < 0 else 6
        width = self.tasks.shape[1] + self.blocks.shape[1] + 2 * self.servers + of_devices
        if self.classes > 1:
            width += 2 * self.servers if self.device[0] < 0 else self.servers + 1
        rows = np.empty((len(self.tasks), width))
        _fill(rows, self, self._mean_battery_j())
        if self.classes == 1:
            return rows
        return np.concatenate([rows, self.class_[:, None] == np.arange(self.classes)], axis=1)

    def _mean_battery_j(self) -> Floats:
        """Return the mean over limited batteries, infinite where there are none; shape (B,)."""
        limited = np.isfinite(self.battery_j[0])  # the same in every row
        count = np.count_nonzero(limited)
        if count in (0, len(limited)):
            return np.asarray(np.add.reduce(self.battery_j, axis=1) / len(limited))
        known_j = np.where(limited, self.battery_j, 0.0)  # one layout, so one order of the sum
        return np.asarray(np.add.reduce(known_j, axis=1) / count)


@compiled
def _fill(rows: Floats, seen: ObservationTable, mean_battery_j: Floats) -> None:
    servers, devices = seen.servers, seen.rate_bps.shape[1]
    for b in range(len(rows)):
        row, backlog_s, serving_server = rows[b], seen.backlog_s[b], seen.serving_server[b]
        at = 0
        for known in (seen.tasks[b], seen.blocks[b], backlog_s[:servers]):
            row[at : at + len(known)] = known
            at += len(known)
        row[at : at + servers] = 0.0
        for link in range(len(seen.link_source)):
            row[at + seen.link_source[link]] += backlog_s[servers + 3 * devices + link]
        at += servers
        device = seen.device[b]
        for kind in range(4):  # rates, and backlogs of CPUs, uplinks and downlinks
            first = servers + (kind - 1) * devices
            values = seen.rate_bps[b] if kind == 0 else backlog_s[first : first + devices]
            if device < 0:
                _means_per_server(row[at : at + servers], values, serving_server)
                at += servers
            else:
                row[at] = values[device]
                at += 1
        if device < 0:
            row[at] = mean_battery_j[b]
            at += 1
        else:
            row[at] = seen.battery_j[b, device]
            row[at + 1] = serving_server[device] + 1
            at += 2
        if seen.classes > 1:
            committed_s = seen.committed_s[b]
            row[at : at + servers] = committed_s[:servers]
            at += servers
            if device < 0:
                _means_per_server(row[at : at + servers], committed_s[servers:], serving_server)
            else:
                row[at] = committed_s[servers + device]


@compiled
def _means_per_server(means: Floats, values: Floats, serving_server: Ints) -> None:
    """Fill in the means over the devices of every server, 0 where it has none; shape (N,)."""
    count = np.zeros(len(means))
    means[:] = 0.0
    for device in range(len(values)):
        means[serving_server[device]] += values[device]
        count[serving_server[device]] += 1.0
    means /= np.maximum(count, 1.0)


def names_of_features(
    servers: int,
    blocks: int,
    decision_epoch: Literal["per_slot", "per_task"],
    *,
    cycles: bool = True,
    classes: Sequence[str] = (),
) -> list[str]:
    """Return the names of the features of an observation, in order.

    Where service times are measured, cycles may mean nothing. Then their place is taken by the
    service time of each block, as a mean over the places: of the task's device, or the mean over
    all devices, and the servers.

    Args:
        servers: N.
        blocks: M.
        decision_epoch: Whether an epoch is a slot or a task.
        cycles: Whether cycles are shown, and not measured service times.
        classes: Names of the classes of tasks. Where there are several, the last features are the
            work that was placed at the same instant before and has joined no queue, and the class.
    """
    names = [f"es{n + 1}" for n in range(servers)]
    of_blocks = ("cycles" if cycles else "compute_s", "parameter_bytes", "input_bits")
    radio = ("rate_bps", "device_backlog_s", "uplink_backlog_s", "downlink_backlog_s")
    per_slot = decision_epoch == "per_slot"
    if per_slot:
        devices = [f"{es}.mean_{name}" for name in radio for es in names] + ["mean_battery_J"]
    else:
        devices = [f"device.{name}" for name in (*radio, "battery_J", "serving_server")]
    of_classes = []
    if len(classes) > 1:
        cpus = [f"{es}.mean_device" for es in names] if per_slot else ["device.device"]
        committed = [f"{cpu}_committed_s" for cpu in (*(f"{es}.cpu" for es in names), *cpus)]
        of_classes = [*committed, *(f"class.{name}" for name in classes)]
    return [
        "tasks",
        "size_factor",
        *(f"block{m}.{name}" for name in of_blocks for m in range(blocks)),
        *(f"{es}.{name}" for name in ("cpu_backlog_s", "links_out_backlog_s") for es in names),
        *devices,
        *of_classes,
    ]


def means_per_server(values: Floats, serving_server: Ints, servers: int) -> Floats:
    """Return the means over the devices of every server, 0 where it has none; shape (N,)."""
    means = np.empty(servers)
    _means_per_server(means, values.copy(), serving_server.copy())  # which may be written to
    return means
