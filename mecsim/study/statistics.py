"""Means, paired differences and ratios over seeds, with 95% confidence intervals.

A sample is an array of shape (T, E): one number for each of T trainings of a learner (T = 1 for a
scheduler that does not learn) and each of E workload seeds. All schedulers run on the same seeds
(common random numbers), so their numbers are compared in pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mecsim.support.arrays import Floats, without_scale
from mecsim.support.intervals import Interval, mean_interval, t_quantile

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean and its 95% confidence interval; the ends are None for a single number."""

    mean: float
    low: float | None
    high: float | None


class Ratio(NamedTuple):
    """The reduction of a mean against a baseline, in percent of the baseline's mean.

    Positive is better for costs, delays and energies, and for rewards, which are negative costs.
    """

    percent: float
    low: float | None
    high: float | None


def truncated(*samples: Floats) -> list[Floats]:
    """Cut samples to the same number of trainings T, since some may have failed.

    Samples of one training (T = 1) do not count.
    """
    fewest = min((len(sample) for sample in samples if len(sample) > 1), default=1)
    return [sample[:fewest] for sample in samples]


def estimate(sample: Floats) -> Estimate:
    """Return the mean of a sample, shape (T, E), and its interval.

    >>> import numpy as np
    >>> mean, low, high = estimate(np.array([[1.0, 2.0, 3.0]]))
    >>> mean, round(low, 2), round(high, 2)
    (2.0, -0.48, 4.48)
    """
    interval = crossed_interval(sample)
    if interval is None:
        return Estimate(float(sample.mean()), None, None)
    return Estimate(interval.mean, interval.low, interval.high)


def paired(sample: Floats, baseline: Floats) -> Estimate:
    """Return the mean difference, sample minus baseline, over the same workload seeds.

    Args:
        sample: Numbers of one scheduler, shape (T, E).
        baseline: Numbers of the other; one of the two may have shape (1, E). Trainings are paired
            in order: any order will do, since trainings are independent.

    >>> import numpy as np
    >>> paired(np.array([[2.0, 5.0]]), np.array([[1.0, 4.0]]))
    Estimate(mean=1.0, low=1.0, high=1.0)
    """
    return estimate(sample - baseline)


def improvement(sample: Floats, baseline: Floats) -> Ratio | None:
    """Return the reduction against the baseline in percent; None for a baseline mean of 0.

    The interval is that of a ratio of paired means by the delta method: the interval of the
    residuals x − r·b in units of the baseline's mean. [Law] §4.6 has the same for regenerative
    ratios.

    >>> import numpy as np
    >>> improvement(np.array([[5.0, 10.0]]), np.array([[10.0, 20.0]])).percent
    50.0
    """
    below = float(baseline.mean())
    if not below:
        return None
    ratio = float(sample.mean()) / below
    residual = crossed_interval((sample - ratio * baseline) / below)
    percent = 100 * (1 - ratio)
    if residual is None:
        return Ratio(percent, None, None)
    half = 100 * (residual.high - residual.low) / 2
    return Ratio(percent, percent - half, percent + half)


def crossed_interval(sample: Floats, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the interval of the mean over trainings and workload seeds, both drawn at random.

    Each training runs on each seed: a two-way crossed layout with random effects. The variance of
    the mean is the variance of the trainings' means plus that of the seeds' means, minus the
    residual variance, which both contain. The degrees of freedom are Satterthwaite's (Biometrics
    Bulletin 2, 1946), rounded down.

    Returns:
        With one training or one seed, Student's t interval over the other factor; None for a
        single number.
    """
    if sample.size == 1:
        return None
    small, scale = without_scale(sample)
    if min(sample.shape) == 1:
        found = mean_interval(small.ravel(), confidence)
    else:
        variance, df = _variance_of_mean(small)
        half = t_quantile(0.5 + confidence / 2, df) * math.sqrt(variance)
        mean = float(small.mean())
        found = Interval(mean - half, mean, mean + half)
    return Interval(*(scale * value for value in found))


def _variance_of_mean(sample: Floats) -> tuple[float, int]:
    """Return the variance of the mean of a crossed sample, and its degrees of freedom."""
    rows, columns = sample.mean(axis=1), sample.mean(axis=0)
    rest = sample - rows[:, None] - columns[None, :] + sample.mean()
    free = len(rows) - 1, len(columns) - 1
    of_rest = float((rest**2).sum()) / (free[0] * free[1])
    squares = (float(rows.var(ddof=1)) * len(columns), float(columns.var(ddof=1)) * len(rows))
    # A factor that varies less than chance alone would have it adds nothing.
    terms = [(square, df) for square, df in zip(squares, free, strict=True) if square > of_rest]
    terms.append(((1 - len(terms)) * of_rest, free[0] * free[1]))
    total = sum(square for square, _ in terms)
    if not total:
        return 0.0, min(free)
    df = total**2 / sum(square**2 / df for square, df in terms)
    return total / sample.size, max(1, math.floor(df + 1e-9))


def matrix(values: dict[tuple[int, int], float], seeds: list[int]) -> Floats:
    """Return numbers by (training seed, workload seed) as an array (T, E) of the given seeds.

    Raises:
        KeyError: A number is missing.
    """
    trainings = sorted({training for training, _ in values})
    return np.array([[values[training, seed] for seed in seeds] for training in trainings])


def complete_seeds(values: dict[tuple[int, int], float]) -> list[int]:
    """Return the workload seeds on which all trainings ran, in order.

    >>> complete_seeds({(0, 1): 2.5, (0, 2): 3.0, (1, 1): 2.0})
    [1]
    """
    trainings = {training for training, _ in values}
    seeds = sorted({seed for _, seed in values})
    return [seed for seed in seeds if all((training, seed) in values for training in trainings)]
