"""Series from files: units, steps, what happens at the end, and mahimahi traces."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mecsim.errors import ScenarioError
from mecsim.scenario.time_series import Steps, read_mahimahi, read_series, unit_of


def series(tmp_path: Path, text: str, unit: str = "bit/s", **options: object) -> Steps:
    path = tmp_path / "series.csv"
    path.write_text(text, encoding="utf-8")
    return read_series(path, unit, **options)  # type: ignore[arg-type]


def pairs(found: Steps) -> list[tuple[float, float]]:
    return list(zip(found.begin_s.tolist(), found.value.tolist(), strict=True))


@pytest.mark.parametrize(
    ("head", "unit", "found"),
    [
        ("rate (Mbit/s)", "bit/s", "Mbit/s"),
        ("rate [kB/s]", "bit/s", "kB/s"),
        ("rate_mbit_s", "bit/s", "Mbit/s"),
        ("rate_Mbps", "bit/s", "Mbps"),
        ("down_link_MB_s", "bit/s", "MB/s"),
        ("rate_mb_s", "bit/s", None),  # megabits or megabytes
        ("clock_ghz", "Hz", "GHz"),
        ("clock_ghz", "bit/s", None),
        ("time (ms)", "s", "ms"),
        ("time", "s", None),
        ("rate (fast)", "bit/s", None),
    ],
)
def test_units_of_headers(head: str, unit: str, found: str | None) -> None:
    assert unit_of(head, unit) == found


def test_steps_in_si_units_count_from_the_first_row(tmp_path: Path) -> None:
    """2 s at 10, 1 s at 0.1 and, as the row before, 1 s at 4 Mbit/s: 6.025 on average."""
    found = series(tmp_path, "time (ms),loss,rate (Mbit/s)\n500,1,10\n2500,2,0.1\n3500,3,4\n")
    assert pairs(found) == [(0.0, 10e6), (2.0, 0.1e6), (3.0, 4e6)]
    assert found.nominal == pytest.approx((20e6 + 0.1e6 + 4e6) / 4)
    assert found.period_s == math.inf


def test_column_may_be_named_with_or_without_its_unit(tmp_path: Path) -> None:
    text = "time_s,up (Mbit/s),down (Mbit/s)\n0,1,2\n"
    assert series(tmp_path, text, column="down").value.tolist() == [2e6]
    assert series(tmp_path, text, column="up (Mbit/s)").value.tolist() == [1e6]


def test_period_of_a_repeated_series_ends_with_the_last_step(tmp_path: Path) -> None:
    found = series(tmp_path, "time_s,rate_mbit_s\n0,1\n4,3\n6,0\n", end="repeat")
    assert found.period_s == 8.0
    assert found.nominal == (4e6 + 6e6) / 8


def test_linear_series_has_the_middle_of_each_step(tmp_path: Path) -> None:
    """From 10 to 20 in 1 s in four steps, then down to 0 within one step of 0.2 s."""
    text = "time_s,rate_mbit_s\n0,10\n1,20\n1.2,0\n2,8\n"
    found = series(tmp_path, text, interpolation="linear", resolution_s=0.25)
    assert pairs(found)[:5] == [
        (0.0, 11.25e6),
        (0.25, 13.75e6),
        (0.5, 16.25e6),
        (0.75, 18.75e6),
        (1.0, 10e6),
    ]
    assert pairs(found)[-1] == (2.0, 8e6)
    again = series(tmp_path, text, interpolation="linear", resolution_s=0.25, end="repeat")
    assert again.period_s == 2.0
    assert pairs(again) == pairs(found)[:-1]
    assert again.nominal == pytest.approx((15e6 + 10e6 * 0.2 + 4e6 * 0.8) / 2)


def test_series_that_is_long_enough_is_no_error(tmp_path: Path) -> None:
    text = "time_s,rate_mbit_s\n0,1\n2,3\n"
    assert len(series(tmp_path, text, end="error", length_s=4.0).value) == 2
    with pytest.raises(ScenarioError, match=r"ends after 4 s; .* at least 4\.5 s"):
        series(tmp_path, text, end="error", length_s=4.5)


def test_rate_of_a_mahimahi_trace_is_that_of_the_packets_in_bins(tmp_path: Path) -> None:
    """Bins of 500 ms: 3 packets, none, 2 packets; the last bin has 250 ms. It repeats."""
    path = tmp_path / "lte.up"
    path.write_text("3\n7\n499\n1000\n1250\n", encoding="utf-8")
    found = read_mahimahi(path, 0.5)
    assert pairs(found) == [(0.0, 3 * 12000 / 0.5), (0.5, 0.0), (1.0, 2 * 12000 / 0.25)]
    assert found.period_s == 1.25
    assert found.nominal == pytest.approx(5 * 12000 / 1.25)


@pytest.mark.parametrize("text", ["", "0\n0\n"])
def test_mahimahi_trace_without_times_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lte.up"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match="allowed: times in ms, one a line"):
        read_mahimahi(path, 0.5)
