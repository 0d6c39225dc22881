"""From a placement to hops: the resources that each task visits, in order, and for how long.

A hop is one visit to a queued resource. Hops are built once per epoch, by compiled code, and every
kernel receives the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.tables import KernelTables
from mecsim.model import equations
from mecsim.model.detours import crosses, find_down, link_seconds, way_around
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled

HOP: Final = np.dtype(
    [
        ("service_s", "f8"),
        ("latency_s", "f8"),  # propagation after the service, before the next hop
        ("energy_j", "f8"),  # energy that the task's device spends on the hop
        ("start_s", "f8"),  # start of the service; NaN until the kernel fills it in
        ("resource", "i4"),
        ("block", "i4"),  # row of the blocks of all classes
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


class OutputSlice(NamedTuple):
    """Rows that may be written: up to ``end``, in a ring buffer of ``mask`` + 1 rows.

    A plain array is a ring with the mask −1.
    """

    rows: Records
    mask: int
    end: int


ScalarRule: TypeAlias = Callable[..., float]
"""An equation of numbers, not of arrays."""

_compute_delay = cast(ScalarRule, compiled(equations.compute_delay))
_transfer_delay = cast(ScalarRule, compiled(equations.transfer_delay))
_local_energy = cast(ScalarRule, compiled(equations.local_energy))
_transmit_energy = cast(ScalarRule, compiled(equations.transmit_energy))


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
def build_hops(  # noqa: C901, PLR0915 - one function: split into parts it took twice as long
    out: OutputSlice,
    at: int,
    offset: Ints,
    tables: KernelTables,
    network: int,
    calendar: Records,
    outages: Floats,
    release_s: Floats,
    class_: Ints,
    device: Ints,
    size: Floats,
    rate_bps: Floats,
    serving_server: Ints,
    placements: Ints,
) -> int:
    """Write the hops of n tasks from row ``at`` on.

    Args:
        out: Where to write; hops beyond its end are counted but not written.
        at: The first row.
        offset: Filled in with the first row of every task, and the end; shape (n + 1,).
        tables: Constants of the model.
        network: Row of the tables' speeds.
        calendar: See :class:`mecsim.model.calendars.Calendars`; for ways around failed links.
        outages: See there.
        release_s: Release of every task; shape (n,).
        class_: Class of every task; shape (n,).
        device: Device of every task; shape (n,).
        size: Size factors of every task; shape (n, 1) or (n, M).
        rate_bps: Radio rate of every device; shape (D,). Those that follow a series use its nominal
            rate instead, of which the kernel finds the rates at the time.
        serving_server: Server of every device; shape (D,).
        placements: One row for each class, or for each device and class: that of device d and
            class c is d·C + c; shape (C, M) or (D·C, M). Places beyond a class's blocks are unused.

    Returns:
        The row after the last hop.
    """
    rows, mask, room_end = out
    all_bits, power_w, node_type = tables.bits, tables.power_w, tables.node_type
    all_work, energy_work, joules_each = tables.work, tables.energy_work, tables.joules_per_work
    speed = tables.speed[network]
    route, next_link, link_target = tables.route, tables.next_link, tables.link_target
    latency_s, radio_bps = tables.link_latency_s, tables.radio_bps
    radio_headers, radio_overhead_s = tables.radio_headers, tables.radio_overhead_s
    link_headers, link_overhead_s = tables.link_headers, tables.link_overhead_s
    follows = len(radio_bps) > 0
    first_block, classes = tables.first_block, len(tables.first_block) - 1
    last = size.shape[1] - 1  # 0 if all blocks have one size factor
    failing, any_down, checked_s, known = tables.failing_links, False, np.nan, -1
    down = np.zeros(len(link_target) if len(failing) else 0, np.bool_)
    around = np.empty(tables.servers if len(failing) else 0, np.int64)
    for task in range(len(device)):
        offset[task] = at
        if len(failing) and release_s[task] != checked_s:
            checked_s, known = release_s[task], -1
            any_down = find_down(failing, calendar, outages, tables.link, checked_s, down)
        own, kind, here = device[task], class_[task], 0
        own_bps = rate_bps[own]
        if follows and radio_bps[own] == radio_bps[own]:
            own_bps = radio_bps[own]
        first, moved = first_block[kind], first_block[kind] + kind
        blocks = first_block[kind + 1] - first
        stages = blocks + 1 if tables.returns_result else blocks
        placement = placements[kind if len(placements) == classes else own * classes + kind]
        for stage in range(stages):
            own_block = min(stage, blocks - 1)
            block, factor = first + own_block, size[task, min(own_block, last)]
            place = placement[stage] if stage < blocks else 0
            if place != here:
                bits = all_bits[moved + stage] * factor
                radio_s = _transfer_delay(bits, own_bps, radio_headers, radio_overhead_s)
                radio_j = _transmit_energy(power_w[own], radio_s)
                server = here - 1
                if here == 0:
                    server = serving_server[own]
                    if at < room_end:
                        _put(rows, at & mask, block, tables.uplink + own, radio_s, 0.0, radio_j)
                    at += 1
                target = place - 1 if place else serving_server[own]
                table, detours = route[moved + stage], False
                if any_down and crosses(next_link[table], link_target, down, server, target):
                    detours, way = True, (moved + stage) * tables.servers + target
                    if way != known:
                        seconds = link_seconds(
                            max(all_bits[moved + stage], 1.0),  # an empty one goes as one bit
                            speed[tables.link :], latency_s, link_headers, link_overhead_s,
                        )  # fmt: skip
                        way_around(
                            tables.link_source, link_target, seconds, down, next_link[table],
                            target, around,
                        )  # fmt: skip
                        known = way
                while server != target:
                    link = around[server] if detours else next_link[table, server, target]
                    link_bps = speed[tables.link + link]
                    wired_s = _transfer_delay(bits, link_bps, link_headers, link_overhead_s)
                    joules = _transmit_energy(power_w[own], wired_s) if tables.literal_eq7 else 0.0
                    if at < room_end:
                        resource, wait_s = tables.link + link, latency_s[link]
                        _put(rows, at & mask, block, resource, wired_s, wait_s, joules)
                    at += 1
                    server = link_target[link]
                if place == 0:
                    joules = radio_j if tables.literal_eq7 else 0.0
                    if at < room_end:
                        _put(rows, at & mask, block, tables.downlink + own, radio_s, 0.0, joules)
                    at += 1
            if stage < blocks:
                resource = place - 1 if place else tables.device + own
                its_type, joules = node_type[resource], 0.0
                if place == 0:
                    work = energy_work[its_type, block] * factor
                    joules = _local_energy(joules_each[network, resource], work)
                if at < room_end:
                    compute_s = _compute_delay(all_work[its_type, block] * factor, speed[resource])
                    _put(rows, at & mask, block, resource, compute_s, 0.0, joules)
                at += 1
            here = place
    offset[len(device)] = at
    return at


class HopBuilder:
    """Turns placements into tables of hops."""

    def __init__(self, model: Model) -> None:
        self.tables = KernelTables.of(model)
        self._outages = model.calendars.of, model.calendars.outages
        self._hops_a_task = 2.0 * model.blocks

    def hops(self, tasks: Tasks, placements: Ints, slot: Slot) -> Hops:
        """Return the hops of tasks that follow the placement of their class.

        Services are those of Eqs. 3, 5 and 6, energies those of Eqs. 4 and 7.

        Args:
            tasks: Tasks of the slot.
            placements: Place of every block of each class; shape (C, M).
            slot: Gives the radio rate and the server of every device.

        Returns:
            A table of hops, none of which has been entered.
        """
        count, offset = len(tasks), np.empty(len(tasks) + 1, dtype=np.int64)
        room = int(count * self._hops_a_task) + 1
        while True:
            rows = np.empty(room, dtype=HOP)
            end = build_hops(
                OutputSlice(rows, -1, room),
                0,
                offset,
                self.tables,
                0,
                *self._outages,
                tasks.release_s,
                tasks.class_,
                tasks.device,
                tasks.size,
                slot.rate_bps,
                slot.serving_server,
                placements,
            )
            if end <= room:
                return Hops(tasks, offset, rows[:end])
            room = end
            self._hops_a_task = max(self._hops_a_task, end / count)
