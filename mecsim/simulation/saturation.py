"""Decide whether the tasks in flight grow over the slots of a run: whether it is overloaded.

The null hypothesis is a network that serves at least as much as arrives. Its tasks in flight then
grow at most as a random walk without drift does, reflected at zero. An increase beyond the quantile
of Student's t, taken of the batch means of the increments, then has at most twice the probability
of that quantile, also while the run is far from its steady state. The first half of the run is
warm-up. Batch means ([Law] §9.5, see :mod:`mecsim.support.intervals`) allow for increments that
depend on each other.

A burst that is longer than a batch is a trend, not noise. Where the long-run rate of the arrivals
is known, the tasks above it are therefore taken off the increments: a network that serves as much
as arrives in the long run has no trend, however the bursts fall.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mecsim.support.arrays import Floats, Ints
from mecsim.support.intervals import batch_means, t_quantile

BATCHES: Final = 10
MIN_SLOTS: Final = 2 * BATCHES
"""A run with fewer slots cannot be judged."""
ERROR: Final = 0.001
"""One-sided level of the test."""
SHARE: Final = 0.25
"""Least share of the final tasks in flight by which they grew in each half of the run: with
constant growth it is 0.5. A run that has settled at a high level and one with a late burst are not
overloaded."""
FLOOR: Final = 0.5
"""Least number of tasks in flight in the second half, as a share of those at its begin, where the
long-run rate is known. A network without work serves less than it could."""


def is_overloaded(in_flight: Ints, excess: Floats | None = None) -> bool | None:
    """Test whether the tasks in flight grow in proportion to the time.

    >>> is_overloaded(np.arange(1, 41)), is_overloaded(np.full(40, 7))
    (True, False)

    Args:
        in_flight: Number of tasks that have not ended, at the end of each slot; shape (T,).
        excess: Tasks released in each slot above the long-run mean of their process; shape (T,).
            None where the mean is not known.

    Returns:
        The answer; None for a run that is too short to decide.
    """
    if len(in_flight) < MIN_SLOTS:
        return None
    half = len(in_flight) // 2
    middle, last = int(in_flight[half - 1]), int(in_flight[-1])
    if not SHARE * last <= middle <= (1 - SHARE) * last or last <= middle:
        return False
    growth = np.diff(in_flight[half - 1 :]).astype(np.float64)
    if excess is not None:
        if in_flight[half:].min() < FLOOR * middle:
            return False
        growth -= excess[half:]
    means = batch_means(growth, BATCHES)
    error = float(means.std(ddof=1)) / math.sqrt(BATCHES)
    return bool(means.mean() > t_quantile(1 - ERROR, BATCHES - 1) * error)
