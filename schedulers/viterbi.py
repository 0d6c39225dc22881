"""The optimal placement on an empty network, by dynamic programming over the chain of blocks.

Viterbi, "Error Bounds for Convolutional Codes and an Asymptotically Optimum Decoding Algorithm",
1967.
"""

from mecsim import Observation, Placement, Scheduler
from mecsim.scheduler import cheapest_chain


class Viterbi(Scheduler):
    """The placement of least cost if nothing waits (for a slot: least on average over all devices).

    Optimal for one task on an empty network. Ignores backlogs.
    """

    def decide(self, observation: Observation) -> Placement:
        """Return the cheapest placement; of equal places the lowest-numbered is taken."""
        return cheapest_chain(observation.empty_network_cost_s[..., None])[0]
