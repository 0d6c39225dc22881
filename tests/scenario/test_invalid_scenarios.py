"""Every file in ``scenarios/invalid`` is refused as it says itself; those in ``valid`` all run.

The first lines of an invalid file say what the message must hold (``# error:``, as regular
expressions), and ``# found: when resolved`` that the file's values are right one by one.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mecsim.errors import InputError
from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.run import run as run_scenario
from mecsim.trace.schema import MemoryTrace
from tests.helpers.cli import mecsim

HERE = Path(__file__).parents[1] / "scenarios"
INVALID = sorted(path.name for path in (HERE / "invalid").glob("*.yaml"))
VALID = sorted(path.name for path in (HERE / "valid").glob("*.yaml"))
LATE = [
    name for name in INVALID if b"# found: when resolved" in (HERE / "invalid" / name).read_bytes()
]
SCHEDULERS = ("apdi", "edge", "greedy", "local", "rpdi", "single-cut")
CLASS_NAMES = ("pydantic", "ValidationError", "tuple", "Traceback", "NoneType", "<class", "dict")


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenarios, and next to them the traces that some of them name."""
    folder = tmp_path_factory.mktemp("files") / "scenarios"
    shutil.copytree(HERE, folder)
    whole = folder / "invalid" / "whole.h5"
    small = {"slots": 3, "devices": 3, "dnn": {"blocks": 3}}
    drawn = {"size_factor": {"distribution": "exponential", "per": "block"}}
    sent = {"arrivals": {"process": "slotted", "rate": 4.0}}
    run_scenario(Scenario.model_validate(small | drawn | sent), out=whole)
    run_scenario(Scenario.model_validate(small | sent), out=folder / "valid" / "recorded.h5")
    (folder / "invalid" / "damaged.h5").write_bytes(whole.read_bytes()[:-1000])
    (folder / "invalid" / "empty.h5").write_bytes(b"")
    with h5py.File(folder / "invalid" / "foreign.h5", "w") as file:
        file["table/values"] = np.arange(5)
    incomplete = folder / "invalid" / "incomplete.h5"
    shutil.copy(whole, incomplete)
    with h5py.File(incomplete, "r+") as file:
        file.attrs["complete"] = False
    return folder


def read_and_run(path: Path) -> None:
    scenario = load(path)
    resolve(scenario)
    run_scenario(scenario)


def fault_of(path: Path) -> str:
    """What is said about an invalid scenario."""
    with pytest.raises(InputError) as caught:
        read_and_run(path)
    return str(caught.value)


def declared(name: str) -> list[str]:
    text = (HERE / "invalid" / name).read_text("utf-8", errors="replace")
    patterns = re.findall(r"^# error: (.+)$", text, re.MULTILINE)
    assert patterns, f"{name} does not say what is wrong with it"
    return patterns


@pytest.mark.parametrize("name", INVALID)
def test_invalid_scenario(name: str, scenarios: Path) -> None:
    message = fault_of(scenarios / "invalid" / name)
    for pattern in declared(name):
        assert re.search(pattern, message) or pattern in message, (pattern, message)
    assert len(message.splitlines()) <= 4
    assert len(message) < 1500
    assert not [word for word in CLASS_NAMES if word in message], message


@pytest.mark.parametrize("name", [name for name in INVALID if name not in LATE])
def test_message_begins_with_file(name: str, scenarios: Path) -> None:
    message = fault_of(scenarios / "invalid" / name)
    assert message.startswith(str(scenarios / "invalid"))
    if not name.startswith(("extends", "cyclic")):
        assert name in message.partition(" ")[0]


@pytest.mark.parametrize("name", LATE)
def test_message_begins_with_file_when_resolved(name: str, scenarios: Path) -> None:
    path = scenarios / "invalid" / name
    assert re.match(re.escape(str(path)) + r":\d+: ", fault_of(path))


def test_number_of_cases() -> None:
    assert len(INVALID) >= 70
    assert len(VALID) >= 25


@pytest.mark.parametrize(
    "name",
    [
        "alias_bomb.yaml",
        "capacity_in_megabytes.yaml",
        "deep_nesting.yaml",
        "full_mesh_that_needs_terabytes.yaml",
        "trace_file_damaged.yaml",
        "unknown_model.yaml",
    ],
)
def test_command_line_exits_with_2(name: str, scenarios: Path) -> None:
    path = scenarios / "invalid" / name
    done = mecsim("run", str(path), "--no-trace", cwd=scenarios, code=2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not list(scenarios.rglob("*partial*"))


def test_long_list_of_faults_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    values = ", ".join(["fast"] * 500)
    path.write_text(f"devices: 500\ndevice: {{capacity: [{values}]}}\n", encoding="utf-8")
    lines = fault_of(path).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 490 more faults"


# ---------------------------------------------------------------- valid


@pytest.mark.quick(
    "recorded_tasks.yaml",
    "rates_over_time.yaml",
    "mobility_and_failing_devices.yaml",
    "empty.yaml",
    "cloud_in_a_mesh.yaml",
    "slotted.yaml",
)
@pytest.mark.parametrize("name", VALID)
def test_valid_scenario_runs_under_every_scheduler(
    name: str, scenarios: Path, tmp_path: Path
) -> None:
    path = scenarios / "valid" / name
    scenario = load(path, ["slots=3"])
    blocks = resolve(scenario).blocks
    fixed = {"placement": [0, *[1] * (blocks - 1)]}
    for scheduler, options in [*((name, {}) for name in SCHEDULERS), ("fixed", fixed)]:
        first, second = MemoryTrace(), MemoryTrace()
        for memory in (first, second):
            run_scenario(scenario, scheduler, options, seed=1, memory=memory)
        assert first.first_difference(second) is None
    out = tmp_path / "trace.h5"
    run_scenario(scenario, "rpdi", seed=2, out=out)
    replayed = replay_trace(out)
    assert replayed.difference is None
    assert replayed.complete


@pytest.mark.parametrize("name", VALID)
def test_valid_scenario_survives_json(name: str, scenarios: Path) -> None:
    scenario = load(scenarios / "valid" / name)
    again = Scenario.model_validate_json(scenario.canonical_json())
    assert again == scenario
    assert again.sha256() == scenario.sha256()
