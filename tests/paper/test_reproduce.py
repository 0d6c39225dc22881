"""Pages, pictures and the command of the reproduction."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from mecsim.paper import figure_files, pages, panels, reproduce
from mecsim.paper.figure_files import Figure, load_figure, load_figures, read
from mecsim.paper.judging import FITTED
from mecsim.paper.verdicts import Finding, Verdict
from mecsim.study.job_queue import ResultStore, run_batch
from tests.helpers import toy_learner
from tests.helpers.batches import Inline, in_this_process
from tests.helpers.cli import answer, mecsim
from tests.helpers.results import BEYOND, findings, invented

HOLDS = Verdict.HOLDS
TINY = """\
title: A toy learns
seeds: 2
training: {episodes: 10, seeds: 2}
quick: {seeds: 1, training: {episodes: 5, seeds: 1}}
schedulers: [{name: "tests.helpers.toy_learner:Toy", label: mtl-a3c}, greedy]
studies:
  servers: {overrides: ["slots=3"], sweep: {edge_servers: [2, 3]}, quick_sweep: {edge_servers: [2]}}
  default: {overrides: ["slots=3"]}
panels:
  - {study: servers, metric: total_delay_s}
  - {study: default, metric: learning_curve}
"""


def test_relative_panel() -> None:
    name = "beyond_generalisation"
    figure = load_figure(name)
    results = invented({name: figure})
    ratios, delays = panels.panels(name, figure, results)
    by_label = {line.label: line for line in ratios.lines}
    assert list(by_label["greedy"].y) == [1] * 7
    assert by_label["lookahead"].y[0] == pytest.approx(0.8 / 1.1, rel=1e-2)
    low, high = by_label["lookahead"].low[0], by_label["lookahead"].high[0]
    assert low is not None
    assert high is not None
    assert low <= by_label["lookahead"].y[0] <= high
    assert (ratios.y_label, delays.y_label) == ("total delay, greedy = 1", "total delay (s)")
    page = pages.figure_page(name, figure, results, quick=False)
    assert "## relative: total delay, greedy = 1" in page
    assert re.search(r"^\| 110 tasks \|.* 1 ± 0 ", page, re.MULTILINE)


def test_write_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = load_figures(["fig6", "fig12"])
    results = invented(figures)
    pages.write_figures(tmp_path, figures, results, quick=False)
    for name in figures:
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
        assert (tmp_path / f"{name}.svg").stat().st_size > 1000
    page = (tmp_path / "fig12.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 3
    assert "they bind here" in page
    assert "--quick" not in page
    with (tmp_path / "fig6.default.curves.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 * 3 * 4  # learners, trainings, episodes
    models = load_figure("fig13")
    page = pages.figure_page("fig13", models, invented({"fig13": models}), quick=False)
    assert "nin, 0.8 MB/s" in page


def test_reproduction_with_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_learner.use(monkeypatch)
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    figures = {"fig8": read(tmp_path / "tiny.yaml", Figure)}
    plans = reproduce.plan(figures)
    jobs = reproduce.all_jobs(plans)
    done = run_batch(jobs, ResultStore(tmp_path / "out", resume=False), Inline())
    volume = reproduce.volume(jobs, done.results)
    assert (volume["trainings"], volume["runs"]) == (3 * 2, 3 * 2 * 3)
    results = reproduce.collect(figures, plans, done.results)
    first, second = panels.panels("fig8", figures["fig8"], results)
    assert {line.label for line in first.lines} == {"mtl-a3c", "greedy", "lower bound"}
    (curve,) = [line for line in second.lines if line.label == "mtl-a3c"]
    assert curve.x == [0, 5, 10]
    assert curve.y[0] == -100
    (level,) = [line for line in second.lines if line.label == "greedy"]
    assert level.x == [0, 10]
    quick = reproduce.plan(figures, quick=True)
    assert len(reproduce.all_jobs(quick)) == 2 * (1 + 1 + 1 + 1)


@pytest.mark.slow
def test_reproduce_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    pytest.importorskip("matplotlib")
    out = str(tmp_path / "out")
    arguments = ("reproduce", "fig10", "--quick", "--schedulers", "greedy,single-cut", "--out", out)
    document = answer(*arguments)
    claims = document["claims"]
    assert {each["id"].partition("-")[0] for each in claims} == {"abstract", "fig10a", "fig10bc"}
    assert {each["verdict"] for each in claims} == {"cannot be compared"}
    assert document["volume"]["runs"] == 3 * 3 * 2
    made_by = json.loads((tmp_path / "out" / "made_by.json").read_text(encoding="utf-8"))
    assert made_by["command"].startswith("mecsim reproduce fig10 --quick")
    assert "--resume" in mecsim(*arguments, code=2).stderr
    again = mecsim(*arguments, "--resume").stdout
    assert "results from an earlier call: 27" in again
    assert "not run: mtl-a3c" in again
    assert "expected one of fig6" in mecsim("reproduce", "fig99", code=2).stderr
    before = (tmp_path / "out" / "claims.md").read_bytes()
    fewer = ("reproduce", "fig10", "--quick", "--schedulers", "greedy", "--out", out, "--resume")
    assert "its pages and claims also cover single-cut" in mecsim(*fewer, code=2).stderr
    other = ("reproduce", "fig8", *arguments[2:], "--resume")
    assert "its pages and claims also cover fig10" in mecsim(*other, code=2).stderr
    slower = ("reproduce", "fig10", *arguments[3:], "--resume")
    assert "also cover --quick" in mecsim(*slower, code=2).stderr
    assert (tmp_path / "out" / "claims.md").read_bytes() == before


def test_reproduce_unknown_scheduler(tmp_path: Path) -> None:
    reported = mecsim(
        "reproduce", "fig8", "--schedulers", "nix", "--out", str(tmp_path / "o"), code=2
    )
    assert "--schedulers: nix: not in these figures; expected some of a3c, apdi" in reported.stderr
    assert not (tmp_path / "o").exists()


def test_help_names_every_figure() -> None:
    shown = " ".join(mecsim("reproduce", "--help").stdout.replace("│", " ").split())
    assert all(name in shown for name in BEYOND)


def test_fitted_on_the_page() -> None:
    """A fitted claim counts as no test if it holds."""
    found = findings()
    page = pages.claims_page(found, quick=False)
    (counted,) = re.findall(r"^Of 33 claims, .*$", page, re.MULTILINE)
    hold = Counter(each.verdict for _, each in found)[HOLDS]
    assert f"claims, {hold} hold, " in counted
    assert counted.endswith(
        f"The scenario was fitted to 1 of the {hold} that hold, which is therefore no test."
    )
    assert "All are judged on the preset `paper` of the learners." in page
    assert page.count(FITTED) == 2
    unfitted = [(claim, each) for claim, each in found if not claim.fitted]
    assert "fitted to none of those that hold." in pages.claims_page(unfitted, quick=False)
    both = [(claim, Finding(HOLDS, "x")) for claim, _ in found]
    assert "to 2 of the 33 that hold, which are therefore" in pages.claims_page(both, quick=False)


def test_files_on_the_page_of_claims() -> None:
    named = re.findall(r"`(mecsim/[^`]+)`", pages.claims_page([], quick=False))
    assert len(named) == 2
    root = Path(figure_files.__file__).parents[2]
    assert all((root / name).is_file() for name in named)
