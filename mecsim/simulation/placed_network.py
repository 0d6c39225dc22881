"""What a scheduler sees of a network in which tasks were placed at the same instant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mecsim.kernels.base import Kernel
from mecsim.scheduler.observation import ALL, UnderWay, lost_resources
from mecsim.support.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class PlacedNetwork:
    """A network with tasks that were placed at this instant and are not submitted yet."""

    kernel: Kernel
    placed_s: Callable[[], Floats]
    """Their services by resource; shape (R,)."""

    def backlog_s(self, resources: slice = ALL) -> Floats:
        """Return the backlogs without the placed tasks, which have joined no queue."""
        return self.kernel.backlog_s(resources)

    def battery_j(self) -> Floats:
        """Return the remaining energy of each battery."""
        return self.kernel.battery_j()

    def queue_length(self) -> Ints:
        """Return the jobs at each resource, without the placed tasks."""
        return self.kernel.queue_length()

    def committed_s(self) -> Floats:
        """Return the services of placed tasks at each resource."""
        return self.kernel.committed_s() + self.placed_s()

    def lost(self) -> Bools | None:
        """Return which resources are gone for good; None if none can be."""
        return lost_resources(self.kernel)

    def under_way(self) -> UnderWay:
        """Return the tasks under way; the placed tasks are not released."""
        return self.kernel.under_way()
