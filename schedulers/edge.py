"""Full offloading to the serving server."""

import numpy as np

from mecsim import Observation, Placement, Scheduler


class Edge(Scheduler):
    """Every block runs at the serving server (for a slot: that of most devices)."""

    static = True

    def decide(self, observation: Observation) -> Placement:
        """Return the serving server of the task's device for every block."""
        serving, device = observation.serving_server, observation.device
        own = serving[observation.spec.releasing] if device is None else serving[[device]]
        server = np.bincount(own).argmax()
        return [int(server) + 1] * observation.spec.blocks
