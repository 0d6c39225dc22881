"""What a placement means: the hops that each task crosses, and for how long.

Worked out once for the tasks of an epoch, vectorised, and handed to every kernel alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim import rules
from mecsim.arrays import Floats, Ints
from mecsim.model import Model
from mecsim.workload import Tasks


@dataclass(frozen=True)
class Hops:
    """The hops of n tasks in order of (task, hop): h rows, those of task i from ``offset[i]``."""

    tasks: Tasks
    placement: Ints
    """Place of every block, 0 the device, n server n; shape (M,)."""
    offset: Ints
    """Shape (n + 1,)."""
    block: Ints
    """0-based; shape (h,)."""
    resource: Ints
    """Shape (h,)."""
    service_s: Floats
    """Shape (h,)."""
    latency_s: Floats
    """Propagation after the service and before the next hop; shape (h,)."""
    energy_j: Floats
    """What the hop costs the task's device; shape (h,)."""


class _Step(NamedTuple):
    """A hop of a placement, apart from the task's own numbers."""

    block: int
    resource: int
    """Number of the resource; of device 0's resource where ``own`` is 1."""
    own: int
    amount: float
    """Cycles or bits at size factor 1."""
    latency_s: float


@dataclass(frozen=True)
class _Itinerary:
    """The hops of tasks of given devices under a placement, but for their sizes and rates."""

    offset: Ints
    task: Ints
    device: Ints
    block: Ints
    resource: Ints
    amount: Floats
    latency_s: Floats
    speed: Floats
    """Cycles or bits a second; NaN for the radio."""
    radio: NDArray[np.bool_]
    computes: NDArray[np.bool_]
    """Whether the device computes, which costs it energy (Eq. 4)."""
    sends: NDArray[np.bool_]
    """Whether the device is charged for sending (Eq. 7)."""


class Router:
    """Turns placements into hops; remembers the paths and itineraries it has worked out."""

    MAX_PATHS = 8192
    MAX_ROWS = 1 << 18
    """Rows of all the itineraries that are remembered."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._paths: dict[tuple[bytes, int], Floats] = {}
        self._itineraries: dict[tuple[bytes, bytes], _Itinerary] = {}
        self._rows = 0
        resources = model.resources
        self._cpu, self._uplink, self._downlink = (
            resources.device,
            resources.uplink,
            resources.downlink,
        )
        self._link = resources.link
        literal = model.scenario.energy.literal_eq7
        self._sends_until = len(resources) if literal else self._downlink

    def hops(self, tasks: Tasks, placement: Ints, rate_bps: Floats) -> Hops:
        """Return the hops of ``tasks``, which all follow one ``placement`` of shape (M,).

        ``rate_bps`` holds the radio rates of the slot, shape (D,). Services are those of Eqs. 3,
        5 and 6, energies those of Eqs. 4 and 7.
        """
        way = self._itinerary(tasks.device, placement)
        column = 0 if tasks.size.shape[1] == 1 else way.block
        amount = way.amount * tasks.size[way.task, column]
        speed = np.where(way.radio, rate_bps[way.device], way.speed)
        service = np.asarray(rules.compute_delay(amount, speed))
        energy = self._energy(way, amount, service)
        return Hops(
            tasks, placement, way.offset, way.block, way.resource, service, way.latency_s, energy
        )

    def _energy(self, way: _Itinerary, amount: Floats, service: Floats) -> Floats:
        kappa = self._model.scenario.energy.kappa
        local = rules.local_energy(kappa, way.speed, amount)
        air = rules.transmit_energy(self._model.scenario.radio.transmit_power, service)
        return np.where(way.computes, local, np.where(way.sends, air, 0.0))

    def _itinerary(self, device: Ints, placement: Ints) -> _Itinerary:
        if len(device) == 1:  # a task by itself hardly ever comes again
            path = self._path(placement, int(self._model.access[device[0]]))
            offset, task = np.array([0, len(path)]), np.zeros(len(path), dtype=np.int64)
            return self._make_itinerary(device, offset, task, path)
        key = (placement.tobytes(), device.tobytes())
        known = self._itineraries.get(key)
        if known is None:
            known = self._make_itinerary(device, *self._lay_out(device, placement))
            self._rows += len(known.task)
            if self._rows > self.MAX_ROWS:
                self._itineraries.clear()
                self._rows = len(known.task)
            self._itineraries[key] = known
        return known

    def _lay_out(self, device: Ints, placement: Ints) -> tuple[Ints, Ints, Floats]:
        """Return the offset of each task, the task of each hop, and the steps of all hops."""
        access = self._model.access[device]
        present = np.flatnonzero(np.bincount(access, minlength=self._model.servers))
        which = np.searchsorted(present, access)
        paths = [self._path(placement, server) for server in present.tolist()]
        length = np.array([len(path) for path in paths], dtype=np.int64)
        hops_of = length[which]
        offset = np.concatenate([[0], np.cumsum(hops_of)])
        task = np.repeat(np.arange(len(device)), hops_of)
        begin = np.cumsum(length) - length
        row = np.arange(len(task)) + np.repeat(begin[which] - offset[:-1], hops_of)
        steps = np.concatenate([*paths, np.empty((0, len(_Step._fields)))])[row]
        return offset, task, steps

    def _make_itinerary(self, device: Ints, offset: Ints, task: Ints, steps: Floats) -> _Itinerary:
        columns = steps.T.copy()
        block, resource, own = columns[:3].astype(np.int64)
        resource += own * device[task]
        return _Itinerary(
            offset=offset,
            task=task,
            device=device[task],
            block=block,
            resource=resource,
            amount=columns[3],
            latency_s=columns[4],
            speed=self._model.speed[resource],
            radio=(resource >= self._uplink) & (resource < self._link),
            computes=(resource >= self._cpu) & (resource < self._uplink),
            sends=(resource >= self._uplink) & (resource < self._sends_until),
        )

    def _path(self, placement: Ints, access: int) -> Floats:
        """Return the steps of a placement from an access server, shape (hops, 5)."""
        key = (placement.tobytes(), access)
        if key not in self._paths:
            if len(self._paths) >= self.MAX_PATHS:
                self._paths.clear()
            self._paths[key] = np.array(list(self._steps(placement.tolist(), access)))
        return self._paths[key]

    def _steps(self, placement: list[int], access: int) -> Iterator[_Step]:
        model, here = self._model, 0
        for block, place in enumerate(placement):
            yield from self._transfer(block, here, place, access, block)
            cpu = place - 1 if place else self._cpu
            yield _Step(block, cpu, int(place == 0), float(model.cycles[block]), 0.0)
            here = place
        if model.scenario.return_result:
            yield from self._transfer(model.blocks, here, 0, access, model.blocks - 1)

    def _transfer(
        self, data: int, here: int, place: int, access: int, block: int
    ) -> Iterator[_Step]:
        """Yield the hops of block ``data``'s input (or of the result, last) between two places."""
        if here == place:
            return
        model = self._model
        bits = float(model.input_bits[data]) if data < model.blocks else model.result_bits
        if here == 0:
            yield _Step(block, self._uplink, 1, bits, 0.0)
        server, target = (n - 1 if n else access for n in (here, place))
        table = model.next_link[model.route[data]]
        while server != target:
            link = int(table[server, target])
            yield _Step(block, self._link + link, 0, bits, float(model.links.latency_s[link]))
            server = int(model.links.target[link])
        if place == 0:
            yield _Step(block, self._downlink, 1, bits, 0.0)
