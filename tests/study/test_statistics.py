"""Intervals over seeds and trainings, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mecsim.study import statistics
from mecsim.support.arrays import Floats

T_1, T_2, T_3 = 12.706204736, 4.302652730, 3.182446305
"""Student's t at 97.5% with 1, 2 and 3 degrees of freedom, from printed tables."""


def row(*values: float) -> Floats:
    return np.array([values], dtype=np.float64)


def test_estimate_by_hand() -> None:
    mean, low, high = statistics.estimate(row(1, 2, 3, 6))
    # deviations −2, −1, 0, 3: variance 14/3, error of the mean √(14/12)
    half = T_3 * math.sqrt(14 / 12)
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half))


def test_estimate_of_one_number() -> None:
    assert statistics.estimate(row(7)) == (7, None, None)
    ratio = statistics.improvement(row(7), row(10))
    assert ratio is not None
    assert ratio.percent == pytest.approx(30)
    assert ratio.low is None


def test_paired_by_hand() -> None:
    shared = np.array([[10.0, 200.0, 3000.0]])
    mean, low, high = statistics.paired(shared + row(1, 2, 3), shared)
    half = T_2 * math.sqrt(1 / 3)
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))
    unpaired = statistics.estimate(shared + row(1, 2, 3))
    assert unpaired.high is not None
    assert unpaired.high - unpaired.mean > 100 * half


def test_paired_is_antisymmetric() -> None:
    """A learner of three trainings, and one that does not learn: either may be the baseline."""
    rng = np.random.default_rng(0)
    learner, other = rng.normal(10, [[3.0], [1.0], [2.0]], (3, 5)), rng.normal(10, 1, (1, 5))
    mean, low, high = statistics.paired(learner, other)
    assert low is not None
    assert high is not None
    assert statistics.paired(other, learner) == pytest.approx((-mean, -high, -low))
    whole = statistics.improvement(other, learner)
    assert whole is not None
    assert whole.low is not None
    apart = statistics.improvement(other, learner.mean(axis=0, keepdims=True))
    assert apart is not None
    assert apart.low is not None
    assert whole.percent == pytest.approx(apart.percent)
    assert whole.low < apart.low  # trainings differ, and that counts


def test_truncated() -> None:
    three, two, one = (np.arange(5.0 * n).reshape(n, 5) for n in (3, 2, 1))
    found = statistics.truncated(three, two, one)
    assert [each.shape for each in found] == [(2, 5), (2, 5), (1, 5)]
    assert [each.shape for each in statistics.truncated(three, one)] == [(3, 5), (1, 5)]


def test_improvement_by_hand() -> None:
    # means 3 and 4: 25% less; residuals x − 0.75·b are 0.5, 0, −0.5, over 4
    percent, low, high = statistics.improvement(row(2, 3, 4), row(2, 4, 6)) or (0, 0, 0)
    half = 100 * T_2 * math.sqrt(0.25 / 3) / 4
    assert (percent, low, high) == pytest.approx((25, 25 - half, 25 + half))


def test_improvement_of_rewards() -> None:
    assert statistics.improvement(row(-8, -8), row(-10, -10)) == pytest.approx((20, 20, 20))
    assert statistics.improvement(row(1, 2), row(1, -1)) is None


def test_crossed_interval_by_hand() -> None:
    # Row means 1.5 and 4.5, column means 2 and 4, residuals ±0.5: mean squares 9, 4 and 1.
    interval = statistics.crossed_interval(np.array([[1.0, 2.0], [3.0, 6.0]]))
    half = T_1 * math.sqrt((9 + 4 - 1) / 4)  # degrees of freedom 12² / (9² + 4² + 1²) = 1.47
    assert interval == pytest.approx((3 - half, 3, 3 + half))


def test_crossed_interval_without_a_factor() -> None:
    # Row means 1.5 and 2.5, column means 2, residuals ±1.5: mean squares 1, 0 and 9, all chance.
    interval = statistics.crossed_interval(np.array([[0.0, 3.0], [4.0, 1.0]]))
    assert interval is not None
    assert interval.high - interval.mean == pytest.approx(T_1 * math.sqrt(9 / 4))
    assert statistics.crossed_interval(np.ones((2, 3))) == (1, 1, 1)


@pytest.mark.statistical
def test_crossed_interval_coverage() -> None:
    """95% of intervals hold the truth, with trainings and seeds that both matter."""
    rng, held, tries = np.random.default_rng(1), 0, 600
    for _ in range(tries):
        sample = rng.normal(size=(3, 1)) + rng.normal(size=(1, 6)) + 0.5 * rng.normal(size=(3, 6))
        interval = statistics.crossed_interval(sample)
        assert interval is not None
        held += interval.contains(0.0)
    assert 0.93 <= held / tries <= 0.995  # rounding degrees of freedom down errs on the safe side


def test_complete_seeds() -> None:
    values = {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 3.0}
    assert statistics.complete_seeds(values) == [0]
    assert statistics.matrix(values, [0]).tolist() == [[1.0], [3.0]]
    with pytest.raises(KeyError):
        statistics.matrix(values, [0, 1])
