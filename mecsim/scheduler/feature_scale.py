"""Scales by which environments divide features, so that observations are about one.

==================  ===============================================================================
feature             scale
==================  ===============================================================================
``tasks``           mean number of tasks in a slot; 1 with per-task decisions
``size_factor``     1
``cycles``          largest c_m of a task of size factor 1
``parameter_bytes`` largest d_m
``input_bits``      largest I_m of a task of size factor 1
``…backlog_s``      1: they are in seconds
``rate_bps``        nominal rate: mean of the given range, or of all devices without fading
``battery_J``       a full battery; 1 if batteries are unlimited
``serving_server``  N
==================  ===============================================================================

A scale that would be 0 is 1. Rates without fading depend on the positions of devices: those
of seed 0 are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.model.workload import mean_rate
from mecsim.scenario.schema import UniformRate
from mecsim.support.arrays import Floats


def feature_scale(model: Model, names: Sequence[str]) -> Floats:
    """Return the divisor of each feature, equal for all seeds; shape (features,).

    Args:
        model: The resolved scenario.
        names: The names of the features, see :func:`mecsim.scheduler.feature_names`.

    Returns:
        Divisors in the units of the features; 1 where the scale would be 0.
    """
    of = {
        "tasks": _mean_tasks(model),
        "size_factor": 1.0,
        "cycles": model.cycles.max(),
        "parameter_bytes": model.parameter_bytes.max(),
        "input_bits": model.input_bits.max(),
        "rate_bps": _nominal_rate_bps(model),
        "battery_J": 1.0 if np.isinf(model.battery_j) else model.battery_j,
        "serving_server": model.servers,
    }
    backlogs = ("cpu", "links_out", "device", "uplink", "downlink")
    of |= {f"{name}_backlog_s": 1.0 for name in backlogs}
    # A name is "kind", "entity.kind", or either with "mean_" before the kind.
    scale = np.array([of[name.rpartition(".")[2].removeprefix("mean_")] for name in names])
    return np.where(scale > 0, scale, 1.0)


def _mean_tasks(model: Model) -> float:
    """Return the mean number of tasks of an epoch."""
    return 1.0 if model.scenario.decision_epoch == "per_task" else mean_rate(model)


def _nominal_rate_bps(model: Model) -> float:
    radio = model.scenario.radio
    if isinstance(radio.rate, UniformRate):
        return sum(radio.rate.uniform) / 2
    if radio.rate is not None:
        return radio.rate
    rates = equations.shannon_rate(
        radio.bandwidth, radio.transmit_power, model.gain, radio.noise_density
    )
    return float(rates.mean())
