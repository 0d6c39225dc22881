"""Traces in HDF5: written as the run goes, in bounded memory; read with every check.

The file is written under a temporary name beside its final one and takes the final name when it
is complete. Between flushes it is consistent on disk, see :mod:`mecsim.superblock`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import reprlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import h5py
import numpy as np

from mecsim.deflate import compressible, shuffle_deflate
from mecsim.errors import OutputError, ScenarioError, TraceError
from mecsim.model import KINDS, Model
from mecsim.scenario import Scenario, from_json
from mecsim.scheduler import feature_names
from mecsim.superblock import Unmarked, clear_write_mark
from mecsim.trace import COLUMNS, FORMAT, FORMAT_VERSION, Column, Rows

FLUSH_SLOTS: Final = 10
FLUSH_SECONDS: Final = 1.0
BUFFER_BYTES: Final = 8 << 20
CHUNK_BYTES: Final = 128 << 10
LEAST_BYTES: Final = 1 << 20
"""Room on the disk without which a run does not begin."""
MOST_CHUNK_BYTES: Final = 64 << 20
MOST_COMPRESSION: Final = 1200
"""More than what deflate makes of a column of zeros (1032)."""
_OF_DEVICES: Final = ("rate_bps", "energy_remaining_J")
_DIMENSIONS: Final = {
    "placement": (2,),
    "observation": (2,),
    "size_factor": (1, 2),
} | dict.fromkeys(_OF_DEVICES, (2,))
_PACKAGES: Final = ("mecsim", "numpy", "simpy", "networkx", "pydantic", "h5py")


@dataclass(frozen=True)
class Provenance:
    """What made a trace, apart from the scenario: the root attributes of the file."""

    scheduler: str
    scheduler_options: Mapping[str, Any]
    seed: int
    kernel: str


class _Column:
    """A dataset that grows at its end, written chunk by chunk.

    The chunk that is not full yet is kept here too, and written again when it has grown.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dataset = dataset
        self._pieces: list[Column] = []
        self._begin = 0
        self.rows = 0

    def append(self, values: Column) -> None:
        """Take further rows."""
        self._pieces.append(values.astype(self.dataset.dtype, copy=False))
        self.rows += len(values)

    def write(self, *, last_chunk: bool) -> None:
        """Write the chunks that are full and, if asked for, the last one as far as it goes."""
        if not self._pieces:
            return
        values = np.concatenate(self._pieces)
        full = len(values) // self.dataset.chunks[0] * self.dataset.chunks[0]
        self._put(values if last_chunk else values[:full])
        self._begin += full
        self._pieces = [values[full:].copy()] if full < len(values) else []

    def _put(self, values: Column) -> None:
        self.dataset.resize(max(self._begin + len(values), len(self.dataset)), axis=0)
        length, width = self.dataset.chunks[0], self.dataset.shape[1:]
        worth = compressible(values)
        for begin in range(0, len(values), length):
            chunk = values[begin : begin + length]
            planes = worth
            if len(chunk) < length:
                planes = [True] * len(worth)  # the padding is most of it
                rest = np.full((length - len(chunk), *width), self.dataset.fillvalue, chunk.dtype)
                chunk = np.concatenate([chunk, rest])
            offset = (self._begin + begin, *(0 for _ in width))
            self.dataset.id.write_direct_chunk(offset, shuffle_deflate(chunk, planes))


class TraceWriter:
    """A sink that writes a trace file. Use it as a context manager.

    Raises ``OutputError`` when the file cannot be written. If the run ends early, what was flushed
    stays in the temporary file, marked as incomplete; :attr:`partial` is its path.
    """

    def __init__(self, path: Path, model: Model, spec: Any, made_by: Provenance) -> None:
        self.path = path
        self._columns: dict[tuple[str, str], _Column] = {}
        self._resources: Rows = {}
        self._bytes = self._slots = 0
        self._flushed = time.monotonic()
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name too long
            raise OutputError(f"{path}: cannot be written: it is a folder")
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _probe(path.parent, LEAST_BYTES + 64 * len(model.resources))
            self.partial, self._file = _create(path)
            self._descriptor = os.open(self.partial, os.O_RDWR)
            try:
                self._describe(model, made_by)
                self._make_columns(model, len(feature_names(spec)))
                self._file["decisions/observation"].attrs["features"] = feature_names(spec)
                self._file.swmr_mode = True
                clear_write_mark(self._descriptor)
            except BaseException:
                self._abandon(keep=False)
                raise

    def _describe(self, model: Model, made_by: Provenance) -> None:
        packages = {name: version(name) for name in _PACKAGES}
        environment = {"python": platform.python_version(), "platform": platform.platform()}
        self._file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            complete=False,
            scenario=model.scenario.canonical_json(),
            scenario_sha256=model.scenario.sha256(),
            scheduler=made_by.scheduler,
            scheduler_options=json.dumps(dict(made_by.scheduler_options), sort_keys=True),
            seed=np.uint64(made_by.seed),
            kernel=made_by.kernel,
            mecsim_version=packages["mecsim"],
            environment=json.dumps(environment | packages),
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _make_columns(self, model: Model, features: int) -> None:
        wide = {
            "placement": (model.blocks,),
            "observation": (features,),
            "rate_bps": (model.devices,),
            "energy_remaining_J": (model.devices,),
        }
        if getattr(model.scenario.size_factor, "per", "task") == "block":
            wide["size_factor"] = (model.blocks,)
        static = _resource_columns(model)
        for group, columns in COLUMNS.items():
            for name, spec in columns.items():
                values = static.get(name) if group == "resources" else None
                dtype = np.dtype(spec.dtype) if values is None else values.dtype
                dataset = self._make_column(f"{group}/{name}", dtype, wide.get(name, ()))
                dataset.attrs.update(units=spec.units, description=spec.description)
                self._columns[group, name] = _Column(dataset)
                if group == "resources":
                    dataset.resize(len(model.resources), axis=0)
                    if values is not None:
                        dataset[:] = values

    def _make_column(self, path: str, dtype: Any, width: tuple[int, ...]) -> h5py.Dataset:
        row_bytes = dtype.itemsize * int(np.prod(width, dtype=np.int64))
        return self._file.create_dataset(
            path,
            shape=(0, *width),
            maxshape=(None, *width),
            dtype=dtype,
            chunks=(max(1, CHUNK_BYTES // row_bytes), *width),
            fillvalue=np.nan if dtype.kind == "f" else None,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )

    def append(self, group: str, rows: Rows) -> None:
        """Take further rows of some columns of a group; flush when it is time."""
        if group == "resources":  # not further rows, but new values
            self._resources = rows
            return
        for name, values in rows.items():
            self._columns[group, name].append(values)
            self._bytes += values.nbytes
        if group == "slots":
            self._slots += 1
            late = time.monotonic() - self._flushed >= FLUSH_SECONDS
            if late and self._slots >= FLUSH_SLOTS:
                self.flush()
            elif self._bytes >= BUFFER_BYTES:
                self._write(last_chunk=False)

    def flush(self) -> None:
        """Write all rows that were taken, so that they outlive the process."""
        self._write(last_chunk=True)
        with _writing(self.path):
            decided = self._columns["decisions", "time_s"].rows
            self._columns["decisions", "reward"].dataset.resize(decided, axis=0)  # known later
            for name, values in self._resources.items():
                self._file[f"resources/{name}"][:] = values
            self._file.flush()
            clear_write_mark(self._descriptor)
        self._slots = 0
        self._flushed = time.monotonic()

    def _write(self, *, last_chunk: bool) -> None:
        with _writing(self.path):
            for column in self._columns.values():
                column.write(last_chunk=last_chunk)
        self._bytes = 0

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Complete the file, or keep what there is of it under its temporary name."""
        if kind is None:
            self._complete()
        else:
            self._abandon(keep=self._columns["decisions", "time_s"].rows > 0)

    def _complete(self) -> None:
        try:
            self.flush()
            with _writing(self.path):
                attribute = h5py.h5a.open(self._file.id, b"complete")
                attribute.write(np.array(True))
                self._close()
                self.partial.replace(self.path)
        except OutputError:
            self._abandon(keep=True)
            raise

    def _abandon(self, *, keep: bool) -> None:
        try:
            if keep and self._file:
                self.flush()
            self._close()
        except Exception:  # noqa: BLE001 - the disk is full: what was flushed before is there
            self._let_go()
        if not keep:
            self.partial.unlink(missing_ok=True)

    def _let_go(self) -> None:
        """Close the file without writing to it; HDF5 crashes at exit when it cannot write."""
        clear_write_mark(self._descriptor)
        with open(os.devnull, "r+b") as nowhere:  # noqa: PTH123 - no file that one reads
            os.dup2(nowhere.fileno(), self._file.id.get_vfd_handle())
        with contextlib.suppress(Exception):
            self._file.close()
        os.close(self._descriptor)

    def _close(self) -> None:
        if self._file:
            self._file.close()
            clear_write_mark(self._descriptor)
            os.close(self._descriptor)


def _probe(folder: Path, size: int) -> None:
    """Raise ``OSError`` if there is no room to begin: HDF5 itself crashes where it cannot begin."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(size))


def _create(path: Path) -> tuple[Path, h5py.File]:
    """Create the temporary file, never over another one's: a killed run's is worth keeping."""
    for number in range(1, 1000):
        suffix = ".partial" if number == 1 else f".partial-{number}"
        partial = path.with_name(f"{path.stem}{suffix}{path.suffix}")
        with contextlib.suppress(FileExistsError):
            return partial, h5py.File(partial, "x", libver=("v110", "v110"))
    raise OutputError(f"{path}: has 999 unfinished traces beside it; delete some")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        raise OutputError(f"{path}: cannot be written: {reason}") from error


def _resource_columns(model: Model) -> dict[str, Column]:
    parts = model.resources
    own = np.tile(np.arange(model.devices), 3)
    node = np.concatenate([np.arange(model.servers) + 1, own, model.links.source + 1])
    return {
        "name": np.array(model.resource_names(), dtype="S"),
        "kind": np.array(KINDS, dtype="S")[parts.kind],
        "node": node.astype(np.int32),
        "capacity": model.capacity.astype(np.int32),
    }


class TraceFile:
    """A trace file that has been checked; use it as a context manager.

    Raises ``TraceError`` for a file that is missing, damaged, foreign or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complete = False
        """Whether the run ended and everything was flushed."""
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name too long
            found = "is a folder" if os.path.isdir(path) else "there is no such file"  # noqa: PTH112
            raise TraceError(f"{path}: {found}; a trace is a file that mecsim run has written")
        self._opened = contextlib.ExitStack()
        self._file = _open(path, self._opened)
        try:
            with self._reading("the file"):
                self._check_format()
                self.complete = bool(self._attribute("complete", np.bool_))
                self.scenario = self._scenario()
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
            told = " ".join(str(error).split())[:200] or type(error).__name__
            raise TraceError(f"{self.path}: {what} is damaged: {told}") from error

    def _check_format(self) -> None:
        found = self._file.attrs.get("format")
        if not isinstance(found, str) or found != FORMAT:
            shown = reprlib.repr(found)
            raise TraceError(f"{self.path}: is no mecsim trace (format: {shown}, not {FORMAT!r})")
        number = int(self._attribute("format_version", np.integer))
        if number != FORMAT_VERSION:
            by = reprlib.repr(self._file.attrs.get("mecsim_version"))
            raise TraceError(
                f"{self.path}: has format_version {number}; this mecsim reads {FORMAT_VERSION}: "
                f"install the mecsim that wrote it (attribute mecsim_version: {by})"
            )

    def _attribute(self, name: str, kind: type) -> Any:
        value = self._file.attrs.get(name)
        if not isinstance(value, kind):
            wanted = {str: "text", np.integer: "a whole number", np.bool_: "true or false"}[kind]
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
        return scenario

    def _provenance(self) -> Provenance:
        text = self._attribute("scheduler_options", str)
        try:
            options = json.loads(text)
        except (ValueError, RecursionError):
            options = None
        if not isinstance(options, dict):
            where = f"{self.path}: attribute scheduler_options"
            raise TraceError(f"{where}: {reprlib.repr(text)} is wrong; allowed: a JSON mapping")
        seed = int(self._attribute("seed", np.integer))
        scheduler, kernel = self._attribute("scheduler", str), self._attribute("kernel", str)
        return Provenance(scheduler, options, seed, kernel)

    def _check_columns(self) -> None:
        for group, columns in COLUMNS.items():
            lengths = set()
            for name, spec in columns.items():
                dataset = self._file.get(f"{group}/{name}")
                if not isinstance(dataset, h5py.Dataset):
                    raise TraceError(f"{self.path}: column /{group}/{name} is missing")
                if dataset.ndim not in _DIMENSIONS.get(name, (1,)) or 0 in dataset.shape[1:]:
                    shape = f"/{group}/{name} has the shape {dataset.shape}"
                    raise TraceError(f"{self.path}: column {shape}")
                if name in _OF_DEVICES and dataset.shape[1] != self.scenario.devices:
                    found = f"{dataset.shape[1]} devices, not {self.scenario.devices}"
                    raise TraceError(f"{self.path}: column /{group}/{name} is for {found}")
                if dataset.dtype.kind != np.dtype(spec.dtype).kind:
                    kind = f"{dataset.dtype}, not {np.dtype(spec.dtype)}"
                    raise TraceError(f"{self.path}: column /{group}/{name} holds {kind}")
                self._check_size(f"/{group}/{name}", dataset)
                lengths.add(len(dataset))
            if len(lengths) > 1 and self.complete:
                found = f"different lengths: {sorted(lengths)}"
                raise TraceError(f"{self.path}: the columns of /{group} have {found}")

    def _check_size(self, column: str, dataset: h5py.Dataset) -> None:
        """Refuse a column that would need far more memory than its file can hold data for."""
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
        """Return the root attributes."""
        return dict(self._file.attrs)

    def length(self, group: str) -> int:
        """Return the number of rows that all columns of a group have."""
        return min(self.rows(group, name) for name in COLUMNS[group])

    def rows(self, group: str, name: str) -> int:
        """Return the number of rows of a column."""
        return len(self._file[f"{group}/{name}"])

    def width(self, group: str, name: str) -> int | None:
        """Return the number of columns of a two-dimensional dataset, None for others."""
        shape = self._file[f"{group}/{name}"].shape
        return shape[1] if len(shape) == 2 else None

    def features(self) -> list[str]:
        """Return the names of the features of the recorded observations."""
        with self._reading("decisions/observation"):
            return [str(name) for name in self._file["decisions/observation"].attrs["features"]]

    def read(self, group: str, name: str, begin: int = 0, end: int | None = None) -> Column:
        """Return rows ``begin`` to ``end`` of a column."""
        with self._reading(f"column /{group}/{name}"):
            return np.asarray(self._file[f"{group}/{name}"][begin:end])

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._opened.close()


def _open(path: Path, opened: contextlib.ExitStack) -> h5py.File:
    try:
        return opened.enter_context(h5py.File(path, "r"))
    except OSError as error:
        reason = str(error).splitlines()[0] if path.stat().st_size else "it is empty"
        if "consistency flags" in reason:  # killed while the mark stood, see mecsim.superblock
            with contextlib.suppress(OSError):
                raw = opened.enter_context(Unmarked(path))
                return opened.enter_context(h5py.File(raw, "r"))
        opened.close()
        raise TraceError(f"{path}: is damaged, or no HDF5 file: {reason}") from error
