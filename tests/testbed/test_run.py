"""A run on real processes: it completes, its parts are sane, it leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim.errors import InputError
from mecsim.model.task_status import COMPLETED
from mecsim.testbed.run import run_testbed
from mecsim.trace import TraceFile
from tests.helpers.cli import answer, mecsim
from tests.testbed.small_run import Splits, written

pytest.importorskip("torch")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return written(tmp_path)


def test_a_run_completes_and_leaves_a_trace(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "trace.h5"
    result = run_testbed(scenario, Splits, out=out)
    assert result.summary.completed == result.summary.tasks == 4
    with TraceFile(out) as trace:
        assert trace.complete
        assert trace.made_by.kernel == "testbed"
        facts = trace.made_by.testbed
        assert facts is not None
        assert (facts["nodes"], facts["links"], facts["stretch"]) == ("padded", "pacing", 1.0)
        assert [len(each) for each in facts["block_ms"].values()] == [2]
        assert facts["decision_s"]["max"] > 0.0
        columns = {name: trace.read("hops", name) for name in trace.columns["hops"]}
        assert (trace.read("tasks", "status") == COMPLETED).all()
    assert columns["task"].tolist() == [task for task in range(4) for _ in range(4)]
    assert columns["resource"].tolist() == [1, 2, 0, 3] * 4
    served_s = (columns["finish_s"] - columns["start_s"]).reshape(4, 4)
    assert (columns["start_s"] >= columns["enqueue_s"]).all()
    assert (served_s > 0.0).all()


@pytest.mark.slow
def test_other_commands_take_its_trace(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "trace.h5"
    run_testbed(scenario, "edge", out=out)
    mecsim("export", str(out), "--format", "csv", "--out", str(tmp_path / "csv"))
    mecsim("export", str(out), "--format", "perfetto", "--out", str(tmp_path / "timeline.json"))
    assert "predicted" in mecsim("replay", str(out)).stdout


@pytest.mark.slow
def test_the_command_line_prints_a_prediction(scenario: Path, tmp_path: Path) -> None:
    arguments = ("testbed", str(scenario), "--scheduler", "edge", "--set", "slots=1")
    document = answer(*arguments, "--out", str(tmp_path / "trace.h5"))
    assert document["kernel"] == "testbed"
    assert document["completed"] == 2
    assert document["prediction"]["scored"] == 2


@pytest.mark.slow
def test_what_is_too_fast_is_refused(scenario: Path, tmp_path: Path) -> None:
    fast = ("--set", "edge_server.capacity=90 THz", "--out", str(tmp_path / "trace.h5"))
    error = mecsim("testbed", str(scenario), "--scheduler", "edge", *fast, code=2).stderr
    assert "does not fit this machine: block" in error
    assert "Try: --stretch" in error
    assert not list(tmp_path.glob("*.h5"))


def test_blocks_that_cannot_be_found_are_refused(scenario: Path) -> None:
    with pytest.raises(InputError, match="no tasks run a model 'vgg16'"):
        run_testbed(scenario, "edge", modules=["vgg16=package:factory"])


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    other = {"hosts": {"es1": "203.0.113.7"}}  # an address for documentation
    with pytest.raises(InputError, match=r"testbed\.hosts\.es1: 203\.0\.113\.7: .*--engine ray"):
        run_testbed(written(tmp_path, testbed=other), "edge")
