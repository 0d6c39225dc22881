"""Encodes observations as inputs of networks: features scaled to about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from mecsim import SchedulerSpec
from mecsim.learning import SchedulerError
from mecsim.scheduler import AddedFeatures, feature_names
from schedulers.rl.layers import Arrays, Batch, Floats

Observed = Literal["full", "paper"]
"""``paper`` is the state of the paper: c_m, d_m, R and E^r, without backlogs."""

REFERENCE_RATE_BPS: Final = 8e6
"""1 MB/s, in the middle of the paper's rates."""
STEEPNESS: Final = 4.0
"""A backlog of a quarter of a slot is encoded as log 2."""
BOUND: Final = 2.0
"""Upper bound of the comparison of a place with the shortest queue."""
HALF_SLOTS: Final = 0.7
"""Slots of additional backlog that give half of that bound."""
IDLE_SLOTS: Final = 0.3
"""Backlog that counts as small: shares of it mean little."""

_LINEAR, _LOGARITHMIC, _EQUAL = 0.0, 1.0, 2.0
_PREFIX: Final = "encoding."
_BACKLOGS: Final = ("backlog_s", "committed_s")


class FeatureEncoder(NamedTuple):
    """Encodes features as inputs of a network.

    Sizes and rates are encoded linearly, x / scale - offset; tasks, backlogs and energies, which
    have no upper limit, as log(1 + x / scale); the serving server as N inputs, one of which is 1.
    Where backlogs are observed, comparisons of the places are added, within bounds: queues may
    grow far beyond those of training, and then only their order matters.

    Where tasks are of several classes, the sizes of blocks are encoded as for their class alone, 0
    for blocks that it lacks, and the class as C inputs, one of which is 1.
    """

    how: Arrays
    """Per input: ``column`` (of the features), ``scale``, ``offset`` and ``kind``, each of shape
    (encoded,), scale and offset (C, encoded) for several classes; ``compared``, shape (1,);
    ``place``, shape (N + 1, features): the matrix that gives the backlogs of all places from
    features."""
    custom: int = 0
    """Number of custom features, which follow the others and are the last inputs as they are."""

    @classmethod
    def of(cls, spec: SchedulerSpec, observed: Observed, features: str = "") -> FeatureEncoder:
        """Return the encoder for a scenario's observations, and custom ``features`` if given."""
        custom = AddedFeatures(features, spec).names if features else ()
        names = feature_names(spec)
        kept = [n for n in names if observed == "full" or not _is_backlog(n)]
        rows = [(names.index(n), *how) for n in kept for how in _inputs_of_classes(spec, n)]
        column, scale, offset, kind = (
            np.array(each, np.float32).T.copy() for each in zip(*rows, strict=True)
        )
        how = {"column": column, "scale": scale, "offset": offset, "kind": kind}
        how["compared"] = np.array([observed == "full"], np.float32)
        return cls(how | {"place": _backlog_matrix(spec, names)}, len(custom))

    @classmethod
    def from_policy(cls, arrays: Arrays, spec: SchedulerSpec, custom: int = 0) -> FeatureEncoder:
        """Return the encoder that a policy was trained with, and a number of custom features.

        Raises ``SchedulerError``.
        """
        how = {n.removeprefix(_PREFIX): x for n, x in arrays.items() if n.startswith(_PREFIX)}
        if not np.isin(how["column"], np.arange(len(feature_names(spec)))).all():
            raise SchedulerError("its encoding refers to unknown features")
        if not (how["scale"] > 0.0).all():
            raise SchedulerError("its encoding has scales that are not above 0")
        return cls(how, custom)

    @property
    def inputs(self) -> int:
        """Number of inputs of the network."""
        compared = 2 * len(self.how["place"]) * bool(self.how["compared"])
        return len(self.how["column"]) + compared + self.custom

    @property
    def first_class(self) -> int:
        """The first of the C inputs that say of which class the tasks are, if there are several."""
        return len(self.how["column"]) - len(self.how["scale"])

    def arrays(self) -> Arrays:
        """Return the encoder as arrays of a policy."""
        return {f"{_PREFIX}{name}": array for name, array in self.how.items()}

    def backlogs(self, features: Floats) -> Floats:
        """Return the backlog of every place, in slots; shape (B, N + 1)."""
        shown = features[:, : self.how["place"].shape[1]]
        finite = np.where(np.isfinite(shown), shown, 0.0)
        found: Floats = finite @ self.how["place"].T
        return found

    def __call__(self, features: Floats) -> Batch:
        """Encode features of shape (B, features) as inputs; shape (B, inputs)."""
        if self.custom:
            known, custom = np.split(features, [self.how["place"].shape[1]], axis=1)
            return np.concatenate([self._encoded(known), custom], axis=1, dtype=np.float32)
        return self._encoded(features)

    def _encoded(self, features: Floats) -> Batch:
        how = self.how
        scale, offset = how["scale"], how["offset"]
        if scale.ndim > 1:
            own = features[:, -len(scale) :].argmax(axis=1)
            scale, offset = scale[own], offset[own]
        scaled = features[:, how["column"].astype(np.intp)] / scale
        scaled = np.where(np.isfinite(scaled), scaled, 0.0)  # an unlimited battery
        kind, moved = how["kind"], scaled - offset
        with np.errstate(invalid="ignore", divide="ignore"):  # in entries that are not used
            encoded = np.where(kind == _LOGARITHMIC, np.log1p(scaled), moved)
        encoded = np.where(kind == _EQUAL, moved == 0.0, encoded)
        if not how["compared"]:
            return encoded.astype(np.float32)
        backlog = self.backlogs(features)
        more = backlog - backlog.min(axis=1, keepdims=True)
        share = backlog / (backlog.mean(axis=1, keepdims=True) + IDLE_SLOTS)
        compared = BOUND * more / (more + HALF_SLOTS)
        return np.concatenate([encoded, compared, share], axis=1, dtype=np.float32)


def _backlog_matrix(spec: SchedulerSpec, names: Sequence[str]) -> Batch:
    """Return the matrix from features to backlogs of the places, in slots; (N + 1, features).

    Committed work counts as if it waited.
    """
    place = np.zeros((spec.servers + 1, len(names)), dtype=np.float32)
    for kind in ("backlog_s", "committed_s"):
        of_devices = [i for i, name in enumerate(names) if name.endswith(f"device_{kind}")]
        if of_devices:
            place[0, of_devices] = 1.0 / (len(of_devices) * spec.slot_length_s)
        for server in range(spec.servers if of_devices else 0):
            at = names.index(f"es{server + 1}.cpu_{kind}")
            place[server + 1, at] = 1.0 / spec.slot_length_s
    return place


def _nominal(spec: SchedulerSpec, quantity: str) -> Floats | None:
    """Return a feature of all blocks for a task of size factor 1, if it varies with the size."""
    if quantity == "compute_s":
        return spec.mean_compute_s()
    return {"cycles": spec.cycles, "input_bits": spec.input_bits}.get(quantity)


def _is_backlog(name: str) -> bool:
    return name.endswith(_BACKLOGS) and not name.startswith("class.")


def _inputs_of_classes(spec: SchedulerSpec, name: str) -> list[tuple[Any, Any, float]]:
    """Return scale, offset and kind of a feature's inputs, the first two of each class."""
    each = [_inputs_of(of_class, name) for of_class in spec.classes]
    if len(each) == 1:
        return list(each[0])
    count = max(map(len, each))  # equal, except where a class lacks a block or what it sends
    filled = [inputs or [(1.0, 0.0, _LINEAR)] * count for inputs in each]
    rows = []
    for inputs in zip(*filled, strict=True):
        scale, offset, kind = zip(*inputs, strict=True)
        rows.append((scale, offset, kind[0]))
    return rows


def _inputs_of(spec: SchedulerSpec, name: str) -> list[tuple[float, float, float]]:
    """Return scale, offset and kind of a feature's inputs; none for a feature that is constant."""
    owner, _, quantity = name.rpartition(".")
    if name.startswith("class."):
        return [(1.0, 0.0, _LINEAR)]
    if name.endswith(_BACKLOGS):
        return [(spec.slot_length_s / STEEPNESS, 0.0, _LOGARITHMIC)]
    if name == "tasks" or name.endswith("battery_J"):
        return [(1.0, 0.0, _LOGARITHMIC)]
    if name.endswith("rate_bps"):
        return [(REFERENCE_RATE_BPS, 1.0, _LINEAR)]
    if quantity == "serving_server":
        return [(1.0, server + 1.0, _EQUAL) for server in range(spec.servers)]
    if name == "size_factor":
        return [(0.2, 5.0, _LINEAR)]
    nominal, block = _nominal(spec, quantity), int(owner.removeprefix("block"))
    sizes = [] if nominal is None else nominal.tolist()
    size = sizes[block] if block < len(sizes) else 0.0
    return [(0.2 * size, 5.0, _LINEAR)] if size > 0.0 else []
