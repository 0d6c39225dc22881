"""Read and validate traces: any fault of a file becomes a ``TraceError``."""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import h5py
import numpy as np

from mecsim.errors import ScenarioError, TraceError
from mecsim.scenario.loading import from_json
from mecsim.scenario.schema import Scenario
from mecsim.trace.provenance import MEASURED, Provenance
from mecsim.trace.schema import FORMAT, VERSIONS, Column, columns_of, version_for

MOST_CHUNK_BYTES: Final = 64 << 20
MOST_COMPRESSION: Final = 1200
"""More than what deflate makes of a column of zeros (1032)."""
_KINDS: Final = {
    str: "text",
    np.bytes_: "text of fixed length",
    np.integer: "a whole number",
    np.bool_: "true or false",
}
_OF_DEVICES: Final = ("rate_bps", "energy_remaining_J", "serving_server")
_DIMENSIONS: Final = {
    "placement": (2,),
    "observation": (2,),
    "size_factor": (1, 2),
} | dict.fromkeys(_OF_DEVICES, (2,))


class TraceFile:
    """A validated trace file; use it as a context manager.

    A file that a run is still writing can be read as well: it keeps the rows that it had when it
    was opened.

    Attributes:
        path: Path of the file.
        complete: Whether the run ended and everything was flushed.
        columns: Its columns by group, which depend on the format.
        scenario: The scenario that was simulated.
        scenario_label: Its name with the overrides.
        made_by: Scheduler, its options, seed, kernel, and testbed where times were measured.

    Example:
        >>> import tempfile
        >>> import mecsim
        >>> scenario = mecsim.load("scenarios/vgg16_4es.yaml", ["slots=2"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = mecsim.run(scenario, "greedy", out=Path(folder, "run.h5"))
        ...     with TraceFile(result.trace) as trace:
        ...         delays_s = trace.read("tasks", "total_s")
        >>> delays_s.shape
        (120,)
    """

    def __init__(self, path: Path) -> None:
        """Open and validate a trace.

        Args:
            path: An HDF5 file that ``mecsim run`` has written.

        Raises:
            TraceError: The file is missing, damaged, no trace, or has another format version.
        """
        self.path = path
        self.complete = False
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name too long
            found = "is a folder" if os.path.isdir(path) else "there is no such file"  # noqa: PTH112
            raise TraceError(f"{path}: {found}; a trace is a file that mecsim run has written")
        self._rows: dict[tuple[str, str], int] = {}
        """Rows of every column when the file was opened: a run may still be writing more."""
        self._opened = contextlib.ExitStack()
        self._file = _open(path, self._opened)
        try:
            with self._reading("the file"):
                self._check_format()
                self.complete = bool(self._attribute("complete", np.bool_))
                if not self.complete:
                    self._file = _open_growing(path, self._opened)
                self.scenario = self._scenario()
                self.scenario_label = self._scenario_label()
                self.made_by = self._provenance()
                self._check_columns()
        except BaseException:
            self._opened.close()
            raise

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except TraceError:
            raise
        except Exception as error:  # h5py raises nearly anything when bytes are wrong
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise TraceError(f"{self.path}: {what} is damaged: {reason}") from error

    def _check_format(self) -> None:
        found = self._file.attrs.get("format")
        if not isinstance(found, str) or found != FORMAT:
            shown = reprlib.repr(found)
            raise TraceError(f"{self.path}: is no mecsim trace (format: {shown}, not {FORMAT!r})")
        number = int(self._attribute("format_version", np.integer))
        if number not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            by = reprlib.repr(self._file.attrs.get("mecsim_version"))
            raise TraceError(
                f"{self.path}: has format_version {number}; this mecsim reads {known}: "
                f"install the mecsim that wrote it (attribute mecsim_version: {by})"
            )
        self.columns = VERSIONS[number]

    def _attribute(self, name: str, kind: type) -> Any:
        value = self._file.attrs.get(name)
        if not isinstance(value, kind):
            wanted = _KINDS[kind]
            shown = "is missing" if value is None else f"{reprlib.repr(value)} is wrong"
            raise TraceError(f"{self.path}: attribute {name}: {shown}; allowed: {wanted}")
        return value

    def _scenario(self) -> Scenario:
        text = self._attribute("scenario", str)
        try:
            scenario = from_json(text, f"{self.path}: attribute scenario")
        except ScenarioError as error:
            raise TraceError(str(error)) from error
        if scenario.sha256() != self._attribute("scenario_sha256", str):
            raise TraceError(f"{self.path}: attribute scenario does not have its scenario_sha256")
        if self.columns is not VERSIONS[version_for(len(scenario.classes))]:
            count = len(scenario.classes)
            found = f"{count} {'class' if count == 1 else 'classes'} of tasks"
            raise TraceError(f"{self.path}: format_version does not go with a scenario of {found}")
        version = version_for(len(scenario.classes))
        self.columns = columns_of(
            version,
            moves=bool(scenario.mobility),
            retries=any(each.retries for each in scenario.classes),
        )
        return scenario

    def _scenario_label(self) -> str:
        """Return the name of the scenario; in a trace of an older mecsim, that of the file."""
        if "scenario_label" not in self._file.attrs:
            return self.path.stem
        found: str = self._attribute("scenario_label", str)
        return found

    def _provenance(self) -> Provenance:
        options = self._mapping("scheduler_options", self._attribute("scheduler_options", str))
        seed = int(self._attribute("seed", np.integer))
        scheduler, kernel = self._attribute("scheduler", str), self._attribute("kernel", str)
        testbed = self._testbed()
        if (kernel == MEASURED) != (testbed is not None):
            found = "is missing" if testbed is None else "does not go with it"
            raise TraceError(f"{self.path}: attribute kernel: {kernel!r}, but testbed {found}")
        return Provenance(scheduler, options, seed, kernel, testbed)

    def _testbed(self) -> dict[str, Any] | None:
        if "testbed" not in self._file.attrs:
            return None
        return self._mapping("testbed", self._attribute("testbed", np.bytes_).decode())

    def _mapping(self, name: str, text: str) -> dict[str, Any]:
        """Return the value of an attribute that is a JSON mapping."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            where = f"{self.path}: attribute {name}"
            raise TraceError(f"{where}: {reprlib.repr(text)} is wrong; allowed: a JSON mapping")
        return found

    def _check_columns(self) -> None:
        for group, columns in self.columns.items():
            lengths = set()
            for name, spec in columns.items():
                dataset = self._file.get(f"{group}/{name}")
                if not isinstance(dataset, h5py.Dataset):
                    raise TraceError(f"{self.path}: column /{group}/{name} is missing")
                if dataset.ndim not in _DIMENSIONS.get(name, (1,)) or 0 in dataset.shape[1:]:
                    shape = f"/{group}/{name} has the shape {dataset.shape}"
                    raise TraceError(f"{self.path}: column {shape}")
                if name in _OF_DEVICES and dataset.shape[1] != self.scenario.device_count:
                    found = f"{dataset.shape[1]} devices, not {self.scenario.device_count}"
                    raise TraceError(f"{self.path}: column /{group}/{name} is for {found}")
                if dataset.dtype.kind != np.dtype(spec.dtype).kind:
                    kind = f"{dataset.dtype}, not {np.dtype(spec.dtype)}"
                    raise TraceError(f"{self.path}: column /{group}/{name} holds {kind}")
                self._check_size(f"/{group}/{name}", dataset)
                self._rows[group, name] = len(dataset)
                lengths.add(len(dataset))
            if len(lengths) > 1 and self.complete:
                found = f"different lengths: {sorted(lengths)}"
                raise TraceError(f"{self.path}: the columns of /{group} have {found}")

    def _check_size(self, column: str, dataset: h5py.Dataset) -> None:
        """Refuse a column whose size in memory the file's size cannot account for."""
        stored = self.path.stat().st_size
        row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        chunk = math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize
        most = MOST_COMPRESSION * stored
        if dataset.nbytes > most or row > most or chunk > max(row, MOST_CHUNK_BYTES):
            rows = "×".join(map(str, dataset.shape))
            raise TraceError(
                f"{self.path}: column {column} is damaged: its {rows} entries cannot be in a "
                f"file of {stored} bytes"
            )

    def attributes(self) -> dict[str, Any]:
        """Return the root attributes of the file by name."""
        found = dict(self._file.attrs)
        if self.made_by.testbed is not None:
            found["testbed"] = found["testbed"].decode().rstrip()
        return found

    def length(self, group: str) -> int:
        """Return the number of rows that all columns of a group have.

        In a trace of an interrupted run single columns may have more.
        """
        return min(self.rows(group, name) for name in self.columns[group])

    def rows(self, group: str, name: str) -> int:
        """Return the number of rows of a column.

        Args:
            group: Group of the column, such as ``tasks``.
            name: Its name in the group.
        """
        return self._rows[group, name]

    def width(self, group: str, name: str) -> int | None:
        """Return the number of entries in a row, or None where a row is one number.

        Args:
            group: Group of the column, such as ``tasks``.
            name: Its name in the group.
        """
        shape = self._file[f"{group}/{name}"].shape
        return shape[1] if len(shape) == 2 else None

    def features(self) -> list[str]:
        """Return the names of the features of the recorded observations."""
        with self._reading("decisions/observation"):
            return [str(name) for name in self._file["decisions/observation"].attrs["features"]]

    def read(self, group: str, name: str, begin: int = 0, end: int | None = None) -> Column:
        """Read a column, or a part of it.

        Args:
            group: Group, for example ``"tasks"``.
            name: Column in the group.
            begin: First row, from 0.
            end: Row after the last one; by default all.

        Returns:
            Array of shape (rows,), or (rows, entries) where a row has several.

        Raises:
            TraceError: The data are damaged.
        """
        with self._reading(f"column /{group}/{name}"):
            rows = slice(*slice(begin, end).indices(self.rows(group, name)))
            return np.asarray(self._file[f"{group}/{name}"][rows])

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._opened.close()


def kernel_of(path: Path) -> str | None:
    """Return the kernel that made a trace, of any version; None for a file that is no trace."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("format") != FORMAT:
                return None
            kernel = file.attrs.get("kernel")
    except (OSError, RuntimeError):
        return None
    return kernel if isinstance(kernel, str) else None


def _open(path: Path, opened: contextlib.ExitStack) -> h5py.File:
    """Open a file without a lock: mecsim takes none when it writes, and NFS may have none."""
    try:
        return opened.enter_context(h5py.File(path, "r", locking=False))
    except OSError as error:
        reason = str(error).splitlines()[0] if path.stat().st_size else "it is empty"
        opened.close()
        raise TraceError(f"{path}: is damaged, or no HDF5 file: {reason}") from error


def _open_growing(path: Path, opened: contextlib.ExitStack) -> h5py.File:
    """Open a file again that a run may still be writing.

    In SWMR mode HDF5 reads beyond the end that the file had when it was opened. Without it, the
    first part of an index that the run has extended since ends in "addr overflow".
    """
    opened.close()
    return opened.enter_context(h5py.File(path, "r", locking=False, swmr=True))
