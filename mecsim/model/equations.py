"""The equations, one small pure function each; no state, no randomness.

Every argument may be a number or an array that broadcasts; the result has the broadcast shape.
Equation numbers are those of Li et al., "Distributed DNN Inference with Fine-grained Model
Partitioning in Mobile Edge Computing Networks".
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Real: TypeAlias = float | NDArray[np.float64]


def compute_delay(cycles: Real, speed_hz: Real) -> Real:
    """Seconds to compute ``cycles`` at ``speed_hz`` cycles a second (Eqs. 3 and 6)."""
    return cycles / speed_hz


def transfer_delay(bits: Real, rate_bps: Real) -> Real:
    """Seconds to send ``bits`` at ``rate_bps``, over one radio or wired hop (Eq. 5)."""
    return bits / rate_bps


def path_gain(distance_m: Real, intercept_db: float, slope_db: float) -> Real:
    """Linear power gain at a distance: loss = intercept + slope · log10(d / km) dB (3GPP macro)."""
    loss_db = intercept_db + slope_db * np.log10(np.asarray(distance_m) / 1000.0)
    return np.power(10.0, -loss_db / 10.0)


def shannon_rate(
    bandwidth_hz: float, power_w: float, gain: Real, noise_w_per_hz: float
) -> NDArray[np.float64]:
    """Bits a second over one sub-channel: B · log2(1 + p·g / (N0·B)) (below Eq. 5).

    Computed with log1p, so that a deep fade gives a low rate and never a rate of zero.
    """
    snr = power_w * np.asarray(gain) / (noise_w_per_hz * bandwidth_hz)
    return np.asarray(bandwidth_hz * np.log1p(snr) / np.log(2.0))


def local_energy(kappa: float, speed_hz: Real, cycles: Real) -> Real:
    """Joules that a device spends to compute ``cycles``: κ·f²·c (Eq. 4)."""
    return kappa * speed_hz**2 * cycles


def transmit_energy(power_w: Real, seconds: Real) -> Real:
    """Joules that a device spends on the air: p · time (Eq. 7)."""
    return power_w * seconds


def penalty(delay_s: Real, tolerated_s: Real) -> Real:
    """Seconds by which a block is later than it may be: max(L − τ, 0) (a term of Eq. 13)."""
    return np.maximum(delay_s - tolerated_s, 0.0)


def cost(delay_s: Real, penalty_s: Real, beta: float) -> Real:
    """What a block takes from the reward: L + β·max(L − τ, 0) (a term of −Eq. 14)."""
    return delay_s + beta * penalty_s
