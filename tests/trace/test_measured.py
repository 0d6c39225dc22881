"""The attribute `testbed` of measured traces: written at the start and at the end, and read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mecsim.errors import OutputError, TraceError
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.trace import Provenance, TraceFile, TraceWriter, output_file
from mecsim.trace.export import export

MODEL = resolve(Scenario.model_validate({"slots": 2, "devices": 1, "edge_servers": 1}))
FACTS = {"nodes": "padded", "stretch": 10.0}


def written(path: Path, facts: dict[str, Any] | None, *later: dict[str, Any]) -> Path:
    """Write a trace without rows."""
    made_by = Provenance("greedy", {}, 0, "testbed", facts)
    with TraceWriter(path, MODEL, SchedulerSpec.of(MODEL), made_by) as writer:
        for each in later:
            writer.describe_testbed(each)
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return written(tmp_path / "trace.h5", FACTS)


def test_facts_of_the_start_are_read(trace: Path) -> None:
    with TraceFile(trace) as file:
        assert file.made_by.testbed == FACTS
        assert json.loads(file.attributes()["testbed"]) == FACTS


def test_facts_of_the_end_replace_them(tmp_path: Path) -> None:
    final = FACTS | {"decision_s": {"mean": 0.001, "max": 0.25}, "nodes": "natürlich"}
    with TraceFile(written(tmp_path / "trace.h5", FACTS, final)) as file:
        assert file.made_by.testbed == final


def test_facts_without_room_are_refused(tmp_path: Path) -> None:
    too_much = {"text": "x" * (output_file._TESTBED_ROOM + 100)}
    with pytest.raises(OutputError, match=r"testbed has \d+ bytes; allowed: \d+"):
        written(tmp_path / "trace.h5", FACTS, too_much)


def test_an_export_holds_them_as_text(trace: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    export(trace, "parquet", tmp_path / "out")
    found = pyarrow.read_schema(tmp_path / "out" / "tasks.parquet").metadata[b"testbed"]
    assert json.loads(found) == FACTS


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"testbed": np.bytes_(b"[1]")}, r"attribute testbed: '\[1\]' is wrong"),
        ({"testbed": np.bytes_(b"{")}, r"attribute testbed: '\{' is wrong"),
        ({"testbed": 7}, "attribute testbed: np.int64.7. is wrong; allowed: text"),
        ({"testbed": np.bytes_(b"\xff{}")}, "is damaged"),
        ({"testbed": None}, "attribute kernel: 'testbed', but testbed is missing"),
        ({"kernel": "simpy"}, "attribute kernel: 'simpy', but testbed does not go with it"),
    ],
)
def test_damaged_facts_are_refused(
    trace: Path, tmp_path: Path, attributes: dict[str, Any], message: str
) -> None:
    damaged = Path(shutil.copy(trace, tmp_path / "damaged.h5"))
    with h5py.File(damaged, "r+") as file:
        for name, value in attributes.items():
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value
    with pytest.raises(TraceError, match=message):
        TraceFile(damaged)
