"""Fits service times that were measured: means, and headers and overhead of transfers."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from mecsim.support.arrays import Floats
from mecsim.support.intervals import mean_interval, t_quantile

FEW: Final = 30
"""Fewer measurements than this make a fit that is reported as uncertain."""
_SAME: Final = 1e-9
"""Relative difference of two numbers that are one."""


class Estimate(BaseModel):
    """A number that was fitted, with its 95% interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float | None = None
    high: float | None = None
    """None where there are too few values for an interval."""

    @classmethod
    def within(cls, value: float, half: float) -> Estimate:
        """Return a number with an interval of equal sides; without one if they are not finite."""
        return (
            cls(value=value, low=value - half, high=value + half)
            if math.isfinite(half)
            else (cls(value=value))
        )


def fit_mean(seconds: Floats) -> Estimate:
    """Return the mean of service times.

    Args:
        seconds: Shape (n,), n > 0.
    """
    if len(seconds) < 2:
        return Estimate(value=float(seconds.mean()))
    low, mean, high = mean_interval(seconds)
    return Estimate(value=mean, low=low, high=high)


class TransferFit(BaseModel):
    """Transfers of I bits that take I × (1 + headers) / rate + overhead seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transfers: int
    headers: Estimate
    """Share of the bits that is added."""
    overhead_s: Estimate
    one_size: bool
    """Whether all took the same time by their bits: then the overhead is part of the headers."""
    at_bound: str | None = None
    """The number whose best value is below 0, so that it is 0: ``headers`` or ``overhead``."""


def fit_transfers(by_bits_s: Floats, service_s: Floats) -> TransferFit:
    """Fit headers and overhead of transfers by least squares.

    The intervals are those of heteroscedasticity-consistent errors (HC3: MacKinnon and White,
    1985), because long transfers may vary more than short ones. Student's t has the degrees of
    freedom of the largest leverage h, 1 / h - 1: a size that n transfers have, next to many
    others of another size, gives n - 1. One alone decides a coefficient, so that nothing shows how
    far it is off: there is no interval.

    Args:
        by_bits_s: Bits / rate of each transfer in seconds, above 0; shape (n,), n > 0.
        service_s: How long each took; shape (n,).
    """
    one_size = bool(np.ptp(by_bits_s) <= _SAME * by_bits_s.max())
    if not one_size:
        slope, overhead = _least_squares(np.stack([by_bits_s, np.ones(len(by_bits_s))]), service_s)
        if slope.value >= 1 and overhead.value >= 0:
            return TransferFit(
                transfers=len(service_s),
                headers=_less_one(slope),
                overhead_s=overhead,
                one_size=False,
            )
        if slope.value < 1:
            (overhead,) = _least_squares(np.ones((1, len(service_s))), service_s - by_bits_s)
            return TransferFit(
                transfers=len(service_s),
                headers=_at_least_0(_less_one(slope)),
                overhead_s=_at_least_0(overhead),
                one_size=False,
                at_bound="headers",
            )
    overhead = Estimate(value=0.0) if one_size else _at_least_0(overhead)
    (slope,) = _least_squares(by_bits_s[None], service_s)
    headers = _less_one(slope)
    bound = "headers" if headers.value < 0 else None if one_size else "overhead"
    return TransferFit(
        transfers=len(service_s),
        headers=_at_least_0(headers),
        overhead_s=overhead,
        one_size=one_size,
        at_bound=bound,
    )


def _less_one(slope: Estimate) -> Estimate:
    shifted = [None if each is None else each - 1 for each in (slope.value, slope.low, slope.high)]
    return Estimate(value=slope.value - 1, low=shifted[1], high=shifted[2])


def _at_least_0(estimate: Estimate) -> Estimate:
    """Return an estimate, or 0 with the part of its interval that is allowed, if there is any."""
    if estimate.value >= 0:
        return estimate
    if estimate.high is None or estimate.high <= 0:
        return Estimate(value=0.0)
    return Estimate(value=0.0, low=0.0, high=estimate.high)


def _least_squares(columns: Floats, values: Floats) -> list[Estimate]:
    """Return the coefficients of k columns of shape (k, n) whose sum fits values of shape (n,)."""
    scale = np.abs(columns).max(axis=1)
    x = (columns / scale[:, None]).T
    inverse = np.linalg.inv(x.T @ x)
    found = inverse @ x.T @ values
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    freedom = min(len(values) - x.shape[1], math.floor((1 + _SAME) / leverage.max() - 1))
    if freedom < 1:
        return [Estimate(value=float(each)) for each in found / scale]
    residual = (values - x @ found) / (1 - leverage)
    spread = inverse @ (x.T * residual**2) @ x @ inverse
    half = t_quantile(0.975, freedom) * np.sqrt(np.diag(spread))
    return [
        Estimate.within(float(value), float(side))
        for value, side in zip(found / scale, half / scale, strict=True)
    ]
