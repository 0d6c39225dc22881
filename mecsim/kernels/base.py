"""The stepper face that every kernel has, and the order of events that every kernel keeps.

Events are ordered by (time, rank, task number), with the ranks below: a total order, so that ties,
which batches of tasks released at one instant make the rule, fall alike in every kernel. A task
that becomes able to enter a queue enters it at that event. Times are made by the same single
additions everywhere: start = max(now, free), finish = start + service.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from mecsim.kernels.hops import Hops
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, read_only

COMPLETION: Final = 0
DECISION: Final = 1
RELEASE: Final = 2


class Kernel(Protocol):
    """Queues and an event order. Time moves forwards only.

    A kernel is given tables of hops and fills in their column ``start_s``, NaN where a hop was not
    entered (not yet, or because the battery was spent). All else follows from it: finish = start +
    service; a hop is entered when the one before it has finished and its latency has passed, or at
    the task's release.
    """

    def submit(self, hops: Hops) -> None:
        """Take the tasks of an epoch; their releases must not lie before the present."""
        ...

    def advance(self, until_s: float) -> None:
        """Process every event before the decision epoch at ``until_s``."""
        ...

    def drain(self) -> None:
        """Process every event that is left."""
        ...

    def backlog_s(self) -> Floats:
        """Return how long a job that joined each resource now would wait; shape (R,)."""
        ...

    def battery_j(self) -> Floats:
        """Return what is left in each device's battery (Eq. 11); shape (D,)."""
        ...

    def active(self) -> dict[int, Hops]:
        """Return the hops, filled in as far as known, of epochs with events since the last call.

        Keys count the epochs that were not collected yet, from 0.
        """
        ...

    def collect(self) -> list[Hops]:
        """Hand over, in order, the hops of the leading epochs of which every task has ended."""
        ...


class IdleKernel:
    """A network in which nothing ever happens, as one sees it before a run."""

    def __init__(self, model: Model) -> None:
        self._backlog_s = read_only(np.zeros(len(model.resources)))
        self._battery_j = read_only(np.full(model.devices, model.battery_j))

    def submit(self, hops: Hops) -> None:
        """Refuse tasks."""
        raise TypeError("an idle network takes no tasks")

    def advance(self, until_s: float) -> None:
        """Do nothing."""

    def drain(self) -> None:
        """Do nothing."""

    def backlog_s(self) -> Floats:
        """Return no backlog; shape (R,)."""
        return self._backlog_s

    def battery_j(self) -> Floats:
        """Return full batteries; shape (D,)."""
        return self._battery_j

    def active(self) -> dict[int, Hops]:
        """Return nothing."""
        return {}

    def collect(self) -> list[Hops]:
        """Return nothing."""
        return []
