"""Average partitioning of DNN inference."""

import numpy as np

from mecsim import Observation, Placement, Scheduler


class APDI(Scheduler):
    """Blocks are spread evenly over the servers in order: block m to server ⌈m·N/M⌉."""

    static = True

    def decide(self, observation: Observation) -> Placement:
        """Return the same placement always; with M < N blocks, the first M servers."""
        blocks, servers = observation.spec.blocks, observation.spec.servers
        number = np.arange(1, blocks + 1)
        return number if blocks < servers else -(-number * servers // blocks)
