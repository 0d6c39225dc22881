"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mecsim.scenario.loading import json_schema, load, validate
from mecsim.scenario.schema import Scenario
from mecsim.scenario.yaml_source import parse
from mecsim.scheduler import registry
from mecsim.simulation.run import run as run_scenario
from mecsim.verification import conformance

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The code block of the README that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [each for each in blocks if containing in each]
    return str(found)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "scenarios", tmp_path / "scenarios")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_scheduler_takes_at_most_15_lines_and_works(workplace: Path) -> None:
    code = block("python", "class KeepFirst")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (workplace / "my_scheduler.py").write_text(code, encoding="utf-8")
    name = "my_scheduler.py:KeepFirst"
    scenario = load("scenarios/vgg16_4es.yaml", ["slots=5"])
    assert run_scenario(scenario, name, {"keep": 2}).summary["completed"] == 300
    assert len(conformance.check_scheduler(name)) == len(conformance.SHAPES)


def test_the_scenario_shown_line_by_line_is_the_default_one() -> None:
    shown = block("yaml", "edge_servers: 4                    # N")
    path = ROOT / "scenarios" / "vgg16_4es.yaml"
    default = load(path)

    assert validate(parse(shown, "README")).sha256() == default.sha256()


def test_the_example_of_extends_works(workplace: Path) -> None:
    (workplace / "scenarios" / "mine.yaml").write_text(block("yaml", "extends:"), encoding="utf-8")
    assert load("scenarios/mine.yaml").arrivals.process == "mmpp"


def test_reading_a_trace_with_h5py_and_pandas_works(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = workplace / "results" / "vgg16_4es-greedy-0.h5"
    run_scenario(load("scenarios/vgg16_4es.yaml", ["slots=5"]), out=out)
    exec(block("python", "import h5py"), {})
    printed = capsys.readouterr().out
    assert "es2.cpu" in printed
    assert "mean" in printed


def test_the_library_example_works(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("python", "from mecsim import load, run"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["greedy", "rpdi"]


def test_every_shipped_scenario_and_scheduler_is_named() -> None:

    listed = subprocess.run(
        ["git", "ls-files", "scenarios"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    shipped = [Path(name) for name in listed.stdout.split() if name.endswith(".yaml")]
    for path in shipped or (ROOT / "scenarios").glob("*.yaml"):
        assert f"`{path.stem}`" in README, path.stem
        assert load(ROOT / path).description
    for name in registry.names():
        assert f"| `{name}` |" in README, name


def test_the_json_schema_is_up_to_date() -> None:

    written = (ROOT / "scenarios" / "schema.json").read_text(encoding="utf-8")
    assert written.rstrip() == json_schema().rstrip(), "run: mecsim check --schema"
    assert Scenario.model_json_schema()["properties"].keys() <= set(re.findall(r'"(\w+)"', written))
