"""The evaluation: what is measured, kept and written. Runs are simulated with known errors."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mecsim import Scenario
from mecsim.errors import InputError
from mecsim.testbed.evaluation import __main__, figures, measuring
from mecsim.testbed.evaluation.__main__ import main
from mecsim.testbed.evaluation.settings import read_evaluation
from mecsim.trace import TraceFile
from tests.helpers.measured import measured_trace

pytest.importorskip("matplotlib")

SCENARIO = """
slots: 60
slot_length: 1 s
dnn:
  model: {flops: [1e9, 1e9], input_bits: [8, 1e6], output_bits: 8, parameter_bytes: [4, 4]}
arrivals: {process: poisson, rate: 1}
decision_epoch: per_task
edge_servers: 2
edge_server: {capacity: 10 GHz}
devices: 1
device: {capacity: 5 GHz}
radio: {rate: 10 Mbit/s}
"""
"""0.2 s a block at the device, 0.1 s at a server, 0.1 s to send the second block."""
RUNS = """
runs:
  - name: one
    about: at two places
    scenario: s.yaml
    scheduler: fixed
    options: {placement: [0, 1]}
    stretch: 10
  - {name: two, about: greedy, scenario: s.yaml, scheduler: greedy, stretch: 10, seed: 4}
ranking:
  scenario: s.yaml
  overrides: [slots=40]
  stretch: 10
  schedulers: {local: {}, edge: {}}
  seeds: [1, 2, 3]
  calibrated_on: one
"""


class Bench:
    """Stands for the testbed: services at devices last a quarter longer than planned."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self.refused: dict[str, str] = {}

    def run(
        self,
        scenario: Scenario,
        scheduler: str,
        options: Mapping[str, Any],
        *,
        out: Path,
        **given: Any,
    ) -> None:
        self.measured.append(given["name"])
        if given["name"] in self.refused:
            raise InputError(self.refused[given["name"]])
        facts = {key: given[key] for key in ("nodes", "links", "stretch")}
        measured_trace(
            out, scenario, scheduler, options, factors={"device0.cpu": 1.25}, seed=given["seed"],
            facts=facts | {"machine": {"cpu": "made up"}, "decision_s": {"mean": 0.25}},
        )  # fmt: skip

    @staticmethod
    def calibrate(path: Path, *, first: float) -> SimpleNamespace:
        """Return the scenario with the device as it was, fitted on a share of the tasks."""
        with TraceFile(path) as trace:
            scenario, release_s = trace.scenario, trace.read("tasks", "release_s")
            created = trace.attributes()["created_utc"]
        until_s = float(release_s[int(first * len(release_s))])
        document = scenario.model_dump(mode="json")
        document["device"]["capacity"] = 4e9
        origin = {"trace": path.name, "created_utc": created, "until": until_s}
        document["testbed"] = {"calibrated": origin}
        return SimpleNamespace(scenario=Scenario.model_validate(document), until_s=until_s)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    found = Bench()
    monkeypatch.setattr(measuring, "run_testbed", found.run)
    monkeypatch.setattr(measuring, "calibrate", found.calibrate)
    monkeypatch.setattr(__main__, "draw_figures", lambda *_: None)  # they take seconds
    (tmp_path / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "runs.yaml").write_text(RUNS, encoding="utf-8")
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_measured_once_and_written(bench: Bench, tmp_path: Path) -> None:
    file = str(tmp_path / "runs.yaml")
    assert main([file]) == 0
    ranking = [f"ranking-{name}-{seed}" for seed in (1, 2, 3) for name in ("local", "edge")]
    assert bench.measured == ["one", "two", *ranking]
    rows = {
        (row["run"], row["scenario"], row["part"]): row for row in rows_of(tmp_path / "runs.csv")
    }
    planned, calibrated = (rows["one", kind, "device"] for kind in ("as planned", "calibrated"))
    assert float(planned["service_error_percent"]) == pytest.approx(-20)
    assert float(calibrated["mape_percent"]) == pytest.approx(0, abs=1e-9)
    with TraceFile(tmp_path / "traces" / "one.h5") as trace:
        count = trace.length("tasks")
    assert int(planned["scored"]) == count - count // 2
    shares = {
        (row["run"], row["scenario"], row["resource"]): row
        for row in rows_of(tmp_path / "utilization.csv")
    }
    assert float(shares["one", "as planned", "device0.cpu"]["error_percent"]) == pytest.approx(
        -20, abs=1
    )
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in ("| one: at two places | fixed | padded, pacing | 0.", "Machine: cpu made up.",
                 "| decision_s.mean |", "Kendall's rank correlation 1.00"):  # fmt: skip
        assert text in page
    bench.measured.clear()
    assert main([file]) == 0
    assert bench.measured == []
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_figures_are_drawn(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__main__, "draw_figures", figures.draw_figures)
    assert main([str(tmp_path / "runs.yaml"), "--slots", "40", "--out", str(tmp_path / "out")]) == 0
    for name in ("predicted", "distributions", "ranking"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000


def test_ranking_by_hand(bench: Bench, tmp_path: Path) -> None:
    """The scheduler `local` takes 0.5 s as measured, and 0.4 s as planned, without queues."""
    assert main([str(tmp_path / "runs.yaml"), "--only", "ranking"]) == 0
    rows = rows_of(tmp_path / "ranking.csv")
    assert len(rows) == 2 * 2 * 3  # the calibrated simulation needs the run
    least = {
        source: min(
            float(r["mean_s"]) for r in rows if (r["source"], r["scheduler"]) == (source, "local")
        )
        for source in ("measured", "simulated")
    }
    assert least["measured"] > 0.5
    assert 0.4 < least["simulated"] < least["measured"]
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "over 3 seeds" in page
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.slow
def test_chosen_runs_are_measured_again(bench: Bench, tmp_path: Path) -> None:
    file = str(tmp_path / "runs.yaml")
    assert main([file, "--only", "one"]) == 0
    assert main([file, "--only", "two", "--again", "two"]) == 0
    assert main([file, "--only", "two", "--again", "two"]) == 0
    assert bench.measured == ["one", "two", "two"]
    assert {row["run"] for row in rows_of(tmp_path / "runs.csv")} == {"one", "two"}


@pytest.mark.slow
def test_a_failed_run_is_reported_and_the_others_are_done(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.refused["two"] = "links: tbf needs root"
    bench.refused["ranking-edge-2"] = "does not fit this machine"
    assert main([str(tmp_path / "runs.yaml")]) == 1
    assert "two: failed: links: tbf needs root" in capsys.readouterr().err
    assert {row["run"] for row in rows_of(tmp_path / "runs.csv")} == {"one"}
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- two: links: tbf needs root" in page
    assert "over 2 seeds" in page
    bench.refused.clear()
    bench.measured.clear()
    assert main([str(tmp_path / "runs.yaml")]) == 0
    assert bench.measured == ["two", "ranking-edge-2"]


def test_traces_of_other_settings_are_refused(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "runs.yaml"
    assert main([str(file), "--only", "one"]) == 0
    for before, after, message in (
        ("placement: [0, 1]", "placement: [1, 1]", "value of options"),
        ("stretch: 10", "stretch: 5", "value of stretch: 10"),
        ("about", "seed: 3\n    about", "value of seed: 0. Expected: 3"),
        ("about", "overrides: [slots=9]\n    about", "value of scenario"),
    ):
        file.write_text(RUNS.replace(before, after, 1), encoding="utf-8")
        assert main([str(file), "--only", "one"]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert message in told
        assert told.endswith("Try: --again one")


def test_a_trial_is_short_and_stays_apart(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(tmp_path / "runs.yaml"), tmp_path / "trial"
    assert main([file, "--slots", "30"]) == 2
    assert "needs --out FOLDER" in capsys.readouterr().err
    assert main([file, "--slots", "30", "--seeds", "2", "--out", str(out)]) == 0
    assert len(bench.measured) == 2 + 2 * 2
    with TraceFile(out / "traces" / "one.h5") as trace:
        assert trace.scenario.slots == 30
    assert "A trial with slots 30 and seeds 2." in (out / "README.md").read_text(encoding="utf-8")
    assert not (tmp_path / "README.md").exists()


def test_the_list_says_how_long_it_takes(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "runs.yaml"), "--list"]) == 0
    said = capsys.readouterr().err  # 60 s ten times as slow, twice; 6 runs of 40 s
    assert "60.0 min" in said
    assert "one 600 s, two 600 s, ranking 2400 s" in said
    assert bench.measured == []


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("name: two", "name: one", "runs: has several runs 'one'"),
        ("name: two", "name: ../two", "runs.1.name"),
        ("stretch: 10", "stretch: 0", "runs.0.stretch"),
        ("calibrated_on: one", "calibrated_on: three", "'three' is the name of no run"),
        ("seeds: [1, 2, 3]", "seeds: [1]", "ranking.seeds"),
        ("scheduler: greedy", "schedular: greedy", "did you mean 'scheduler'"),
        ("s.yaml", "none.yaml", "none.yaml"),
    ],
)
def test_faults_of_the_file(
    before: str, after: str, message: str, bench: Bench, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "runs.yaml").write_text(RUNS.replace(before, after, 1), encoding="utf-8")
    assert main([str(tmp_path / "runs.yaml")]) == 2
    assert message in capsys.readouterr().err
    assert bench.measured == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "thre"], "'thre' is not known"),
        (["--again", "ranking-edge-9"], "did you mean 'ranking-edge-1'"),
        (["--slots", "0", "--out", "o"], "--slots: 0; allowed: at least 1"),
        (["--seeds", "1", "--out", "o"], "--seeds: 1; allowed: at least 2"),
    ],
)
def test_faults_of_the_command_line(
    arguments: list[str], message: str, bench: Bench, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main([str(tmp_path / "runs.yaml"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert bench.measured == []


def test_the_shipped_evaluation_fits_its_time() -> None:
    """Its files are valid, and its runs take less than half an hour without their starts."""
    folder = Path(__file__).parents[3] / "results" / "testbed"
    found = read_evaluation(folder / "runs.yaml")
    assert len(found.runs) >= 6
    ranking = found.ranking
    assert ranking is not None
    total_s = sum(each.load(folder).length_s * each.stretch for each in found.runs)
    each_s = ranking.load(folder).length_s * ranking.stretch
    assert total_s + each_s * len(ranking.schedulers) * len(ranking.seeds) < 1800
    for each in (*(run.options for run in found.runs), *ranking.schedulers.values()):
        assert "policy" not in each or (folder / each["policy"]).is_file()
