"""Comparisons on scenarios with several classes of tasks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, cast

import pytest

from mecsim import load
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.report.comparison import comparison_page
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.run import run
from mecsim.study.by_class import summarise_classes
from mecsim.study.comparison_file import read_comparison
from mecsim.study.executors import ExecutorChoice
from mecsim.study.jobs import execute, make_job
from mecsim.study.run import StudyRequest
from mecsim.study.run import run as compare
from mecsim.study.summary import Row
from tests.simulation.test_classes import LONG, SHORT, described

SPEC = described(LONG, SHORT)


def row_of(scheduler: str, seed: int, **delays: float) -> Row:
    """A run whose classes have these mean delays; the bound of each is half a second."""
    classes = [
        {"name": name, "failed": 1, "total_delay_s": {"mean": delay, "p95": 2 * delay, "p99": None}}
        for name, delay in delays.items()
    ]
    bounds = [{"name": name, "cost": 1.0, "total_delay_s": 0.5} for name in delays]
    found: Any = {
        "scenario": "two",
        "sweep": {},
        "scheduler": scheduler,
        "seed": seed,
        "training_seed": None,
        "failed": 2,
        "reward": -9.0,
        "total_delay_s": {"mean": 7.0},
        "classes": classes,
        "lower_bound": {"cost": 2.0, "total_delay_s": 0.5, "gap_percent": 1.0, "classes": bounds},
    }
    return cast(Row, found)


def test_a_summary_by_class_by_hand() -> None:
    rows = [
        *(row_of("greedy", seed, a=2.0, b=4.0) for seed in (0, 1)),
        *(row_of("other", seed, a=1.0, b=6.0) for seed in (0, 1)),
    ]
    entries = summarise_classes(rows, "greedy")
    assert {each["metric"] for each in entries} == {"total_delay_s", "total_delay_p95_s", "failed"}
    found = {
        (each["class_name"], each["scheduler"]): each
        for each in entries
        if each["metric"] == "total_delay_s"
    }
    assert {key: each["mean"] for key, each in found.items()} == {
        ("a", "greedy"): 2.0,
        ("a", "other"): 1.0,
        ("a", "lower bound"): 0.5,
        ("b", "greedy"): 4.0,
        ("b", "other"): 6.0,
        ("b", "lower bound"): 0.5,
    }
    assert found["a", "other"]["vs"]["greedy"]["percent"] == pytest.approx(50.0)
    assert found["b", "other"]["vs"]["greedy"]["percent"] == pytest.approx(-50.0)
    p95 = [each["mean"] for each in entries if each["metric"] == "total_delay_p95_s"]
    assert p95 == [4.0, 2.0, 8.0, 12.0]
    assert [each["mean"] for each in entries if each["metric"] == "failed"] == [1.0] * 4


def test_one_class_has_no_summary_by_class() -> None:
    row = row_of("greedy", 0)
    del row["classes"]
    assert summarise_classes([row], "greedy") == []


def test_the_bound_of_a_class_by_hand() -> None:
    """At the server: the long task takes 4 s and 2 + 2 of cost, each short one 1 s."""
    model = resolve(SPEC)
    bound = LowerBound(model)
    for slot in workload.slots(model):
        bound.add(slot)
    assert bound.tasks_of_class == [2, 4]
    assert bound.total_of_class == pytest.approx([2 * 4 / 3, 4 / 3])
    assert sum(bound.total_of_class) == pytest.approx(bound.total)
    (outcome,) = execute([make_job("bound", SPEC, "", {}, 0)])
    long, short = outcome.result["classes"]  # type: ignore[index]
    assert (long["name"], long["total_delay_s"]) == ("long", pytest.approx(4.0))
    assert (short["name"], short["total_delay_s"]) == ("short", pytest.approx(1.0))


def test_a_folder_has_numbers_by_class(tmp_path: Path) -> None:
    source = tmp_path / "two.yaml"
    same = {"slots": 2, "slot_length": 10, "edge_servers": 1, "devices": 1}
    hertz = {"device": {"capacity": 1}, "edge_server": {"capacity": 1}}
    source.write_text(json.dumps(same | hertz | {"tasks": [LONG, SHORT]}))
    request = StudyRequest(
        [source],
        ["edge", "local"],
        seeds=2,
        lower_bound=True,
        executor=ExecutorChoice("local", 1),
        out=tmp_path / "out",
        figures=False,
    )
    compare(request)
    document = read_comparison(tmp_path / "out")
    single = run(load(source), "edge", seed=1).summary
    row = next(r for r in document["rows"] if (r["scheduler"], r["seed"]) == ("edge", 1))
    assert [each["total_delay_s"]["mean"] for each in row["classes"]] == [
        each.total_delay_s.mean for each in single.classes
    ]
    with (tmp_path / "out" / "class_rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(each["scheduler"], each["seed"], each["class"]) for each in rows[:3]] == [
        ("edge", "0", "long"),
        ("edge", "0", "short"),
        ("edge", "1", "long"),
    ]
    assert float(rows[2]["deadline_miss_ratio"]) == single.classes[0].deadline_miss_ratio
    with (tmp_path / "out" / "classes.csv").open() as file:
        summary = list(csv.DictReader(file))
    assert {each["class"] for each in summary} == {"long", "short"}
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "## total delay (s) by class of tasks" in text
    assert "two, long" in text
    assert "_by_class" in (tmp_path / "out" / "summary.tex").read_text().replace("-by-", "_by_")
    page = comparison_page(tmp_path / "out")
    section = next(each for each in page.sections if each.name == "classes")
    assert len(section.blocks) > 2
