"""Classes of tasks in scenario files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim.errors import ScenarioError
from mecsim.model.model import resolve
from mecsim.scenario.loading import from_json, load, with_overrides
from mecsim.scenario.schema import Scenario

TWO = """
extends: vgg16_4es
tasks:
  - name: detect
    dnn: {model: vgg16, blocks: 6}
    arrivals: {process: slotted, rate: 6}
    deadline: 20 s
    priority: high
  - name: scan
    dnn: {model: alexnet, blocks: 3, max_tolerated_delay: [1 s, 2 s, 1 s]}
    arrivals: {process: poisson, rate: 4}
    size_factor: {distribution: exponential}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(TWO, encoding="utf-8")
    return path


def test_classes_replace_what_describes_one_class(file: Path) -> None:
    found = load(file)
    assert [each.name for each in found.classes] == ["detect", "scan"]
    assert [each.deadline for each in found.classes] == [20, None]
    assert not {"dnn", "arrivals", "size_factor", "deadline"} & found.model_dump().keys()
    assert found.of_class(1).dnn.model == "alexnet"
    assert found.of_class(1).tasks is None
    assert from_json(found.canonical_json(), "here").sha256() == found.sha256()
    assert with_overrides(found, ["tasks.1.arrivals.rate=5"]) == load(
        file, ["tasks.1.arrivals.rate=5"]
    )


def test_a_file_that_describes_one_class_undoes_inherited_ones(file: Path) -> None:
    child = file.with_name("child.yaml")
    child.write_text("extends: two.yaml\ndnn: {model: nin, blocks: 2}\n", encoding="utf-8")
    assert load(child).tasks is None


def test_a_scenario_without_classes_keeps_its_hash() -> None:
    plain = Scenario()
    assert not {"tasks", "deadline", "drop_late"} & plain.model_dump().keys()
    assert plain.sha256() != Scenario(deadline=3.0).sha256()
    assert plain.classes[0].name == ""
    assert plain.of_class(0) is plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dnn.blocks=3", r"dnn: has no effect next to tasks .*; leave dnn out, or set tasks"),
        ("deadline=3 s", r"deadline: '3 s' has no effect next to tasks"),
        ("tasks=[]", r"tasks: \[\] should have at least 1 item"),
        ("tasks.0.deadline=0", r"tasks\.0\.deadline: 0 should be from"),
        ("tasks.0.deadline=-1 s", r"tasks\.0\.deadline: '-1 s' should be from"),
        ("tasks.0.deadline=3 m", r"tasks\.0\.deadline: '3 m'"),
        ("tasks.1.name=detect", r"tasks\.1\.name: 'detect' is the name of tasks\.0 too"),
        ("tasks.1.name=a b", r"tasks\.1\.name: 'a b' is no name of a class; allowed: 1 to 40"),
        ("tasks.1.name=null", r"tasks\.1\.name: null should be a valid string"),
        ("tasks.0.cores=3", r"tasks\.0\.cores: is not a known key; .*allowed: name, dnn, arrivals"),
        ("tasks.1={name: scan}", r"tasks\.1\.dnn: is missing"),
        ("tasks.1.drop_late=true", r"tasks\.1\.drop_late: .*deadline"),
        (
            "tasks.1.arrivals={process: trace, file: a.h5}",
            r"tasks\.1\.size_factor: has no effect next to arrivals\.process: trace; leave it out",
        ),
        (
            "tasks.0.arrivals={process: mmpp, rates: [1, 2], mean_dwell: [1e-9, 1]}",
            r"tasks\.0\.arrivals\.mean_dwell: has a dwell time",
        ),
    ],
)
def test_wrong_classes_are_refused(file: Path, change: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        load(file, [change])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tasks.1.dnn.blocks=900", r"two\.yaml.*|--set.*: tasks\.1\.dnn\.blocks: model 'alexnet'"),
        ("tasks.1.dnn.model=wrong", r"tasks\.1\.dnn\.model: there is no model 'wrong'"),
        ("tasks.1.dnn.max_tolerated_delay=[1]", r"tasks\.1\.dnn\.max_tolerated_delay: has 1 ent"),
    ],
)
def test_wrong_dnns_of_classes_are_refused(file: Path, change: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        resolve(load(file, [change]))
