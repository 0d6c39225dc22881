"""Traces on disk: what is in them, and that whatever else is there ends as a ``TraceError``."""

from __future__ import annotations

import fcntl
import json
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mecsim.errors import InputError, OutputError, TraceError
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.replay import replay_with
from mecsim.simulation.run import run as run_scenario
from mecsim.trace import Provenance, TraceFile, output_file, superblock
from mecsim.trace.output_file import OutputFile
from mecsim.trace.schema import COLUMNS, Column, MemoryTrace

SMALL = Scenario.model_validate(
    {
        "slots": 6,
        "devices": 3,
        "edge_servers": 2,
        "dnn": {"blocks": 3},
        "arrivals": {"process": "poisson", "rate": 4.0},
        "device": {"battery": 50.0},
    }
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace in which all is well."""
    path = tmp_path_factory.mktemp("traces") / "whole.h5"
    run_scenario(SMALL, "rpdi", seed=3, out=path)
    return path


@pytest.fixture
def trace(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return Path(shutil.copy(whole, tmp_path / "trace.h5"))


def refused(path: Path) -> str:
    """What is said about a file that is no good trace: one line that names it."""
    with pytest.raises(TraceError) as caught:
        replay_trace(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


# ---------------------------------------------------------------- what is in a trace


def test_every_column_is_there_described_and_compressed(whole: Path) -> None:
    with h5py.File(whole, "r") as file:
        assert set(file) == set(COLUMNS)
        for group, columns in COLUMNS.items():
            assert set(file[group]) == set(columns)
            assert len({len(dataset) for dataset in file[group].values()}) == 1
            for name, column in columns.items():
                dataset = file[group][name]
                assert dataset.attrs["units"] == column.units
                assert dataset.attrs["description"] == column.description
                assert dataset.compression == "gzip"
                assert dataset.chunks is not None
        features = file["decisions/observation"]
        assert len(features.attrs["features"]) == features.shape[1]


def test_the_root_says_what_made_it(whole: Path) -> None:
    with h5py.File(whole, "r") as file:
        attributes = dict(file.attrs)
    assert attributes["format"] == "mecsim-trace"
    assert attributes["format_version"] == 1
    assert bool(attributes["complete"]) is True
    assert Scenario.model_validate_json(attributes["scenario"]) == SMALL
    assert attributes["scenario_sha256"] == SMALL.sha256()
    assert (attributes["scheduler"], attributes["seed"]) == ("rpdi", 3)
    assert json.loads(attributes["scheduler_options"]) == {}
    assert json.loads(attributes["environment"])["h5py"] == h5py.__version__
    assert attributes["kernel"] == "simpy"
    assert attributes["created_utc"].endswith("+00:00")


def test_columns_go_straight_into_pandas(whole: Path) -> None:
    pd = pytest.importorskip("pandas")
    with h5py.File(whole, "r") as file:
        tasks = pd.DataFrame({name: column[:] for name, column in file["tasks"].items()})
        blocks = pd.DataFrame({name: column[:] for name, column in file["blocks"].items()})
    sums = blocks.groupby("task")["delay_s"].sum()
    done = tasks["status"] == 0
    np.testing.assert_allclose(sums[done], tasks["total_s"][done], rtol=1e-12)
    assert (tasks["total_s"] == tasks["edge_s"] + tasks["local_s"]).all()


def test_what_is_read_is_what_was_written(whole: Path) -> None:
    memory = MemoryTrace()
    run_scenario(SMALL, "rpdi", seed=3, memory=memory)
    with TraceFile(whole) as file:
        for path in memory.paths():
            group, name = path.split("/")
            np.testing.assert_array_equal(file.read(group, name), memory[path])


def test_nothing_is_left_beside_a_complete_trace(whole: Path) -> None:
    assert [path.name for path in whole.parent.iterdir()] == ["whole.h5"]


def test_a_user_attribute_or_group_does_no_harm(trace: Path) -> None:
    with h5py.File(trace, "r+") as file:
        file.attrs["note"] = "mine"
        file["notes/more"] = np.arange(3)
    assert replay_trace(trace).difference is None


# ---------------------------------------------------------------- what is no trace


def test_missing_folder_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "text.h5").write_text("slots: 5\n" * 1000, encoding="utf-8")
    (tmp_path / "zeros.h5").write_bytes(bytes(100_000))
    (tmp_path / "loop.h5").symlink_to(tmp_path / "loop.h5")
    for name, problem in [
        ("nosuch.h5", "there is no such file"),
        ("loop.h5", "there is no such file"),
        ("x" * 300, "there is no such file"),
        (".", "is a folder"),
        ("empty.h5", "it is empty"),
        ("text.h5", "no HDF5 file"),
        ("zeros.h5", "no HDF5 file"),
    ]:
        assert problem in refused(tmp_path / name)


def test_hdf5_of_somebody_else(tmp_path: Path) -> None:
    """Laid out as pandas does it, which takes PyTables to write."""
    path = tmp_path / "pandas.h5"
    with h5py.File(path, "w") as file:
        file.attrs["PYTABLES_FORMAT_VERSION"] = "2.1"
        rows = np.zeros(4, dtype=[("index", "i8"), ("values_block_0", "f8", (2,))])
        file.create_dataset("df/table", data=rows).attrs["CLASS"] = "TABLE"
        file.create_group("tasks")
    assert "is no mecsim trace" in refused(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = np.arange(3)
    assert "is no mecsim trace" in refused(path)


def test_a_file_cut_short_anywhere(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    path = tmp_path / "cut.h5"
    began = time.perf_counter()
    for part in range(20):
        path.write_bytes(data[: len(data) * part // 20])
        assert "is damaged, or no HDF5 file" in refused(path)
    path.write_bytes(data[:-1])
    refused(path)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("seed", range(60))
def test_wrong_bytes_anywhere(seed: int, whole: Path, tmp_path: Path) -> None:
    """A file with a few wrong bytes reads, differs, or is refused; in time and memory."""
    draws = np.random.default_rng(seed)
    data = bytearray(whole.read_bytes())
    region = len(data) if seed % 2 else 16_384  # half of them where the structure is
    for place in draws.integers(0, region, size=draws.integers(1, 9)):
        data[place] = draws.integers(256)
    path = tmp_path / "flipped.h5"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    try:
        replay_trace(path)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert len(message.splitlines()) <= 1
    assert time.perf_counter() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


# ---------------------------------------------------------------- attributes


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("format", None, "is no mecsim trace"),
        ("format", "other-trace", "is no mecsim trace"),
        ("format_version", 3, "has format_version 3; this mecsim reads 1 and 2"),
        ("format_version", 2, "does not go with a scenario of 1 class of tasks"),
        ("format_version", 10**12, "install the mecsim that wrote it"),
        ("format_version", "1", "attribute format_version"),
        ("format_version", np.arange(3), "attribute format_version"),
        ("format_version", np.nan, "attribute format_version"),
        ("format_version", None, "attribute format_version: is missing"),
        ("complete", None, "attribute complete: is missing"),
        ("complete", "yes", "attribute complete"),
        ("complete", np.array([True, False]), "attribute complete"),
        ("scenario", None, "attribute scenario: is missing"),
        ("scenario", 5, "attribute scenario"),
        ("scenario", b"\xff\xfe", "scenario"),
        ("scenario", "{", "attribute scenario: is not JSON"),
        ("scenario", "[]", "attribute scenario"),
        ("scenario", "[" * 20_000, "attribute scenario: is not JSON"),
        ("scenario", '{"slots": -5}', "attribute scenario: slots: -5"),
        ("scenario", '{"slots": 5}', "does not have its scenario_sha256"),
        ("scenario_sha256", "0" * 64, "does not have its scenario_sha256"),
        ("scenario_sha256", None, "attribute scenario_sha256: is missing"),
        ("scenario_sha256", np.nan, "attribute scenario_sha256"),
        ("scenario_label", 5, "attribute scenario_label: .*is wrong"),
        ("scheduler", None, "attribute scheduler: is missing"),
        ("scheduler", np.inf, "attribute scheduler"),
        ("scheduler_options", "placement=[0, 1]", "scheduler_options.*allowed: a JSON mapping"),
        ("scheduler_options", "[1]", "scheduler_options.*allowed: a JSON mapping"),
        ("scheduler_options", "[" * 20_000, "scheduler_options.*allowed: a JSON mapping"),
        ("scheduler_options", None, "attribute scheduler_options: is missing"),
        ("seed", None, "attribute seed: is missing"),
        ("seed", np.nan, "attribute seed"),
        ("seed", np.inf, "attribute seed"),
        ("seed", "0", "attribute seed"),
        ("seed", np.arange(2), "attribute seed"),
    ],
)
def test_wrong_attributes(trace: Path, name: str, value: object, problem: str) -> None:
    with h5py.File(trace, "r+") as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    with pytest.raises(TraceError, match=problem):
        raise TraceError(refused(trace))


def test_a_negative_seed_is_refused(trace: Path) -> None:
    with h5py.File(trace, "r+") as file:
        file.attrs["seed"] = np.int64(-1)
    with pytest.raises(InputError, match="seed: -1"):
        replay_trace(trace)


def test_another_seed_or_scheduler_name_is_told(trace: Path) -> None:
    with h5py.File(trace, "r+") as file:
        file.attrs["seed"] = np.uint64(4)
    assert replay_trace(trace).difference is not None


# ---------------------------------------------------------------- columns

Damage = Callable[[h5py.File], object]


def put(file: h5py.File, path: str, values: Any) -> None:
    del file[path]
    file[path] = values


def declare(file: h5py.File, path: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> object:
    dtype = file[path].dtype
    del file[path]
    unlimited = tuple(None for _ in shape)
    more = {"chunks": chunks, "maxshape": unlimited, "compression": "gzip"}
    return file.create_dataset(path, shape, dtype, **more)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a column is missing": (lambda f: f.pop("tasks/total_s"), "/tasks/total_s is missing"),
    "a group is missing": (lambda f: f.pop("hops"), "/hops/task is missing"),
    "a group for a column": (
        lambda f: (f.pop("tasks/slot"), f.create_group("tasks/slot")),
        "/tasks/slot is missing",
    ),
    "a link to nowhere": (
        lambda f: put(f, "tasks/slot", h5py.SoftLink("/nowhere")),
        "/tasks/slot",
    ),
    "a link to a file": (
        lambda f: put(f, "tasks/slot", h5py.ExternalLink("/etc/passwd", "/x")),
        "/tasks/slot",
    ),
    "text for numbers": (
        lambda f: put(f, "tasks/slot", np.full(len(f["tasks/slot"]), b"x")),
        r"/tasks/slot holds \|S1, not int64",
    ),
    "real for whole numbers": (
        lambda f: put(f, "tasks/device", np.full(len(f["tasks/slot"]), np.nan)),
        "/tasks/device holds float64, not int32",
    ),
    "one row less": (
        lambda f: f["tasks/slot"].resize(len(f["tasks/slot"]) - 1, axis=0),
        "columns of /tasks have different lengths",
    ),
    "a matrix for a column": (
        lambda f: put(f, "tasks/device", np.zeros((len(f["tasks/slot"]), 2), "i4")),
        "/tasks/device has the shape",
    ),
    "a scalar": (lambda f: put(f, "tasks/device", 5), "/tasks/device has the shape"),
    "a cube": (
        lambda f: put(f, "decisions/placement", np.zeros((6, 3, 1), "i4")),
        "/decisions/placement has the shape",
    ),
    "no blocks": (
        lambda f: put(f, "decisions/placement", np.zeros((6, 0), "i4")),
        "/decisions/placement has the shape",
    ),
    "too few devices": (
        lambda f: put(f, "slots/rate_bps", np.ones((6, 2))),
        "/slots/rate_bps is for 2 devices, not 3",
    ),
    "rows without end": (
        lambda f: [declare(f, f"tasks/{n}", (2**60,), (1024,)) for n in list(f["tasks"])],
        "entries cannot be in a file of",
    ),
    "a row without end": (
        lambda f: declare(f, "decisions/placement", (6, 2**40), (1, 1024)),
        "entries cannot be in a file of",
    ),
    "a chunk of gigabytes": (
        lambda f: declare(f, "hops/task", (len(f["hops/task"]),), (2**28,)),
        "entries cannot be in a file of",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_wrong_columns(trace: Path, what: str) -> None:
    damage, problem = DAMAGES[what]
    with h5py.File(trace, "r+") as file:
        damage(file)
    with pytest.raises(TraceError, match=problem):
        raise TraceError(refused(trace))


@pytest.mark.parametrize("place", [-1, 3, 2**31 - 1])
def test_decisions_that_are_none(trace: Path, place: int) -> None:
    with h5py.File(trace, "r+") as file:
        file["decisions/placement"][2, 1] = place
    with pytest.raises(InputError, match=rf"epoch 2.*block 1 at {place}; allowed: 0.*to 2"):
        replay_trace(trace)


def test_decisions_for_another_number_of_blocks(trace: Path) -> None:
    with h5py.File(trace, "r+") as file:
        put(file, "decisions/placement", np.zeros((6, 2), "i4"))
    with pytest.raises(InputError, match=r"epoch 0.*shape \(2,\)"):
        replay_trace(trace)


@pytest.mark.parametrize(
    ("column", "value"),
    [("tasks/finish_s", np.nan), ("tasks/total_s", np.inf), ("hops/start_s", -1.0),
     ("decisions/reward", 0.0), ("slots/rate_bps", 1.0), ("resources/busy_s", 1e300)],
)  # fmt: skip
def test_one_wrong_value_is_found(trace: Path, column: str, value: float) -> None:
    with h5py.File(trace, "r+") as file:
        file[column][1] = value
    difference = replay_trace(trace).difference
    assert difference is not None
    entry = ", entry 0" if column == "slots/rate_bps" else ""
    assert str(difference).startswith(f"/{column} differs first at row 1{entry}: recorded")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("device", 7, "a task of device 7; allowed: 0 to 2"),
        ("device", -1, "a task of device -1; allowed: 0 to 2"),
        ("release_s", -1.0, "in order, before 6 s"),
        ("release_s", 100.0, "in order, before 6 s"),
        ("release_s", np.nan, "in order, before 6 s"),
        ("size_factor", np.inf, "size_factor out of range"),
        ("size_factor", -1.0, "size_factor out of range"),
    ],
)
def test_recorded_tasks_that_do_not_fit(
    trace: Path, tmp_path: Path, column: str, value: float, problem: str
) -> None:
    with h5py.File(trace, "r+") as file:
        file[f"tasks/{column}"][2] = value
    arrivals = {"process": "trace", "file": str(trace)}
    scenario = Scenario.model_validate(json.loads(SMALL.canonical_json()) | {"arrivals": arrivals})
    with pytest.raises(InputError, match=problem):
        run_scenario(scenario)
    with pytest.raises(InputError, match=problem):
        replay_with(trace, "greedy")


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_recorded_channels_that_are_none(trace: Path, rate: float) -> None:
    with h5py.File(trace, "r+") as file:
        file["slots/rate_bps"][3, 1] = rate
    with pytest.raises(TraceError, match=r"rate_bps.*slot 3"):
        replay_with(trace, "edge")


# ---------------------------------------------------------------- writing


def test_a_folder_or_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for path in (tmp_path / "folder.h5", tmp_path / "file" / "t.h5", Path("/proc/x/t.h5")):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            run_scenario(SMALL, out=path)
        assert str(caught.value).startswith(str(path))
    assert (tmp_path / "file").read_text("utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.h5"]


def test_a_name_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name too long"):
        run_scenario(SMALL, out=tmp_path / f"{'x' * 300}.h5")
    assert not list(tmp_path.iterdir())


def test_options_that_no_trace_can_hold(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written.*JSON"):
        run_scenario(
            SMALL, "tests.helpers.schedulers:Scripted", {"placements": {1j}}, out=tmp_path / "t.h5"
        )
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="epoch 0"):
        run_scenario(SMALL, "fixed", {"placement": [9]}, out=tmp_path / "t.h5")
    assert not list(tmp_path.iterdir())


def test_the_unfinished_trace_of_another_run_is_kept(tmp_path: Path) -> None:
    (tmp_path / "t.partial.h5").write_text("worth keeping", encoding="utf-8")
    run_scenario(SMALL, out=tmp_path / "t.h5")
    assert (tmp_path / "t.partial.h5").read_text("utf-8") == "worth keeping"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.h5", "t.partial.h5"]


# ---------------------------------------------------------------- the mark of a file being written


@pytest.mark.parametrize(
    ("data", "value"),
    [  # the values in Bob Jenkins' lookup3.c, driver5
        (b"", 0xDEADBEEF),
        (b"Four score and seven years ago", 0x17770551),
    ],
)
def test_lookup3(data: bytes, value: int) -> None:
    assert superblock.lookup3(data) == value


def test_lookup3_is_the_checksum_of_hdf5(whole: Path) -> None:
    block = whole.read_bytes()[:48]
    assert struct.pack("<I", superblock.lookup3(block[:44])) == block[44:]


def test_a_superblock_loses_its_mark_and_tells_the_length(trace: Path) -> None:
    content = trace.read_bytes()
    marked = bytearray(content[:48])
    marked[11], marked[28:36] = 5, bytes(8)
    marked[44:] = struct.pack("<I", superblock.lookup3(bytes(marked[:44])))
    trace.write_bytes(bytes(marked) + content[48:])
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(trace, "r")
    refused(trace)
    assert superblock.unmarked(bytes(marked), len(content)) == content[:48]
    for unknown in (b"", content[:8], bytes(range(100))):
        assert superblock.unmarked(unknown, 100) == unknown


# ---------------------------------------------------------------- no locks, files that still grow


def test_a_trace_is_read_where_it_cannot_be_locked(trace: Path) -> None:
    """As on a network file system without locks: no lock is asked for."""
    with trace.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # a second lock would fail
        with TraceFile(trace) as opened:
            assert opened.complete


@pytest.mark.parametrize("before", [1, 40, 400])
def test_a_trace_that_is_being_written_is_read_as_it_was_when_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(output_file, "_SMALL_CHUNK_BYTES", 512)
    monkeypatch.setattr(superblock, "_STEP", 1)  # the file is never longer than its content
    model = resolve(SMALL)
    made_by = Provenance("greedy", {}, 0, "simpy")
    file = OutputFile(tmp_path / "t.h5", model, SchedulerSpec.of(model), made_by, 1)
    rng = np.random.default_rng(0)

    def write(count: int) -> Column:
        rates = rng.random((count, 3))
        rows = {"time_s": rates[:, 0], "released": np.arange(count)}
        rows |= {"rate_bps": rates, "energy_remaining_J": rates}
        file.take([("slots", rows)])
        file.flush()
        return rates

    try:
        rates = write(before)
        with TraceFile(file.partial) as opened:
            for _ in range(20):
                write(300)
                assert opened.length("slots") == before
                assert opened.read("slots", "rate_bps").tolist() == rates.tolist()
                assert opened.read("slots", "rate_bps", before - 1, before + 9).shape == (1, 3)
        with TraceFile(file.partial) as opened:
            assert opened.length("slots") == before + 20 * 300
    finally:
        file.abandon()
