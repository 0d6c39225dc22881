"""Token buckets of shaped links."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecsim.testbed import shaping
from mecsim.testbed.shaping import PACKET_BYTES, bucket_bytes, filling_bytes

PSCHED = "000003e8 00000040 000f4240 {:08x}\n"


@pytest.mark.parametrize(
    ("ticks", "rate_bps", "bucket"),
    [
        (10**9, 1e6, 1600),  # a packet must fit
        (10**9, 100e6, 50_000),  # 4 ms: timers are fine, but late
        (10**9, 1e9, 500_000),
        (100, 1e6, 1600),
        (100, 100e6, 125_000),  # 10 ms: a tick
        (0, 100e6, 50_000),
        (10**9, 1e12, 2**24),
    ],
)
def test_bucket(
    ticks: int, rate_bps: float, bucket: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = tmp_path / "psched"
    timers.write_text(PSCHED.format(ticks), "ascii")
    monkeypatch.setattr(shaping, "_TIMERS", timers)
    assert bucket_bytes(rate_bps / 8) == bucket
    timers.write_text("1 2", "ascii")
    assert bucket_bytes(rate_bps / 8) == min(max(1600, rate_bps / 2000), 2**24)
    timers.unlink()
    assert bucket_bytes(rate_bps / 8) == min(max(1600, rate_bps / 2000), 2**24)


@given(st.floats(1e3, 1e9), st.floats(-1, 1e6))
def test_filling(bytes_per_s: float, idle_s: float) -> None:
    """What came in, as long as the bucket holds it."""
    found = filling_bytes(bytes_per_s, idle_s)
    assert 0 <= found <= bucket_bytes(bytes_per_s)
    if idle_s * bytes_per_s >= PACKET_BYTES and idle_s >= shaping.LATE_S:
        assert found >= PACKET_BYTES
    assert filling_bytes(bytes_per_s, float("inf")) == bucket_bytes(bytes_per_s)


def test_filling_of_short_pause() -> None:
    assert filling_bytes(1e6, 250e-6) == 250
    assert filling_bytes(1e6, 0.0) == 0
