"""Radio rates of all devices, slot by slot, with those that follow a series."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mecsim.model.arrivals import Parts, slot_starts
from mecsim.model.model import Model
from mecsim.model.over_time import values_at
from mecsim.support.arrays import Floats, read_only


def radio_rates(model: Model, every: Parts) -> Iterator[Floats]:
    """Yield the radio rates of some slots, bits a second; shape (1, D) or (slots, D)."""
    series, slot_rates = list(model.radio_series()), model.slot_rates
    by_part = model.radio_draws.rates(every)
    if slot_rates is not None:
        by_part = (slot_rates.rate_bps[numbers.start : numbers.stop] for numbers in every)
    for numbers, rates in zip(every, by_part, strict=True):
        if not series:
            yield rates
            continue
        each, start_s = np.empty((len(numbers), model.devices)), slot_starts(model, numbers)
        each[:] = rates
        for devices, steps in series:
            each[:, devices] = values_at(steps, start_s)[:, None]
        yield read_only(each)
