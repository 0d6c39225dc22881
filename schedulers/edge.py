"""Plain offloading to the nearest server."""

import numpy as np

from mecsim import Observation, Placement, Scheduler


class Edge(Scheduler):
    """Every block runs at the associated server (for a slot: at the one with most devices)."""

    static = True

    def decide(self, observation: Observation) -> Placement:
        """Return the associated server of the task's device for every block."""
        serving_server = self.spec.serving_server
        device = observation.device
        server = (
            serving_server[device] if device is not None else np.bincount(serving_server).argmax()
        )
        return [int(server) + 1] * self.spec.blocks
