"""Radio rates of all devices, slot by slot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mecsim.model.arrivals import Parts, slot_starts
from mecsim.model.model import Model
from mecsim.model.over_time import values_at
from mecsim.model.random_streams import Stream
from mecsim.support.arrays import Floats, read_only

RATES_AT_ONCE: Final = 1 << 16
"""Radio rates that are drawn together, which bounds memory."""


def radio_rates(model: Model, every: Parts) -> Iterator[Floats]:
    """Yield the radio rates of some slots, bits a second; shape (1, D) or (slots, D)."""
    series = list(model.radio_series())
    for numbers, rates in zip(every, _channel_rates(model, every), strict=True):
        if not series:
            yield rates
            continue
        each, start_s = np.empty((len(numbers), model.devices)), slot_starts(model, numbers)
        each[:] = rates
        for devices, steps in series:
            each[:, devices] = values_at(steps, start_s)[:, None]
        yield read_only(each)


def _channel_rates(model: Model, every: Parts) -> Iterator[Floats]:
    """Yield the radio rates of some slots, without series; shape (1, D) or (slots, D)."""
    varies, draws = model.channel.varies, Stream(model.seed, "rates")
    if model.mobility is not None:
        varies = varies.copy()
        moving = model.mobility.paths.device
        varies[moving] |= ~model.channel.given[moving]
    constant = read_only(_draw_rates(model, draws, range(1)))
    at_once = max(1, RATES_AT_ONCE // model.devices)
    for numbers in every:
        if varies.any():
            parts = [numbers[k : k + at_once] for k in range(0, len(numbers), at_once)]
            rates = np.concatenate([_draw_rates(model, draws, part) for part in parts])
            yield read_only(rates if varies.all() else np.where(varies, rates, constant))
        else:
            yield constant


def _draw_rates(model: Model, draws: Stream, numbers: range) -> Floats:
    """Return the radio rates of all devices in K slots, bits a second; shape (K, D)."""
    channel, shape = model.channel, (len(numbers), model.devices)
    one_each = np.full(len(numbers), model.devices)
    share = np.zeros(shape)
    if (channel.low_bps < channel.high_bps).any():
        share = draws.uniform(numbers.start, one_each).reshape(shape)
    gain = np.broadcast_to(model.gain, shape)
    if model.mobility is not None and not channel.given.all():
        gain = model.mobility.gains_in(numbers, model.gain)
    if channel.fades.any():
        fading = draws.exponential(numbers.start, one_each).reshape(shape)
        gain = np.where(channel.fades, gain * fading, gain)
    return channel.rates(gain, share)


def first_rates(model: Model) -> Floats:
    """Return the radio rates of all devices in the first slot, without series; shape (D,)."""
    return read_only(_draw_rates(model, Stream(model.seed, "rates"), range(1))[0])
