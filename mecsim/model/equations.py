"""The equations, one small pure function each; no state, no randomness.

Every argument is a number or an array that broadcasts; the result has the broadcast shape. Kernels
compile the functions of Eqs. 3 to 14. Source of the equation numbers: Li et al., "Distributed DNN
Inference with Fine-grained Model Partitioning in Mobile Edge Computing Networks".

All operations give the same bits on every CPU: +, -, *, / and `mecsim.support.portable_math`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.support.arrays import Floats
from mecsim.support.portable_math import LN_2, LN_10, elementwise, exp_each, log1p_each, log_each

Real: TypeAlias = float | NDArray[np.float64]

CLOCK_ROUNDING: Final = 2.0**-43
"""Rounding of a difference of two times of the clock, as a share of the later one.

An addition to the clock rounds by at most 2^-53 of it. A block's finish follows from 1024 additions
or fewer: one or two for each of its hops, and one for each service that it waits for.
"""

BATTERY_ROUNDING: Final = 2.0**-33
"""Rounding of a battery's remaining energy, as a share of its capacity: 2^-53 a hop, 2^20 hops."""


def compute_delay(cycles: Real, speed_hz: Real) -> Real:
    """Return the seconds that ``cycles`` take at ``speed_hz`` cycles a second (Eqs. 3 and 6)."""
    return cycles / speed_hz


def transfer_delay(
    bits: Real, rate_bps: Real, headers: float = 0.0, overhead_s: float = 0.0
) -> Real:
    """Return the seconds that ``bits`` take at ``rate_bps`` over one radio or wired hop (Eq. 5).

    Args:
        bits: Size of the feature map.
        rate_bps: Rate of the hop, bits per second.
        headers: Bits of headers for each bit of the map.
        overhead_s: Time in seconds that a transfer takes besides its bits.
    """
    return bits * (1.0 + headers) / rate_bps + overhead_s


def path_gain(distance_m: Real, intercept_db: float, slope_db: float) -> Floats:
    """Return the linear power gain of a radio path.

    The loss in dB is intercept + slope · log10(distance in km) (3GPP macro cell).

    Args:
        distance_m: Distances in metres, above 0.
        intercept_db: Loss at 1 km, dB.
        slope_db: Loss added by each factor of ten in distance, dB.
    """
    decades = elementwise(log_each, np.asarray(distance_m) / 1000.0) / LN_10
    return elementwise(exp_each, -(intercept_db + slope_db * decades) / 10.0 * LN_10)


def shannon_rate(bandwidth_hz: Real, power_w: Real, gain: Real, noise_w_per_hz: float) -> Floats:
    """Return the bits a second over one sub-channel: B · log2(1 + p·g / (N0·B)) (below Eq. 5).

    It is computed with log1p, so that a deep fade gives a low rate and never a rate of zero.

    Args:
        bandwidth_hz: B, hertz.
        power_w: Transmit power p, watts.
        gain: Linear power gain g.
        noise_w_per_hz: Noise density N0, watts per hertz.
    """
    snr = power_w * np.asarray(gain) / (noise_w_per_hz * bandwidth_hz)
    return bandwidth_hz * elementwise(log1p_each, snr) / LN_2


def joules_per_cycle(kappa: Real, speed_hz: Real) -> Real:
    """Return the joules that a device spends on a cycle: κ·f² (Eq. 4)."""
    return kappa * (speed_hz * speed_hz)  # ``**`` is libm's pow where f is a plain number


def local_energy(joules_per_cycle: Real, cycles: Real) -> Real:
    """Return the joules that a device spends to compute ``cycles``: κ·f²·c (Eq. 4)."""
    return joules_per_cycle * cycles


def transmit_energy(power_w: Real, seconds: Real) -> Real:
    """Return the joules that a device spends on the air: p · time (Eq. 7)."""
    return power_w * seconds


def affords(remaining_j: float, energy_j: float, capacity_j: float) -> bool:
    """Return whether a battery can pay for a hop (Eq. 11): what is missing is only rounding.

    Args:
        remaining_j: Joules left.
        energy_j: Joules that the hop takes.
        capacity_j: Joules of the full battery.

    Returns:
        Whether it can. An empty battery pays for nothing.
    """
    missing_j = energy_j - remaining_j
    return missing_j <= 0.0 or (remaining_j > 0.0 and missing_j <= BATTERY_ROUNDING * capacity_j)


def penalty(delay_s: Real, tolerated_s: Real, finish_s: Real = 0.0) -> Real:
    """Return the tardiness of a block in seconds: max(L - τ, 0) (a term of Eq. 13).

    A delay that exceeds its deadline by no more than the clock's rounding is in time.

    Args:
        delay_s: L, the difference of two times of the clock.
        tolerated_s: τ.
        finish_s: The later of the two times; 0 for a delay that is not a difference.

    Returns:
        The tardiness.
    """
    excess_s = delay_s - tolerated_s
    return np.maximum(excess_s, 0.0) * (excess_s > CLOCK_ROUNDING * finish_s)


def reward_weight(tasks: float, averages: bool) -> float:
    """Return the weight of a task's cost in the reward (Eq. 14).

    Args:
        tasks: Number of tasks released in the task's slot; less than 1 counts as 1.
        averages: Whether the reward is a mean over the tasks of a slot, or their sum.

    Returns:
        1 / tasks for the mean, 1 for the sum.
    """
    return 1.0 / max(tasks, 1.0) if averages else 1.0


def cost(delay_s: Real, penalty_s: Real, beta: float) -> Real:
    """Return the cost of a block in seconds: L + β·max(L - τ, 0) (a term of -Eq. 14)."""
    return delay_s + beta * penalty_s
