"""The servers of moving devices over a run, and their handovers.

Changes are found ahead for the whole run. So the server of a device can be read at any slot, and
memory grows with the changes, not with the slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from mecsim.model import association, equations
from mecsim.model.paths import Paths, Servers
from mecsim.model.topology import LEAST_GAIN
from mecsim.scenario.schema import Radio, Scenario
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.support.portable_math import LN_10, exp

PLACES_AT_ONCE: Final = 1 << 16
"""Most positions that are computed together; bounds memory."""
_LARGE: Final = 700.0
"""e to this power is still a float."""


@dataclass(frozen=True)
class Mobility:
    """The paths of devices, and the H changes of their servers during a run."""

    paths: Paths
    slot: Ints
    """Slot at whose start each change happens, in order; shape (H,)."""
    device: Ints
    """Shape (H,)."""
    server: Ints
    """The new server; shape (H,)."""
    start: Ints
    """Servers of all devices in the first slot; shape (D,)."""
    server_xy: Floats
    slot_length: float
    radio: Radio

    def servers_in(self, numbers: range) -> Ints:
        """Return the servers of all devices in K slots: one row if none changes; read-only.

        Shape (1, D) or (K, D).
        """
        before, end = np.searchsorted(self.slot, [numbers.start, numbers.stop - 1], side="right")
        now = self.start.copy()
        now[self.device[:before]] = self.server[:before]  # the last change counts
        if before == end:
            return read_only(now[None])
        rows = np.repeat(now[None], len(numbers), axis=0)
        changes = zip(self.slot[before:end].tolist(), self.device[before:end].tolist(),
                      self.server[before:end].tolist(), strict=True)  # fmt: skip
        for slot, device, server in changes:
            rows[slot - numbers.start :, device] = server
        return read_only(rows)

    def servers_of(self, device: Ints, slot: Ints) -> Ints:
        """Return the servers of some devices in some slots; shape (n,) each."""
        order = np.lexsort((self.slot, self.device))
        length = 1 + int(max(slot.max(initial=0), self.slot.max(initial=0)))
        changes = self.device[order] * length + self.slot[order]
        before = np.searchsorted(changes, device * length + slot, side="right") - 1
        known = before >= 0
        known[known] = self.device[order[before[known]]] == device[known]
        found = self.start[device]
        found[known] = self.server[order[before[known]]]
        return found

    def gains_in(self, numbers: range, gain: Floats) -> Floats:
        """Return the path gain of all devices in K slots; shape (K, D).

        Args:
            numbers: The slots.
            gain: That of devices that stand still; shape (D,).
        """
        at, moving = self.paths, self.paths.device
        server = np.broadcast_to(self.servers_in(numbers), (len(numbers), len(gain)))
        metres = association.distances(
            at.bounds, at.time_s, at.xy, self.starts(numbers), self.server_xy,
            np.ascontiguousarray(server[:, moving]),
        )  # fmt: skip
        rows = np.repeat(gain[None], len(numbers), axis=0)
        loss = self.radio.path_loss_intercept_db, self.radio.path_loss_slope_db
        rows[:, moving] = equations.path_gain(np.maximum(metres, 1.0), *loss)
        return np.maximum(rows, LEAST_GAIN)

    def positions_in(self, slot: int, still: Floats) -> Floats:
        """Return the position of every device at the start of a slot in metres; shape (D, 2).

        Args:
            slot: Number of the slot.
            still: Those of devices that stand still; shape (D, 2).
        """
        found = still.copy()
        found[self.paths.device] = self.paths.xy_at(float(self.starts(range(slot, slot + 1))[0]))
        return found

    def starts(self, numbers: range) -> Floats:
        """Return the starts of K slots; shape (K,)."""
        return np.arange(float(numbers.start), float(numbers.stop)) * self.slot_length

    def interruptions(self) -> Iterator[tuple[int, Floats]]:
        """Yield each device with handovers that take time, and begin and end of these in s.

        A handover begins with the slot in which its device changes its server. Shape (n, 2), in
        order and apart.
        """
        order = np.argsort(self.device, kind="stable")
        first_of = np.searchsorted(self.device[order], self.paths.device)
        end_of = np.searchsorted(self.device[order], self.paths.device, side="right")
        for i, device in enumerate(self.paths.device.tolist()):
            begin = self.slot[order[first_of[i] : end_of[i]]] * self.slot_length
            lasting_s = float(self.paths.handover_s[i])
            if not (len(begin) and lasting_s):
                continue
            end = begin + lasting_s
            first = np.append(True, begin[1:] > end[:-1])  # others continue the one before
            last = np.append(first[1:], True)
            yield device, np.stack([begin[first], end[last]], axis=1)


def mobility(scenario: Scenario, moving: Paths, servers: Servers, start: Ints) -> Mobility:
    """Return the servers of devices over a run.

    Args:
        scenario: The scenario.
        moving: The paths.
        servers: The servers.
        start: Servers of all devices at time 0; shape (D,).

    Raises:
        ScenarioError: A device moves out of coverage; with the file and line of its position.
    """
    count, ratio = len(moving.device), _ratios(moving, scenario.radio.path_loss_slope_db)
    now, busy_until_s = start[moving.device].copy(), np.zeros(count)
    changes: list[tuple[Ints, Ints, Ints]] = []
    made = Mobility(
        paths=moving, slot=start[:0], device=start[:0], server=start[:0], start=start,
        server_xy=servers.xy, slot_length=scenario.slot_length, radio=scenario.radio,
    )  # fmt: skip
    length = max(1, PLACES_AT_ONCE // count)
    for first in range(0, scenario.slots, length):
        numbers = range(first, min(first + length, scenario.slots))
        found = np.empty((len(numbers), count), dtype=np.int64)
        before, now_s = now.copy(), made.starts(numbers)
        k, i = association.associate(
            moving.bounds, moving.time_s, moving.xy, now_s, servers.xy, servers.reach_m, ratio,
            moving.handover_s, now, busy_until_s, found,
        )  # fmt: skip
        if k >= 0:
            raise moving.out_of_coverage(i, float(now_s[k]))
        slot, row = np.nonzero(np.diff(found, axis=0, prepend=before[None]))
        changes.append((slot + first, moving.device[row], found[slot, row]))
    slot, device, server = (read_only(np.concatenate(each)) for each in zip(*changes, strict=True))
    return replace(made, slot=slot, device=device, server=server)


def _ratios(moving: Paths, slope_db: float) -> Floats:
    """Return by which factor in distance the path gain changes by the hysteresis; shape (m,)."""
    exponents = [db / slope_db * LN_10 if slope_db else math.inf for db in moving.hysteresis_db]
    return np.array([exp(each) if each < _LARGE else math.inf for each in exponents])
