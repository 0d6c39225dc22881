"""Features that a user adds to the observations of learners and environments.

They are computed for many observations at once, so that replicas stay fast: a row of a batch is an
epoch of one run. In a run a batch has one row.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import SchedulerError
from mecsim.scheduler.errors import scheduler_errors
from mecsim.scheduler.features import ObservationTable
from mecsim.scheduler.observation import Observation, feature_names, observation_table
from mecsim.scheduler.sources import file_sources
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.support.user_file import import_file

_Array = TypeVar("_Array", bound=NDArray[Any])

MOST: Final = float(np.finfo(np.float32).max)
"""Largest value of a feature: networks compute in 32 bits."""
CLOSE: Final = 1e-6
"""Relative difference up to which a row alone counts as equal to the same row of a batch."""


@dataclass(frozen=True, eq=False)
class ObservationBatch:
    """What schedulers see at B epochs, of one run or of several. Every array is read-only.

    The fields are those of :class:`mecsim.Observation`, with a row for each epoch.
    """

    spec: SchedulerSpec
    """The scenario. Runs of several seeds differ in what it draws, such as positions of devices
    and capacities: of those it has the values of one seed."""
    epoch: Ints
    """Number of each epoch in its run, from 0; shape (B,)."""
    time_s: Floats
    """Shape (B,)."""
    table: ObservationTable
    """All else, as :mod:`mecsim.scheduler.features` has it."""

    @classmethod
    def of(cls, observation: Observation) -> ObservationBatch:
        """Return a batch of one observation."""
        epoch, time_s = np.array([observation.epoch]), np.array([observation.time_s])
        return cls(observation.spec.run, epoch, time_s, observation_table([observation]))

    def __len__(self) -> int:
        """Return B."""
        return len(self.epoch)

    def rows(self, which: Ints) -> ObservationBatch:
        """Return some of the epochs."""
        epoch, time_s = self.epoch[which], self.time_s[which]
        return ObservationBatch(self.spec, epoch, time_s, self.table.rows(which))

    @cached_property
    def features(self) -> Floats:
        """The features that every observation has, see ``feature_names``; shape (B, features)."""
        return read_only(self.table.features())

    @cached_property
    def tasks(self) -> Floats:
        """Number of tasks to place, or the expected number; shape (B,)."""
        return _shown(self.table.tasks[:, 0])

    @cached_property
    def size_factor(self) -> Floats:
        """Mean over the tasks of each epoch, or 1 where it is not known yet; shape (B,)."""
        return _shown(self.table.tasks[:, 1])

    @cached_property
    def class_number(self) -> Ints:
        """The class of the tasks to place, from 0; shape (B,)."""
        return _shown(self.table.class_)

    @cached_property
    def device(self) -> Ints:
        """The device of each epoch's task, or −1 where an epoch is a slot; shape (B,)."""
        return _shown(self.table.device)

    @cached_property
    def serving_server(self) -> Ints:
        """The server (0-based) of every device; shape (B, D)."""
        return _shown(self.table.serving_server)

    @cached_property
    def rate_bps(self) -> Floats:
        """Radio rate of every device; shape (B, D)."""
        return _shown(self.table.rate_bps)

    @cached_property
    def battery_j(self) -> Floats:
        """Remaining energy of every device, infinite where unlimited; shape (B, D)."""
        return _shown(self.table.battery_j)

    @cached_property
    def backlog_s(self) -> Floats:
        """Of every resource: servers, devices, uplinks, downlinks, links; (B, N + 3·D + L)."""
        return _shown(self.table.backlog_s)

    @property
    def server_backlog_s(self) -> Floats:
        """Shape (B, N)."""
        return self.backlog_s[:, : self.spec.servers]

    @property
    def device_backlog_s(self) -> Floats:
        """Shape (B, D)."""
        return self._of_devices(0)

    @property
    def uplink_backlog_s(self) -> Floats:
        """Shape (B, D)."""
        return self._of_devices(1)

    @property
    def downlink_backlog_s(self) -> Floats:
        """Shape (B, D)."""
        return self._of_devices(2)

    @property
    def link_backlog_s(self) -> Floats:
        """Shape (B, L)."""
        return self.backlog_s[:, self.spec.servers + 3 * self.spec.devices :]

    def _of_devices(self, kind: int) -> Floats:
        first = self.spec.servers + kind * self.spec.devices
        return self.backlog_s[:, first : first + self.spec.devices]


def _shown(values: _Array) -> _Array:
    """Return a copy that schedulers cannot change."""
    return read_only(values.copy())


class CustomFeatures(ABC):
    """Features that observations have in addition.

    Args:
        spec: The part of the scenario that schedulers know.

    Attributes:
        spec: The same.
        names: A name for each feature; a subclass sets them, or its ``__init__`` does.
    """

    names: Sequence[str]

    def __init__(self, spec: SchedulerSpec) -> None:
        self.spec = spec

    @abstractmethod
    def compute(self, batch: ObservationBatch) -> Floats:
        """Return the features of each epoch.

        Each row must depend on the same row of the batch only: rows may be of different runs.
        Values should be about one, for networks take them as they are.

        Args:
            batch: B epochs.

        Returns:
            Finite numbers; shape (B, features).
        """


@dataclass(frozen=True)
class FeatureSource:
    """Where features of a policy come from."""

    source: str
    """``path/file.py:Class``, as it was given."""
    sha256: str
    """Hash of the file and of those that it imports, except installed packages."""
    names: tuple[str, ...]


class AddedFeatures:
    """Checked features of a user.

    Args:
        source: ``path/file.py:Class``, or a subclass of :class:`CustomFeatures`.
        spec: The part of the scenario that schedulers know.

    Attributes:
        names: A name for each feature.

    Raises:
        SchedulerError: They cannot be loaded or made, or their names are not valid.
    """

    def __init__(self, source: str | type[CustomFeatures], spec: SchedulerSpec) -> None:
        cls = _load(source) if isinstance(source, str) else source
        if not _is_features(cls):
            expected = "path/file.py:Class or a subclass of mecsim.CustomFeatures"
            raise SchedulerError(f"features {cls!r}: expected {expected}")
        self._label = source if isinstance(source, str) else cls.__qualname__
        if inspect.isabstract(cls):
            raise SchedulerError(f"features {self._label!r}: has no method compute(batch)")
        with scheduler_errors(f"features {self._label!r}: cannot be made:"):
            self._made = cls(spec.run)
            names = getattr(self._made, "names", None)
        self.names = _checked_names(self._label, names, spec)
        self._source = source if isinstance(source, str) else ""
        self._rows_checked = False

    def described(self) -> FeatureSource:
        """Return where they come from, for a policy file. Raises ``SchedulerError``."""
        digest = hashlib.sha256()
        for name in file_sources(Path(self._source.rpartition(":")[0])).files:
            digest.update(Path(name).read_bytes())
        return FeatureSource(self._source, digest.hexdigest(), self.names)

    def __call__(self, batch: ObservationBatch) -> Floats:
        """Return the features of each epoch; shape (B, features).

        Raises:
            SchedulerError: Their function fails, or returns other than finite numbers of that
                shape.
        """
        found = self._computed(batch)
        if not self._rows_checked and len(batch) > 1:
            self._rows_checked = True
            self._check_rows(batch, found)
        return found

    def one(self, observation: Observation) -> Floats:
        """Return the features of an observation in a run; shape (features,). Raises alike."""
        return self(ObservationBatch.of(observation))[0]

    def _computed(self, batch: ObservationBatch) -> Floats:
        where = self._where(batch, 0)
        with scheduler_errors(f"{where}:"):
            returned: object = self._made.compute(batch)
        found = np.asarray(returned)
        shape = len(batch), len(self.names)
        if found.shape != shape or found.dtype.kind not in "fiub":
            kind = f"an array of {found.dtype} with the shape {found.shape}"
            returned_ = kind if isinstance(returned, np.ndarray) else f"a {type(returned).__name__}"
            raise SchedulerError(
                f"{where}: returned {returned_}; allowed: an array of numbers with the shape "
                f"{shape}, a row for each epoch of the batch and a column for each name"
            )
        values = found.astype(np.float64)
        wrong = ~(np.abs(values) <= MOST)
        if wrong.any():
            row, column = (int(each) for each in np.argwhere(wrong)[0])
            raise SchedulerError(
                f"{self._where(batch, row)}: returned {values[row, column]} for "
                f"{self.names[column]!r}; allowed: finite numbers, up to {MOST:.3g}"
            )
        return values

    def _check_rows(self, batch: ObservationBatch, found: Floats) -> None:
        """Refuse rows that depend on other rows of a batch: in a run there are no others."""
        row = len(batch) - 1
        alone = self._computed(batch.rows(np.array([row])))[0]
        apart = np.abs(alone - found[row]) > CLOSE * (1.0 + np.abs(alone))
        if apart.any():
            column = int(apart.argmax())
            raise SchedulerError(
                f"{self._where(batch, row)}: returned {found[row, column]:g} for "
                f"{self.names[column]!r} in a batch of {len(batch)} and {alone[column]:g} alone; "
                "allowed: rows that depend on nothing but the same row of the batch"
            )

    def _where(self, batch: ObservationBatch, row: int) -> str:
        epoch = f"epoch {batch.epoch[row]} at {batch.time_s[row]:g} s"
        return f"features {self._label!r}: compute, {epoch}"


def _load(source: str) -> type[CustomFeatures]:
    """Return the class that ``path/file.py:Class`` names. Raises ``SchedulerError``."""
    place, _, name = source.rpartition(":")
    if not place.endswith(".py") or not name.isidentifier():
        raise SchedulerError(f"features {source!r}: expected path/file.py:Class")
    if not Path(place).is_file():
        raise SchedulerError(f"features {source!r}: there is no file {place}")
    with scheduler_errors(f"features {source!r}: {place} cannot be imported:"):
        module = import_file(Path(place))
    found = getattr(module, name, None)
    if not _is_features(found):
        own = [n for n, c in vars(module).items() if _is_features(c)]
        raise SchedulerError(
            f"features {source!r}: {place} has no mecsim.CustomFeatures called {name!r}; "
            f"it has: {', '.join(own) or 'none'}"
        )
    return found


def _is_features(value: object) -> TypeGuard[type[CustomFeatures]]:
    own = isinstance(value, type) and issubclass(value, CustomFeatures)
    return own and value is not CustomFeatures


def _checked_names(label: str, names: Any, spec: SchedulerSpec) -> tuple[str, ...]:
    """Return the names of features. Raises ``SchedulerError``."""
    where = f"features {label!r}: names"
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    if not (listed and names and all(isinstance(name, str) and name.strip() for name in names)):
        raise SchedulerError(f"{where}: {names!r}; allowed: a list with a text for each feature")
    known = set(feature_names(spec))
    for number, name in enumerate(names):
        if name in known or name in names[:number]:
            other = "a feature of every observation" if name in known else "listed twice"
            raise SchedulerError(f"{where}: {name!r} is {other}; allowed: another name")
    return tuple(names)
