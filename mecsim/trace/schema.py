"""Groups and columns of a trace, traces in memory, and the comparison of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Column: TypeAlias = NDArray[Any]
Rows: TypeAlias = Mapping[str, Column]

FORMAT: Final = "mecsim-trace"
FORMAT_VERSION: Final = 1
CLASSES_VERSION: Final = 2
"""The format of traces with several classes of tasks; it has further columns."""


@dataclass(frozen=True)
class ColumnSpec:
    """Type and meaning of a column.

    Attributes:
        dtype: Numpy type code; ``"S"`` for byte strings of any length.
        units: Unit, or an empty string.
        description: One line that the file carries as an attribute.
    """

    dtype: str
    units: str
    description: str


_ = ColumnSpec

COLUMNS: Final[Mapping[str, Mapping[str, ColumnSpec]]] = {
    "tasks": {
        "release_s": _("f8", "s", "when the task was released"),
        "slot": _("i8", "", "slot in which it was released"),
        "device": _("i4", "", "device that released it, from 0"),
        "size_factor": _("f8", "", "factor on cycles and bits (tasks × M if drawn per block)"),
        "finish_s": _("f8", "s", "when its last block finished, or when it failed"),
        "total_s": _("f8", "s", "edge_s + local_s"),
        "edge_s": _("f8", "s", "delay of the blocks that finished at edge servers"),
        "local_s": _("f8", "s", "delay of the blocks that finished at the device"),
        "energy_J": _("f8", "J", "energy that the device spent on it"),
        "late_blocks": _("i4", "", "blocks with a delay above the tolerated one"),
        "status": _(
            "i1", "", "0 completed, failed: 1 battery spent, 2 lost in an outage, 3 dropped"
        ),
    },
    "blocks": {
        "task": _("i8", "", "row of /tasks"),
        "block": _("i4", "", "block, from 0"),
        "node": _("i4", "", "0 the device, n edge server n"),
        "ready_s": _("f8", "s", "when the block before had finished, or the release"),
        "compute_start_s": _("f8", "s", "when its computation began"),
        "finish_s": _("f8", "s", "when it finished (with the result's return, if any)"),
        "delay_s": _("f8", "s", "L_m = finish_s - ready_s"),
        "energy_J": _("f8", "J", "energy that the device spent on it"),
    },
    "hops": {
        "task": _("i8", "", "row of /tasks"),
        "block": _("i4", "", "block, from 0, that is computed or whose input is sent"),
        "resource": _("i4", "", "row of /resources"),
        "enqueue_s": _("f8", "s", "when the task joined the resource's queue"),
        "start_s": _("f8", "s", "when its service began"),
        "finish_s": _("f8", "s", "when its service ended (propagation comes after)"),
    },
    "decisions": {
        "time_s": _("f8", "s", "when the placement was decided"),
        "slot": _("i8", "", "slot of the epoch"),
        "placement": _("i4", "", "place of every block (epochs × M)"),
        "reward": _("f8", "s", "reward until the next epoch (Eq. 14); the last has the rest"),
        "observation": _("f8", "mixed", "what the scheduler saw (epochs × features)"),
    },
    "slots": {
        "time_s": _("f8", "s", "when the slot began"),
        "released": _("i8", "", "tasks released in it"),
        "rate_bps": _("f8", "bit/s", "radio rate of every device (slots × D)"),
        "energy_remaining_J": _("f8", "J", "battery of every device at its start (slots × D)"),
    },
    "resources": {
        "name": _("S", "", "name"),
        "kind": _("S", "", "server, device, uplink, downlink or link"),
        "node": _("i4", "", "edge server (from 1) or device (from 0) that it belongs to"),
        "capacity": _("i4", "", "parallel servers"),
        "busy_s": _("f8", "s", "sum of its service times"),
        "served": _("i8", "", "services begun"),
    },
}

_CLASS: Final = {
    "tasks": _("i4", "", "class of the task, from 0, in the order of the scenario"),
    "decisions": _("i4", "", "class of the tasks that are placed, from 0"),
}
VERSIONS: Final[Mapping[int, Mapping[str, Mapping[str, ColumnSpec]]]] = {
    FORMAT_VERSION: COLUMNS,
    CLASSES_VERSION: {
        group: columns | ({"class": _CLASS[group]} if group in _CLASS else {})
        for group, columns in ((group, dict(columns)) for group, columns in COLUMNS.items())
    },
}
"""The columns of every format."""


SERVING_SERVER: Final = _("i4", "", "server of every device, from 0 (slots × D)")
"""The column that ``slots`` has in addition where devices move."""


ATTEMPTS: Final = {
    "tasks": {"attempts": _("i4", "", "how often it was placed: 1, and once for each retry")},
    "blocks": {"attempt": _("i4", "", "attempt at the task, from 1")},
    "hops": {"attempt": _("i4", "", "attempt at the task, from 1")},
}
"""The columns that groups have in addition where lost tasks are placed again."""


def columns_of(
    version: int, *, moves: bool, retries: bool = False
) -> Mapping[str, Mapping[str, ColumnSpec]]:
    """Return the columns by group of a trace of a format.

    Args:
        version: The format.
        moves: Whether devices may move.
        retries: Whether lost tasks are placed again.
    """
    more: dict[str, Mapping[str, ColumnSpec]] = {}
    if moves:
        more["slots"] = {"serving_server": SERVING_SERVER}
    if retries:
        more |= ATTEMPTS
    columns = VERSIONS[version]
    if not more:
        return columns
    return {group: {**every, **more.get(group, {})} for group, every in columns.items()}


def version_for(classes: int) -> int:
    """Return the format of the trace of a run with so many classes of tasks."""
    return FORMAT_VERSION if classes == 1 else CLASSES_VERSION


class Sink(Protocol):
    """Receives the rows of a trace while the run advances."""

    def append(self, group: str, rows: Rows) -> None:
        """Append rows.

        Args:
            group: A key of ``COLUMNS``. Rows of ``resources`` replace those before.
            rows: Arrays by column name, all of one length; the caller must not change them later.
        """
        ...


@dataclass(frozen=True)
class Difference:
    """The first row in which two traces differ.

    Attributes:
        group: Group, for example ``"tasks"``.
        column: Column in the group.
        row: Row, from 0.
        recorded: Value in the first trace.
        replayed: Value in the second trace.
        entry: Entry of the row, from 0, where a row has several.
    """

    group: str
    column: str
    row: int
    recorded: object
    replayed: object
    entry: int | None = None

    def __str__(self) -> str:
        entry = "" if self.entry is None else f", entry {self.entry}"
        return (
            f"/{self.group}/{self.column} differs first at row {self.row}{entry}: "
            f"recorded {self.recorded}, replayed {self.replayed}"
        )


def first_difference(
    group: str, column: str, first: int, recorded: Column, replayed: Column
) -> Difference | None:
    """Compare two pieces of a column with ``==``; NaN equals NaN.

    Args:
        group: Group of the column, for the result.
        column: Its name, for the result.
        first: Row at which both pieces begin.
        recorded: Rows of the first trace.
        replayed: Rows of the second trace.

    Returns:
        The first difference, or None. A missing row is one.
    """
    if recorded.shape != replayed.shape:
        length = min(len(recorded), len(replayed))
        found = first_difference(group, column, first, recorded[:length], replayed[:length])
        if found is not None or recorded.shape[1:] != replayed.shape[1:]:
            return found or Difference(group, column, first, recorded.shape, replayed.shape)
        rows = first + len(recorded), first + len(replayed)
        return Difference(group, column, first + length, f"{rows[0]} rows", f"{rows[1]} rows")
    same = recorded == replayed
    if recorded.dtype.kind == "f":
        same |= np.isnan(recorded) & np.isnan(replayed)
    if same.all():
        return None
    row, *entry = (int(position) for position in np.argwhere(~same)[0])
    found, wanted = replayed[row, *entry], recorded[row, *entry]
    return Difference(group, column, first + row, wanted, found, *entry)


class MemoryTrace:
    """A sink that keeps all rows in memory and gives them back as columns.

    Example:
        >>> trace = MemoryTrace()
        >>> trace.append("tasks", {"total_s": np.array([0.5])})
        >>> trace.append("tasks", {"total_s": np.array([0.25])})
        >>> trace["tasks/total_s"].tolist()
        [0.5, 0.25]
    """

    def __init__(self) -> None:
        self._pieces: dict[tuple[str, str], list[Column]] = {}

    def append(self, group: str, rows: Rows) -> None:
        """Append rows of some columns of a group."""
        for name, values in rows.items():
            pieces = self._pieces.setdefault((group, name), [])
            if group == "resources":  # not further rows, but new values
                pieces.clear()
            pieces.append(values)

    def __getitem__(self, path: str) -> Column:
        """Return a column by its path, for example ``trace["tasks/total_s"]``.

        Raises:
            KeyError: There is no such column.
        """
        group, _, name = path.partition("/")
        if (group, name) not in self._pieces and name in COLUMNS.get(group, ()):
            return np.empty(0, dtype=COLUMNS[group][name].dtype)  # a run without such rows
        pieces = self._pieces[group, name]
        if len(pieces) > 1:
            pieces[:] = [np.concatenate(pieces)]
        return pieces[0]

    def names(self, group: str) -> list[str]:
        """Return the names of the columns of a group, those without rows included."""
        found = [name for of, name in self._pieces if of == group]
        return list(dict.fromkeys([*COLUMNS[group], *found]))

    def paths(self) -> list[str]:
        """Return the paths of all columns that have rows."""
        return [f"{group}/{name}" for group, name in self._pieces]

    def first_difference(self, other: MemoryTrace) -> Difference | None:
        """Return the first difference to another trace, in order of paths, or None."""
        for path in sorted({*self.paths(), *other.paths()}):
            group, _, name = path.partition("/")
            if path not in self.paths() or path not in other.paths():
                return Difference(group, name, 0, path in self.paths(), path in other.paths())
            found = first_difference(group, name, 0, self[path], other[path])
            if found is not None:
                return found
        return None
