"""Tables for a paper and the record of where a comparison comes from."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mecsim.study.report_tables import summary_table
from mecsim.study.summary import Entry, compared_with
from mecsim.study.tables import as_latex_tables, as_markdown_tables, cell, latex_text
from mecsim.support import checkout
from mecsim.support.checkout import commit_of
from tests.helpers.batches import SCENARIO
from tests.helpers.cli import mecsim


def entry(scheduler: str, mean: float, half: float | None, metric: str = "total_delay_s") -> Entry:
    return {
        "scenario": "a_b", "sweep": {"radio.rate": "2 MB/s"}, "scheduler": scheduler,
        "metric": metric, "seeds": 3, "mean": mean, "overloaded": 0, "vs": {},
        "ci95_low": None if half is None else mean - half,
        "ci95_high": None if half is None else mean + half,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((24.1534, 24.0734, 24.2334), ("24.153", "0.080", 0)),
        ((18_490.0, 17_040.0, 19_940.0), ("18,500", "1,400", 0)),
        ((1.25e-7, 1.2e-7, 1.3e-7), ("1.250", "0.050", -7)),
        ((3.2e9, 3.1e9, 3.3e9), ("3.20", "0.10", 9)),
        ((5.0, 5.0, 5.0), ("5", "0", 0)),
        ((5.1234567, None, None), ("5.123", "", 0)),
        ((0.0, -0.2, 0.2), ("0.00", "0.20", 0)),
    ],
)
def test_digits(numbers: tuple[float, float | None, float | None], shown: object) -> None:
    assert cell(*numbers)[:3] == shown


def test_tables() -> None:
    summary = [entry("greedy", 2.0, 0.1), entry("my_own", 3.0, 0.1), entry("lower bound", 1, 0.1)]
    text = as_markdown_tables(summary)
    assert "| scheduler | 2 MB/s |" in text
    assert (
        "| greedy | **2.00 ± 0.10** |\n| my_own | 3.00 ± 0.10 |\n| lower bound | 1.00 ± 0.10 |\n"
    ) in text
    by = "Total delay (s) by radio rate (MB/s)"
    assert f"{by}: mean ± half width of the 95% interval over 3 seeds" in text
    latex = as_latex_tables(summary)
    assert r"scheduler & 2 MB/s \\" in latex
    assert r"greedy & $\mathbf{2.00 \pm 0.10}$ \\" in latex
    assert r"my\_own & $3.00 \pm 0.10$ \\" in latex
    several: list[Any] = [*summary, *({**each, "sweep": {"radio.rate": f"{n} MB/s"}}
                           for n in (3, 4) for each in summary)]  # fmt: skip
    text = as_markdown_tables(several)
    assert "| radio rate (MB/s) | greedy | my_own | lower bound |" in text
    assert "| 2 MB/s | **2.00 ± 0.10** | 3.00 ± 0.10 | 1.00 ± 0.10 |" in text
    assert "Total delay (s): mean ± half width of the 95% interval over 3 seeds" in text
    latex = as_latex_tables(several)
    assert r"radio rate (MB/s) & greedy & my\_own & lower bound \\" in latex
    assert r"$\mathbf{2.00 \pm 0.10}$ & $3.00 \pm 0.10$ & $1.00 \pm 0.10$ \\" in latex
    assert latex.count("{") == latex.count("}")
    higher = as_markdown_tables(
        [entry("greedy", -2, None, "reward"), entry("x", -3, None, "reward")]
    )
    assert "| greedy | **-2** |\n| x | -3 |\n" in higher
    assert as_markdown_tables([entry("greedy", 0.0, 0.0)]) == ""


def at_rates(schedulers: int, points: int) -> list[Entry]:
    return [
        {**entry(f"s{n}", float(n), 0.1), "sweep": {"arrivals.rates": [at, 20]}}
        for at in range(points)
        for n in range(schedulers)
    ]


def test_more_schedulers_than_points_are_rows() -> None:
    text = as_markdown_tables(at_rates(3, 2))
    assert "| scheduler | [0, 20] | [1, 20] |\n" in text
    assert "| s0 | **0.00 ± 0.10** | **0.00 ± 0.10** |\n| s1 | 1.00 ± 0.10 |" in text
    assert "Total delay (s) by arrivals.rates: mean ± " in text
    assert "the best mean of each column is bold" in text
    latex = as_latex_tables(at_rates(3, 2))
    assert "\\begin{tabular}{lrr}" in latex
    assert "\\begin{table}\n  \\centering\n  \\caption" in latex
    assert "| arrivals.rates | s0 | s1 | s2 |\n" in as_markdown_tables(at_rates(3, 3))


def test_wide_latex_tables_take_the_page() -> None:
    latex = as_latex_tables(at_rates(6, 6))
    assert "\\begin{table*}\n  \\centering\n  \\footnotesize\n" in latex
    assert latex.endswith("\\end{table*}\n")
    assert "table*" not in as_latex_tables(at_rates(2, 6))


def test_rows_begin_with_no_argument_of_the_row_before() -> None:
    r"""LaTeX takes ``[`` after a row or a rule for an optional argument, and ``*`` for a form."""
    latex = as_latex_tables(at_rates(2, 2))
    assert "    {[}0, 20] & " in latex
    assert latex_text("*[a]") == "{*}{[}a]"


def test_differences_from_the_baseline_come_first() -> None:
    none: Any = {"lookahead": {}}, {"greedy": {}}, {"greedy": {}, "lookahead": {}}
    summary: list[Any] = [{**entry("a", 1.0, 0.1), "vs": vs} for vs in none]
    assert compared_with(summary) == ["greedy", "lookahead"]
    columns = [each for each in summary_table(summary) if each.endswith("_percent")]
    assert columns == ["vs_greedy_percent", "vs_lookahead_percent"]


def test_latex_text() -> None:
    assert latex_text(r"50% a_b {x} #1 & ~^\ $") == (
        r"50\% a\_b \{x\} \#1 \& \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )


def test_provenance(tmp_path: Path) -> None:
    scheduler = tmp_path / "mine.py"
    scheduler.write_text(
        "from schedulers.greedy import Greedy\n\n\nclass Mine(Greedy):\n    pass\n"
    )
    arguments = (
        "compare", str(SCENARIO), "--set", "slots=2", "--schedulers", f"greedy,{scheduler}:Mine",
        "--seeds", "2", "--sweep", "edge_servers=2,3", "--no-figures", "--jobs", "1", "--quiet",
        "--out", str(tmp_path / "out"),
    )  # fmt: skip
    mecsim(*arguments)
    found = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert found["command"] == ["mecsim", *arguments]
    assert found["seeds"] == [0, 1]
    assert {"numpy", "numba", "mecsim"} <= set(found["packages"])
    assert [each["file"] for each in found["files"]] == [str(scheduler)]
    assert [each["sweep"] for each in found["scenarios"]] == [
        {"edge_servers": 2}, {"edge_servers": 3},
    ]  # fmt: skip
    assert [each["values"]["edge_servers"] for each in found["scenarios"]] == [2, 3]
    assert (tmp_path / "out" / "summary.tex").read_text(encoding="utf-8").count("\\toprule") > 3


def test_commit_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scheduler.py"
    file.write_text("a = 1\n")
    assert commit_of(file) is None  # no checkout
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    try:
        subprocess.run([*git, "init", "--quiet"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert commit_of(file) is None  # not tracked
    subprocess.run([*git, "add", "scheduler.py"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "a"], check=True)
    found = commit_of(file)
    assert found
    assert (len(found["commit"]), found["modified"]) == (40, False)
    file.write_text("a = 2\n")
    changed = commit_of(file)
    assert changed
    assert changed["modified"]
    monkeypatch.setattr(checkout, "_GIT", "no-such-program")
    assert commit_of(file) is None
