"""A placement given by the user."""

from mecsim import Observation, Placement, Scheduler, SchedulerSpec


class Fixed(Scheduler):
    """Every task follows the placement given as an option, for example placement=[0,1,1,2,2,0].

    Args:
        spec: The network.
        placement: One place for each block, in {0, …, N}.
    """

    static = True

    def __init__(self, spec: SchedulerSpec, *, placement: list[int]) -> None:
        super().__init__(spec)
        self.placement = placement

    def decide(self, observation: Observation) -> Placement:
        """Return the given placement."""
        return self.placement
