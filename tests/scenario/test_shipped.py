"""Shipped scenarios go by name, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mecsim import load
from mecsim.errors import ScenarioError
from tests.helpers.shipped import FILES, FOLDER

NAMES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FILES)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_shipped_scenario_has_a_name() -> None:
    assert {"vgg16_4es", "lab", "bench/loaded"} < {*NAMES}
    for name in NAMES:
        assert load(FOLDER / f"{name}.yaml") == load(name) == load(Path(name))


def test_a_file_of_that_path_comes_first_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "city").write_text("slots: 7\n", encoding="utf-8")
    (elsewhere / "metro").mkdir()
    assert load("city").slots == 7
    assert load("metro") == load(FOLDER / "metro.yaml")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("vgg16_4e", "did you mean 'vgg16_4es'? "),
        ("scenarios/vgg16_4es.yaml", "did you mean 'vgg16_4es'? "),
        ("nowhere", ""),
    ],
)
def test_an_unknown_name_lists_those_that_there_are(name: str, suggestion: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(name)
    allowed = f"allowed: the path of a YAML file, or a shipped scenario: {', '.join(NAMES)}"
    assert str(caught.value) == (
        f"{name}: cannot be read: No such file or directory; {suggestion}{allowed}"
    )


def test_a_scenario_extends_a_shipped_one_by_name(elsewhere: Path) -> None:
    own = elsewhere / "own.yaml"
    own.write_text("extends: vgg16_4es\nslots: 7\n", encoding="utf-8")
    assert load(own).sha256() == load("vgg16_4es", ["slots=7"]).sha256()
    (elsewhere / "vgg16_4es").write_text("devices: 3\n", encoding="utf-8")
    assert load(own).devices == 3
    own.write_text("extends: vgg16_4ez\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"own.yaml:1: extends: 'vgg16_4ez' .*'vgg16_4es'"):
        load(own)
