"""Offsets of clocks: from pings, over time, and the readings that follow, worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecsim.testbed.offsets import Measurement, Offset, best, measurement

TIME = st.floats(0.0, 1e6)
OFFSET = st.floats(-1e6, 1e6)


def test_a_ping_by_hand() -> None:
    """Sent at 10, back at 10.4: read at 10.2 at best, when the other clock shows 7.0."""
    assert measurement(10.0, 7.0, 10.4) == pytest.approx((10.2, -3.2, 0.2))


@given(TIME, OFFSET, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_error_bounds_the_offset(
    sent_at: float, offset_s: float, out_s: float, back_s: float
) -> None:
    """However the round trip is split between the two ways."""
    found = measurement(sent_at, sent_at + out_s + offset_s, sent_at + out_s + back_s)
    assert abs(found.offset_s - offset_s) <= found.error_s + 1e-8


def test_the_least_round_trip_counts() -> None:
    found = [Measurement(float(k), 5.0 + k, error) for k, error in enumerate((0.3, 0.1, 0.2))]
    assert best(found) == Measurement(1.0, 6.0, 0.1)


def test_one_measurement_is_a_constant_offset() -> None:
    offset = Offset(Measurement(100.0, 7.0, 0.001))
    assert (offset.there(50.0), offset.here(57.0)) == (57.0, 50.0)
    assert offset.facts() == {"offset_s": 7.0, "error_s": 0.001}


def test_between_two_measurements_it_is_linear() -> None:
    """From 2 s at 100 to 3 s at 200 (drift 1%): 2.5 s at 150."""
    offset = Offset(Measurement(100.0, 2.0, 0.001))
    offset.update(Measurement(200.0, 3.0, 0.002))
    assert offset.there(150.0) == pytest.approx(152.5)
    assert offset.here(152.5) == pytest.approx(150.0)
    assert offset.here(102.0) == pytest.approx(100.0)
    assert offset.here(203.0) == pytest.approx(200.0)
    facts = offset.facts()
    assert facts["after"] == {"offset_s": 3.0, "error_s": 0.002}
    assert facts["drift_ppm"] == pytest.approx(1e4)


@given(TIME, OFFSET, st.floats(1.0, 1e4), st.floats(-1e-3, 1e-3), TIME)
def test_conversions_are_inverse(
    first_at: float, offset_s: float, later_s: float, drift: float, at: float
) -> None:
    offset = Offset(Measurement(first_at, offset_s, 0.0))
    offset.update(Measurement(first_at + later_s, offset_s + drift * later_s, 0.0))
    assert offset.here(offset.there(at)) == pytest.approx(at, abs=1e-6)
