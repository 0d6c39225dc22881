"""What a placement means: the hops that each task crosses, and for how long.

Worked out once for the tasks of an epoch, compiled, and handed to every kernel alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.model.workload import Tasks
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled

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


@dataclass(eq=False, slots=True)
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
    """What the compiled code reads of a model: see :class:`mecsim.model.model.Model`."""

    cycles: Floats
    bits: Floats
    """Input of every block, and last the result; shape (M + 1,)."""
    route: Ints
    next_link: Ints
    link_target: Ints
    link_latency_s: Floats
    speed: Floats
    serving_server: Ints
    device: int
    """Number of the first device's CPU; so on for the uplinks, downlinks and links."""
    uplink: int
    downlink: int
    link: int
    literal: bool
    """Whether every transfer costs the device energy, as Eq. 7 prints it, or only the uplink's."""
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
            serving_server=model.serving_server,
            device=resources.device,
            uplink=resources.uplink,
            downlink=resources.downlink,
            link=resources.link,
            literal=scenario.energy.literal_eq7,
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


OfNumbers: TypeAlias = Callable[..., float]
"""A rule, of numbers and not of arrays."""

_compute_delay = cast(OfNumbers, compiled(equations.compute_delay))
_transfer_delay = cast(OfNumbers, compiled(equations.transfer_delay))
_local_energy = cast(OfNumbers, compiled(equations.local_energy))
_transmit_energy = cast(OfNumbers, compiled(equations.transmit_energy))


@compiled
def _put(
    rows: Records,
    at: int,
    block: int,
    resource: int,
    service_s: float,
    latency_s: float,
    energy_j: float,
) -> None:
    row = rows[at]
    row["service_s"] = service_s
    row["latency_s"] = latency_s
    row["energy_j"] = energy_j
    row["start_s"] = np.nan
    row["resource"] = resource
    row["block"] = block


@compiled
def lay_out(  # noqa: C901 - parts called with all of the ways cost twice it
    room: Room,
    at: int,
    offset: Ints,
    ways: Ways,
    device: Ints,
    size: Floats,
    rate_bps: Floats,
    placements: Ints,
) -> int:
    """Write the hops of n tasks from ``at`` on; return where they end.

    What has no room is counted and not written. ``offset``, of shape (n + 1,), is filled in.
    ``placements`` has one row for all tasks or one for each device; shape (1, M) or (D, M).
    """
    rows, mask, room_end = room
    cycles, all_bits, speed, serving_server = (
        ways.cycles,
        ways.bits,
        ways.speed,
        ways.serving_server,
    )
    route, next_link, link_target = ways.route, ways.next_link, ways.link_target
    latency_s, power_w, kappa = ways.link_latency_s, ways.power_w, ways.kappa
    blocks, last = len(cycles), size.shape[1] - 1  # last: 0 if all have one size factor
    stages = blocks + 1 if ways.returns else blocks
    for task in range(len(device)):
        offset[task] = at
        own, here = device[task], 0
        placement = placements[own if len(placements) > 1 else 0]
        for stage in range(stages):
            block = min(stage, blocks - 1)
            factor = size[task, min(block, last)]
            place = placement[stage] if stage < blocks else 0
            if place != here:
                bits = all_bits[stage] * factor
                radio_s = _transfer_delay(bits, rate_bps[own])
                radio_j = _transmit_energy(power_w, radio_s)
                server = here - 1
                if here == 0:
                    server = serving_server[own]
                    if at < room_end:
                        _put(rows, at & mask, block, ways.uplink + own, radio_s, 0.0, radio_j)
                    at += 1
                target = place - 1 if place else serving_server[own]
                while server != target:
                    link = next_link[route[stage], server, target]
                    wired_s = _transfer_delay(bits, speed[ways.link + link])
                    joules = _transmit_energy(power_w, wired_s) if ways.literal else 0.0
                    if at < room_end:
                        resource, wait_s = ways.link + link, latency_s[link]
                        _put(rows, at & mask, block, resource, wired_s, wait_s, joules)
                    at += 1
                    server = link_target[link]
                if place == 0:
                    joules = radio_j if ways.literal else 0.0
                    if at < room_end:
                        _put(rows, at & mask, block, ways.downlink + own, radio_s, 0.0, joules)
                    at += 1
            if stage < blocks:
                resource, work, joules = place - 1, cycles[block] * factor, 0.0
                if place == 0:
                    resource = ways.device + own
                    joules = _local_energy(kappa, speed[resource], work)
                if at < room_end:
                    seconds = _compute_delay(work, speed[resource])
                    _put(rows, at & mask, block, resource, seconds, 0.0, joules)
                at += 1
            here = place
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
                placement[None, :],
            )
            if end <= room:
                return Hops(tasks, offset, rows[:end])
            room = end
            self._hops_a_task = max(self._hops_a_task, end / count)
