"""What a placement means: the hops that each task crosses, and for how long.

Worked out once for the tasks of an epoch, compiled, and handed to every kernel alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim import rules
from mecsim.arrays import Floats, Ints
from mecsim.jit import compiled
from mecsim.model import Model
from mecsim.workload import Tasks

HOP: Final = np.dtype(
    [
        ("service_s", "f8"),
        ("latency_s", "f8"),  # propagation after the service and before the next hop
        ("energy_j", "f8"),  # what the hop costs the task's device
        ("start_s", "f8"),  # when its service began: NaN until the kernel says so
        ("resource", "i4"),
        ("block", "i4"),  # 0-based
    ],
    align=True,
)
Records: TypeAlias = NDArray[np.void]


@dataclass(frozen=True)
class Hops:
    """The hops of n tasks in order of (task, hop): h rows, those of task i from ``offset[i]``."""

    tasks: Tasks
    offset: Ints
    """Shape (n + 1,)."""
    rows: Records
    """Of type ``HOP``; shape (h,)."""

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of the rows, as a view of shape (h,)."""
        return self.rows[name]


class Ways(NamedTuple):
    """What the compiled code reads of a model: see :class:`mecsim.model.Model`."""

    cycles: Floats
    bits: Floats
    """Input of every block, and last the result; shape (M + 1,)."""
    route: Ints
    next_link: Ints
    link_target: Ints
    link_latency_s: Floats
    speed: Floats
    access: Ints
    device: int
    """Number of the first device's CPU; so on for the uplinks, downlinks and links."""
    uplink: int
    downlink: int
    link: int
    charged_until: int
    """Up to which resource, from ``uplink`` on, transfers cost the device energy."""
    returns: bool
    kappa: float
    power_w: float

    @classmethod
    def of(cls, model: Model) -> Ways:
        """Return the ways of a model."""
        resources, scenario = model.resources, model.scenario
        return cls(
            cycles=model.cycles,
            bits=np.append(model.input_bits, model.result_bits),
            route=model.route,
            next_link=model.next_link,
            link_target=model.links.target,
            link_latency_s=model.links.latency_s,
            speed=model.speed,
            access=model.access,
            device=resources.device,
            uplink=resources.uplink,
            downlink=resources.downlink,
            link=resources.link,
            charged_until=len(resources) if scenario.energy.literal_eq7 else resources.downlink,
            returns=scenario.return_result,
            kappa=scenario.energy.kappa,
            power_w=scenario.radio.transmit_power,
        )


class Room(NamedTuple):
    """Where rows may be written: from the current one to ``end``, in a ring of ``mask`` + 1.

    A plain array is a ring with the mask −1.
    """

    rows: Records
    mask: int
    end: int


_compute_delay = compiled(rules.compute_delay)
_transfer_delay = compiled(rules.transfer_delay)
_local_energy = compiled(rules.local_energy)
_transmit_energy = compiled(rules.transmit_energy)


@compiled
def _put(
    room: Room, at: int, block: int, resource: int, service_s: float, latency_s: float, joules: float
) -> int:
    """Write a hop if there is room for it; return where the next one goes in any case."""
    if at < room.end:
        row = room.rows[at & room.mask]
        row["service_s"] = service_s
        row["latency_s"] = latency_s
        row["energy_j"] = joules
        row["start_s"] = np.nan
        row["resource"] = resource
        row["block"] = block
    return at + 1


@compiled
def _put_transfer(
    room: Room, at: int, ways: Ways, block: int, resource: int, bits: float, bps: float
) -> int:
    seconds, joules, latency_s = _transfer_delay(bits, bps), 0.0, 0.0
    if resource < ways.charged_until:
        joules = _transmit_energy(ways.power_w, seconds)
    if resource >= ways.link:
        latency_s = ways.link_latency_s[resource - ways.link]
    return _put(room, at, block, resource, seconds, latency_s, joules)


@compiled
def _put_way(
    room: Room,
    at: int,
    ways: Ways,
    device: int,
    rate_bps: float,
    block: int,
    data: int,
    size: float,
    here: int,
    place: int,
) -> int:
    """Write the hops of block ``data``'s input (or of the result, last) between two places."""
    bits = ways.bits[data] * size
    access = ways.access[device]
    if here == 0:
        at = _put_transfer(room, at, ways, block, ways.uplink + device, bits, rate_bps)
    server = here - 1 if here else access
    target = place - 1 if place else access
    while server != target:
        link = ways.next_link[ways.route[data], server, target]
        resource = ways.link + link
        at = _put_transfer(room, at, ways, block, resource, bits, ways.speed[resource])
        server = ways.link_target[link]
    if place == 0:
        at = _put_transfer(room, at, ways, block, ways.downlink + device, bits, rate_bps)
    return at


@compiled
def lay_out(
    room: Room,
    at: int,
    offset: Ints,
    ways: Ways,
    device: Ints,
    size: Floats,
    rate_bps: Floats,
    placement: Ints,
) -> int:
    """Write the hops of n tasks, all under one placement, from ``at`` on; return where they end.

    What has no room is counted and not written. ``offset``, of shape (n + 1,), is filled in.
    """
    blocks = len(placement)
    last = size.shape[1] - 1  # 0 if all blocks have one size factor
    for task in range(len(device)):
        offset[task] = at
        own, here = device[task], 0
        rate = rate_bps[own]
        for block in range(blocks):
            place, factor = placement[block], size[task, min(block, last)]
            if place != here:
                at = _put_way(room, at, ways, own, rate, block, block, factor, here, place)
            resource, joules = place - 1, 0.0
            cycles = ways.cycles[block] * factor
            if place == 0:
                resource = ways.device + own
                joules = _local_energy(ways.kappa, ways.speed[resource], cycles)
            seconds = _compute_delay(cycles, ways.speed[resource])
            at = _put(room, at, block, resource, seconds, 0.0, joules)
            here = place
        if ways.returns and here != 0:
            factor = size[task, last]
            at = _put_way(room, at, ways, own, rate, blocks - 1, blocks, factor, here, 0)
    offset[len(device)] = at
    return at


class Router:
    """Turns placements into hops."""

    def __init__(self, model: Model) -> None:
        self.ways = Ways.of(model)
        self._hops_a_task = 2.0 * model.blocks

    def hops(self, tasks: Tasks, placement: Ints, rate_bps: Floats) -> Hops:
        """Return the hops of ``tasks``, which all follow one ``placement`` of shape (M,).

        ``rate_bps`` holds the radio rates of the slot, shape (D,). Services are those of Eqs. 3,
        5 and 6, energies those of Eqs. 4 and 7.
        """
        count, offset = len(tasks), np.empty(len(tasks) + 1, dtype=np.int64)
        room = int(count * self._hops_a_task) + 1
        while True:
            rows = np.empty(room, dtype=HOP)
            end = lay_out(
                Room(rows, -1, room),
                0,
                offset,
                self.ways,
                tasks.device,
                tasks.size,
                rate_bps,
                placement,
            )
            if end <= room:
                return Hops(tasks, offset, rows[:end])
            room = end
            self._hops_a_task = max(self._hops_a_task, end / count)
