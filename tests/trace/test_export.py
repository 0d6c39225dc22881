"""Exports read back: CSV with pandas, Parquet with pyarrow, timelines as Perfetto reads them."""

from __future__ import annotations

import builtins
import contextlib
import gzip
import json
import logging
import resource
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from mecsim.errors import InputError, OutputError, TraceError
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.run import run
from mecsim.trace import Provenance, TraceFile, TraceWriter
from mecsim.trace import export as exporting
from mecsim.trace.export import IDS, export, export_csv, export_parquet, export_perfetto
from mecsim.trace.schema import COLUMNS, Column
from tests.helpers.cli import mecsim

SCENARIO: dict[str, Any] = {
    "slots": 12,
    "edge_servers": 3,
    "devices": 5,
    "arrivals": {"process": "poisson", "rate": 20.0},
    "return_result": True,
}
MANY_CORES = SCENARIO | {
    "edge_server": {"cores": 3, "capacity": 2e9},
    "size_factor": {"distribution": "exponential", "per": "block"},
}
Event = dict[str, Any]


def make_trace(path: Path, scenario: dict[str, Any], seed: int = 0) -> Path:
    run(Scenario.model_validate(scenario), "greedy", seed=seed, out=path)
    return path


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trace(tmp_path_factory.mktemp("single") / "t.h5", SCENARIO)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Under this seed two services are shorter than a nanosecond."""
    return make_trace(tmp_path_factory.mktemp("many") / "t.h5", MANY_CORES, seed=1)


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of which the decisions have more rows in one column than in the others."""
    path = tmp_path_factory.mktemp("cut") / "t.h5"
    model = resolve(Scenario.model_validate(SCENARIO))
    writer = TraceWriter(path, model, SchedulerSpec.of(model), Provenance("greedy", {}, 0, "simpy"))
    hops: dict[str, Column] = {"task": np.arange(7), "block": np.zeros(7, np.int32)}
    hops |= {"resource": np.zeros(7, np.int32), "finish_s": np.arange(5) + 0.5}
    hops |= {"enqueue_s": np.arange(7.0), "start_s": np.arange(7.0)}
    with contextlib.suppress(KeyboardInterrupt), writer:
        writer.append("hops", hops)
        writer.append("decisions", {"time_s": np.arange(3.0), "slot": np.arange(3)})
        raise KeyboardInterrupt
    return writer.partial


def columns(trace: TraceFile, group: str) -> Iterator[tuple[str, Column]]:
    length = trace.length(group)
    for name in COLUMNS[group]:
        values = trace.read(group, name, 0, length)
        yield name, np.char.decode(values) if values.dtype.kind == "S" else values


def same(read: Any, recorded: Column) -> bool:
    return bool(np.array_equal(np.asarray(read), recorded, equal_nan=recorded.dtype.kind == "f"))


# ---------------------------------------------------------------- CSV


def read_csv(path: Path) -> pd.DataFrame:
    """Read floats exactly; from pandas 3.1 on that is the default, and asking for it a warning."""
    if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1):
        return pd.read_csv(path)
    return pd.read_csv(path, float_precision="round_trip")


@pytest.mark.parametrize("piece_bytes", [exporting.PIECE_BYTES, 4000])
def test_csv_reads_back_equal(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(exporting, "PIECE_BYTES", piece_bytes)
    with TraceFile(many) as trace:
        paths = export_csv(trace, tmp_path)
        assert [path.name for path in paths] == [f"{group}.csv" for group in COLUMNS]
        for group, path in zip(COLUMNS, paths, strict=True):
            table = read_csv(path)
            assert len(table) == trace.length(group) > 0
            titles = iter(table.columns)
            if group in IDS:
                assert table[next(titles)].tolist() == list(range(len(table)))
            for name, recorded in columns(trace, group):
                wide = recorded.reshape(len(recorded), -1)
                names = [next(titles) for _ in range(wide.shape[1])]
                assert same(table[names].to_numpy(recorded.dtype), wide), (group, name)
            assert next(titles, None) is None


def test_rows_are_joined_by_their_numbers(many: Path, tmp_path: Path) -> None:
    export(many, "csv", tmp_path)
    table = {group: read_csv(tmp_path / f"{group}.csv") for group in COLUMNS}
    joined = table["blocks"].merge(table["tasks"], on="task", suffixes=("", "_task"))
    last = joined.groupby("task").finish_s.max()
    assert same(last.to_numpy(), table["tasks"].finish_s.to_numpy())
    assert set(table["hops"].resource) <= set(table["resources"].resource)
    assert set(table["tasks"].slot) <= set(table["slots"].slot)


def test_csv_names_what_is_spread(many: Path, tmp_path: Path) -> None:
    export(many, "csv", tmp_path)
    head = {g: (tmp_path / f"{g}.csv").read_text().partition("\n")[0].split(",") for g in COLUMNS}
    assert "rate_bps_3" in head["slots"]
    assert "size_factor_5" in head["tasks"]
    assert "placement_0" in head["decisions"]
    assert head["decisions"][-1] == "mean_battery_J"
    assert head["hops"] == list(COLUMNS["hops"])


def test_csv_holds_the_extremes_of_floats(
    cut_short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what runs record: values whose shortest decimal has all digits, and no number."""
    values = np.array([0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, np.nan, np.inf, 1 / 3])
    with TraceFile(cut_short) as trace:
        piece = dict.fromkeys(COLUMNS["hops"], values)
        monkeypatch.setattr(exporting, "_pieces", lambda *_: iter([piece]))
        export_csv(trace, tmp_path)
    table = read_csv(tmp_path / "hops.csv")
    assert table["start_s"].to_numpy().tobytes() == values.tobytes()


# ---------------------------------------------------------------- Parquet


@pytest.mark.parametrize("group_bytes", [exporting.ROW_GROUP_BYTES, 8000])
def test_parquet_reads_back_equal(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_bytes: int
) -> None:
    monkeypatch.setattr(exporting, "ROW_GROUP_BYTES", group_bytes)
    with TraceFile(many) as trace:
        paths = export_parquet(trace, tmp_path)
        for group, path in zip(COLUMNS, paths, strict=True):
            table = parquet.read_table(path)
            assert table.num_rows == trace.length(group)
            numbers = [IDS[group]] if group in IDS else []
            assert table.column_names == [*numbers, *COLUMNS[group]]
            for name in numbers:
                assert table.column(name).to_pylist() == list(range(table.num_rows))
            for name, recorded in columns(trace, group):
                read = np.array(table.column(name).to_pylist(), recorded.dtype)
                assert same(read, recorded), (group, name)
    groups = parquet.ParquetFile(tmp_path / "hops.parquet").num_row_groups
    assert groups == 1 if group_bytes > 8000 else groups > 10


def test_parquet_tells_units_and_origin(many: Path, tmp_path: Path) -> None:
    export(many, "parquet", tmp_path)
    schema = parquet.read_schema(tmp_path / "decisions.parquet")
    spec = COLUMNS["decisions"]["time_s"]
    assert schema.field("time_s").metadata[b"units"].decode() == spec.units
    assert schema.field("time_s").metadata[b"description"].decode() == spec.description
    with TraceFile(many) as trace:
        features = trace.features()
        assert schema.metadata[b"scenario"].decode() == trace.attributes()["scenario"]
    assert json.loads(schema.field("observation").metadata[b"features"]) == features
    assert schema.field("observation").type.list_size == len(features)
    assert str(schema.field("placement").type) == "fixed_size_list<element: int32>[6]"


def test_parquet_without_pyarrow_says_how_to_get_it(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imports(name, *rest)

    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install 'mecsim\[parquet\]'"):
        export(single, "parquet", tmp_path / "p")
    assert not (tmp_path / "p").exists()


# ---------------------------------------------------------------- Perfetto


def timeline(path: Path) -> dict[str, list[Event]]:
    """Return the events of a timeline by phase, with exact times."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    events: dict[str, list[Event]] = defaultdict(list)
    for event in json.loads(text, parse_float=Decimal)["traceEvents"]:
        events[event["ph"]].append(event)
    return events


def tracks(events: dict[str, list[Event]]) -> dict[int, list[Event]]:
    """Return the slices of every track, in order of time."""
    found: dict[int, list[Event]] = defaultdict(list)
    for event in sorted(events["X"], key=lambda event: event["ts"]):
        found[event["tid"]].append(event)
    return found


def names_of(events: dict[str, list[Event]], what: str) -> dict[int, str]:
    named = [event for event in events["M"] if event["name"] == f"{what}_name"]
    found = {event["tid" if what == "thread" else "pid"]: event["args"]["name"] for event in named}
    assert len(found) == len(named)
    return found


def check_no_overlap(events: dict[str, list[Event]]) -> int:
    """Check slices exactly, then as Perfetto reads them; return how many touch the next."""
    touching = 0
    for slices in tracks(events).values():
        for one, other in pairwise(slices):
            assert one["ts"] + one["dur"] <= other["ts"]
            touching += one["ts"] + one["dur"] == other["ts"]
            assert nanoseconds(one["ts"]) + nanoseconds(one["dur"]) <= nanoseconds(other["ts"])
    return touching


def nanoseconds(microseconds: Decimal) -> int:
    """Return what Perfetto makes of a number: ``static_cast<int64_t>(number * 1000.0)``."""
    return int(float(microseconds) * 1000.0)


def label(event: Event) -> str:
    return f"{event['tid']} {event['name']} {event['ts']}"


def arrows(events: dict[str, list[Event]]) -> set[tuple[str, str]]:
    """Return the slices joined by arrows, as Perfetto's FlowTracker joins them.

    It takes slices in order of time, at one time the longer first, and ties each to the one that
    its flow came to last.
    """
    found, latest = set(), dict[str, str]()
    for event in sorted(events["X"], key=lambda e: (nanoseconds(e["ts"]), -e["dur"])):
        if "bind_id" in event:
            flow = event["bind_id"]
            assert event["bp"] == "e"
            assert int(flow, 16) == event["args"]["task"]
            before = latest.pop(flow, None)
            assert (before is not None) == event.get("flow_in", False)
            if before is not None:
                found.add((before, label(event)))
            if event.get("flow_out"):
                latest[flow] = label(event)
    assert not latest
    return found


def check_flows(events: dict[str, list[Event]]) -> int:
    """Check that arrows join the slices of each task, one after another; return their number."""
    of_task = defaultdict(list)
    for event in sorted(events["X"], key=lambda event: event["ts"]):
        if event["dur"]:
            of_task[event["args"]["task"]].append(label(event))
    expected = {pair for slices in of_task.values() for pair in pairwise(slices)}
    assert arrows(events) == expected
    return len(expected)


@pytest.mark.parametrize("piece_bytes", [exporting.PIECE_BYTES, 7000])
@pytest.mark.parametrize("end", [".json", ".json.gz"])
def test_timeline_has_a_track_a_resource(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int, end: str
) -> None:
    monkeypatch.setattr(exporting, "PIECE_BYTES", piece_bytes)
    with TraceFile(single) as trace:
        [path] = export_perfetto(trace, tmp_path / f"t{end}")
        hops = dict(columns(trace, "hops"))
        resources = dict(columns(trace, "resources"))
    events = timeline(path)
    assert check_no_overlap(events) > 20
    assert check_flows(events) == (np.diff(hops["task"]) == 0).sum() > 500
    threads, processes = names_of(events, "thread"), names_of(events, "process")
    assert list(threads.values()) == resources["name"][resources["served"] > 0].tolist()
    assert list(processes.values()) == ["servers", "devices", "uplinks", "downlinks", "links"]
    assert len(events["X"]) == len(hops["task"])
    for row, event in enumerate(events["X"]):
        resource_ = hops["resource"][row]
        assert event["name"] == f"task {hops['task'][row]} block {hops['block'][row]}"
        assert threads[event["tid"]] == resources["name"][resource_]
        assert processes[event["pid"]] == f"{resources['kind'][resource_]}s"
        assert event["args"]["task"] == hops["task"][row]
        assert float(event["args"]["wait_s"]) == hops["start_s"][row] - hops["enqueue_s"][row]
        start, finish = (round(hops[name][row] * 1e9) for name in ("start_s", "finish_s"))
        assert nanoseconds(event["ts"]) == start
        assert event["dur"] * 1000 == finish - start


def test_timeline_gives_every_core_a_track(many: Path, tmp_path: Path) -> None:
    [path] = export(many, "perfetto", tmp_path / "t.json")
    events = timeline(path)
    check_no_overlap(events)
    check_flows(events)
    assert any(event["dur"] == 0 for event in events["X"])  # no arrow to these
    cores = [name for name in names_of(events, "thread").values() if " core " in name]
    assert cores == [f"es{n}.cpu core {core}" for n in (1, 2, 3) for core in (1, 2, 3)]
    assert len(set(names_of(events, "thread").values())) == len(tracks(events))


def test_services_go_to_the_lowest_free_core() -> None:
    start = np.array([4.0, 0.0, 1.0, 2.0, 2.0, 0.0, 4.0])
    finish = np.array([9.0, 3.0, 2.0, 5.0, 2.0, 1.0, 5.0])
    resource_ = np.array([7, 7, 7, 7, 7, 3, 3])
    core = exporting._lowest_free(resource_, start, finish)
    assert core.tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_no_number_of_nanoseconds_is_truncated_to_the_one_before() -> None:
    """It would be without the tenth that is added: Perfetto would then drop a slice."""
    rng = np.random.default_rng(0)
    for high in (10**6, 10**12, 10**14):
        times = rng.integers(high, size=5000).tolist()
        assert all(int(float(f"{t // 1000}.{t % 1000:03d}1") * 1000.0) == t for t in times)
    assert any(int(float(f"{t // 1000}.{t % 1000:03d}") * 1000.0) != t for t in times)


def test_times_beyond_the_clock_of_perfetto_are_refused(single: Path, tmp_path: Path) -> None:
    """They would become negative durations: 64 bits hold 2^63 nanoseconds."""
    late = Path(shutil.copy(single, tmp_path / "late.h5"))
    with h5py.File(late, "r+") as file:
        for name in ("enqueue_s", "start_s", "finish_s"):
            file["hops"][name][-1] += 9.3e9
    with pytest.raises(InputError, match=r"services after 9\.223e\+09 s.*Try: --to"):
        export(late, "perfetto", tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()
    [path] = export(late, "perfetto", tmp_path / "t.json", None, 100.0)
    assert all(event["dur"] >= 0 for event in timeline(path)["X"])


def test_a_window_holds_what_is_served_in_it(many: Path, tmp_path: Path) -> None:
    [path] = export(many, "perfetto", tmp_path / "t.json", 2.0, 3.5)
    with TraceFile(many) as trace:
        hops = dict(columns(trace, "hops"))
    inside = (hops["start_s"] < 3.5) & (hops["finish_s"] > 2.0)
    events = timeline(path)
    assert 0 < len(events["X"]) == inside.sum() < len(inside)
    assert [e["args"]["task"] for e in events["X"]] == hops["task"][inside].tolist()
    check_no_overlap(events)
    check_flows(events)
    assert len(names_of(events, "thread")) == len(tracks(events))


def test_windows_join_to_the_whole(single: Path, tmp_path: Path) -> None:
    def services(name: str, *window: float | None) -> set[tuple[str, Decimal]]:
        [path] = export(single, "perfetto", tmp_path / name, *window)
        return {(event["name"], event["ts"]) for event in timeline(path)["X"]}

    parts = services("a.json", None, 3.0) | services("b.json", 3.0, None)
    assert parts == services("all.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("perfetto", "t.json", 3.0, 3.0), "3.0 to 3.0 s should be an interval"),
        (("perfetto", "t.json", 4.0, 3.0), "4.0 to 3.0 s should be an interval"),
        (("perfetto", "t.json", float("nan")), "should be an interval"),
        (("perfetto", "t.json", 1e6), "has no service from 1000000.0 to None s"),
        (("perfetto", "t.pftrace"), r"should end in \.json or \.json\.gz"),
        (("csv", "c", 0.0), "0.0 to None s cuts a perfetto timeline, not csv"),
        (("xlsx", "t"), "'xlsx' is not known; allowed: csv, parquet, perfetto"),
    ],
)
def test_bad_requests_are_refused(
    single: Path, tmp_path: Path, arguments: tuple[Any, ...], said: str
) -> None:
    format_, name, *window = arguments
    with pytest.raises(InputError, match=said):
        export(single, format_, tmp_path / name, *window)
    assert not list(tmp_path.iterdir())


def test_an_empty_trace_is_exported_beside_it(tmp_path: Path) -> None:
    model = resolve(Scenario.model_validate(SCENARIO))
    made_by = Provenance("greedy", {}, 0, "simpy")
    with TraceWriter(tmp_path / "t.h5", model, SchedulerSpec.of(model), made_by):
        pass
    csv, arrow, [path] = (export(tmp_path / "t.h5", name) for name in exporting.FORMATS)
    assert path == tmp_path / "t.perfetto.json.gz"
    assert not timeline(path)
    assert csv[0] == tmp_path / "t-csv" / "tasks.csv"
    assert len(read_csv(csv[0])) == 0
    assert arrow[0] == tmp_path / "t-parquet" / "tasks.parquet"
    assert parquet.read_table(arrow[0]).num_rows == 0


def test_equal_traces_make_equal_files(single: Path, tmp_path: Path) -> None:
    for format_, first in (("csv", "hops.csv"), ("perfetto", ""), ("parquet", "hops.parquet")):
        end = "" if first else ".json.gz"
        one, two = (tmp_path / f"{format_}{n}{end}" for n in (1, 2))
        export(single, format_, one)
        export(single, format_, two)
        assert (one / first).read_bytes() == (two / first).read_bytes()


# ---------------------------------------------------------------- incomplete traces, bad input


def test_a_trace_cut_short_exports_what_it_has(
    cut_short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        files = export(cut_short, "csv", tmp_path / "c")
    assert "complete = false" in caplog.text
    length = {path.stem: len(pd.read_csv(path)) for path in files}
    with TraceFile(cut_short) as trace:
        assert trace.rows("hops", "start_s") == 7
        assert length == {group: trace.length(group) for group in COLUMNS}
    assert length["hops"] == 5
    [hops] = [p for p in export(cut_short, "parquet", tmp_path / "p") if p.stem == "hops"]
    assert parquet.read_table(hops).column("finish_s").to_pylist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    [path] = export(cut_short, "perfetto", tmp_path / "t.json")
    assert len(timeline(path)["X"]) == 5


def test_a_trace_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        export(tmp_path / "none.h5", "csv")


@pytest.mark.parametrize(
    ("format_", "name"), [("csv", "c"), ("parquet", "p"), ("perfetto", "t.json")]
)
def test_a_folder_that_cannot_be_written(
    single: Path, tmp_path: Path, format_: str, name: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=f"{name}: cannot be written: Not a directory"):
        export(single, format_, tmp_path / "file" / "sub" / name)


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Let no file grow beyond 16 KiB: like a full disk, only for this process."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("format_", "name"),
    [("csv", "c"), ("parquet", "p"), ("perfetto", "t.json"), ("perfetto", "t.json.gz")],
)
def test_a_disk_that_is_full_leaves_what_was_there(
    many: Path, tmp_path: Path, format_: str, name: str
) -> None:
    written = export(many, format_, tmp_path / name)
    kept = {path: path.read_bytes() for path in written}
    with small_files(), pytest.raises(OutputError, match="cannot be written"):
        export(many, format_, tmp_path / name, force=True)
    assert {path: path.read_bytes() for path in written} == kept
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(written)


def test_an_interrupt_leaves_nothing(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Iterator[str]:
        yield "{}"
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_events", stop)
    with pytest.raises(KeyboardInterrupt):
        export(single, "perfetto", tmp_path / "t.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_", ["csv", "perfetto"])
def test_files_that_exist_are_refused(single: Path, tmp_path: Path, format_: str) -> None:
    out = tmp_path / ("out" if format_ == "csv" else "out.json")
    files = export(single, format_, out)
    files[-1].write_text("precious", encoding="utf-8")
    with pytest.raises(InputError, match=r"already exists\. Use --force, or choose"):
        export(single, format_, out)
    assert files[-1].read_text(encoding="utf-8") == "precious"
    mecsim("export", str(single), "--format", format_, "--out", str(out), code=2)
    mecsim("export", str(single), "--format", format_, "--out", str(out), "--force")
    assert files[-1].read_text(encoding="utf-8") != "precious"
