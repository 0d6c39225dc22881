"""Scales by which environments divide features, so that observations are about one."""

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
        model: the resolved scenario.
        names: the names of the features, see :func:`mecsim.scheduler.feature_names`.

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
