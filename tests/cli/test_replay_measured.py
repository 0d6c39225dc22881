"""`mecsim replay` of measured traces: what it prints, its document and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim import Scenario
from tests.helpers.builders import chain, scenario
from tests.helpers.cli import answer, mecsim
from tests.helpers.measured import measured_trace

RADIO = "radio: {rate: 10 Mbit/s}"
SCENARIO = f"""
slots: 120
dnn:
  model: {{flops: [1e9], input_bits: [8], output_bits: 8, parameter_bytes: [4]}}
arrivals: {{process: deterministic, rate: 1}}
edge_servers: 2
devices: 1
device: {{capacity: 5 GHz}}
{RADIO}
"""
"""A task every second that takes 0.2 s at its device."""


def planned() -> Scenario:
    return scenario(
        slots=120,
        dnn=chain([1e9], [8]),
        arrivals={"process": "deterministic", "rate": 1},
        device={"capacity": "5 GHz"},
        radio={"rate": "10 Mbit/s"},
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace in which tasks took 0.25 s at their device."""
    path = tmp_path_factory.mktemp("traces") / "t.h5"
    return measured_trace(path, planned(), "local", factors={"device0.cpu": 1.25})


def test_tables(measured: Path) -> None:
    lines = mecsim("replay", str(measured)).stdout.splitlines()
    assert lines[0] == "local, seed 0, predicted on scenario (simpy kernel)"
    shown = [line.split() for line in lines]
    assert ["total,", "mean", "0.25", "0.2", "-20.0", "-20.0", "to", "-20.0"] in shown
    assert ["device,", "p95", "0.25", "0.2", "-20.0"] in shown
    assert ["device", "0", "0", "0.25", "0.2", "-20.0", "20.0", "120"] in shown
    assert ["device0.cpu", "25.0%", "20.0%", "-20.0"] in shown
    assert lines[-1] == "scored: 120 of 120 tasks, released from 0 s to 120 s"


def test_document_of_another_scenario(measured: Path, tmp_path: Path) -> None:
    (tmp_path / "slower.yaml").write_text(SCENARIO.replace("5 GHz", "4 GHz"), encoding="utf-8")
    given = ("--scenario", str(tmp_path / "slower.yaml"), "--after", "1 min")
    document = answer("replay", str(measured), *given, "--kernel", "compiled")
    assert (document["scenario"], document["kernel"]) == ("slower", "compiled")
    assert (document["scored"], document["from_s"]) == (60, 60)
    assert document["total"]["mean"]["error_percent"] == pytest.approx(0, abs=1e-9)
    assert document["total"]["p95"]["predicted"] == pytest.approx(0.25)


def test_failed_tasks_have_a_line(tmp_path: Path) -> None:
    trace = measured_trace(tmp_path / "t.h5", planned(), "local", lost={5, 6})
    lines = mecsim("replay", str(trace)).stdout.splitlines()
    assert lines[-1] == "not scored: tasks that failed in the measured run: 2 outage"


def test_another_scheduler_in_simulation(measured: Path, tmp_path: Path) -> None:
    wanted = ("--scheduler", "fixed", "--option", "placement=[1]", "--out", str(tmp_path))
    document = answer("replay", str(measured), *wanted)
    assert document["recorded"]["kernel"] == "testbed"
    assert document["recorded"]["total_delay_s"]["mean"] == pytest.approx(0.25)
    assert document["repeated"]["total_delay_s"]["mean"] == pytest.approx(0.2)
    assert (document["other"]["scheduler"], document["other"]["kernel"]) == ("fixed", "simpy")
    assert Path(document["other"]["trace"]).is_file()
    shown = mecsim("replay", str(measured), *wanted[:4]).stdout
    assert "local, measured" in shown
    assert "local, simulated" in shown
    assert "fixed, simulated" in shown


def test_refusals(measured: Path, tmp_path: Path) -> None:
    path = str(measured)
    (tmp_path / "other.yaml").write_text(SCENARIO.replace("devices: 1", "devices: 2"))
    for arguments, message in (
        ((path, "--after", "soon"), "--after: 'soon' is not a number with a unit; write for"),
        ((path, "--after", "3 min"), "after: 180 s; allowed: from 0 s to below 120 s"),
        ((path, "--scenario", "nowhere.yaml"), "nowhere.yaml"),
        (
            (path, "--scenario", str(tmp_path / "other.yaml")),
            f"other.yaml:7: devices: 2 here, 1 in {path}; allowed: the same",
        ),
        ((path, "--scheduler", "greedi"), "did you mean 'greedy'?"),
        ((path, "--kernel", "fast"), "kernel: 'fast' is not known; allowed: simpy, compiled"),
    ):
        found = mecsim("replay", *arguments, code=2)
        assert message in found.stderr
        assert len(found.stderr.splitlines()) == 1
        assert not found.stdout


@pytest.mark.parametrize("option", [("--after", "1 s"), ("--scenario", "vgg16_4es")])
def test_options_of_measured_traces(option: tuple[str, str], tmp_path: Path) -> None:
    trace = str(tmp_path / "t.h5")
    mecsim("run", "vgg16_4es", "--scheduler", "edge", "--set", "slots=1", "--out", trace)
    refused = mecsim("replay", trace, *option, code=2).stderr
    assert "was simulated; --scenario and --after: only valid with a trace that" in refused
