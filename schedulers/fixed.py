"""A placement given by the user."""

from mecsim import Observation, Placement, Scheduler, SchedulerSpec


class Fixed(Scheduler):
    """Every task follows the placement given as an option, for example placement=[0,1,1,2,2,0].

    Args:
        spec: The network.
        placement: One place for each block, in {0, …, N}; by name where tasks are of classes, for
            example placement={detect: [0,1,1], scan: [2,2]}.
    """

    static = True

    def __init__(self, spec: SchedulerSpec, *, placement: list[int] | dict[str, list[int]]) -> None:
        super().__init__(spec)
        self.placement = placement
        if isinstance(placement, dict):
            names = [each.class_name for each in spec.classes]
            if set(placement) != set(names):
                found, known = (", ".join(each) or "no class" for each in (placement, names))
                raise ValueError(f"placement: is for {found}; expected: {known}")

    def decide(self, observation: Observation) -> Placement:
        """Return the given placement."""
        if isinstance(self.placement, dict):
            return self.placement[observation.class_name]
        return self.placement
