"""Names, paths and messages that look like rich markup are printed as they are."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mecsim.cli import display
from mecsim.cli.output import show, show_comment
from mecsim.cli.progress import batch_progress, progress
from mecsim.scheduler import registry
from mecsim.study import figures
from mecsim.study.job_queue import Status
from tests.helpers.batches import in_this_process
from tests.helpers.cli import Finished, mecsim

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = str(ROOT / "scenarios" / "vgg16_loaded.yaml")
MARKED = "a[red]b[/old]c:smile:"
"""A tag, an end tag of no tag (an error in markup), and an emoji code."""
CONSTANT = (
    "from mecsim import Scheduler\n\n\n"
    "class Constant(Scheduler):\n"
    "    def decide(self, observation):\n"
    "        return [{place}] * self.spec.blocks\n"
)


@pytest.fixture
def scheduler(tmp_path: Path) -> str:
    path = tmp_path / "s[seed=3].py"
    path.write_text(CONSTANT.format(place=0), encoding="utf-8")
    return f"{path}:Constant"


def folder(tmp_path: Path) -> Path:
    """Return a folder whose path has an end tag."""
    return tmp_path / "x[" / "old]"


def _flat(text: str) -> str:
    return text.replace("\n", "")


def test_run_and_replay(scheduler: str, tmp_path: Path) -> None:
    trace = folder(tmp_path) / "run[seed=3].h5"
    arguments = ("--set", "slots=2", "--kernel", "compiled", "--scheduler")
    done = mecsim("run", SCENARIO, *arguments, scheduler, "--out", str(trace))
    assert str(trace) in done.stdout
    assert f"{scheduler} on " in _flat(done.stdout)
    replayed = mecsim("replay", str(trace), "--scheduler", scheduler)
    assert "s[seed=3].py" in _flat(replayed.stdout.replace(" ", ""))


def test_check_of_schedulers(scheduler: str, tmp_path: Path) -> None:
    assert f"{scheduler} conforms" in _flat(mecsim("schedulers", "--check", scheduler).stdout)
    bad = tmp_path / "bad[seed=4].py"
    bad.write_text(CONSTANT.format(place=99), encoding="utf-8")
    done = mecsim("schedulers", "--check", f"{bad}:Constant", code=1)
    assert f"{bad}:Constant does not conform" in _flat(done.stdout)


def test_list_of_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    described = replace(registry.describe("greedy"), summary=MARKED)
    monkeypatch.setattr(registry, "describe", lambda name: described)
    assert MARKED in mecsim("schedulers").stdout


def test_profile_and_check(tmp_path: Path) -> None:
    mecsim("profile", "alexnet", "--save", str(tmp_path / "p.json"))
    record = json.loads((tmp_path / "p.json").read_text())
    first, record["name"] = record["layers"][0]["name"], MARKED
    record = json.loads(json.dumps(record).replace(json.dumps(first), json.dumps(MARKED)))
    saved = folder(tmp_path) / "p[seed=3].json"
    saved.parent.mkdir(parents=True)
    saved.write_text(json.dumps(record))
    shown = mecsim("profile", str(saved)).stdout
    assert f"{MARKED}: 1 to" in shown
    assert shown.count(MARKED) == 2
    assert f"{MARKED} in 2 blocks" in mecsim("profile", str(saved), "--blocks", "2").stdout
    check = mecsim(
        "check", SCENARIO, "--set", f"dnn.model={json.dumps(str(saved))}",
        "--set", "dnn.cut=balanced", "--set", "dnn.blocks=2",
    )  # fmt: skip
    assert MARKED in check.stdout.partition("# Blocks")[2]


def test_train(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = folder(tmp_path) / "policy[seed=3].safetensors"
    scenario = tmp_path / "net[seed=3].yaml"
    shutil.copy(SCENARIO, scenario)
    done = mecsim(
        "train", str(scenario), "--scheduler", "a3c", "--episodes", "1", "--serial",
        "--set", "slots=1", "--out", str(out),
    )  # fmt: skip
    assert f"policy={out}" in done.stdout
    assert "a3c (tuned) on net[seed=3]" in done.stdout


def _compare(tmp_path: Path, *more: str) -> Finished:
    folder(tmp_path).mkdir(parents=True)
    scenario = folder(tmp_path) / "net[seed=3]$x^$.yaml"
    shutil.copy(SCENARIO, scenario)
    return mecsim(
        "compare", str(scenario), SCENARIO, "--set", "slots=1", "--seeds", "1", "--jobs", "1",
        "--out", str(folder(tmp_path) / "[/out]"), *more,
    )  # fmt: skip


def test_compare(scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    done = _compare(tmp_path, "--schedulers", f"greedy,{scheduler}", "--no-figures")
    assert str(folder(tmp_path) / "[" / "out]") in done.stdout
    assert "net[seed=3]$x^$" in done.stdout


def test_figures_of_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib has a markup too: mathematics between dollar signs, "_" before hidden labels."""
    in_this_process(monkeypatch)
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "METRICS", ("total_delay_s",))  # others take as long
    path = tmp_path / "hidden.py"
    path.write_text(CONSTANT.format(place=0).replace("Constant", "_Hidden"), encoding="utf-8")
    _compare(tmp_path, "--schedulers", f"greedy,{path}:_Hidden")
    drawn = [each.read_text() for each in folder(tmp_path).rglob("*.svg")]
    assert drawn
    for text in ("net[seed=3]$x^$", "_Hidden"):
        assert all(text in each for each in drawn)


@pytest.mark.parametrize("command", ["run", "check", "replay", "export", "profile", "train"])
def test_errors(command: str) -> None:
    assert MARKED in mecsim(command, MARKED, code=2).stderr


def test_usage_errors() -> None:
    for arguments in ((MARKED,), ("run", "a.yaml", MARKED), ("run", f"--{MARKED}")):
        shown = re.sub(r"[│\s]+", "", mecsim(*arguments, code=2).stderr)
        assert MARKED in shown


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """Titles, heads and cells of all tables."""
    table = display.plain_table([MARKED, "number"], [[MARKED, "1"]], MARKED)
    show(MARKED, table)
    show_comment(table)
    assert capsys.readouterr().out.count(MARKED) == 7


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr", shown := _Terminal())
    with progress(f"first {MARKED}", quiet=False) as update:
        assert update is not None
        update(1, 1, MARKED)
    with batch_progress(f"second {MARKED}", quiet=False) as on_progress:
        assert on_progress is not None
        on_progress(Status(done=1, running=0, failed=0, total=2, left=None))
    assert f"first {MARKED}" in shown.getvalue()
    assert f"second {MARKED}" in shown.getvalue()
    assert shown.getvalue().count(MARKED) >= 3
