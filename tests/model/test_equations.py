"""The equations on numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mecsim.model import equations
from mecsim.scenario.schema import Radio
from mecsim.scenario.units import parse

RADIO = Radio()


def rate_at(distance_m: float) -> float:
    """Bits a second of a device of the default radio at a distance."""
    gain = equations.path_gain(distance_m, RADIO.path_loss_intercept_db, RADIO.path_loss_slope_db)
    rate = equations.shannon_rate(RADIO.bandwidth, RADIO.transmit_power, gain, RADIO.noise_density)
    return float(rate)


# ---------------------------------------------------------------- Eqs. 3 to 7


def test_eq3_computing_at_the_device() -> None:
    assert equations.compute_delay(2.5e9, 1e9) == 2.5  # 2.5 Gcycles at 1 GHz


def test_eq6_computing_at_a_server() -> None:
    assert equations.compute_delay(2.5e9, 12.5e9) == 0.2  # 2.5 / 12.5


def test_eq5_sending() -> None:
    assert (
        equations.transfer_delay(24_576, 8e6) == 0.003072
    )  # 32·32·3·8 bits at 1 MB/s: 24 576 / 8e6
    assert equations.transfer_delay(24_576, 1e9) == 2.4576e-5  # and at 1 Gbit/s


def test_eq4_energy_of_computing() -> None:
    # κ·f²·c = 1e-26 · (1e9)² · 2.5e9 = 1e-26 · 1e18 · 2.5e9 = 25 J
    each = equations.joules_per_cycle(1e-26, 1e9)
    assert equations.local_energy(each, 2.5e9) == pytest.approx(25.0, rel=1e-15)
    # twice the speed, four times the energy
    each = equations.joules_per_cycle(1e-26, 2e9)
    assert equations.local_energy(each, 2.5e9) == pytest.approx(100.0, rel=1e-15)


def test_eq7_energy_on_the_air() -> None:
    assert equations.transmit_energy(0.25, 0.003072) == 0.000768  # 0.25 W for 3.072 ms


# ---------------------------------------------------------------- the radio


def test_path_gain_at_a_kilometre_is_the_intercept() -> None:
    # log10(1) = 0: 128.1 dB, 10^-12.81 = 1.548817e-13
    assert equations.path_gain(1000.0, 128.1, 37.6) == pytest.approx(1.548817e-13, rel=1e-6)


def test_path_gain_falls_by_the_slope_a_decade() -> None:
    # 100 m: 128.1 - 37.6 = 90.5 dB, 10^-9.05 = 8.912509e-10
    assert equations.path_gain(100.0, 128.1, 37.6) == pytest.approx(8.912509e-10, rel=1e-6)
    assert equations.path_gain(100.0, 60.0, 20.0) == pytest.approx(
        1e-4, rel=1e-14
    )  # 60 - 20 = 40 dB


def test_shannon_rate() -> None:
    # p·g / (N0·B) = 0.5 · 6e-6 / (1e-12 · 1e6) = 3e-6 / 1e-6 = 3; log2(1 + 3) = 2; 2 · 1 MHz
    assert equations.shannon_rate(1e6, 0.5, 6e-6, 1e-12) == pytest.approx(2e6, rel=1e-15)


def test_shannon_rate_of_a_deep_fade_is_low_and_not_zero() -> None:
    # p·g / (N0·B) = 1e-20; log2(1 + x) ≈ x / ln 2, and 1 + 1e-20 would be 1
    rate = equations.shannon_rate(1e6, 1.0, 1e-20, 1e-6)
    assert rate == pytest.approx(1e6 * 1e-20 / math.log(2), rel=1e-15)


def test_default_radio_in_si() -> None:
    assert RADIO.transmit_power == pytest.approx(0.1584893, rel=1e-6)  # 10^((22 - 30) / 10) W
    assert RADIO.noise_density == pytest.approx(3.981072e-21, rel=1e-6)  # 10^((-174 - 30) / 10)
    assert parse("22 dBm", "W") == pytest.approx(RADIO.transmit_power, rel=1e-12)
    assert parse("-174 dBm/Hz", "W/Hz") == pytest.approx(RADIO.noise_density, rel=1e-12)


def test_default_devices_have_the_rates_of_the_paper() -> None:
    # 310 m: 128.1 + 37.6·log10(0.31) = 128.1 - 19.1248 = 108.9752 dB, g = 1.26614e-11
    # p·g / (N0·B) = 0.1584893 · 1.26614e-11 / 7.962143e-15 = 252.03
    # 2e6 · log2(253.03) = 2e6 · 7.98316 = 15.966 Mbit/s = 1.9958 MB/s
    assert rate_at(310) / 8e6 == pytest.approx(1.9958, abs=1e-4)
    # 750 m: 128.1 - 4.69771 = 123.40229 dB, g = 4.56848e-13; 9.0938; log2(10.0938) = 3.33539
    assert rate_at(750) / 8e6 == pytest.approx(0.8338, abs=1e-4)
    assert 0.8e6 <= rate_at(750) / 8 < rate_at(310) / 8 <= 2e6  # inside the paper's bounds


def test_rate_falls_with_the_distance() -> None:
    rates = [rate_at(metres) for metres in range(310, 760, 10)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == len(rates)


# ---------------------------------------------------------------- Eqs. 13 and 14


@pytest.mark.parametrize(
    ("delay", "tolerated", "late"),
    [
        pytest.param(5.0, 3.0, 2.0, id="late"),
        pytest.param(3.0, 3.0, 0.0, id="just in time"),
        pytest.param(1.0, 3.0, 0.0, id="early counts nothing"),
    ],
)
def test_eq13_penalty(delay: float, tolerated: float, late: float) -> None:
    assert equations.penalty(delay, tolerated) == late


@pytest.mark.parametrize("clock", [0.1, 1.0, 600.0, 1e6])
def test_eq13_penalty_of_a_difference_allows_for_its_rounding(clock: float) -> None:
    for roundings, late in ((1, False), (1000, False), (1100, True)):
        delay = 3.0 + roundings * clock * 2.0**-53
        assert equations.penalty(delay, 3.0, clock) == (delay - 3.0 if late else 0.0)


def test_eq14_cost() -> None:
    assert equations.cost(5.0, 2.0, 0.5) == 6.0  # 5 + 0.5 · 2
    assert equations.cost(2.5, 0.0, 0.5) == 2.5  # in time: its delay alone
    assert equations.cost(5.0, 2.0, 0.0) == 5.0  # β = 0: lateness is free


def test_arrays_broadcast_and_unknown_delays_stay_unknown() -> None:
    tolerated = np.array([3.0, 1.0, 3.0])
    delays = np.array([5.0, 1.5, np.nan])
    costs = np.asarray(equations.cost(delays, equations.penalty(delays, tolerated), 1.0))
    assert costs[:2].tolist() == [7.0, 2.0]  # 5 + 2, 1.5 + 0.5
    assert np.isnan(costs[2])
    delays = np.asarray(equations.compute_delay(np.array([1.0, 2.0]), np.array([[1.0], [4.0]])))
    assert delays.tolist() == [[1.0, 2.0], [0.25, 0.5]]
