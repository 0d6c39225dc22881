"""Intervals for medians. Those for means are compared with SciPy in the tests of verification."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecsim.support.intervals import median_interval


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (100, 40)])
def test_median_interval_of_ranks_in_tables(count: int, rank: int) -> None:
    """The ranks of the 95% interval that tables of the sign test give."""
    values = [float(n) for n in range(count, 0, -1)]
    assert median_interval(values) == (rank, count + 1 - rank)


@given(st.integers(6, 60), st.sampled_from([0.9, 0.95]))
def test_median_interval_is_the_shortest_with_its_confidence(count: int, confidence: float) -> None:
    low, high = median_interval([float(n) for n in range(1, count + 1)], confidence)
    assert low + high == count + 1

    def covers(rank: int) -> float:
        return 1 - 2 * sum(comb(count, k) for k in range(rank)) / 2**count

    assert covers(int(low)) >= confidence > covers(int(low) + 1)


def test_median_interval_of_too_few_values() -> None:
    with pytest.raises(ValueError, match="5 values given, which are too few"):
        median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
