"""Export a trace as CSV, Parquet, or a timeline for https://ui.perfetto.dev.

Data are streamed in pieces of bounded size. Files have temporary names, next to the final ones,
until all of them are written: an export that fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import logging
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeAlias

import numpy as np

from mecsim.errors import InputError, TraceError
from mecsim.model.model import KINDS
from mecsim.support.arrays import Ints
from mecsim.support.files import replacing
from mecsim.trace import TraceFile
from mecsim.trace.schema import Column
from mecsim.trace.values import check_values

FORMATS: Final = ("csv", "parquet", "perfetto")
TIMELINE_ENDS: Final = (".json", ".json.gz")
PIECE_BYTES: Final = 4 << 20  # of columns; as Python objects and text about ten times as much
ROW_GROUP_BYTES: Final = 32 << 20  # in Parquet, before compression

IDS: Final = {"tasks": "task", "decisions": "epoch", "slots": "slot", "resources": "resource"}
"""Groups whose rows other groups name by their numbers, and the column that the number becomes."""
_PROVENANCE: Final = ("scheduler", "seed", "mecsim_version", "scenario_sha256", "complete")
_FIRST_TRACK: Final = 100  # above those of processes: a thread numbered as its process is special
_SLICE: Final = (
    '{"name":"task %d block %d","cat":"service","ph":"X","pid":%d,"tid":%d,"ts":%d.%03d1,'
    '"dur":%d.%03d,"args":{"task":%d,"block":%d,"wait_s":%r}%s}'
)
_ARROWS: Final = ("", '"flow_out":true', '"flow_in":true', '"flow_in":true,"flow_out":true')
_CLOCK_END_S: Final = 2.0**63 / 1e9
"""Perfetto counts nanoseconds in 64 bits with a sign."""
_Window: TypeAlias = tuple[float, float]
_log = logging.getLogger(__name__)


def export(
    trace_path: Path,
    format: str,
    out: Path | None = None,
    begin_s: float | None = None,
    end_s: float | None = None,
    *,
    force: bool = False,
) -> list[Path]:
    """Export a trace; for an interrupted run, export its rows and log a warning.

    Args:
        trace_path: The trace.
        format: ``"csv"``, ``"parquet"`` or ``"perfetto"``.
        out: A folder for CSV and Parquet, a file for Perfetto; by default next to the trace.
        begin_s: For Perfetto: leave out services that end before, in simulated seconds.
        end_s: For Perfetto: leave out services that begin after, in simulated seconds.
        force: Whether files that exist are overwritten.

    Returns:
        The files that were written.

    Raises:
        InputError: The format or the window is not allowed, or a file exists.
        TraceError: The trace cannot be read, or holds values that no run can have written.
        OutputError: A file cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"format: {format!r} is not known; allowed: {', '.join(FORMATS)}")
    if format != "perfetto" and (begin_s, end_s) != (None, None):
        raise InputError(f"from, to: {begin_s} to {end_s} s cuts a perfetto timeline, not {format}")
    with TraceFile(trace_path) as trace:
        if not trace.complete:
            _log.warning("%s: the run was cut short (complete = false)", trace_path)
        check_values(trace)
        if format == "perfetto":
            timeline = out or trace_path.with_name(f"{trace_path.stem}.perfetto.json.gz")
            _refuse_existing([timeline], force=force)
            return export_perfetto(trace, timeline, begin_s, end_s)
        folder = out or trace_path.with_name(f"{trace_path.stem}-{format}")
        _refuse_existing([folder / f"{group}.{format}" for group in trace.columns], force=force)
        return (export_csv if format == "csv" else export_parquet)(trace, folder)


def _refuse_existing(paths: Sequence[Path], *, force: bool) -> None:
    for path in paths:
        if not force and path.is_file():
            raise InputError(f"{path}: already exists. Use --force, or choose another --out")


def export_csv(trace: TraceFile, folder: Path) -> list[Path]:
    """Write one CSV file per group.

    Columns keep the names and units of the trace; the first one numbers the rows where other groups
    refer to them (:data:`IDS`). A column with several values per row becomes
    ``placement_0``, ``placement_1`` and so on; observations are named by their features. Floats
    read back as equal values (with pandas: ``float_precision="round_trip"``).

    Args:
        trace: An open trace.
        folder: Folder for the files; it is made if missing.

    Returns:
        The files, one per group.

    Raises:
        OutputError: A file cannot be written.
    """
    paths = [folder / f"{group}.csv" for group in trace.columns]
    with replacing(*paths, out=folder) as partial:
        for group, path in zip(trace.columns, partial, strict=True):
            with path.open("w", newline="", encoding="utf-8") as file:
                _write_csv(trace, group, file)
    return paths


def _write_csv(trace: TraceFile, group: str, file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    titles = [title for name in trace.columns[group] for title in _titles(trace, group, name)]
    writer.writerow([*_id(group), *titles])
    for piece in _pieces(trace, group, PIECE_BYTES):
        columns = (column for values in piece.values() for column in np.atleast_2d(values.T))
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


def _id(group: str) -> list[str]:
    return [IDS[group]] if group in IDS else []


def _titles(trace: TraceFile, group: str, name: str) -> list[str]:
    """Return the titles that a column has in a CSV file."""
    width = trace.width(group, name)
    if width is None:
        return [name]
    return _features(trace) if name == "observation" else [f"{name}_{i}" for i in range(width)]


def _features(trace: TraceFile) -> list[str]:
    names, width = trace.features(), trace.width("decisions", "observation")
    if len(names) != width:
        raise TraceError(f"{trace.path}: names {len(names)} features of {width} in observation")
    return names


def export_parquet(trace: TraceFile, folder: Path) -> list[Path]:
    """Write one Parquet file per group.

    Columns with several values per row are lists of fixed size. Metadata of a field: unit,
    description, and for observations the names of the features (JSON). Metadata of the schema: the
    root attributes of the trace.

    Args:
        trace: An open trace.
        folder: Folder for the files; it is made if missing.

    Returns:
        The files, one per group.

    Raises:
        InputError: Pyarrow is not installed.
        OutputError: A file cannot be written.
    """
    arrow, parquet = _pyarrow()
    paths = [folder / f"{group}.parquet" for group in trace.columns]
    with replacing(*paths, out=folder) as partial:
        for group, path in zip(trace.columns, partial, strict=True):
            schema = _schema(arrow, trace, group)
            with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
                for piece in _pieces(trace, group, ROW_GROUP_BYTES):
                    values = [_arrow_array(arrow, column) for column in piece.values()]
                    writer.write_table(arrow.Table.from_arrays(values, schema=schema))
    return paths


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - optional, and slow to load
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise InputError("format: parquet needs pyarrow: pip install 'mecsim[parquet]'") from error
    return pyarrow, parquet


def _schema(arrow: Any, trace: TraceFile, group: str) -> Any:
    row = {"units": "", "description": f"row of /{group}"}
    fields = [arrow.field(name, arrow.int64(), metadata=row) for name in _id(group)]
    for name, spec in trace.columns[group].items():
        metadata = {"units": spec.units, "description": spec.description}
        if name == "observation":
            metadata["features"] = json.dumps(_features(trace))
        kind = _arrow_array(arrow, _text(trace.read(group, name, 0, 0))).type
        fields.append(arrow.field(name, kind, metadata=metadata))
    attributes = {key: str(value) for key, value in trace.attributes().items()}
    return arrow.schema(fields, metadata=attributes)


def _arrow_array(arrow: Any, values: Column) -> Any:
    if values.ndim == 1:
        return arrow.array(values, arrow.string() if values.dtype.kind == "U" else None)
    return arrow.FixedSizeListArray.from_arrays(arrow.array(values.reshape(-1)), values.shape[1])


def export_perfetto(
    trace: TraceFile, path: Path, begin_s: float | None = None, end_s: float | None = None
) -> list[Path]:
    """Write the services as a timeline in Chrome's JSON trace-event format.

    A kind of resource is a process; a resource that served is a track, or several if it has
    several cores (a service goes to the lowest free one). A service is a slice with its waiting
    time in seconds; arrows follow a task. Memory grows by 8 bytes per service in the window, about
    60 at resources with several cores.

    Times are whole nanoseconds, so that slices on a track still touch after rounding. Perfetto
    drops slices that overlap, and truncates what it reads: a tenth of a nanosecond more in every
    ``ts`` keeps it from truncating to the one before. Arrows are tied to the slices themselves
    (``bind_id``), not to times as by events of their own, which services below 1 ns would mislead.

    Args:
        trace: An open trace.
        path: A file that ends in ``.json`` or ``.json.gz``.
        begin_s: Leave out services that end before, in simulated seconds.
        end_s: Leave out services that begin after, in simulated seconds.

    Returns:
        The file, as a list.

    Raises:
        InputError: The ending is another, the window has no service, or a time exceeds the 64-bit
            nanoseconds of Perfetto.
        OutputError: The file cannot be written.
    """
    if not path.name.endswith(TIMELINE_ENDS):
        raise InputError(f"out: {path} should end in {' or '.join(TIMELINE_ENDS)} for perfetto")
    window = (-np.inf if begin_s is None else begin_s, np.inf if end_s is None else end_s)
    if not window[0] < window[1]:
        raise InputError(f"from, to: {begin_s} to {end_s} s should be an interval of time")
    tracks = _tracks(trace, window)
    if not len(tracks.core) and window != (-np.inf, np.inf):
        raise InputError(f"from, to: {trace.path} has no service from {begin_s} to {end_s} s")
    head = {key: str(value) for key, value in trace.attributes().items() if key in _PROVENANCE}
    with replacing(path) as (partial,), _opened(partial, path.suffix == ".gz") as file:
        file.write(f'{{"displayTimeUnit":"ms","otherData":{json.dumps(head)},"traceEvents":[\n')
        for number, events in enumerate(_timeline(trace, window, tracks)):
            file.write((",\n" if number else "") + ",\n".join(events))
        file.write("\n]}\n")
    return [path]


class _Tracks(NamedTuple):
    """Process, first track and number of tracks of R resources; core of each service."""

    process: Ints
    first: Ints
    cores: Ints
    core: Ints


def _tracks(trace: TraceFile, window: _Window) -> _Tracks:
    """Find the resources that served, and the core of every service."""
    kinds = _text(trace.read("resources", "kind")).tolist()
    known = list(dict.fromkeys([*KINDS, *kinds]))
    process = np.array([1 + known.index(kind) for kind in kinds], np.int64)
    several = trace.read("resources", "capacity") > 1
    cores, count, taken = np.zeros(len(kinds), np.int64), 0, []
    for piece in _services(trace, window):
        resource = piece["resource"]
        if len(resource) and not 0 <= resource.min() <= resource.max() < len(kinds):
            raise TraceError(f"{trace.path}: /hops names a resource that /resources lacks")
        if len(resource) and piece["finish_s"].max() >= _CLOCK_END_S:
            raise InputError(
                f"{trace.path}: has services after {_CLOCK_END_S:.4g} s, where Perfetto's clock "
                "ends. Try: --to with an earlier time, or another format"
            )
        cores[resource] = 1
        at = np.flatnonzero(several[resource])
        taken.append((count + at, resource[at], piece["start_s"][at], piece["finish_s"][at]))
        count += len(resource)
    core = np.zeros(count, np.int64)
    if taken:
        row, resource, *times = (np.concatenate(part) for part in zip(*taken, strict=True))
        core[row] = _lowest_free(resource, *times)
        np.maximum.at(cores, resource, core[row] + 1)
    return _Tracks(process, _FIRST_TRACK + np.cumsum(cores) - cores, cores, core)


def _lowest_free(resource: Column, start: Column, finish: Column) -> Ints:
    """Return the core of each service: the lowest that is free when it begins."""
    core, current = np.zeros(len(resource), np.int64), None
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    order = np.lexsort((finish, start, resource))
    columns = (values[order].tolist() for values in (resource, start, finish))
    for row, at, begin, end in zip(order.tolist(), *columns, strict=True):
        if at != current:
            current, busy, free = at, [], []
        while busy and busy[0][0] <= begin:
            heappush(free, heappop(busy)[1])
        core[row] = heappop(free) if free else len(busy)
        heappush(busy, (end, int(core[row])))
    return core


def _services(trace: TraceFile, window: _Window) -> Iterator[dict[str, Column]]:
    """Yield the rows of /hops whose services fall into a window."""
    begin, end = window
    for piece in _pieces(trace, "hops", PIECE_BYTES):
        start, finish = piece["start_s"], piece["finish_s"]
        inside = (start < end) & ((finish > begin) | (start >= begin))
        inside &= np.isfinite(finish - piece["enqueue_s"])
        yield {name: values[inside] for name, values in piece.items()}


def _timeline(trace: TraceFile, window: _Window, tracks: _Tracks) -> Iterator[Sequence[str]]:
    """Yield the events in lists that are not empty."""
    if len(tracks.core):
        yield list(_titles_of_tracks(trace, tracks))
    done, held = 0, None
    for piece in _services(trace, window):
        resource = piece["resource"]
        core = tracks.core[done : done + len(resource)]
        done += len(resource)
        piece |= {"process": tracks.process[resource], "track": tracks.first[resource] + core}
        if held is not None:
            piece |= {name: np.concatenate([held[name], piece[name]]) for name in piece}
        task = piece["task"]
        cut = (
            int(np.argmax(task == task[-1])) if len(task) else 0
        )  # the last task may continue in the next piece
        if cut:
            yield list(_events({name: values[:cut] for name, values in piece.items()}))
        held = {name: values[cut:] for name, values in piece.items()}
    if held is not None and len(held["task"]):
        yield list(_events(held))


def _titles_of_tracks(trace: TraceFile, tracks: _Tracks) -> Iterator[str]:
    names, kinds = (_text(trace.read("resources", name)).tolist() for name in ("name", "kind"))
    capacity, before = trace.read("resources", "capacity"), 0
    for resource in np.flatnonzero(tracks.cores).tolist():
        first, process = int(tracks.first[resource]), int(tracks.process[resource])
        if process != before:
            yield from _title("process", f"{kinds[resource]}s", process, first, process)
        before = process
        for core in range(int(tracks.cores[resource])):
            name = names[resource] + (f" core {core + 1}" if capacity[resource] > 1 else "")
            yield from _title("thread", name, process, first + core, first + core)


def _title(what: str, name: str, process: int, track: int, order: int) -> Iterator[str]:
    for key, value in (("name", name), ("sort_index", order)):
        event = {"name": f"{what}_{key}", "ph": "M", "pid": process, "tid": track}
        yield json.dumps(event | {"args": {key: value}})


def _events(services: dict[str, Column]) -> Iterator[str]:
    """Yield a slice per service, linked to the next of its task that takes a nanosecond."""
    task, times_s = services["task"], (services["start_s"], services["finish_s"])
    start, finish = (np.rint(time_s * 1e9).astype(np.int64) for time_s in times_s)
    drawn, arrows = np.flatnonzero(finish > start), np.zeros(len(task), np.int64)
    same = np.diff(task[drawn]) == 0
    arrows[drawn] = 2 * np.append(False, same) + np.append(same, False)
    clock = [part.tolist() for time in (start, finish - start) for part in np.divmod(time, 1000)]
    wait = (services["start_s"] - services["enqueue_s"]).tolist()
    names = (services[name].tolist() for name in ("task", "block", "process", "track"))
    for n, block, pid, tid, us, ns, long_us, long_ns, waited, arrow in zip(
        *names, *clock, wait, arrows.tolist(), strict=True
    ):
        flow = f',"bind_id":"0x{n:x}","bp":"e",{_ARROWS[arrow]}' if arrow else ""
        yield _SLICE % (n, block, pid, tid, us, ns, long_us, long_ns, n, block, waited, flow)


def _pieces(trace: TraceFile, group: str, size: int) -> Iterator[dict[str, Column]]:
    """Yield the rows of a group, as far as all columns go, in pieces of about ``size`` bytes."""
    empty = [trace.read(group, name, 0, 0) for name in trace.columns[group]]
    row_bytes = sum(values.itemsize * int(np.prod(values.shape[1:])) for values in empty)
    rows, length = max(1, size // row_bytes), trace.length(group)
    for begin in range(0, length, rows):
        end = min(begin + rows, length)
        numbers: dict[str, Column] = {name: np.arange(begin, end) for name in _id(group)}
        yield numbers | {n: _text(trace.read(group, n, begin, end)) for n in trace.columns[group]}


def _text(values: Column) -> Column:
    return np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values


@contextlib.contextmanager
def _opened(path: Path, packed: bool) -> Iterator[IO[str]]:
    """Open a text file, compressed or not; equal contents make equal files."""
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(path.open("wb"))
        if packed:
            file = stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(file, encoding="utf-8"))
