"""Random partitioning of DNN inference."""

from mecsim import Observation, Placement, Scheduler


class RPDI(Scheduler):
    """Every block goes to a place drawn uniformly from the device and all servers."""

    def decide(self, observation: Observation) -> Placement:
        """Return a placement uniform over {0, …, N}^M."""
        return self.spec.rng.integers(self.spec.servers + 1, size=observation.spec.blocks)
