"""From hops to the ways of tasks: the nodes whose stations a task visits, in order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mecsim.kernels.hops import Hops
from mecsim.kernels.tables import KernelTables
from mecsim.model.model import Model
from mecsim.scenario.testbed import node_names
from mecsim.support.arrays import Bools
from mecsim.testbed.messages import Hop, Release
from mecsim.testbed.settings import StationConfig


class Ways:
    """The nodes of a model, their stations, and the ways of tasks along them."""

    def __init__(self, model: Model) -> None:
        self._model, self._tables = model, KernelTables.of(model)
        self.names = node_names(model.scenario.edge_servers, model.scenario.devices)
        """Names of the nodes: servers, then devices; length N + D."""
        self._drop_after_s = model.drop_after_s

    def stations(self) -> dict[str, list[StationConfig]]:
        """Return the stations of every node by its name.

        A device has its CPU and its uplink; a server its CPU, its outgoing links, and the downlinks
        of its devices, or of all where devices move.
        """
        model, resources, found = (
            self._model,
            self._model.resources,
            dict[str, list[StationConfig]](),
        )
        for server in range(model.servers):
            served = (model.serving_server == server) | (model.mobility is not None)
            downlinks = resources.downlink + np.flatnonzero(served)
            links = resources.link + np.flatnonzero(model.links.source == server)
            cpu = StationConfig(server, "cpu", int(model.cores[server]))
            sending = (*downlinks.tolist(), *links.tolist())
            found[self.names[server]] = [
                cpu,
                *(StationConfig(number, "link", 1) for number in sending),
            ]
        for device in range(model.devices):
            found[self.names[model.servers + device]] = [
                StationConfig(resources.device + device, "cpu", 1),
                StationConfig(resources.uplink + device, "link", 1),
            ]
        return found

    def resources_of(self, name: str) -> Bools:
        """Return which resources are gone without a node; shape (R,).

        They are its stations, a server's incoming links, and a device's downlink.
        """
        model, resources = self._model, self._model.resources
        gone = np.zeros(len(resources), dtype=np.bool_)
        node = self.names.index(name)
        gone[node] = True
        if node < model.servers:
            ends = (model.links.source == node) | (model.links.target == node)
            gone[resources.link :] = ends
        else:
            device = node - model.servers
            gone[[resources.uplink + device, resources.downlink + device]] = True
        return gone

    def release(self, hops: Hops, row: int) -> Release:
        """Return the message that releases a task of a table of hops.

        Args:
            hops: The table.
            row: Number of the task in it.
        """
        tasks = hops.tasks
        number, release_s = int(tasks.class_[row]), float(tasks.release_s[row])
        after_s = self._drop_after_s[number] if len(self._drop_after_s) else np.inf
        drop_s = release_s + float(after_s)
        return Release(
            task=tasks.first + row,
            task_class=number,
            release_s=release_s,
            drop_s=drop_s if np.isfinite(drop_s) else None,
            hops=tuple(self._hops(hops, row)),
        )

    def _hops(self, hops: Hops, row: int) -> Iterator[Hop]:
        resources, servers = self._model.resources, self._model.servers
        begin, end = hops.offset[row : row + 2].tolist()
        resource, block = (hops.column(name)[begin:end].tolist() for name in ("resource", "block"))
        service_s, latency_s = (
            hops.column(name)[begin:end].tolist() for name in ("service_s", "latency_s")
        )
        device = servers + int(hops.tasks.device[row])
        last = int(self._model.first_block[hops.tasks.class_[row] + 1]) - 1
        here, computed = device, False
        for k, number in enumerate(resource):
            target = None
            if number < resources.uplink:
                computed = block[k] == last
            elif number >= resources.link:
                target = int(self._model.links.target[number - resources.link])
            elif number >= resources.downlink:
                target = device
            else:
                target = self._reached(resource[k + 1])
            yield Hop(
                resource=number,
                block=block[k],
                service_s=service_s[k],
                latency_s=latency_s[k],
                rate_bps=0.0
                if target is None
                else self._rate_bps(number, self._bits(block[k], computed), service_s[k]),
                owner=self.names[here],
                target=None if target is None else self.names[target],
            )
            here = here if target is None else target

    def _reached(self, resource: int) -> int:
        """Return the server that an uplink leads to, from the resource of the next hop."""
        resources = self._model.resources
        if resource < self._model.servers:
            return resource
        return int(self._model.links.source[resource - resources.link])

    def _rate_bps(self, resource: int, bits: float, service_s: float) -> float:
        """Return the rate at which a map of some bits takes the planned time (Eq. 5).

        Nodes send headers anyway, so those that a calibrated scenario adds do not count again.
        """
        tables = self._tables
        headers, overhead_s = tables.radio_headers, tables.radio_overhead_s
        if resource >= tables.link:
            headers, overhead_s = tables.link_headers, tables.link_overhead_s
        return bits * (1.0 + headers) / (service_s - overhead_s)

    def _bits(self, block: int, computed: bool) -> float:
        """Return the bits of a block's input or, once the last one is computed, the result."""
        number = int(self._tables.class_of_block[block])
        return float(self._tables.bits[block + number + computed])
