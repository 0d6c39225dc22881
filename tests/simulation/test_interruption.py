"""Runs that end before their time: killed, interrupted, out of disk. What they had is kept."""

from __future__ import annotations

import gc
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from mecsim import Observation, Placement, Scheduler, SchedulerSpec, run
from mecsim.errors import SchedulerError
from mecsim.scenario.loading import load
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay as replay_trace
from mecsim.trace import TraceFile
from tests.helpers.builders import scenario as tiny
from tests.helpers.cli import answer, mecsim
from tests.helpers.waiting import PATIENCE_S, until

LONG = """\
slots: 200000
devices: 5
dnn: {blocks: 3}
arrivals: {process: slotted, rate: 8}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A scenario that takes minutes, in an empty folder."""
    path = tmp_path / "long.yaml"
    path.write_text(LONG, encoding="utf-8")
    return path


# A run starts with a limit of the size of its files, and flushes often: what it wrote is replayed.
PREPARED = """\
import resource, sys
if (limit := int(sys.argv.pop(1))) > 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from mecsim.cli import main
from mecsim.trace import writer
writer.FLUSH_SECONDS = 0.3
main()
"""


@contextmanager
def started(
    scenario: Path, *options: str, out: str = "t.h5", file_size: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own; no file of it may grow beyond ``file_size``."""
    command = [sys.executable, "-c", PREPARED, str(file_size), "run", str(scenario), "--quiet"]
    command += ["--scheduler", "greedy"]
    with subprocess.Popen(
        [*command, "--out", out, *options],
        cwd=scenario.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_rows(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until some slots and tasks are flushed."""
    until(lambda: flushed(path, process) >= 10 and flushed(path, process, "tasks") > 0)


def flushed(path: Path, process: subprocess.Popen[str], group: str = "slots") -> int:
    """The rows of a group in a trace that a process is writing; 0 where it does not open yet."""
    assert process.poll() is None, process.communicate()
    try:
        with TraceFile(path) as trace:
            return trace.length(group)
    except Exception:  # noqa: BLE001 - it is being written
        return 0


def opens(path: Path) -> bool:
    try:
        with h5py.File(path, "r"):
            return True
    except OSError:
        return False


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out == ""
    assert "Traceback" not in err
    return err


def holds_rows(path: Path) -> int:
    """The slots in an unfinished trace, opened as anybody would."""
    with h5py.File(path, "r") as file:
        assert not file.attrs["complete"]
        slots = len(file["slots/time_s"])
        assert slots >= 10
        assert np.array_equal(file["slots/time_s"][:], np.arange(slots, dtype=float))
        assert (file["slots/released"][:] == 8).all()
        assert len(file["tasks/total_s"]) > 0
    return slots


def replays(path: Path) -> None:
    document = answer("replay", str(path))
    assert (document["identical"], document["complete"]) == (True, False)


# ---------------------------------------------------------------- killed


@pytest.mark.quick("0")
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_leaves_what_was_flushed(seed: int, scenario: Path) -> None:
    final, partial = scenario.parent / "t.h5", scenario.parent / "t.partial.h5"
    run(tiny(), "local", out=final)
    earlier = final.read_bytes()
    with started(scenario) as process:
        until_rows(partial, process)
        time.sleep(float(np.random.default_rng(seed).uniform(0, 0.4)))
        process.kill()
        assert finish(process) == ""
        assert process.returncode == -signal.SIGKILL
    holds_rows(partial)
    replays(partial)
    assert final.read_bytes() == earlier
    assert sorted(path.suffix for path in scenario.parent.iterdir()) == [".h5", ".h5", ".yaml"]


def slow(folder: Path, seconds: float) -> str:
    """A scheduler that takes its time, so that a run lasts however fast the machine is."""
    (folder / "slow.py").write_text(
        "import time\nfrom mecsim import Scheduler\n\n\n"
        "class Slow(Scheduler):\n"
        "    def decide(self, observation):\n"
        f"        time.sleep({seconds})\n"
        "        return [1] * self.spec.blocks\n",
        encoding="utf-8",
    )
    return f"{folder / 'slow.py'}:Slow"


@pytest.mark.slow
def test_a_killed_run_with_recorded_tasks_replays(scenario: Path) -> None:
    """The tasks that were released and have not ended are in no table."""
    recorded = scenario.parent / "recorded.h5"
    run(load(scenario, ["slots=2000"]), "local", out=recorded)
    arrivals = f"arrivals={{process: trace, file: {recorded}}}"
    partial = scenario.parent / "t.partial.h5"
    more = ("--set", "slots=2000", "--set", arrivals, "--scheduler", slow(scenario.parent, 0.005))
    with started(scenario, *more) as process:
        until_rows(partial, process)
        process.kill()
        finish(process)
    replays(partial)


@pytest.mark.slow
def test_a_run_that_is_killed_before_its_first_flush_leaves_a_file_that_opens(
    scenario: Path,
) -> None:
    partial = scenario.parent / "t.partial.h5"
    with started(scenario) as process:
        until(lambda: opens(partial))
        process.kill()
        finish(process)
    with h5py.File(partial, "r") as file:
        assert not file.attrs["complete"]


# ---------------------------------------------------------------- interrupted


def test_ctrl_c_says_what_is_kept(scenario: Path) -> None:
    partial = scenario.parent / "t.partial.h5"
    with started(scenario) as process:
        until_rows(partial, process)
        process.send_signal(signal.SIGINT)
        message = finish(process)
        assert process.returncode == 130
    assert re.fullmatch(r"mecsim: stopped; .* are kept in t\.partial\.h5 .*\n", message), message
    holds_rows(partial)
    replays(partial)
    assert not (scenario.parent / "t.h5").exists()


def test_ctrl_c_keeps_also_what_was_not_flushed_yet(scenario: Path) -> None:
    partial = scenario.parent / "t.partial.h5"
    with started(scenario) as process:
        until_rows(partial, process)
        time.sleep(0.5)
        with TraceFile(partial) as trace:
            before = trace.length("slots")
        process.send_signal(signal.SIGINT)
        finish(process)
    assert holds_rows(partial) > before


def test_ctrl_c_at_the_start_leaves_nothing(scenario: Path) -> None:
    with started(scenario) as process:
        time.sleep(0.15)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT)
    assert not (scenario.parent / "t.h5").exists()


@pytest.mark.quick("compiled")
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_failed_run_whose_error_is_kept_does_not_take_a_later_ctrl_c(kernel: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    kept: list[Exception] = []
    for _ in range(2):  # the second run begins while the error keeps the frames of the first
        try:
            run(tiny(slots=2), partial(Failing, kept=kept), kernel=kernel)
        except SchedulerError as error:
            kept.append(error)
        assert signal.getsignal(signal.SIGINT) is before
    kept.clear()
    gc.collect()
    assert signal.getsignal(signal.SIGINT) is before


class Failing(Scheduler):
    """Drops the errors of earlier runs, then fails."""

    def __init__(self, spec: SchedulerSpec, kept: list[Exception]) -> None:
        super().__init__(spec)
        self._kept = kept

    def decide(self, observation: Observation) -> Placement:
        self._kept.clear()
        gc.collect()
        raise ValueError("always")


# ---------------------------------------------------------------- out of disk


@pytest.mark.quick("4000000")
@pytest.mark.parametrize("limit", [20_000, 4_000_000])
def test_a_full_disk_is_told_and_costs_no_flushed_rows(limit: int, scenario: Path) -> None:
    """A limit on the size of files stands for a full disk: writing fails in the same way."""
    noisy = ("--set", "radio.fading=rayleigh")  # what does not compress fills the disk sooner
    with started(scenario, *noisy, file_size=limit) as process:
        message = finish(process)
        assert process.returncode == 2
    assert message == "mecsim: t.h5: cannot be written: File too large\n"
    assert not (scenario.parent / "t.h5").exists()
    partial = scenario.parent / "t.partial.h5"
    assert partial.exists() == (limit > 1 << 20)  # with less than a megabyte it does not begin
    if partial.exists():
        holds_rows(partial)
        replays(partial)


# ---------------------------------------------------------------- where nothing can be written


@pytest.mark.parametrize("out", ["file/t.h5", "/proc/x/t.h5", "folder.h5", "x" * 300 + ".h5"])
def test_a_place_that_takes_no_file(out: str, scenario: Path) -> None:
    (scenario.parent / "file").write_text("mine", encoding="utf-8")
    (scenario.parent / "folder.h5").mkdir()
    run = ("run", str(scenario), "--scheduler", "greedy", "--out", out, "--quiet")
    message = mecsim(*run, cwd=scenario.parent, code=2).stderr
    assert message.startswith(f"mecsim: {out}: cannot be written: ")
    assert len(message.splitlines()) == 1
    names = sorted(path.name for path in scenario.parent.iterdir())
    assert names == ["file", "folder.h5", "long.yaml"]


def test_two_runs_to_one_file_at_once_leave_one_whole_trace(scenario: Path) -> None:
    options = ("--set", "slots=200")
    with started(scenario, *options) as one, started(scenario, *options, "--seed", "1") as other:
        assert finish(one) == finish(other) == ""
        assert one.returncode == other.returncode == 0
    assert sorted(path.name for path in scenario.parent.iterdir()) == ["long.yaml", "t.h5"]
    assert replay_trace(scenario.parent / "t.h5").difference is None


def test_a_trace_is_read_while_it_is_written(scenario: Path) -> None:
    with started(scenario) as process:
        until_rows(scenario.parent / "t.partial.h5", process)
        assert process.poll() is None


@pytest.mark.slow
def test_a_killed_run_keeps_its_tasks_also_where_a_scheduler_is_slow(scenario: Path) -> None:
    partial = scenario.parent / "t.partial.h5"
    with started(scenario, "--scheduler", slow(scenario.parent, 0.05)) as process:
        until_rows(partial, process)
        until(lambda: flushed(partial, process, "decisions") >= 30)  # after some flushes
        process.kill()
        finish(process)
    with h5py.File(partial, "r") as file:
        decided = len(file["decisions/time_s"])
        assert decided >= 30
        assert len(file["tasks/total_s"]) > 8 * (decided - 25)
        assert np.isfinite(file["decisions/reward"][: decided - 25]).all()
    replays(partial)
