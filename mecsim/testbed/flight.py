"""Tasks in flight: what nodes have reported of their hops, until they fill in the table of hops."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from mecsim.kernels.hops import Hops, Records
from mecsim.testbed.messages import Release


class Batch:
    """The tasks of an epoch."""

    def __init__(self, hops: Hops) -> None:
        self.hops = hops
        self.tasks: list[Flight] = []
        """Those that have not ended."""
        self.active = False
        """Whether something has happened since the last look."""

    def seen_at(self, now_s: float) -> Hops:
        """Return a copy of the hops as known at a time; a hop in service ends later."""
        rows = self.hops.rows.copy()
        for task in self.tasks:
            task.fill_in(rows, now_s)
        return replace(self.hops, rows=rows)


@dataclass(eq=False, slots=True)
class Flight:
    """A task in flight. Reports of its hops may come in any order."""

    release: Release
    batch: Batch
    first: int
    """Row of its first hop."""
    device: int
    start_s: list[float] = field(init=False)
    """Start of each hop, NaN until it is reported; seconds of the scenario."""
    finish_s: list[float] = field(init=False)
    stop: int = field(init=False)
    """The hop at which the task was lost or dropped; the number of hops if it was not."""
    lost_s: float = math.nan
    """When it was lost."""

    def __post_init__(self) -> None:
        count = len(self.release.hops)
        self.start_s, self.finish_s = [math.nan] * count, [math.nan] * count
        self.stop = count

    def record(self, hop: int, start_s: float, finish_s: float) -> None:
        """Take the report of a hop."""
        self.start_s[hop], self.finish_s[hop] = start_s, finish_s

    def end(self, hop: int, lost_s: float = math.nan) -> None:
        """Let the task end at a hop: dropped, or lost at a time."""
        if hop < self.stop:
            self.stop, self.lost_s = hop, lost_s

    @property
    def lost(self) -> bool:
        """Whether the task was lost."""
        return not math.isnan(self.lost_s)

    def pending(self) -> int | None:
        """Return the first hop that was not reported, None if the task has ended."""
        for hop in range(self.stop):
            if math.isnan(self.finish_s[hop]):
                return hop
        return None

    def passed(self, hop: int) -> bool:
        """Return whether a later hop was reported."""
        return any(not math.isnan(each) for each in self.finish_s[hop + 1 :])

    def assume(self, hop: int) -> None:
        """Fill in a hop whose report will not come, for the task has passed it: as planned."""
        self.record(hop, -math.inf, -math.inf)

    def fill_in(self, rows: Records, now_s: float = math.nan) -> None:
        """Write the measured times into the table of hops.

        Where a report gives a start before the task could have come, because clocks are not exact,
        the service starts when the task came.

        Args:
            rows: The rows of the table.
            now_s: The time, if the task has not ended: its next hop then ends after that.
        """
        arrival_s, planned = self.release.release_s, self.release.hops
        for hop in range(len(planned)):
            row = rows[self.first + hop]
            if hop == self.stop:
                self._stop(row, arrival_s)
                return
            if math.isnan(self.finish_s[hop]):
                row["start_s"] = max(arrival_s, float(np.nextafter(now_s, math.inf)))
                return
            start_s = max(self.start_s[hop], arrival_s)
            service_s = max(self.finish_s[hop] - start_s, 0.0)
            if self.finish_s[hop] == -math.inf:
                service_s = planned[hop].service_s
            row["start_s"], row["service_s"] = start_s, service_s
            if planned[hop].service_s:
                row["energy_j"] *= service_s / planned[hop].service_s
            arrival_s = start_s + service_s + row["latency_s"]

    def _stop(self, row: np.void, arrival_s: float) -> None:
        if self.lost:
            row["start_s"], row["service_s"] = max(arrival_s, self.lost_s), 0.0
            row["latency_s"], row["energy_j"] = math.nan, 0.0
        else:
            row["service_s"] = math.nan
