"""Radio rates of slots: from path gain and fading, or drawn between given bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from mecsim.model.channel import Channel
from mecsim.model.mobility import Mobility
from mecsim.model.random_streams import Stream
from mecsim.support.arrays import Bools, Floats, Ints, read_only

RATES_AT_ONCE: Final = 1 << 16
"""Radio rates that are drawn together, which bounds memory."""


class SlotRates(NamedTuple):
    """Radio rates that hold for transfers under way, too."""

    rate_bps: Floats
    """That of every device in every slot; shape (slots, D)."""
    devices: Ints
    """The devices whose transfers follow it, in order."""


class RadioDraws(NamedTuple):
    """What the radio rates of D devices follow from; series are left aside."""

    seed: int
    channel: Channel
    gain: Floats
    """Path gain of every device at the start; shape (D,)."""
    mobility: Mobility | None

    @property
    def vary(self) -> Bools:
        """Which rates change from slot to slot; shape (D,)."""
        varies = self.channel.varies
        if self.mobility is not None:
            varies = varies.copy()
            moving = self.mobility.paths.device
            varies[moving] |= ~self.channel.given[moving]
        return varies

    def rates(self, every: Iterable[range]) -> Iterator[Floats]:
        """Yield the rates of some slots, bits a second; shape (1, D) or (slots, D), read-only."""
        vary, constant = self.vary, self.first()[None]
        at_once = max(1, RATES_AT_ONCE // len(vary))
        for numbers in every:
            if vary.any():
                parts = [numbers[k : k + at_once] for k in range(0, len(numbers), at_once)]
                rates = np.concatenate([self._drawn(part) for part in parts])
                yield read_only(rates if vary.all() else np.where(vary, rates, constant))
            else:
                yield constant

    def first(self) -> Floats:
        """Return the rates of the first slot; shape (D,), read-only."""
        return read_only(self._drawn(range(1)))[0]

    def _drawn(self, numbers: range) -> Floats:
        """Return the rates in K slots, as if all were drawn in each; shape (K, D)."""
        channel, devices = self.channel, len(self.gain)
        shape, draws = (len(numbers), devices), Stream(self.seed, "rates")
        one_each = np.full(len(numbers), devices)
        share = np.zeros(shape)
        if (channel.low_bps < channel.high_bps).any():
            share = draws.uniform(numbers.start, one_each).reshape(shape)
        gain = np.broadcast_to(self.gain, shape)
        if self.mobility is not None and not channel.given.all():
            gain = self.mobility.gains_in(numbers, self.gain)
        if channel.fades.any():
            fading = draws.exponential(numbers.start, one_each).reshape(shape)
            gain = np.where(channel.fades, gain * fading, gain)
        return channel.rates(gain, share)
