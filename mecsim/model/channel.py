"""The radio of every device: its channel, or the rates that a scenario gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mecsim.model import equations
from mecsim.support.arrays import Bools, Floats


@dataclass(frozen=True)
class Channel:
    """How fast the radio of each of D devices is, up and down; arrays have the shape (D,)."""

    bandwidth_hz: Floats
    """B, without effect where a rate is given."""
    power_w: Floats
    """p, the transmit power."""
    noise_w_per_hz: float
    """N0."""
    fades: Bools
    """Whether the path gain has Rayleigh fading, drawn in every slot."""
    low_bps: Floats
    """Lowest given rate, NaN where the rate follows from the channel."""
    high_bps: Floats
    """Highest given rate, NaN where the rate follows from the channel."""
    redrawn: Bools
    """Whether the given rate is drawn again in every slot."""

    @property
    def given(self) -> Bools:
        """Whether the rate is given, between bounds or as one value."""
        return ~np.isnan(self.low_bps)

    @property
    def varies(self) -> Bools:
        """Whether the rate differs from slot to slot."""
        return self.fades | self.redrawn

    def bounds(self, gain: Floats) -> tuple[Floats, Floats]:
        """Return the lowest and the highest rate of every device without fading; shape (D,) each.

        Args:
            gain: Path gain of every device; shape (D,).
        """
        given, rates = self.given, self.rates(gain, np.zeros(len(gain)))
        return rates, np.where(given, self.high_bps, rates) if given.any() else rates

    def rates(self, gain: Floats, share: Floats) -> Floats:
        """Return radio rates in bits per second.

        Args:
            gain: Path gain of every device, with fading; shape (…, D).
            share: Where a given rate lies between its bounds, from 0 to 1; shape (…, D).
        """
        given = self.given
        between = self.low_bps + (self.high_bps - self.low_bps) * share
        if given.all():
            return between
        rates = equations.shannon_rate(self.bandwidth_hz, self.power_w, gain, self.noise_w_per_hz)
        return np.where(given, between, rates) if given.any() else rates
