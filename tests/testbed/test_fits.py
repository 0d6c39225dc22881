"""Fits of service times: numbers worked by hand, and intervals that cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mecsim.support.arrays import Floats
from mecsim.support.intervals import t_quantile
from mecsim.testbed.fits import Estimate, fit_mean, fit_transfers


def inside(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def leverage(x: Floats) -> Floats:
    """How far each value decides its own fit: 1 / n + (x - mean)² / Σ (x - mean)²."""
    apart = (x - x.mean()) ** 2
    found: Floats = 1 / len(x) + apart / apart.sum()
    return found


def test_a_mean() -> None:
    found = fit_mean(np.array([1.0, 2.0, 6.0]))
    half = t_quantile(0.975, 2) * math.sqrt(7 / 3)  # variance 7 of 3 values
    assert found.value == 3
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half))
    assert fit_mean(np.array([2.0])) == Estimate(value=2.0)


def test_transfers_on_a_line() -> None:
    by_bits_s = np.array([0.01, 0.02, 0.05, 0.1] * 2)
    found = fit_transfers(by_bits_s, 1.046 * by_bits_s + 0.003)
    assert (found.transfers, found.one_size, found.at_bound) == (8, False, None)
    assert found.headers.value == pytest.approx(0.046)
    assert found.overhead_s.value == pytest.approx(0.003)
    assert found.headers.low == pytest.approx(0.046)


def test_intervals_are_those_of_fits_without_one_transfer_each() -> None:
    """HC3 is the sum of the squares by which the fit changes without each of the values."""
    x = np.array([0.01, 0.02, 0.03, 0.06, 0.07, 0.08])
    y = np.array([0.012, 0.0235, 0.034, 0.067, 0.079, 0.09])
    slope, intercept = np.polyfit(x, y, 1)
    without = np.array([np.polyfit(np.delete(x, i), np.delete(y, i), 1) for i in range(len(x))])
    errors = np.sqrt(((without - [slope, intercept]) ** 2).sum(axis=0)) * t_quantile(0.975, 1)
    assert leverage(x).max() == pytest.approx(0.46, abs=0.01)  # 1 / 0.46 - 1 is 1.2
    found = fit_transfers(x, y)
    assert found.headers.value == pytest.approx(slope - 1)
    assert found.overhead_s.value == pytest.approx(intercept)
    for estimate, half in zip((found.headers, found.overhead_s), errors, strict=True):
        assert estimate.high == pytest.approx(estimate.value + half, abs=1e-12)
        assert estimate.low == pytest.approx(estimate.value - half, abs=1e-12)


def test_one_size_gives_headers_only() -> None:
    found = fit_transfers(np.full(3, 0.1), np.array([0.11, 0.12, 0.13]))
    assert (found.one_size, found.overhead_s) == (True, Estimate(value=0.0))
    assert found.headers.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("slope", "overhead_s", "bound", "headers", "expected_s"),
    [
        (0.9, 0.01, "headers", 0.0, 0.01 - 0.1 * 0.02),  # mean of the rest: x is 0.02 on average
        (1.2, -0.001, "overhead", 1.2 - 0.001 * 0.06 / 0.0014 - 1, 0.0),  # Σx = 0.06, Σx² = 0.0014
        (0.9, -0.001, "headers", 0.0, 0.0),
    ],
)
def test_nothing_below_zero(
    slope: float, overhead_s: float, bound: str, headers: float, expected_s: float
) -> None:
    x = np.array([0.01, 0.02, 0.03])
    found = fit_transfers(x, slope * x + overhead_s)
    assert found.at_bound == bound
    assert found.headers.value == pytest.approx(headers)
    assert found.overhead_s.value == pytest.approx(expected_s)


def test_an_interval_at_zero() -> None:
    """Without a bound the slope is 0.95, and its interval reaches above 1."""
    x = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    y = 0.95 * x + 0.02 + 0.004 * np.array([1, -1, 1, -1, 1, -1])
    found = fit_transfers(x, y)
    assert (found.at_bound, found.headers.value, found.headers.low) == ("headers", 0.0, 0.0)
    without = np.array([np.polyfit(np.delete(x, i), np.delete(y, i), 1) for i in range(6)])
    error = np.sqrt(((without[:, 0] - 0.95) ** 2).sum()) * t_quantile(0.975, 1)
    assert leverage(x).max() == pytest.approx(5 / 12)  # 1 / (5 / 12) - 1 is 1.4
    assert found.headers.high == pytest.approx(error - 0.05)
    assert error > 0.05
    assert found.overhead_s.value == pytest.approx(0.02 - 0.05 * 0.2)


def test_a_bound_outside_of_the_interval_has_none() -> None:
    """An interval from 0 to 0 would be certain of a line that does not fit."""
    x = np.array([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    y = 0.5 * x + 0.2 + 1e-5 * np.array([1, -1, 1, -1, 1, -1])
    found = fit_transfers(x, y)
    assert (found.at_bound, found.headers) == ("headers", Estimate(value=0.0))


def test_two_transfers_have_no_interval() -> None:
    found = fit_transfers(np.array([0.01, 0.02]), np.array([0.012, 0.023]))
    assert found.headers.value == pytest.approx(0.1)
    assert (found.headers.low, found.overhead_s.high) == (None, None)


def test_one_transfer_of_a_size_gives_no_interval() -> None:
    """It lies on any line: HC3 alone would take its error for 0."""
    x = np.array([0.01] * 100 + [0.1])
    y = 1.05 * x + 0.002 + 1e-4 * np.tile([1.0, -1.0], 51)[:101]
    found = fit_transfers(x, y)
    assert (found.headers.low, found.overhead_s.low) == (None, None)
    again = fit_transfers(np.append(x, 0.1), np.append(y, 0.107))
    assert again.headers.low is not None


@pytest.mark.parametrize("rare", [2, 3, 5])
def test_intervals_of_rare_sizes_cover_the_truth(rare: int) -> None:
    """At least 95% of 1,000 fits cover, to 99.9%; with n - 2 degrees of freedom 79% to 91% do."""
    rng, trials, covered = np.random.default_rng(rare), 1000, np.zeros(2)
    x = np.array([0.01] * 100 + [0.1] * rare)
    for _ in range(trials):
        found = fit_transfers(x, 1.2 * x + 0.01 + x * rng.normal(0, 0.05, len(x)))
        covered += inside(found.headers, 0.2), inside(found.overhead_s, 0.01)
    assert (covered / trials >= 0.95 - 3.09 * math.sqrt(0.95 * 0.05 / trials)).all()


def test_intervals_cover_the_truth() -> None:
    """Of 1,000 fits, 95% cover: each share is within its 99.9% binomial interval."""
    rng, trials, covered = np.random.default_rng(5), 1000, np.zeros(3)
    for _ in range(trials):
        x = rng.choice([0.005, 0.02, 0.04, 0.1], 80)
        noise = x * rng.normal(0, 0.05, 80) + rng.normal(0, 0.0005, 80)  # more for long transfers
        found = fit_transfers(x, 1.2 * x + 0.01 + noise)
        mean = fit_mean(0.03 + rng.normal(0, 0.002, 40))
        covered += inside(found.headers, 0.2), inside(found.overhead_s, 0.01), inside(mean, 0.03)
    half = 3.29 * math.sqrt(0.95 * 0.05 / trials)
    assert (np.abs(covered / trials - 0.95) <= half).all(), covered / trials
