"""The interface of kernels, and the order of events that every kernel keeps.

Events are ordered by (time, rank, task number), with the ranks below. This is a total order: ties
are the rule, because batches of tasks are released at one instant, and every kernel must break
them equally. A task that becomes able to enter a queue enters it at that event. All kernels compute
times by the same single additions: start = max(now, free), finish = start + service.
"""

from __future__ import annotations

from typing import Final, Protocol

from mecsim.kernels.hops import Hops, Records
from mecsim.scheduler.observation import NetworkState

COMPLETION: Final = 0
DECISION: Final = 1
RELEASE: Final = 2


class Kernel(NetworkState, Protocol):
    """Queues and an event order. Time only moves forwards.

    A kernel receives tables of hops and fills in their column ``start_s``: NaN where a hop was not
    entered (not yet, because the battery was spent, or because its task was dropped: then
    ``service_s`` becomes NaN, too). Where a resource has a calendar, it rewrites ``service_s`` and
    ``energy_j`` as served, and ``latency_s`` as NaN if the task is lost there. All other times
    follow: finish = start + service; a hop is entered when the one before it has finished and its
    latency has passed, or at the task's release.
    """

    def submit(self, hops: Hops) -> None:
        """Add the tasks of an epoch; their releases must not be in the past."""
        ...

    def advance(self, until_s: float) -> float:
        """Process every event before the decision epoch at ``until_s``.

        Returns:
            ``until_s`` or, in a model with retries, an earlier time at which tasks were lost: every
            event before a decision epoch at that time has been processed.
        """
        ...

    def drain(self) -> float:
        """Process all remaining events, or those until tasks are lost; see :meth:`advance`.

        Returns:
            Infinity, or the time at which tasks were lost.
        """
        ...

    def lost_tasks(self) -> dict[int, Records]:
        """Return the tasks that were lost at the present instant, by number, with their hops.

        Those of a model with retries. Tasks that an earlier call at this instant gave may be among
        them.
        """
        ...

    def active(self) -> dict[int, Hops]:
        """Return the hops, as far as known, of epochs with events since the last call.

        Keys number the epochs that were not collected yet, from 0.
        """
        ...

    def collect(self) -> list[Hops]:
        """Remove and return the hops of the leading epochs whose tasks have all ended."""
        ...
