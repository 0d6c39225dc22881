"""What a network is fed: the features of an observation, scaled to about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import numpy as np

from mecsim import SchedulerSpec
from mecsim.learning import SchedulerError
from mecsim.scheduler import feature_names
from schedulers.rl.layers import Arrays, Batch, Floats

Observed = Literal["full", "paper"]
"""``paper`` is the state of the paper: c_m, d_m, R and E^r, but no backlogs."""

REFERENCE_RATE_BPS: Final = 8e6
"""1 MB/s, amid the rates of the paper."""
STEEPNESS: Final = 4.0
"""A backlog of a quarter of a slot is worth log 2."""
BOUND: Final = 2.0
"""What the comparison of a place with the shortest queue never exceeds."""
HALF_SLOTS: Final = 0.7
"""Slots of additional backlog that are worth half of that."""
IDLE_SLOTS: Final = 0.3
"""Backlog that counts as little: shares of it tell nothing."""

_LINEAR, _LOGARITHMIC, _EQUAL = 0.0, 1.0, 2.0


def encoding(spec: SchedulerSpec, names: Sequence[str], observed: Observed) -> Arrays:
    """Return how features are encoded: which ones, and each one's scale, offset and kind.

    Sizes and rates are linear, x / scale − offset; tasks, backlogs and energies, which have no
    upper limit, are log(1 + x / scale); of N inputs that of the server of a task's device is 1.
    """
    kept = [n for n in names if observed == "full" or not n.endswith("backlog_s")]
    rows = [(names.index(name), *how) for name in kept for how in _of_feature(spec, name)]
    column, scale, offset, kind = (np.array(each, np.float32) for each in zip(*rows, strict=True))
    how = {"column": column, "scale": scale, "offset": offset, "kind": kind}
    how["compared"] = np.array([observed == "full"], np.float32)
    return how | {"place": _places(spec, names)}


def encode(features: Floats, how: Arrays) -> Batch:
    """Return features, of shape (B, F), as the input of a network; shape (B, encoded).

    Where backlogs are seen, how those of the places compare is told once more, within bounds:
    queues may grow far beyond those that training saw, and what then matters is which is shorter.
    """
    seen = features[:, how["column"].astype(np.intp)] / how["scale"]
    seen = np.where(np.isfinite(seen), seen, 0.0)  # a battery without limit
    kind, moved = how["kind"], seen - how["offset"]
    with np.errstate(invalid="ignore", divide="ignore"):  # of those that are not taken
        encoded = np.where(kind == _LOGARITHMIC, np.log1p(seen), moved)
    encoded = np.where(kind == _EQUAL, moved == 0.0, encoded)
    if not how["compared"]:
        return encoded.astype(np.float32)
    backlog = backlogs(features, how)
    more = backlog - backlog.min(axis=1, keepdims=True)
    share = backlog / (backlog.mean(axis=1, keepdims=True) + IDLE_SLOTS)
    compared = BOUND * more / (more + HALF_SLOTS)
    return np.concatenate([encoded, compared, share], axis=1, dtype=np.float32)


def backlogs(features: Floats, how: Arrays) -> Floats:
    """Return the backlog of every place, in slots; shape (B, N + 1)."""
    found: Floats = np.where(np.isfinite(features), features, 0.0) @ how["place"].T
    return found


def inputs(how: Arrays) -> int:
    """Return the length of an encoded observation."""
    return len(how["column"]) + 2 * len(how["place"]) * bool(how["compared"])


def _places(spec: SchedulerSpec, names: Sequence[str]) -> Batch:
    """Return what makes the backlogs of the N + 1 places, in slots, from features; (N + 1, F)."""
    place = np.zeros((spec.servers + 1, len(names)), dtype=np.float32)
    of_devices = [i for i, name in enumerate(names) if name.endswith("device_backlog_s")]
    place[0, of_devices] = 1.0 / (len(of_devices) * spec.slot_length_s)
    for server in range(spec.servers):
        place[server + 1, names.index(f"es{server + 1}.cpu_backlog_s")] = 1.0 / spec.slot_length_s
    return place


def _of_feature(spec: SchedulerSpec, name: str) -> list[tuple[float, float, float]]:
    """Return the scale, the offset and the kind of a feature's inputs; none if it never changes."""
    owner, _, quantity = name.rpartition(".")
    if name.endswith("backlog_s"):
        return [(spec.slot_length_s / STEEPNESS, 0.0, _LOGARITHMIC)]
    if name == "tasks" or name.endswith("battery_J"):
        return [(1.0, 0.0, _LOGARITHMIC)]
    if name.endswith("rate_bps"):
        return [(REFERENCE_RATE_BPS, 1.0, _LINEAR)]
    if quantity == "serving_server":
        return [(1.0, server + 1.0, _EQUAL) for server in range(spec.servers)]
    if name == "size_factor":
        return [(0.2, 5.0, _LINEAR)]
    nominal = {"cycles": spec.cycles, "input_bits": spec.input_bits}.get(quantity)
    size = 0.0 if nominal is None else float(nominal[int(owner.removeprefix("block"))])
    return [(0.2 * size, 5.0, _LINEAR)] if size > 0.0 else []


class Encoded(NamedTuple):
    """How observations are encoded, and how long a network's input is."""

    how: Arrays

    @classmethod
    def of(cls, spec: SchedulerSpec, observed: Observed) -> Encoded:
        """Return the encoding of a scenario's observations."""
        return cls(encoding(spec, feature_names(spec), observed))

    @property
    def inputs(self) -> int:
        """Length of an encoded observation."""
        return inputs(self.how)

    def arrays(self) -> Arrays:
        """Return the encoding as arrays of a policy."""
        return {f"encoding.{name}": array for name, array in self.how.items()}

    def backlogs(self, features: Floats) -> Floats:
        """Return the backlog of every place, in slots; shape (B, N + 1)."""
        return backlogs(features, self.how)

    def __call__(self, features: Floats) -> Batch:
        """Return features as a network's input."""
        return encode(features, self.how)


def encoding_in(arrays: Arrays, spec: SchedulerSpec) -> Encoded:
    """Return the encoding that a policy was trained with. Raises ``SchedulerError``."""
    prefix = "encoding."
    how = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
    if not (np.isin(how["column"], np.arange(len(feature_names(spec)))).all()):
        raise SchedulerError("its encoding names features that there are not")
    if not (how["scale"] > 0.0).all():
        raise SchedulerError("its encoding divides by what is not above 0")
    return Encoded(how)
