"""The HDF5 file of a trace that is being written: layout, flushes, closing.

It can be opened at any time, see :mod:`mecsim.trace.superblock`.
"""

from __future__ import annotations

import contextlib
import json
import platform
import weakref
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5s

from mecsim.errors import OutputError
from mecsim.model.model import KINDS, Model
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.trace.column import GrowingColumn, Storage, make_dataset
from mecsim.trace.deflate import Stream
from mecsim.trace.provenance import Provenance
from mecsim.trace.schema import FORMAT, Column, ColumnSpec, Rows, columns_of, version_for
from mecsim.trace.superblock import CrashSafeFile

GroupRows: TypeAlias = tuple[str, Rows]
"""A group and new rows of some of its columns."""

CHUNK_BYTES: Final = {"hops": 256 << 10, "blocks": 128 << 10}
"""Large chunks cost less time per byte. But every flush writes the last chunk again, and HDF5 does
not reuse the space of the old copy: only tables that grow fast have large chunks."""
_SMALL_CHUNK_BYTES: Final = 64 << 10
_TESTBED_ROOM: Final = 16 << 10
"""Bytes by which the attribute ``testbed`` can grow; HDF5 cannot enlarge one during a run."""
_PACKAGES: Final = ("mecsim", "numpy", "simpy", "networkx", "pydantic", "h5py")


class OutputFile:
    """A new HDF5 file for the trace of a run, for one thread at a time.

    Raises:
        OSError: The file cannot be written; h5py also raises ``RuntimeError``.
    """

    def __init__(
        self,
        path: Path,
        model: Model,
        spec: SchedulerSpec,
        made_by: Provenance,
        size_factors: int,
    ) -> None:
        self._columns: dict[tuple[str, str], GrowingColumn] = {}
        self._resource_columns: dict[str, h5d.DatasetID] = {}
        self._resources: Rows = {}
        self.partial, self._raw = _create(path)
        self._file = h5py.File(self._raw, "w", libver=("v110", "v110"))
        self._end = weakref.finalize(self, _abandon, self._file, self._raw)
        try:
            self._file.attrs.update(_described(model, made_by, path))
            if made_by.testbed is not None:
                text = _json(dict(made_by.testbed), path, "testbed").encode()
                self._file.attrs["testbed"] = np.bytes_(text.ljust(len(text) + _TESTBED_ROOM))
            self._make_columns(model, _widths(model, spec, size_factors))
            self._file["decisions/observation"].attrs["features"] = feature_names(spec)
            self._file.flush()
            self._raw.check()
            self._file.swmr_mode = True
            self._raw.check()
        except BaseException:
            self.abandon()
            self.partial.unlink(missing_ok=True)
            raise

    def _make_columns(self, model: Model, widths: Mapping[str, tuple[int, ...]]) -> None:
        stream = Stream()
        every = columns_of(
            version_for(len(model.classes)),
            moves=model.mobility is not None,
            retries=len(model.retries) > 0,
        )
        for group, columns in every.items():
            folder = h5g.create(self._file.id, group.encode())
            for name, spec in columns.items():
                if group == "resources":
                    self._make_resource_column(folder, name, spec, model)
                    continue
                size = CHUNK_BYTES.get(group, _SMALL_CHUNK_BYTES)
                storage = Storage(np.dtype(spec.dtype), size, widths.get(name, ()))
                dataset = make_dataset(folder, name, spec, storage)
                self._columns[group, name] = GrowingColumn(dataset, storage, stream)

    def _make_resource_column(
        self, folder: h5g.GroupID, name: str, spec: ColumnSpec, model: Model
    ) -> None:
        blank = np.zeros(len(model.resources), "f8" if spec.dtype == "S" else spec.dtype)
        values = resource_columns(model).get(name, blank)
        dataset = make_dataset(folder, name, spec, Storage(values.dtype, _SMALL_CHUNK_BYTES))
        dataset.set_extent(values.shape)
        dataset.write(h5s.ALL, h5s.ALL, values)
        self._resource_columns[name] = dataset

    def take(self, batch: Iterable[GroupRows]) -> None:
        """Append rows; write every chunk that is full."""
        pieces: dict[tuple[str, str], list[Column]] = {}
        for group, rows in batch:
            if group == "resources":  # not further rows, but new values
                self._resources = rows
                continue
            for name, values in rows.items():
                pieces.setdefault((group, name), []).append(values)
        for key, values_of_one in pieces.items():
            self._columns[key].append(values_of_one)
        self._raw.check()

    def flush(self) -> None:
        """Write all appended rows, so that they survive a kill."""
        for column in self._columns.values():
            column.flush()
        self._columns["decisions", "reward"].extend(self.decided)  # known later
        for name, values in self._resources.items():
            self._resource_columns[name].write(h5s.ALL, h5s.ALL, values)
        self._file.flush()
        self._raw.check()

    @property
    def decided(self) -> int:
        """The number of decisions appended so far."""
        return self._columns["decisions", "time_s"].rows

    def mark_complete(self) -> None:
        """Set the attribute ``complete``; call it after the last flush."""
        h5a.open(self._file.id, b"complete").write(np.array(True))

    def describe_testbed(self, facts: Mapping[str, Any]) -> None:
        """Replace the attribute ``testbed``, with which the file was made."""
        attribute = h5a.open(self._file.id, b"testbed")
        room = attribute.dtype.itemsize
        text = _json(dict(facts), self.partial, "testbed").encode()
        if len(text) > room:
            raise OutputError(f"{self.partial}: testbed has {len(text)} bytes; allowed: {room}")
        attribute.write(np.array(text.ljust(room)))

    def close(self) -> None:
        """Write the remaining metadata and close the file."""
        self._file.close()
        self._raw.check()
        self._end()

    def abandon(self) -> None:
        """Close the file, if open, without writing to it; flushed rows stay."""
        self._end()


def _abandon(file: h5py.File, raw: CrashSafeFile) -> None:
    """Close a file before the interpreter ends, and drop pending writes.

    HDF5 crashes if a pending write fails, here or at exit.
    """
    raw.given_up = True
    with contextlib.suppress(Exception):
        file.close()
    raw.close()


def _create(path: Path) -> tuple[Path, CrashSafeFile]:
    """Create the temporary file under a free name, so that the trace of a killed run stays."""
    for number in range(1, 1000):
        suffix = ".partial" if number == 1 else f".partial-{number}"
        partial = path.with_name(f"{path.stem}{suffix}{path.suffix}")
        with contextlib.suppress(FileExistsError):
            return partial, CrashSafeFile(partial)
    raise OutputError(f"{path}: has 999 unfinished traces next to it. Try: delete some")


def _described(model: Model, made_by: Provenance, path: Path) -> dict[str, Any]:
    packages = _packages()
    environment = {"python": platform.python_version(), "platform": platform.platform()}
    return {
        "format": FORMAT,
        "format_version": version_for(len(model.classes)),
        "complete": False,
        "scenario": model.scenario.canonical_json(),
        "scenario_sha256": model.scenario.sha256(),
        "scenario_label": model.scenario.label.encode("utf-8", "replace").decode(),
        "scheduler": made_by.scheduler,
        "scheduler_options": _json(dict(made_by.scheduler_options), path, "scheduler options"),
        "seed": np.uint64(made_by.seed),
        "kernel": made_by.kernel,
        "mecsim_version": packages["mecsim"],
        "environment": json.dumps(environment | packages),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _packages() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _json(values: dict[str, Any], path: Path, name: str) -> str:
    try:
        return json.dumps(values, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written: {name}: {error}") from error


def _widths(model: Model, spec: SchedulerSpec, size_factors: int) -> dict[str, tuple[int, ...]]:
    """Return the number of entries in a row, for the columns that have several."""
    widths: dict[str, tuple[int, ...]] = {
        "placement": (model.blocks,),
        "observation": (len(feature_names(spec)),),
        "rate_bps": (model.devices,),
        "energy_remaining_J": (model.devices,),
        "serving_server": (model.devices,),
    }
    return widths | ({"size_factor": (size_factors,)} if size_factors > 1 else {})


def resource_columns(model: Model) -> dict[str, Column]:
    """Return the columns of ``/resources`` that are constant during a run.

    Args:
        model: The resolved scenario.

    Returns:
        ``name``, ``kind``, ``node`` and ``capacity``, each of shape (R,); in the order of
        ``Resources``: servers, devices, uplinks, downlinks, links.
    """
    parts = model.resources
    own = np.tile(np.arange(model.devices), 3)
    node = np.concatenate([np.arange(model.servers) + 1, own, model.links.source + 1])
    return {
        "name": np.array(model.resource_names(), dtype="S"),
        "kind": np.array(KINDS, dtype="S")[parts.kind],
        "node": node.astype(np.int32),
        "capacity": model.capacity.astype(np.int32),
    }
