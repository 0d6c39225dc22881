"""The thread that writes traces: order, bounds, errors, Ctrl-C; and the streams that it makes."""

from __future__ import annotations

import errno
import io
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mecsim.errors import OutputError
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation import session
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.run import run as run_scenario
from mecsim.trace import Provenance, TraceFile, TraceWriter, column, output_file, writer
from mecsim.trace.column import GrowingColumn
from mecsim.trace.deflate import Encoder, Stream
from mecsim.trace.output_file import OutputFile
from mecsim.trace.schema import COLUMNS, MemoryTrace, Rows
from mecsim.trace.superblock import CrashSafeFile
from mecsim.trace.writer_thread import WriterThread

SCENARIO = Scenario.model_validate(
    {
        "slots": 120,
        "devices": 3,
        "edge_servers": 2,
        "dnn": {"blocks": 3},
        "arrivals": {"process": "poisson", "rate": 8.0},
        "radio": {"fading": "rayleigh"},
    }
)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches, many chunks, a flush every 10 slots."""
    monkeypatch.setattr(writer, "BATCH_BYTES", 4096)
    monkeypatch.setattr(session, "BATCH_SECONDS", 0.0)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(output_file, "CHUNK_BYTES", dict.fromkeys(COLUMNS, 2048))
    column._creation.cache_clear()


def open_writer(path: Path) -> TraceWriter:
    model = resolve(SCENARIO)
    return TraceWriter(path, model, SchedulerSpec.of(model), Provenance("greedy", {}, 0, "simpy"))


def slot_rows(number: int, devices: int = 3) -> Rows:
    rows: dict[str, Any] = {"time_s": np.array([float(number)]), "released": np.array([number])}
    wide = np.full((1, devices), float(number))
    return rows | {"rate_bps": wide, "energy_remaining_J": wide}


# ---------------------------------------------------------------- a thread that does jobs


def test_jobs_are_done_in_order_and_the_last_one_ends_the_thread() -> None:
    done: list[int] = []
    background = WriterThread(3)
    background.start()
    for number in range(200):
        background.do(lambda number=number: done.append(number))  # type: ignore[misc]
    background.end(lambda: done.append(-1))
    background.join()
    assert done == [*range(200), -1]


def test_only_so_many_jobs_wait() -> None:
    gate, given = threading.Event(), 0
    background = WriterThread(3)
    background.start()

    def held() -> None:
        gate.wait(10)

    def give() -> None:
        nonlocal given
        for _ in range(10):
            background.do(held)
            given += 1

    giver = threading.Thread(target=give)
    giver.start()
    time.sleep(0.3)
    assert given == 3
    gate.set()
    giver.join(10)
    assert given == 10
    background.end(lambda: None)
    background.join()


def test_what_a_job_raises_is_raised_here_and_no_job_follows_but_the_last() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError(errno.ENOSPC, "full")

    background = WriterThread(2)
    background.start()
    background.do(fail)
    while not background.failed:
        time.sleep(0.01)
    with pytest.raises(OSError, match="full"):
        background.do(lambda: done.append("later"))
    background.end(lambda: done.append("last"))
    with pytest.raises(OSError, match="full"):
        background.join()
    assert done == ["last"]
    assert background.failed


# ---------------------------------------------------------------- order, bounds


@pytest.mark.usefixtures("small_pieces")
def test_what_is_read_is_what_was_taken_whatever_the_pieces(tmp_path: Path) -> None:
    memory = MemoryTrace()
    run_scenario(SCENARIO, "rpdi", out=tmp_path / "t.h5", memory=memory)
    with TraceFile(tmp_path / "t.h5") as file:
        for path in memory.paths():
            group, name = path.split("/")
            np.testing.assert_array_equal(file.read(group, name), memory[path])
    with h5py.File(tmp_path / "t.h5", "r") as raw:
        assert raw["hops/start_s"].id.get_num_chunks() > 10
    assert replay_trace(tmp_path / "t.h5").difference is None


def chunks(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every chunk as it is stored, with its place in the file."""
    found = {}
    with h5py.File(path, "r") as file:
        for group, columns in COLUMNS.items():
            for name in columns:
                dataset = file[group][name].id
                infos = [dataset.get_chunk_info(i) for i in range(dataset.get_num_chunks())]
                found[f"{group}/{name}"] = [
                    (info.byte_offset, dataset.read_direct_chunk(info.chunk_offset)[1])
                    for info in infos
                ]
    return found


def test_a_file_does_not_depend_on_when_its_thread_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BATCH_BYTES", 4096)
    run_scenario(SCENARIO, "rpdi", out=tmp_path / "one.h5")
    take, draws = OutputFile.take, np.random.default_rng(0)

    def slowly(self: OutputFile, taken: Any) -> None:
        time.sleep(float(draws.uniform(0, 0.01)))
        take(self, taken)

    monkeypatch.setattr(OutputFile, "take", slowly)
    run_scenario(SCENARIO, "rpdi", out=tmp_path / "other.h5")
    assert chunks(tmp_path / "one.h5") == chunks(tmp_path / "other.h5")


def test_rows_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation waits for a slow disk."""
    take, waiting = OutputFile.take, []

    def slowly(self: OutputFile, taken: Any) -> None:
        time.sleep(0.002)
        take(self, taken)

    monkeypatch.setattr(OutputFile, "take", slowly)
    monkeypatch.setattr(writer, "BATCH_BYTES", 1000)
    with open_writer(tmp_path / "t.h5") as sink:
        for number in range(2000):
            sink.append("slots", slot_rows(number))
            rows = sum(v.nbytes for _, rows in list(sink._taken) for v in rows.values())
            waiting.append(rows)
    assert 3000 < max(waiting) <= (writer.WAITING + 1) * (1000 + 64)
    with h5py.File(tmp_path / "t.h5", "r") as file:
        assert np.array_equal(file["slots/released"][:], np.arange(2000))


# ---------------------------------------------------------------- errors


def test_an_error_of_the_thread_is_told_once_by_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_pieces: None
) -> None:
    write, written = GrowingColumn._write, 0

    def until_full(self: GrowingColumn, chunk: Any) -> None:
        nonlocal written
        written += 1
        if written > 200:
            raise OSError(errno.ENOSPC, "in the thread")
        write(self, chunk)

    monkeypatch.setattr(GrowingColumn, "_write", until_full)
    path = tmp_path / "t.h5"
    with pytest.raises(OutputError) as caught:
        run_scenario(SCENARIO, "rpdi", out=path)
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert written == 201  # nothing is tried after it
    assert [file.name for file in tmp_path.iterdir()] == ["t.partial.h5"]
    with h5py.File(tmp_path / "t.partial.h5", "r") as file:
        assert not file.attrs["complete"]
        assert len(file["slots/time_s"]) >= 10
    assert replay_trace(tmp_path / "t.partial.h5").difference is None


def test_an_error_at_the_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: OutputFile) -> None:
        raise OSError(errno.ENOSPC, "in the thread")

    monkeypatch.setattr(OutputFile, "flush", full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        run_scenario(SCENARIO, out=tmp_path / "t.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["t.partial.h5"]


def test_what_is_no_fault_of_the_disk_is_raised_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: OutputFile, taken: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(OutputFile, "take", broken)
    with pytest.raises(MemoryError), open_writer(tmp_path / "t.h5") as sink:
        sink.append("slots", slot_rows(0))


def test_an_error_of_the_run_comes_before_one_of_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: OutputFile) -> None:
        raise OSError(errno.ENOSPC, "in the thread")

    monkeypatch.setattr(OutputFile, "flush", full)
    with pytest.raises(ZeroDivisionError), open_writer(tmp_path / "t.h5"):
        raise ZeroDivisionError


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    reported = "cannot be written: No such file or directory"
    with pytest.raises(OutputError, match=reported), open_writer(tmp_path / "t.h5") as sink:
        sink.partial.unlink()
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- Ctrl-C


def test_ctrl_c_while_the_file_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is written, the file is closed, and says what the message says: not complete."""
    flush = OutputFile.flush

    def pressed(self: OutputFile) -> None:
        for _ in range(3):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.1)
        flush(self)

    monkeypatch.setattr(OutputFile, "flush", pressed)
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "t.h5") as sink:  # noqa: PT012
        for number in range(5):
            sink.append("slots", slot_rows(number))
        sink.append("decisions", {"time_s": np.arange(5.0)})
    assert [path.name for path in tmp_path.iterdir()] == ["t.partial.h5"]
    with h5py.File(sink.partial, "r") as file:
        assert not file.attrs["complete"]
        assert file["slots/released"][:].tolist() == [0, 1, 2, 3, 4]


def test_ctrl_c_while_the_run_waits_for_the_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = OutputFile.take

    def pressed(self: OutputFile, taken: Any) -> None:
        if appended > writer.WAITING - 2:
            time.sleep(0.05)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.05)
        take(self, taken)

    monkeypatch.setattr(OutputFile, "take", pressed)
    monkeypatch.setattr(writer, "BATCH_BYTES", 1)
    appended = 0
    with pytest.raises(KeyboardInterrupt), open_writer(tmp_path / "t.h5") as sink:  # noqa: PT012
        sink.append("decisions", {"time_s": np.arange(5.0)})
        while True:
            appended += 1
            sink.append("slots", slot_rows(appended))
    with h5py.File(sink.partial, "r") as file:
        assert file["slots/released"][:].tolist() == list(range(1, appended + 1))


# ---------------------------------------------------------------- streams


def columns_of_all_kinds(rows: int) -> dict[str, Any]:
    draws = np.random.default_rng(rows)
    return {
        "constant": np.full(rows, 2.5),
        "noise": draws.random(rows),
        "times": np.cumsum(draws.random(rows)),
        "counted": np.arange(rows),
        "few": draws.integers(0, 5, rows).astype(np.int32),
        "bytes": draws.integers(0, 2, rows).astype(np.int8),
        "nan": np.where(draws.random(rows) < 0.5, np.nan, 1.0),
        "negative": -np.arange(rows, dtype=np.int32),
        "noise after zeros": np.where(np.arange(rows) < 2000, 0.0, draws.random(rows)),
        "zeros after noise": np.where(np.arange(rows) < 2000, draws.random(rows), 0.0),
    }


@pytest.mark.parametrize("items", [1, 7, 1024, 1025, 8192, 70_000])
@pytest.mark.parametrize("kind", columns_of_all_kinds(1))
def test_zlib_reads_the_planes_of_what_was_put_in(kind: str, items: int) -> None:
    values, stream = columns_of_all_kinds(items)[kind], Stream()
    fill = np.full((), 7, values.dtype)
    encoder = Encoder(values.dtype.itemsize, items, fill.tobytes())
    for rows in (items, 1, items // 2 or 1, max(items - 1, 1), items, items):
        shuffled = zlib.decompress(encoder.encode(values[:rows], stream))
        planes = np.frombuffer(shuffled, np.uint8).reshape(-1, items)
        found = np.ascontiguousarray(planes.T).view(values.dtype).reshape(-1)
        assert found[:rows].tobytes() == values[:rows].tobytes()
        assert (found[rows:] == fill).all()


def test_a_column_that_changes_its_kind_stays_readable_and_small() -> None:
    """What is worth compressing is asked again after some chunks."""
    draws, stream, sizes = np.random.default_rng(0), Stream(), []
    encoder = Encoder(8, 8192, bytes(8))
    pieces = [draws.random(8192) for _ in range(20)] + [np.arange(8192) // 7 * 1.1] * 40
    for values in pieces:
        data = bytes(encoder.encode(values, stream))
        sizes.append(len(data))
        planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(8, -1)
        assert np.ascontiguousarray(planes.T).tobytes() == values.tobytes()
    assert max(sizes) < 8 * 8192 * 1.01
    assert sizes[-1] < 8192 * 2


# ---------------------------------------------------------------- killed at any moment


@pytest.mark.parametrize(("slots", "step"), [(40, 13), pytest.param(80, 1, marks=pytest.mark.slow)])
def test_every_write_leaves_a_file_that_opens_and_replays(
    slots: int, step: int, tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill would leave after each single write, also in the midst of a flush."""
    left: list[bytes] = []
    write, begin = CrashSafeFile.write, OutputFile.take

    def copied(file: CrashSafeFile, data: bytes) -> int:
        count = write(file, data)
        left.append((tmp_path / "t.partial.h5").read_bytes())
        return count

    def take(file: OutputFile, taken: Any) -> None:
        monkeypatch.setattr(CrashSafeFile, "write", copied)
        begin(file, taken)

    monkeypatch.setattr(OutputFile, "take", take)
    run_scenario(SCENARIO.model_copy(update={"slots": slots}), "greedy", out=tmp_path / "t.h5")
    assert len(left) > 12 * slots
    lengths = []
    for number, content in enumerate(left):
        with h5py.File(io.BytesIO(content), "r") as file:
            lengths.append(len(file["slots/time_s"]))
            new = len(set(lengths[-2:])) == len(lengths[-2:])  # a flush has just ended
            if new or number % step == 0:
                for group, columns in COLUMNS.items():
                    assert all(len(file[group][name][:]) >= 0 for name in columns)
        if new or number % (10 * step) == 0:
            (tmp_path / "left.h5").write_bytes(content)
            assert replay_trace(tmp_path / "left.h5").difference is None
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3


def test_a_writer_that_is_never_ended_crashes_nothing(tmp_path: Path) -> None:
    program = f"""if 1:
        from pathlib import Path
        from tests.trace.test_writer import open_writer
        kept = open_writer(Path({str(tmp_path / "t.h5")!r}))
        """
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with TraceFile(tmp_path / "t.partial.h5") as trace:
        assert not trace.complete
