"""Confidence intervals: Student's t and batch means.

[A&S] is Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964; [Law] is Law,
"Simulation Modeling and Analysis", 5th edition, 2015.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mecsim.support.arrays import Floats


class Interval(NamedTuple):
    """A confidence interval, in the unit of the values that it was computed from."""

    low: float
    mean: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether ``value`` is inside, including the ends; false for NaN.

        >>> Interval(1.0, 2.0, 3.0).contains(3.0)
        True
        """
        return self.low <= value <= self.high


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return Student's t interval for the mean of independent normal values. [Law] §9.4.

    Args:
        values: Shape (n,), n ≥ 2: means of replications, or :func:`batch_means` of one run, which
            are nearly independent and normal. Autocorrelated values give a too short interval.
        confidence: The probability that the interval contains the mean.

    Raises:
        ValueError: Fewer than 2 values, a value that is not finite, or a confidence outside (0, 1).
    """
    (sample,) = as_vectors(values=values)
    if sample.size < 2 or not np.isfinite(sample).all():
        raise ValueError(f"{sample.size} values given, must be at least 2 and finite")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, must be inside (0, 1)")
    mean, error = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(sample.size)
    half = t_quantile(0.5 + confidence / 2, sample.size - 1) * error
    return Interval(mean - half, mean, mean + half)


def median_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval for the median of independent values of any continuous distribution.

    The ends are two of the values: the number of values below the median is binomial.

    Args:
        values: Shape (n,).
        confidence: The least probability that the interval contains the median.

    Raises:
        ValueError: So few values that not even the interval from the least to the greatest has the
            confidence, 6 for 95%.

    >>> median_interval([3.0, 1.0, 4.0, 1.5, 9.0, 2.6])
    (1.0, 9.0)
    """
    (sample,) = as_vectors(values=values)
    count, outside, cut = sample.size, 0.0, -1
    while (outside := outside + math.comb(count, cut + 1) / 2**count) <= (1 - confidence) / 2:
        cut += 1
    if cut < 0:
        raise ValueError(
            f"{count} values given, which are too few for a confidence of {confidence}"
        )
    ordered = np.sort(sample)
    return float(ordered[cut]), float(ordered[count - 1 - cut])


def batch_means(values: ArrayLike, batches: int) -> Floats:
    """Return the means of consecutive equal parts of a run. [Law] §9.5.

    >>> batch_means([9.0, 1.0, 3.0, 5.0, 7.0], 2).tolist()
    [2.0, 6.0]

    Args:
        values: Values of a run without its warm-up, shape (n,). The first n mod ``batches`` values
            are dropped.
        batches: Number of parts; each should be far longer than the autocorrelation.

    Returns:
        The means, shape (batches,).

    Raises:
        ValueError: Not 2 ≤ ``batches`` ≤ n.
    """
    (sample,) = as_vectors(values=values)
    if check_whole("batches", batches, 2) > sample.size:
        raise ValueError(f"batches is {batches}, must be at most the {sample.size} values")
    return np.asarray(sample[sample.size % batches :].reshape(batches, -1).mean(axis=1))


def t_quantile(probability: float, df: int) -> float:
    """Return a quantile of Student's t distribution.

    Up to 1000 degrees of freedom the distribution is a finite sum ([A&S] 26.7.3, 26.7.4), inverted
    by bisection; above, an expansion about the normal quantile. The error is below
    1e-9 max(1, abs(t)) for probabilities from 1e-4 to 1 - 1e-4.

    scipy.stats.t.ppf would be the only use of scipy at run time: 143 MB installed, and its import
    takes 0.7 s, longer than all other imports of a run. The tests compare the two.

    >>> round(t_quantile(0.975, 10), 3)
    2.228

    Args:
        probability: The probability below the quantile, inside (0, 1).
        df: Degrees of freedom, a whole number of at least 1.

    Raises:
        ValueError: An argument is out of range.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability is {probability}, must be inside (0, 1)")
    if check_whole("df", df, 1) > 1000:
        return _t_expansion(NormalDist().inv_cdf(probability), df)
    central, low, high = abs(2 * probability - 1), 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_central(middle, df) < central else (low, middle)
    return math.copysign(math.sqrt(df) * math.tan(low), probability - 0.5)


def _t_central(angle: float, df: int) -> float:
    """P(|T| < √df tan(angle)): [A&S] 26.7.3 for odd df, 26.7.4 for even."""
    sine, cosine, odd = math.sin(angle), math.cos(angle), df % 2
    term = total = cosine if odd else 1.0
    for k in range(1 + odd, df - 2, 2):
        term *= cosine**2 * k / (k + 1)
        total += term
    if odd:
        return 2 / math.pi * (angle + (sine * total if df > 1 else 0.0))
    return sine * total


def _t_expansion(z: float, df: int) -> float:
    """The t quantile from the normal one, z: Cornish and Fisher, [A&S] 26.7.5, to df**-3."""
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / df + second / df**2 + third / df**3


def check_whole(name: str, value: int, least: int) -> int:
    """Return a whole number of at least ``least``. Raises ``ValueError``."""
    if value != int(value) or value < least:
        raise ValueError(f"{name} is {value}, must be a whole number of at least {least}")
    return value


def as_vectors(**columns: ArrayLike) -> list[Floats]:
    """Return columns as finite vectors of one length. Raises ``ValueError``."""
    vectors = [np.asarray(column, dtype=np.float64) for column in columns.values()]
    shapes = [vector.shape for vector in vectors]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1:
        raise ValueError(f"{', '.join(columns)}: shapes are {shapes}, must be (n,) and equal")
    return vectors
