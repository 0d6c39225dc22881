"""What a testbed refuses: one message each, before a process starts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import InputError, OutputError
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scenario.testbed import Testbed
from mecsim.testbed import refusals
from mecsim.testbed.modes import Modes
from mecsim.testbed.run import run_testbed
from tests.helpers.cli import mecsim

TABLE = {"flops": [1.0], "parameter_bytes": [1], "input_bits": [8]}


def check(changes: dict[str, Any]) -> None:
    scenario = Scenario.model_validate({"slots": 5, "devices": 2, "dnn": {"blocks": 3}} | changes)
    refusals.check_scenario(scenario)
    refusals.check_model(resolve(scenario))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"size_factor": {"distribution": "uniform", "low": 0.8, "high": 1.2}},
            "size_factor: is drawn, but the tensors of a real DNN have one size",
        ),
        ({"dnn": {"model": TABLE}}, "dnn.model: is a table of blocks"),
        (
            {
                "tasks": [
                    {"name": "a", "dnn": {"blocks": 2}},
                    {"name": "b", "dnn": {"model": TABLE}},
                ]
            },
            "tasks.1.dnn.model: is a table of blocks",
        ),
        ({"device": {"battery": 50.0}}, "device.battery: a testbed has no batteries"),
        (
            {"devices": [{"name": "phone", "battery": 50.0}, {"name": "car"}]},
            "devices: a testbed has no batteries",
        ),
        ({"failures": [{"servers": "all", "at": [[1.0, 2.0]]}]}, "failures: a testbed has no"),
        (
            {"radio": {"fading": "rayleigh", "varies_within_transfers": True}},
            "radio.varies_within_transfers: true; allowed in a testbed: false",
        ),
        (
            {"edge_server": {"capacity": {"steps": [[0.0, 1e9], [2.0, 2e9]]}}},
            "es1.cpu: follows a series over time",
        ),
        (
            {
                "mobility": [
                    {"speed": [1.0, 2.0], "area": [[0, 0], [9, 9]], "handover": 0.5},
                ]
            },
            "mobility.0.handover: 0.5 s; allowed in a testbed: 0 s",
        ),
    ],
)
def test_scenarios_are_refused(changes: dict[str, Any], message: str) -> None:
    scenario = dict(changes)
    if "tasks" in scenario:
        full = Scenario.model_validate({"slots": 5} | scenario)
        with pytest.raises(InputError, match=message):
            refusals.check_scenario(full)
        return
    with pytest.raises(InputError, match=message):
        check(scenario)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mobility": [{"speed": [1.0, 2.0], "area": [[0, 0], [9, 9]]}]},
        {"radio": {"rate": {"uniform": [1e6, 2e6]}}},
        {"radio": {"fading": "rayleigh"}},
        {"deadline": 5.0, "drop_late": True},
    ],
)
def test_others_are_not(changes: dict[str, Any]) -> None:
    check(changes)


@pytest.mark.parametrize(
    ("modes", "message"),
    [
        (Modes("paddd"), "--nodes: 'paddd' is not known; allowed: padded, natural"),  # type: ignore[arg-type]
        (Modes(links="htb"), "--links: 'htb' is not known; allowed: pacing, tbf"),  # type: ignore[arg-type]
        (Modes(stretch=0.0), "--stretch: 0; allowed: above 0"),
        (Modes(stretch=-1.0), "--stretch: -1; allowed: above 0"),
        (Modes(stretch=float("nan")), "--stretch: nan; allowed: above 0"),
        (Modes(stretch=float("inf")), "--stretch: inf; allowed: above 0"),
        (Modes("natural", stretch=2.0), "--stretch: 2 does not go with --nodes natural"),
    ],
)
def test_modes_are_refused(modes: Modes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        refusals.check_modes(modes)


def test_a_testbed_needs_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals.check_modes(Modes("natural"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs PyTorch. Try: pip install 'mecsim\[torch\]'"):
        refusals.check_torch()


def test_hosts_of_shaped_links() -> None:
    scenario = Scenario.model_validate(
        {"slots": 5, "dnn": {"blocks": 3}, "testbed": {"hosts": {"es1": "127.0.0.1"}}}
    )
    with pytest.raises(InputError, match=r"testbed\.hosts: nodes with --links tbf have networks"):
        refusals.check_links(resolve(scenario), Modes(links="tbf"))
    refusals.check_links(resolve(scenario), Modes())


# ---------------------------------------------------------------- the command


@pytest.fixture
def no_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started() -> None:
        pytest.fail("a process was started")

    monkeypatch.setattr("mecsim.testbed.run.LocalHosts", started)


@pytest.mark.usefixtures("no_hosts")
@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("/proc/a.h5", "/proc/a.h5: cannot be written"),
        ("{folder}/file/none/a.h5", "a.h5: cannot be written: Not a directory"),
        ("{folder}/folder.h5", "folder.h5: cannot be written: it is a folder"),
        ("{folder}/" + 300 * "x" + ".h5", "cannot be written: File name too long"),
        ("{folder}/a.csv", "expected a file name that ends in .h5, or a folder"),
    ],
)
def test_output_is_checked_before_anything_starts(out: str, problem: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "file").touch()
    (tmp_path / "folder.h5").mkdir()
    path = out.format(folder=tmp_path)
    if out.endswith("folder.h5"):  # the command writes into a folder
        with pytest.raises(OutputError, match=problem):
            run_testbed("testbed", "edge", out=path)
        return
    error = mecsim("testbed", "testbed", "--scheduler", "edge", "--out", path, code=2).stderr
    assert problem in error
    assert len(error.splitlines()) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder.h5"]


def test_ctrl_c_before_the_run_has_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")

    def pressed() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mecsim.testbed.run.LocalHosts", pressed)
    out = ("--out", str(tmp_path / "t.h5"))
    error = mecsim("testbed", "testbed", "--scheduler", "edge", *out, code=130).stderr
    assert error == "mecsim: stopped before the run began; nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        testbed = Testbed(hosts={"es1": f"127.0.0.1:{port}"})
        with pytest.raises(InputError, match=rf"es1: 127\.0\.0\.1:{port}: the port is in use"):
            refusals.check_engine("local", "", "pacing", testbed)
    refusals.check_engine("local", "", "pacing", testbed)


def test_the_name_of_no_machine() -> None:
    testbed = Testbed(hosts={"es1": "nosuch.invalid"})
    with pytest.raises(InputError, match=r"^testbed\.hosts\.es1: nosuch\.invalid: [^(]*; allowed:"):
        refusals.check_engine("local", "", "pacing", testbed)
