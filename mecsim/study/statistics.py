"""Means, paired differences and ratios over seeds, with confidence intervals.

A sample is an array of shape (T, E): a number from each of E workload seeds, for each of T
trainings of a learner (T = 1 for a scheduler that does not learn). All schedulers meet the same
seeds, so their numbers are compared in pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mecsim.support.arrays import Floats
from mecsim.support.intervals import Interval, mean_interval, t_quantile

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean and its 95% confidence interval, whose ends are None where one number is all."""

    mean: float
    low: float | None
    high: float | None


class Ratio(NamedTuple):
    """By how much a mean is below that of a baseline, in percent of the baseline's.

    Of costs, delays and energies, positive is better; and of rewards, which are negative costs.
    """

    percent: float
    low: float | None
    high: float | None


def alike(*samples: Floats) -> list[Floats]:
    """Return samples with equally many trainings, as some may have failed; one of T = 1 stays."""
    fewest = min((len(sample) for sample in samples if len(sample) > 1), default=1)
    return [sample[:fewest] for sample in samples]


def estimate(sample: Floats) -> Estimate:
    """Return the mean of a sample, shape (T, E), and its interval."""
    interval = crossed_interval(sample)
    if interval is None:
        return Estimate(float(sample.mean()), None, None)
    return Estimate(interval.mean, interval.low, interval.high)


def paired(sample: Floats, baseline: Floats) -> Estimate:
    """Return the mean difference, sample minus baseline, over the same workload seeds.

    Either may be of a scheduler that does not learn, shape (1, E). Trainings are paired in the
    order they have, which is as good as any, since they are independent.
    """
    return estimate(sample - baseline)


def improvement(sample: Floats, baseline: Floats) -> Ratio | None:
    """Return by how many percent the mean is below the baseline's; None for a baseline of 0.

    The interval is that of a ratio of paired means by the delta method: of the residuals
    x − r·b, in units of the baseline's mean. [Law] §4.6 has the same for regenerative ratios.
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

    Each training meets each seed, a two-way layout with random effects. The variance of the mean
    is that of the trainings' means, plus that of the seeds', less what both count twice; its
    degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), rounded down. With one
    training or one seed it is Student's t interval over the others, None of a single number.
    """
    trainings, seeds = sample.shape
    if min(trainings, seeds) == 1:
        return mean_interval(sample.ravel(), confidence) if sample.size > 1 else None
    variance, df = _variance_of_mean(sample)
    half = t_quantile(0.5 + confidence / 2, df) * math.sqrt(variance)
    mean = float(sample.mean())
    return Interval(mean - half, mean, mean + half)


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
    """Return the numbers of (training seed, workload seed) as an array (T, E) of those seeds.

    Raises ``KeyError`` where one is missing.
    """
    trainings = sorted({training for training, _ in values})
    return np.array([[values[training, seed] for seed in seeds] for training in trainings])


def complete_seeds(values: dict[tuple[int, int], float]) -> list[int]:
    """Return the workload seeds that all trainings have met."""
    trainings = {training for training, _ in values}
    seeds = sorted({seed for _, seed in values})
    return [seed for seed in seeds if all((training, seed) in values for training in trainings)]
