"""Schedulers that follow a script."""

from __future__ import annotations

from typing import Any

from mecsim import Observation, Placement, Scheduler, SchedulerSpec
from mecsim.support.arrays import Ints

SCRIPTED = "tests.helpers.schedulers:Scripted"


LISTENING = "tests.helpers.schedulers:Listening"


class Scripted(Scheduler):
    """One given placement an epoch, and again from the first; keeps what it sees in ``seen``.

    A class of tasks with fewer blocks takes the first places of a placement.
    """

    def __init__(self, spec: SchedulerSpec, *, placements: Any, seen: Any = None) -> None:
        super().__init__(spec)
        self.placements = placements
        self.seen = [] if seen is None else seen

    def decide(self, observation: Observation) -> Placement:
        self.seen.append(observation)
        placement: Placement = self.placements[observation.epoch % len(self.placements)]
        return placement[: observation.spec.blocks] if len(self.spec.classes) > 1 else placement


class Listening(Scripted):
    """A scripted scheduler that keeps the rewards it hears of in ``heard``."""

    def __init__(self, spec: SchedulerSpec, *, placements: Any, heard: Any) -> None:
        super().__init__(spec, placements=placements)
        self.heard = heard

    def epoch_ended(self, observation: Observation, placement: Ints, reward: float) -> None:
        self.heard.append((observation.epoch, reward))
