"""Warns of runs whose times are too coarse for their services."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from mecsim.model.coverage import radio_rates
from mecsim.model.model import Model

_log = logging.getLogger(__name__)

LEAST_STEPS: Final = 50
"""Steps of the clock in the shortest service.

A service ends at t + s, which is rounded by at most half a step, ulp(t) / 2. So a service of n
steps has an error of at most 1 / 2n of its length: 1% at 50 steps. Below half a step it vanishes.
"""


def warn_of_short_services(model: Model) -> None:
    """Log a warning if the times of a run cannot resolve its shortest service.

    Services are those of tasks of size factor 1 without fading, at the fastest resources.
    """
    horizon = model.scenario.slots * model.scenario.slot_length
    step = math.ulp(horizon)
    shortest, name = min(_services(model), default=(math.inf, ""))
    if shortest < LEAST_STEPS * step:
        _log.warning(
            "%s takes %.2g s, but times near the end of the run (%g s) are multiples of %.2g s. "
            "Expected: services of at least %.2g s. Try: fewer or shorter slots",
            *(name, shortest, horizon, step, LEAST_STEPS * step),
        )


def _services(model: Model) -> Iterator[tuple[float, str]]:
    """Yield the shortest service of each block and transfer, in seconds, and its name."""
    compute, moved = model.compute, model.input_bits
    if model.scenario.return_result:
        moved = np.append(moved, model.result_bits)
    links = [float(radio_rates(model)[1].max()), *model.links.rate_bps.tolist()]
    for work, speed, what in [
        *(
            (work, float(compute.speed[compute.node_type == kind].max()), "a block")
            for kind, work in enumerate(compute.work)
        ),
        (moved, max(links), "a transfer"),
    ]:
        if (work > 0).any():
            yield float(work[work > 0].min()) / speed, what
