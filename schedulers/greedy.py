"""Greedy placement by backlog."""

from typing import Literal

import numpy as np

from mecsim import Observation, Placement, Scheduler, SchedulerSpec


class Greedy(Scheduler):
    """Each block in turn goes to the place with the least backlog, this epoch's blocks included.

    Places that are down are avoided.

    Args:
        spec: The network.
        places: Whether ``all`` places are considered, or the ``servers`` only.
    """

    def __init__(self, spec: SchedulerSpec, *, places: Literal["all", "servers"] = "all") -> None:
        super().__init__(spec)
        self._first_place = 0 if places == "all" else 1

    def decide(self, observation: Observation) -> Placement:
        """Return the greedy placement; of equal places the lowest-numbered is taken."""
        backlog = observation.place_backlog_s.copy()
        backlog[: self._first_place] = np.inf
        placement = []
        for block in range(observation.spec.blocks):
            place = int(backlog.argmin())
            backlog[place] += observation.load_s[place, block]
            placement.append(place)
        return placement
