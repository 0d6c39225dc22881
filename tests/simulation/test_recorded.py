"""The summary from a trace has the bits of the summary of the run."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from mecsim import load, run
from mecsim.errors import TraceError
from mecsim.model.model import resolve
from mecsim.simulation import recorded
from mecsim.simulation.metrics import RunSummary
from mecsim.trace import TraceFile
from mecsim.trace.export import export

CASES = {
    "default": ("vgg16_4es", []),
    "tasks fail": ("small_battery", ["device.battery=50 J"]),
    "sum of costs": ("vgg16_loaded", ["reward.aggregation=sum", "decision_epoch=per_task"]),
    "some count": ("vgg16_loaded", ["measurement={warm_up: 5 s, cool_down: 2 s}"]),
    "no tasks": ("vgg16_4es", ["arrivals={process: slotted, rate: 0}"]),
}


def summary_of(path: Path) -> RunSummary:
    with TraceFile(path) as trace:
        return recorded.recorded_summary(trace, resolve(trace.scenario, trace.made_by.seed))


def numbers(summary: RunSummary) -> dict[str, object]:
    apart = ("scenario", "wall_s", "trace", "scheduler_reason")
    return {k: v for k, v in summary.as_json().items() if k not in apart}


@pytest.mark.parametrize("case", CASES)
def test_a_trace_has_the_numbers_of_its_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, changes = CASES[case]
    monkeypatch.setattr(recorded, "PIECE_ROWS", 1000)  # several pieces
    scheduler = "local" if case == "tasks fail" else "greedy"
    made = run(load(name, ["slots=25", *changes]), scheduler, kernel="compiled",
               out=tmp_path / "run.h5").summary  # fmt: skip
    assert (made.failed > 0) == (case == "tasks fail")
    assert numbers(summary_of(tmp_path / "run.h5")) == numbers(made)


def test_a_run_that_was_cut_short_ends_with_its_last_slot(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    whole = run(load("vgg16_4es", ["slots=25"]), "greedy", kernel="compiled", out=path).summary
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = False
        for each in file["slots"].values():
            each.resize(10, axis=0)
        for group, rows in (("tasks", 540), ("blocks", 540 * 6 + 3)):
            for each in file[group].values():
                each.resize(rows, axis=0)
    cut = summary_of(path)
    assert (cut.tasks, cut.completed, cut.overloaded) == (600, 540, None)
    assert cut.resources[0].utilization == pytest.approx(2.5 * whole.resources[0].utilization)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("short") / "run.h5"
    run(load("vgg16_4es", ["slots=2"]), "greedy", out=path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("tasks/device", 99, "0 to 29"),
        ("tasks/slot", 2, "0 to 1"),
        ("tasks/status", 99, "0 to 3"),
        ("decisions/placement", 99, "-1 to 4"),
        ("hops/resource", -1, "0 to "),
    ],
)
def test_numbers_of_what_does_not_exist(
    column: str, value: int, allowed: str, short: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(short)
    with h5py.File(path, "r+") as file:
        file[column][0] = value
    problem = f"run.h5: column /{column} holds others than {allowed}"
    with pytest.raises(TraceError, match=problem):
        summary_of(path)
    for format_ in ("csv", "perfetto"):
        with pytest.raises(TraceError, match=problem):
            export(path, format_)
    assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.parametrize("column", ["tasks/release_s", "tasks/finish_s", "hops/enqueue_s"])
@pytest.mark.parametrize("value", [-5.0, float("inf")])
def test_times_outside_any_run(column: str, value: float, short: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(short)
    with h5py.File(path, "r+") as file:
        file[column][0] = value
    with pytest.raises(TraceError, match=f"/{column} holds times that are negative or infinite"):
        summary_of(path)
