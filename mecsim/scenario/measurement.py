"""Which tasks of a run are counted."""

from __future__ import annotations

from mecsim.scenario.section import Section
from mecsim.scenario.units import NonNegativeSeconds


class Measurement(Section):
    """Which tasks are counted, by their times of release; all are simulated."""

    warm_up: NonNegativeSeconds = 0.0
    """Time in s from the start whose tasks are not counted: the network starts empty."""
    cool_down: NonNegativeSeconds = 0.0
    """Time in s before the end of the last slot whose tasks are not counted: the network drains."""
