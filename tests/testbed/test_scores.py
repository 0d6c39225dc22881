"""Errors of predicted times and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mecsim.support.arrays import Floats
from mecsim.support.intervals import t_quantile
from mecsim.testbed.scores import LEAST_TASKS, Pair, Score, mean_error_interval

TIMES = arrays(np.float64, 7, elements=st.floats(1e-3, 1e3))


@given(TIMES, st.floats(0.5, 2.0))
def test_a_common_factor_is_the_error_of_everything(measured: Floats, factor: float) -> None:
    found = Score.of("total", measured, factor * measured)
    expected = 100 * (factor - 1)
    for pair in (found.mean, found.p50, found.p95):
        assert pair.error_percent == pytest.approx(expected, abs=1e-9)
    assert found.mape_percent == pytest.approx(abs(expected), abs=1e-9)


def test_tasks_without_the_part_count_in_the_mean_but_not_in_the_mape() -> None:
    found = Score.of("link", np.array([0.0, 0.0, 2.0, 2.0]), np.array([0.0, 0.0, 3.0, 1.0]))
    assert found.tasks == 2
    assert found.mean == Pair(measured=1.0, predicted=1.0, error_percent=0.0)
    assert found.mape_percent == 50
    idle = Score.of("link", np.zeros(3), np.array([0.0, 1.0, 0.0]))
    assert (idle.tasks, idle.mean.error_percent, idle.mape_percent) == (0, None, None)


def test_interval_of_the_error_by_hand() -> None:
    """Batches of ten tasks: measured 1 s each; predicted 2 s in nine batches and 12 s in one."""
    predicted = np.repeat([2.0] * 9 + [12.0], 10)
    low, high = mean_error_interval(np.ones(100), predicted) or (0.0, 0.0)
    # Ratio 3; residuals −1 (nine times) and 9: standard deviation √(90 / 9), standard error 1.
    assert (low + high) / 2 == pytest.approx(200)
    assert (high - low) / 2 == pytest.approx(100 * t_quantile(0.975, 9))


def test_interval_needs_enough_tasks() -> None:
    ones = np.ones(LEAST_TASKS)
    assert mean_error_interval(ones, ones) == (0.0, 0.0)
    assert mean_error_interval(ones[1:], ones[1:]) is None
    assert mean_error_interval(0 * ones, ones) is None


def test_interval_is_that_of_the_ratio_of_means() -> None:
    """Errors proportional to the time of a task are no scatter of the ratio."""
    measured = np.random.default_rng(7).uniform(1, 9, 500)
    low, high = mean_error_interval(measured, 0.75 * measured) or (0.0, 0.0)
    assert low == pytest.approx(-25)
    assert high == pytest.approx(-25)
