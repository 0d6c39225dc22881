"""Tasks from CSV files: times, time stamps, devices and sizes, and what a seed still varies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.errors import ScenarioError
from mecsim.model import workload
from mecsim.model.model import resolve, self_contained
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay
from mecsim.simulation.run import run
from tests.helpers.builders import chain, scenario, simulate


def from_csv(
    tmp_path: Path, text: str, more: dict[str, Any] | None = None, **keys: Any
) -> Scenario:
    path = tmp_path / "tasks.csv"
    path.write_text(text, encoding="utf-8")
    arrivals = {"process": "csv", "file": str(path), **(more or {})}
    return scenario(**{"slots": 3, "devices": 4, "arrivals": arrivals} | keys)


def tasks_of(spec: Scenario, seed: int = 0) -> list[tuple[int, float, int, float]]:
    """Slot, release, device and size factor of every task."""
    return [
        (slot.number, release, device, size)
        for slot in workload.slots(resolve(spec, seed))
        for release, device, size in zip(
            slot.tasks.release_s.tolist(),
            slot.tasks.device.tolist(),
            slot.tasks.size[:, 0].tolist(),
            strict=True,
        )
    ]


def test_tasks_are_those_of_the_file(tmp_path: Path) -> None:
    text = "time (ms),size,device\n0,1,3\n0,0.5,0\n1000,2,1\n2999,1,2\n"
    assert tasks_of(from_csv(tmp_path, text)) == [
        (0, 0.0, 3, 1.0),
        (0, 0.0, 0, 0.5),
        (1, 1.0, 1, 2.0),
        (2, 2.999, 2, 1.0),
    ]


def test_time_stamps_count_from_the_first_row(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.6805900,374,44\n"
        "2023-11-17 00:00:00.9951690,396,109\n"
    )
    found = tasks_of(from_csv(tmp_path, text))
    assert [release for _, release, _, _ in found] == [0.0, 1.314579]


def test_a_seed_varies_devices_and_sizes_that_are_not_given(tmp_path: Path) -> None:
    text = "time_s\n" + "".join(f"{k / 8}\n" for k in range(24))
    spec = from_csv(tmp_path, text, size_factor={"distribution": "exponential", "per": "task"})
    one, other = tasks_of(spec, 1), tasks_of(spec, 2)
    assert [task[:2] for task in one] == [task[:2] for task in other]
    assert [task[2] for task in one] != [task[2] for task in other]
    assert [task[3] for task in one] != [task[3] for task in other]
    assert {task[2] for task in one} == {0, 1, 2, 3}


def test_a_warning_where_all_tasks_are_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not tasks_of(from_csv(tmp_path, "time_s\n3\n4\n", {"beyond": "drop"}))
    (record,) = caplog.records  # once, however often the model is made
    assert record.getMessage().startswith("arrivals: ")
    assert "tasks.csv: drops all 2 tasks; the last slot ends at 3 s" in record.getMessage()


def test_sizes_of_the_file_with_those_of_a_base_that_says_constant(tmp_path: Path) -> None:
    same = {"distribution": "constant"}
    assert tasks_of(from_csv(tmp_path, "time_s,size\n0,3\n", size_factor=same))[0][3] == 3.0


def test_tasks_after_the_run_are_refused_or_dropped(tmp_path: Path) -> None:
    text = "time_s\n0\n2\n3\n"
    with pytest.raises(ScenarioError, match=r"tasks\.csv:4: time_s: '3'; 3 s after the start; al"):
        resolve(from_csv(tmp_path, text))
    assert len(tasks_of(from_csv(tmp_path, text, {"beyond": "drop"}))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,device\n0,4\n", r"tasks\.csv:2: device: '4'; allowed: 0 to 3"),
        ("time_s,size\n0,-1\n", r"tasks\.csv:2: size: '-1'; allowed: at least 0"),
        ("time_s,size\n0,nan\n", r"tasks\.csv:2: size: 'nan'; allowed: a finite number"),
        ("time_s\n-1\n", r"tasks\.csv:2: time_s: '-1'; allowed: at least 0"),
        ("time_s\n2\n1\n", r"tasks\.csv:3: time_s: '1'; allowed: not before that of the row b"),
        ("time\n2023-13-45 00:00:00\n", r"tasks\.csv:2: time: .* allowed: a time stamp as"),
        ("time\n7\n", r"tasks\.csv:2: time: '7'; allowed: a time stamp as .* a unit in the header"),
        ("when\n7\n", r"tasks\.csv:1: has no column of times"),
        ("time_s\n", r"tasks\.csv: has a header and no rows"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=r"arrivals\.file: .*" + message):
        resolve(from_csv(tmp_path, text))


@pytest.mark.parametrize("kernel", KERNELS)
def test_trace_holds_the_tasks(tmp_path: Path, kernel: str) -> None:
    spec = from_csv(tmp_path, "time_s,device\n0,1\n0.5,3\n2,0\n")
    run(spec, "edge", kernel=kernel, out=tmp_path / "t.h5")
    (tmp_path / "tasks.csv").unlink()
    assert replay(tmp_path / "t.h5").difference is None


def test_listed_tasks_survive_json_and_are_checked(tmp_path: Path) -> None:
    spec = self_contained(from_csv(tmp_path, "time_s,device\n0,1\n0.5,3\n2,0\n"))
    again = Scenario.model_validate_json(spec.canonical_json())
    assert again == spec
    assert tasks_of(again) == tasks_of(from_csv(tmp_path, "time_s,device\n0,1\n0.5,3\n2,0\n"))
    for key, value, message in (
        ("devices", 3, r"arrivals\.devices: has a task of device 3; allowed: 0 to 2"),
        ("slots", 2, r"arrivals\.release: has a task at 2 s; allowed: before 2 s"),
    ):
        with pytest.raises(ScenarioError, match=message):
            resolve(again.model_copy(update={key: value}))


def test_expected_tasks_are_the_mean(tmp_path: Path) -> None:
    spec = from_csv(tmp_path, "time_s\n0.25\n0.5\n2.5\n2.75\n", decision_epoch="per_slot")
    expected = [slot.expected_tasks for slot in workload.slots(resolve(spec))]
    assert np.ravel(expected).tolist() == [4 / 3] * 3
    assert simulate(spec, "greedy", kernel="compiled").summary["tasks"] == 4


def test_each_class_takes_its_own_rows(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text("time_s,class,device\n0,a,1\n0.5,b,0\n2,a,0\n", encoding="utf-8")
    arrivals = {"process": "csv", "file": str(path)}
    spec = Scenario.model_validate(
        {
            "slots": 3,
            "devices": 2,
            "tasks": [
                {"name": name, "dnn": chain([1] * blocks, [1] * blocks), "arrivals": arrivals}
                for name, blocks in (("a", 1), ("b", 2))
            ],
        }
    )
    found = [
        (release, class_)
        for slot in workload.slots(resolve(spec))
        for release, class_ in zip(
            slot.tasks.release_s.tolist(), slot.tasks.class_.tolist(), strict=True
        )
    ]
    assert found == [(0.0, 0), (0.5, 1), (2.0, 0)]
    path.write_text("time_s,class\n0,a\n0.5,c\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"tasks\.0\.arrivals\.file: .*:3: class: 'c'; allow"):
        resolve(spec)
