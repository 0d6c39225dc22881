"""Recorded tasks of several classes: from traces, from CSV files, next to drawn ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mecsim import Scenario
from mecsim.errors import InputError
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay, replay_with
from mecsim.simulation.run import run
from mecsim.trace import TraceFile
from mecsim.trace.recorded_workload import arrivals_of
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario
from tests.helpers.cli import mecsim

PER_BLOCK = {"distribution": "exponential", "per": "block"}
LONG: dict[str, Any] = {
    "name": "long",
    "dnn": chain([2, 1, 2], [1, 0, 1]),
    "arrivals": {"process": "poisson", "rate": 2},
    "size_factor": PER_BLOCK,
}
SHORT: dict[str, Any] = {
    "name": "short",
    "dnn": chain([1, 1], [1, 1]),
    "arrivals": {"process": "poisson", "rate": 3},
    "size_factor": {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "slot"},
}
COLUMNS = ("release_s", "device", "class", "size_factor")


def of_classes(*tasks: dict[str, Any], **more: Any) -> Scenario:
    base = scenario(**{"slots": 6, "devices": 3} | more).model_dump(mode="json")
    kept = {k: v for k, v in base.items() if k not in ("dnn", "arrivals", "size_factor")}
    return Scenario.model_validate(kept | {"tasks": list(tasks)})


def recorded(task: dict[str, Any], file: Path) -> dict[str, Any]:
    values = {key: value for key, value in task.items() if key != "size_factor"}
    return values | {"arrivals": {"process": "trace", "file": str(file)}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The trace of a run with both classes."""
    run(of_classes(LONG, SHORT), "greedy", kernel="compiled", seed=3, out=tmp_path / "both.h5")
    return tmp_path / "both.h5"


def tasks_of(spec: Scenario, seed: int = 0) -> list[tuple[float, int, int, tuple[float, ...]]]:
    """Release, class, device and size factors of every task."""
    model = resolve(spec, seed)
    with arrivals_of(model) as recording:
        return [
            (release, class_, device, tuple(size))
            for slot in workload.slots(model, recording)
            for release, class_, device, size in zip(
                *(getattr(slot.tasks, name).tolist() for name in ("release_s", "class_", "device")),
                slot.tasks.size.tolist(),
                strict=True,
            )
        ]


def only(number: int, found: list[Any]) -> list[Any]:
    return [task for task in found if task[1] == number]


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_tasks_of_a_trace_are_released_again(file: Path, tmp_path: Path, epoch: str) -> None:
    spec = of_classes(recorded(LONG, file), recorded(SHORT, file), decision_epoch=epoch)
    for kernel in KERNELS:
        again, rows = tmp_path / f"{kernel}.h5", MemoryTrace()
        run(spec, "greedy", kernel=kernel, seed=8, out=again, memory=rows)
        with TraceFile(file) as trace:
            assert trace.length("tasks") > 20
            for name in COLUMNS:
                assert np.array_equal(trace.read("tasks", name), rows[f"tasks/{name}"])
        assert replay(again).difference is None
    assert replay(again, kernel="simpy").difference is None


def test_classes_may_be_in_another_order(file: Path) -> None:
    drawn = tasks_of(of_classes(LONG, SHORT), seed=3)
    found = tasks_of(of_classes(recorded(SHORT, file), recorded(LONG, file)))
    assert [task[0] for task in only(0, found)] == [task[0] for task in only(1, drawn)]
    assert only(1, found) == [(r, 1, device, size) for r, _, device, size in only(0, drawn)]


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_drawn_tasks_next_to_recorded_ones(
    file: Path, tmp_path: Path, epoch: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The seed varies the tasks of the other class, which are those without any trace."""
    spec = of_classes(LONG, recorded(SHORT, file), decision_epoch=epoch)
    one, other = tasks_of(spec, 1), tasks_of(spec, 2)
    assert "both.h5: is read without the tasks of classes that" in caplog.messages[0]
    assert caplog.messages[0].endswith("name this trace: long")
    assert only(1, one) == only(1, other) != []
    assert only(0, one) == only(0, tasks_of(of_classes(LONG, SHORT), 1))
    assert only(0, one) != only(0, other)
    again = tmp_path / "again.h5"
    run(spec, "greedy", seed=1, out=again)
    for kernel in KERNELS:
        assert replay(again, kernel=kernel).difference is None
    assert replay_with(again, "local").summary.tasks == len(one)


def test_a_trace_of_one_class_serves_a_class_of_any_name(tmp_path: Path) -> None:
    one, other = tmp_path / "one.h5", tmp_path / "other.h5"
    arrivals = {"process": "poisson", "rate": 4}
    run(scenario(slots=6, devices=3, arrivals=arrivals), "local", out=one)
    run(scenario(slots=6, devices=3, arrivals=arrivals), "local", seed=1, out=other)
    found = tasks_of(of_classes(recorded(LONG, one), recorded(SHORT, other)))
    for number, file in enumerate((one, other)):
        with TraceFile(file) as trace:
            releases = trace.read("tasks", "release_s").tolist()
        assert [task[0] for task in only(number, found)] == releases != []


def test_expected_tasks_are_the_means_of_the_classes(file: Path) -> None:
    spec = of_classes(recorded(LONG, file), SHORT)
    model = resolve(spec)
    with TraceFile(file) as trace:
        mean = (trace.read("tasks", "class") == 0).sum() / 6
    with arrivals_of(model) as recording:
        expected = [slot.expected_tasks.tolist() for slot in workload.slots(model, recording)]
    assert expected == [[mean, 3.0]] * 6


def test_a_killed_run_reads_its_traces_again(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.h5"
    run(of_classes(recorded(LONG, file), SHORT), "local", out=again)
    with h5py.File(again, "r+") as trace:
        trace.attrs["complete"] = False
        for name in trace["tasks"]:
            trace["tasks"][name].resize(len(trace["tasks"][name]) - 4, axis=0)
    assert replay(again).difference is None
    file.unlink()
    with pytest.raises(InputError, match=r"tasks\.0\.arrivals\.file: .*there is no such file"):
        replay(again)


OTHER = LONG | {"name": "other"}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([OTHER], r"tasks\.0\.arrivals\.file: .*both\.h5: has no class 'other'; allowed: long, sh"),
        (
            [LONG | {"dnn": SHORT["dnn"]}],
            r"tasks\.0\.arrivals\.file: .*each of 3 blocks; the scenario has 2 \(tasks\.0\.dnn\.bl",
        ),
    ],
)
def test_classes_that_do_not_fit(file: Path, tasks: list[dict[str, Any]], message: str) -> None:
    spec = of_classes(*(recorded(task, file) for task in tasks))
    with pytest.raises(InputError, match=message):
        run(spec, "local")


def test_a_scenario_of_one_class_takes_no_trace_of_two(file: Path) -> None:
    arrivals = {"process": "trace", "file": str(file)}
    problem = r"^arrivals\.file: .*both\.h5: has tasks of the classes long, short; allowed: one cl"
    with pytest.raises(InputError, match=problem):
        run(scenario(slots=6, devices=3, arrivals=arrivals), "local")


def test_two_classes_with_the_same_tasks(tmp_path: Path) -> None:
    file = tmp_path / "one.h5"
    run(scenario(), "local", out=file)
    spec = of_classes(recorded(LONG, file), recorded(SHORT, file))
    problem = r"tasks\.0\.arrivals\.file: .*is a trace of one class of tasks, and long and short"
    with pytest.raises(InputError, match=problem):
        run(spec, "local")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("class", 2, r"has a task of class 2; allowed: 0 to 1"),
        ("release_s", np.nan, r".*allowed: in order, before 6 s"),
        ("release_s", 0.0, r".*allowed: in order, before 6 s"),
        ("size_factor", np.nan, r"has a size_factor out of range"),
        ("device", 3, r"has a task of device 3; allowed: 0 to 2"),
    ],
)
def test_traces_with_wrong_values(file: Path, column: str, value: float, message: str) -> None:
    with h5py.File(file, "r+") as trace:
        trace["tasks"][column][-2] = value
        trace["tasks"]["class"][-3] = 0 if column != "class" else 2
    spec = of_classes(recorded(LONG, file), recorded(SHORT, file))
    with pytest.raises(InputError, match=rf"tasks\.0\.arrivals\.file: .*both\.h5: {message}"):
        run(spec, "local")


# ---------------------------------------------------------------- CSV files

TWO = """\
slots: 3
devices: [{name: phone, count: 2}]
tasks:
  - name: a
    dnn: {blocks: 2}
    arrivals: {process: csv, file: tasks.csv}
  - name: b
    dnn: {blocks: 3}
    arrivals: SECOND
"""
SAME = "{process: csv, file: tasks.csv}"


@pytest.mark.parametrize(
    ("rows", "second", "message"),
    [
        (
            "time_s,class\n0,a\n1,c\n",
            SAME,
            r"0.arrivals.file: tasks.csv:3: class: 'c'; allowed: a class whose .* this file: a, b$",
        ),
        (
            "time_s,class\n0,a\n1,b\n",
            "{process: poisson, rate: 1}",
            r"0.arrivals.file: tasks.csv:3: class: 'b'; allowed: a class whose .* this file: a$",
        ),
        (
            "time_s\n0\n1\n",
            SAME,
            r"0.arrivals.file: tasks.csv:1: has no column 'class', and the classes a, b name",
        ),
        (
            "time_s,class\n0,a\n1,a\n",
            SAME,
            r"1.arrivals.file: tasks.csv:1: has no row of the class 'b'; allowed: at least one row",
        ),
        (
            "",
            SAME,
            r"0.arrivals.file: tasks.csv: is empty; allowed: a header and at least one row$",
        ),
        (
            "time_s,class\n1,a\n0.5,b\n",
            SAME,
            r"0.arrivals.file: tasks.csv:3: time_s: '0.5'; allowed: not before that of the row",
        ),
        (
            "time_s,class\nnan,a\n0.5,b\n",
            SAME,
            r"0.arrivals.file: tasks.csv:2: time_s: 'nan'; allowed: a finite number",
        ),
        (
            "time_s,class,device\n0,a,phone.1\n1,b,phone.3\n",
            SAME,
            r"0.arrivals.file: tasks.csv:3: device: 'phone.3'; allowed: 0 to 1, or the name of",
        ),
    ],
)
def test_wrong_csv_files(tmp_path: Path, rows: str, second: str, message: str) -> None:
    """One line with the file and line of the scenario, then those of the CSV file."""
    (tmp_path / "two.yaml").write_text(TWO.replace("SECOND", second), encoding="utf-8")
    (tmp_path / "tasks.csv").write_text(rows, encoding="utf-8")
    done = mecsim("run", "two.yaml", "--no-trace", code=2, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    where = 6 if message.startswith("0") else 9
    assert re.search(rf"two\.yaml:{where}: tasks\.{message}", line), line


def test_the_other_kind_of_file_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text("time_s\n0\n", encoding="utf-8")
    for process, path, remedy in (
        ("csv", file, r"Try: `process: trace`"),
        ("trace", tmp_path / "tasks.csv", r"Try: `process: csv`"),
    ):
        with pytest.raises(InputError, match=remedy):
            run(scenario(arrivals={"process": process, "file": str(path)}), "local")


def test_a_class_with_a_file_without_classes_next_to_a_trace(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time_s,size\n0.5,2\n1,3\n", encoding="utf-8")
    csv = {"process": "csv", "file": str(tmp_path / "a.csv")}
    long = {key: value for key, value in LONG.items() if key != "size_factor"}
    spec = of_classes(long | {"arrivals": csv}, recorded(SHORT, file))
    found = tasks_of(spec)
    assert [(task[0], set(task[3])) for task in only(0, found)] == [(0.5, {2.0}), (1.0, {3.0})]
    assert len(only(1, found)) == len(only(1, tasks_of(of_classes(LONG, SHORT), 3)))
    out = tmp_path / "run.h5"
    run(spec, "single-cut", out=out)
    (tmp_path / "a.csv").unlink()
    assert replay(out).difference is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"size_factor": PER_BLOCK},
            r"tasks\.0\.size_factor.* recorded tasks have their own sizes",
        ),
        ({"devices": {"one": 1}}, r"tasks\.0\.devices.* recorded tasks have their own devices"),
    ],
)
def test_keys_without_effect_on_recorded_tasks(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    text = f"devices: [{{name: one, count: 3}}]\ntasks: [{recorded(LONG, Path('a.h5')) | more}]\n"
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    done = mecsim("check", str(tmp_path / "s.yaml"), code=2)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(" ".join(done.stderr.split()))
