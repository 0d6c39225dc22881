"""Greedy placement by backlog."""

from mecsim import Observation, Placement, Scheduler


class Greedy(Scheduler):
    """Each block in turn goes to the place with the least backlog, this epoch's blocks included."""

    def decide(self, observation: Observation) -> Placement:
        """Return the greedy placement; of equal places the lowest-numbered is taken."""
        backlog = observation.place_backlog_s.copy()
        placement = []
        for block in range(self.spec.blocks):
            place = int(backlog.argmin())
            backlog[place] += observation.load_s[place, block]
            placement.append(place)
        return placement
