"""Writing traces as the run goes, in bounded memory.

The file is written under a temporary name beside its final one and takes the final name when it
is complete. Between flushes it is consistent on disk, see :mod:`mecsim.store.superblock`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import h5py
import numpy as np

from mecsim.errors import OutputError
from mecsim.model import KINDS, Model
from mecsim.scheduler import SchedulerSpec, feature_names
from mecsim.store.deflate import compressible, shuffle_deflate
from mecsim.store.provenance import Provenance
from mecsim.store.superblock import clear_write_mark
from mecsim.trace import COLUMNS, FORMAT, FORMAT_VERSION, Column, Rows

FLUSH_SLOTS: Final = 10
FLUSH_SECONDS: Final = 1.0
BUFFER_BYTES: Final = 8 << 20
CHUNK_BYTES: Final = 128 << 10
LEAST_BYTES: Final = 1 << 20
"""Room on the disk without which a run does not begin."""
_PACKAGES: Final = ("mecsim", "numpy", "simpy", "networkx", "pydantic", "h5py")


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
    stays in the temporary file, marked as incomplete; :attr:`partial` is its path. ``size_factors``
    is their number a task: 1, or M.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        spec: SchedulerSpec,
        made_by: Provenance,
        *,
        size_factors: int = 1,
    ) -> None:
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
                self._make_columns(model, len(feature_names(spec)), size_factors)
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
            scheduler_options=_json(dict(made_by.scheduler_options), self.path),
            seed=np.uint64(made_by.seed),
            kernel=made_by.kernel,
            mecsim_version=packages["mecsim"],
            environment=json.dumps(environment | packages),
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _make_columns(self, model: Model, features: int, size_factors: int) -> None:
        wide = {
            "placement": (model.blocks,),
            "observation": (features,),
            "rate_bps": (model.devices,),
            "energy_remaining_J": (model.devices,),
        }
        if size_factors > 1:
            wide["size_factor"] = (size_factors,)
        static = resource_columns(model)
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


def _json(options: dict[str, Any], path: Path) -> str:
    try:
        return json.dumps(options, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written: scheduler options: {error}") from error


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
    except (OSError, RuntimeError) as error:  # h5py raises either
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).splitlines()[0]
        raise OutputError(f"{path}: cannot be written: {reason}") from error


def resource_columns(model: Model) -> dict[str, Column]:
    """Return the columns of ``/resources`` that do not change during a run."""
    parts = model.resources
    own = np.tile(np.arange(model.devices), 3)
    node = np.concatenate([np.arange(model.servers) + 1, own, model.links.source + 1])
    return {
        "name": np.array(model.resource_names(), dtype="S"),
        "kind": np.array(KINDS, dtype="S")[parts.kind],
        "node": node.astype(np.int32),
        "capacity": model.capacity.astype(np.int32),
    }
