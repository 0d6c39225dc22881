"""The encoding of observations for networks: features, scaled to about one.

Environments and :meth:`mecsim.scheduler.Observation.scaled_features` share it.

==================  ===============================================================================
feature             scale
==================  ===============================================================================
``tasks``           mean number of tasks in a slot; 1 with per-task decisions
``size_factor``     1
``cycles``          largest c_m of a task of size factor 1
``compute_s``       largest service time of a task of size factor 1, as a mean over all places
``parameter_bytes`` largest d_m
``input_bits``      largest I_m of a task of size factor 1
``…backlog_s``      1: they are in seconds
``…committed_s``    1
``rate_bps``        nominal rate: mean of the given range, or of all devices without fading
``battery_J``       the largest full battery; an unlimited one is always encoded as 1
``serving_server``  N
``class``           1
==================  ===============================================================================

A scale that would be 0 is 1. All are the same under every seed: rates without fading depend on the
positions of devices, service times on drawn capacities, and those of seed 0 are taken.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import ScenarioError
from mecsim.model.model import Model, reseeded
from mecsim.model.workload import mean_rate
from mecsim.scenario.schema import RecordedTasks
from mecsim.scheduler.features import names_of_features
from mecsim.support.arrays import Bools, Floats, read_only

Scaled: TypeAlias = NDArray[np.float32]
"""Scaled features; shape (…, features)."""


class FeatureScale(NamedTuple):
    """The encoding of a scenario's observations, equal for all seeds."""

    divisor: Floats
    """In the units of the features; shape (features,)."""
    battery: Bools
    """Which features are the energy of batteries; shape (features,)."""

    @classmethod
    def of(cls, model: Model) -> FeatureScale:
        """Return the encoding of a scenario.

        Raises:
            ScenarioError: Tasks come from a trace, and an epoch is a slot.
        """
        scale = {
            "tasks": _mean_tasks(model),
            "size_factor": 1.0,
            "cycles": model.cycles.max(),
            "compute_s": _longest_service_s(model),
            "parameter_bytes": model.parameter_bytes.max(),
            "input_bits": model.input_bits.max(),
            "rate_bps": _nominal_rate_bps(model),
            "battery_J": model.battery_j[np.isfinite(model.battery_j)].max(initial=0.0),
            "serving_server": model.servers,
            "class": 1.0,
        }
        backlogs = ("cpu", "links_out", "device", "uplink", "downlink")
        scale |= {f"{name}_backlog_s": 1.0 for name in backlogs}
        scale |= {f"{name}_committed_s": 1.0 for name in ("cpu", "device")}
        names = names_of_features(
            model.servers,
            model.blocks,
            model.scenario.decision_epoch,
            cycles=model.shows_cycles,
            classes=[each.name for each in model.classes],
        )
        # A name is "kind", "entity.kind", or either with "mean_" before the kind.
        kinds = [
            "class" if name.startswith("class.") else name.rpartition(".")[2].removeprefix("mean_")
            for name in names
        ]
        divisor = np.array([scale[kind] or 1.0 for kind in kinds], dtype=np.float64)
        battery = np.array([kind == "battery_J" for kind in kinds])
        return cls(read_only(divisor), read_only(battery))

    def __call__(self, features: Floats) -> Scaled:
        """Encode features of shape (…, features)."""
        scaled = features / self.divisor
        energy = scaled[..., self.battery]
        scaled[..., self.battery] = np.where(np.isinf(energy), 1.0, energy)
        return scaled.astype(np.float32)


def _mean_tasks(model: Model) -> float:
    """Return the mean number of tasks of an epoch."""
    if model.scenario.decision_epoch == "per_task":
        return 1.0
    if any(isinstance(each.arrivals, RecordedTasks) for each in model.scenario.classes):
        raise ScenarioError(
            "arrivals.process: trace has no mean rate, by which observations are scaled. "
            "Try: mecsim replay TRACE --scheduler NAME, or decision_epoch: per_task"
        )
    return mean_rate(model)


def _longest_service_s(model: Model) -> float:
    if not model.measured:
        return 0.0
    compute = (model if model.seed == 0 else reseeded(model, 0)).compute
    one = np.zeros(1, dtype=np.int64)
    return float(compute.mean_over_places(compute.speed[None], one, one - 1).max())


def _nominal_rate_bps(model: Model) -> float:
    channel = model.channel
    gain = model.gain if model.seed == 0 or channel.given.all() else reseeded(model, 0).gain
    low_bps, high_bps = channel.bounds(gain)
    usual_bps = (low_bps + high_bps) / 2
    return float(usual_bps[0] if np.ptp(usual_bps) == 0 else usual_bps.mean())
