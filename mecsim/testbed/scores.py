"""How far predicted times are from measured ones."""

from __future__ import annotations

from typing import Any, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mecsim.simulation.metrics import QUANTILES, quantiles
from mecsim.support.arrays import Floats
from mecsim.support.intervals import batch_means, mean_interval

BATCHES: Final = 10
"""Parts of a run whose means give the interval of an error."""
LEAST_TASKS: Final = 10 * BATCHES
"""Fewest tasks of which an interval is given: batches of fewer than ten tasks are correlated."""


class _Numbers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Numbers):
    """A number that was measured, and its prediction."""

    measured: float
    predicted: float
    error_percent: float | None
    """Predicted minus measured, in percent of what was measured; None where that is 0."""

    @classmethod
    def of(cls, measured: float, predicted: float) -> Pair:
        """Return a pair with its error.

        >>> Pair.of(2.0, 2.5).error_percent
        25.0
        """
        error = 100 * (predicted - measured) / measured if measured else None
        return cls(measured=measured, predicted=predicted, error_percent=error)


class Score(_Numbers):
    """Times of tasks, measured and predicted, in seconds."""

    name: str
    tasks: int
    """Tasks that spent some of the time, measured."""
    mean: Pair
    p50: Pair
    p95: Pair
    mape_percent: float | None
    """Mean absolute error of single tasks in percent of what was measured, over ``tasks``."""
    mean_error_ci95: tuple[float, float] | None
    """95% interval of the error of the mean in percent, from batch means; None for few tasks."""
    measured_quantiles_s: tuple[float, ...] = Field(exclude=True, repr=False)
    """Quantiles at :data:`mecsim.simulation.metrics.QUANTILES`."""
    predicted_quantiles_s: tuple[float, ...] = Field(exclude=True, repr=False)

    @classmethod
    def of(cls, name: str, measured: Floats, predicted: Floats, **more: Any) -> Self:
        """Compare the times of the same tasks.

        Args:
            name: Name of the score.
            measured: In seconds, in order of release; shape (n,), n > 0.
            predicted: The same, of the same tasks.
            **more: Fields of a subclass.
        """
        spent = measured > 0
        each = np.abs(predicted[spent] - measured[spent]) / measured[spent]
        of_measured, of_predicted = quantiles(measured) or (), quantiles(predicted) or ()
        p50, p95 = QUANTILES.index(0.5), QUANTILES.index(0.95)
        return cls(
            name=name,
            tasks=int(np.count_nonzero(spent)),
            mean=Pair.of(float(measured.mean()), float(predicted.mean())),
            p50=Pair.of(of_measured[p50], of_predicted[p50]),
            p95=Pair.of(of_measured[p95], of_predicted[p95]),
            mape_percent=100 * float(each.mean()) if len(each) else None,
            mean_error_ci95=mean_error_interval(measured, predicted),
            measured_quantiles_s=of_measured,
            predicted_quantiles_s=of_predicted,
            **more,
        )


class PartScore(Score):
    """The seconds of tasks at one kind of resource: waiting, in service, and latency after it."""

    wait: Pair
    """Means of the time in the queue."""
    service: Pair
    """Means of the time in service."""


def mean_error_interval(measured: Floats, predicted: Floats) -> tuple[float, float] | None:
    """Return the 95% interval of the error of a predicted mean in percent; None for few tasks.

    The error is a ratio of means, so its interval is that of the batch means of the residuals
    predicted − (1 + error) × measured. [Law] §4.6 has the same for regenerative ratios.

    Args:
        measured: Times in order of release; shape (n,).
        predicted: Those of the same tasks; shape (n,).
    """
    below = float(measured.mean())
    if len(measured) < LEAST_TASKS or not below:
        return None
    ratio = float(predicted.mean()) / below
    interval = mean_interval(batch_means((predicted - ratio * measured) / below, BATCHES))
    error, half = 100 * (ratio - 1), 100 * (interval.high - interval.low) / 2
    return error - half, error + half
