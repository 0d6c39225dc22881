"""How long each block takes at each node, and the energy that it takes from a device.

A node is a server or a device; it has the number of its CPU among the queued resources. Everything
that computes a service time or an energy of computing reads this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mecsim.model import equations
from mecsim.model.node_types import NodeType
from mecsim.support.arrays import Floats, Ints


@dataclass(frozen=True)
class ComputeTable:
    """Service times and energies of B blocks at nodes of K types: N servers, then D devices.

    A block of a task with size factor s takes ``work * s / speed`` seconds and, at a device,
    ``joules_per_work * (energy_work * s)`` joules.
    """

    servers: int
    """N."""
    types: tuple[str, ...]
    """Names of the types; length K."""
    node_type: Ints
    """The type of each node, an index into ``types``; shape (N + D,)."""
    work: Floats
    """Work of each block at a node of each type: cycles, or measured seconds; shape (K, B)."""
    speed: Floats
    """Work per second of each core of each node: hertz, or 1; shape (N + D,)."""
    energy_work: Floats
    """What the energy of each block is proportional to: cycles, measured joules, or seconds where
    no energy was measured; shape (K, B)."""
    joules_per_work: Floats
    """Joules for one unit of ``energy_work`` at each node: κ·f², 1, or the power of a device that
    computes; 0 at servers; shape (N + D,)."""

    def seconds(self, nodes: Ints, size: Floats) -> Floats:
        """Return the service times of all blocks of n tasks, each at its own P nodes.

        Args:
            nodes: Shape (P, n).
            size: Size factors; shape (1, n) or (B, n).

        Returns:
            Seconds; shape (B, P, n).
        """
        work = self.work.T[:, self.node_type[nodes]] * size[:, None]
        return np.asarray(equations.compute_delay(work, self.speed[nodes]))

    def mean_of(self, nodes: Ints) -> tuple[Floats, float]:
        """Return work of each block and a speed that give the mean service time over some nodes.

        Args:
            nodes: Shape (n,).

        Returns:
            Work of shape (B,), and work per second.
        """
        kinds = self.node_type[nodes]
        parts = [
            (kind, self._harmonic_speed(nodes[kinds == kind]), float((kinds == kind).mean()))
            for kind in sorted(set(kinds.tolist()))
        ]
        speed = parts[0][1]  # all work is converted to that of the first type, so it stays exact
        return np.add.reduce([share * speed / own * self.work[k] for k, own, share in parts]), speed

    def _harmonic_speed(self, nodes: Ints) -> float:
        return 1.0 / (float(np.add.reduce(1.0 / self.speed[nodes])) / len(nodes))

    def mean_over_places(self, speed: Floats, network: Ints, device: Ints) -> Floats:
        """Return the service time of each block of size factor 1 as a mean over N + 1 places.

        Args:
            speed: Work per second of each node in each of several networks; shape (n, N + D).
            network: The network of each of E epochs; shape (E,).
            device: The device that is a place, or −1 for the mean over all devices, then in all
                epochs; shape (E,).

        Returns:
            Seconds; shape (E, B).
        """
        servers, places = self.servers, self.servers + 1
        seconds = self._summed(speed[:, :servers], self.node_type[:servers])[network]
        if device.min(initial=0) < 0:
            of_devices = self._summed(speed[:, servers:], self.node_type[servers:])
            return (seconds + of_devices[network] / (speed.shape[1] - servers)) / places
        cpu = servers + device
        own = self.work[self.node_type[cpu]] / speed[network, cpu][:, None]
        return (seconds + own) / places

    def _summed(self, speed: Floats, kinds: Ints) -> Floats:
        """Return the sum of each block's service times over some nodes; shape (n, B)."""
        total = np.zeros((len(speed), self.work.shape[1]))
        for kind, work in enumerate(self.work):
            slowness = np.ascontiguousarray(1.0 / speed[:, kinds == kind])
            total += np.add.reduce(slowness, axis=1)[:, None] * work
        return total

    def pooled(self, nodes: Ints, cores: Ints) -> tuple[float, float]:
        """Return the work of a task of size factor 1, and the speed of some nodes together.

        Args:
            nodes: Shape (n,).
            cores: Cores of each of the nodes; shape (n,).

        Returns:
            Work and work per second, as if the cores shared the work of each block.
        """
        total = np.array([work.sum() for work in self.work])
        most = float(total[self.node_type[nodes]].max())
        with np.errstate(divide="ignore"):  # a type that takes no time is infinitely fast
            relative = most / total if most else np.ones_like(total)
        speed = self.speed[nodes] * relative[self.node_type[nodes]]
        return most, float((speed * cores).sum())


def compute_table(
    types: Sequence[NodeType],
    node_type: Ints,
    cycles: Floats,
    server_hz: Floats,
    device_hz: Floats,
    kappa: Floats,
    compute_power_w: Floats,
) -> ComputeTable:
    """Return the table of nodes by formula (Eqs. 3, 4 and 6) and of measured ones.

    Args:
        types: The types of nodes.
        node_type: Type of each server and of each device; shape (N + D,).
        cycles: c_m, cycles of each block; shape (B,).
        server_hz: F_n, cycles per second of each core of every server; shape (N,).
        device_hz: f_d, cycles per second of every device; shape (D,).
        kappa: κ, effective capacitance of every device; shape (D,).
        compute_power_w: Power of every device that computes, where no energy was measured;
            shape (D,).
    """
    work = [cycles if each.seconds is None else each.seconds for each in types]
    energy_work = [
        work if each.joules is None else each.joules for each, work in zip(types, work, strict=True)
    ]
    measured = np.array([each.seconds is not None for each in types])
    metered = np.array([each.joules is not None for each in types])
    of_device = node_type[len(server_hz) :]
    joules_each = np.where(
        measured[of_device],
        np.where(metered[of_device], 1.0, compute_power_w),
        equations.joules_per_cycle(kappa, device_hz),
    )
    return ComputeTable(
        servers=len(server_hz),
        types=tuple(each.name for each in types),
        node_type=node_type,
        work=np.stack(work),
        speed=np.where(measured[node_type], 1.0, np.concatenate([server_hz, device_hz])),
        energy_work=np.stack(energy_work),
        joules_per_work=np.append(np.zeros(len(server_hz)), joules_each),
    )
