"""Figures for a paper: `mecsim plot` of a comparison and of a trace."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.errors import InputError
from mecsim.simulation.metrics import QUANTILES
from mecsim.study import distribution_panels as distribution_module
from mecsim.study import figures, plots
from mecsim.study.axis_labels import key_axis, key_unit
from mecsim.study.comparison_panels import comparison_panels, point_title
from mecsim.study.distribution_panels import distribution_panels, trace_distribution, trace_parts
from mecsim.study.figure_format import FigureFormat, figure_format
from mecsim.study.figures import FigureRequest, draw_comparison
from mecsim.study.layout import rows_of
from mecsim.study.panel import Line, Panel, positions
from mecsim.study.summary import Entry
from mecsim.trace import TraceFile
from mecsim.trace.values import pieces
from tests.helpers.batches import SCENARIO, in_this_process
from tests.helpers.cli import answer, mecsim

COLUMN = FigureFormat(("pdf",), 3.5, 8.0)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison with two swept keys, one of them with categories."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch)
        mecsim(
            "compare", str(SCENARIO), "--set", "slots=2", "--schedulers", "greedy,edge",
            "--seeds", "2", "--sweep", "wired.topology=ring,star",
            "--sweep", "radio.rate=800 kB/s,2 MB/s", "--no-figures", "--quiet",
            "--out", str(folder),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "run.h5"
    mecsim("run", str(SCENARIO), "--set", "slots=2", "--scheduler", "greedy", "--quiet",
           "--out", str(path))  # fmt: skip
    return path


def document(folder: Path) -> Any:
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


# Files ---------------------------------------------------------------------------------------


def test_figures_for_a_paper(compared: Path, tmp_path: Path) -> None:
    """Column width, embedded fonts, equal bytes, names for readers."""
    pytest.importorskip("matplotlib")
    arguments = (
        "plot", str(compared), "--metric", "total_delay_s", "--format", "pdf,svg",
        "--label", "greedy=Greedy & Co", "--label", "total_delay_s=Delay",
        "--label", "wired.topology=Links",
    )  # fmt: skip
    names = [answer(*arguments, "--out", str(tmp_path / each))["files"] for each in "ab"]
    assert [Path(each).name for each in names[0]] == ["total_delay_s.pdf", "total_delay_s.svg"]
    one, other = ([Path(each).read_bytes() for each in files] for files in names)
    assert one == other
    assert b"/FontFile2" in one[0]  # TrueType, embedded
    assert b"/Type3" not in one[0]
    assert b"CreationDate" not in one[0]
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", one[0])
    assert box
    assert float(box[1]) == pytest.approx(3.5 * 72)
    text = one[1].decode()
    for words in ("Greedy &amp; Co", "Delay (s)", "Links", "95% intervals", "radio rate = 2 MB/s"):
        assert words in text


@pytest.mark.slow
def test_default_figures(compared: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    whole = document(compared)
    point = {"wired.topology": "ring", "radio.rate": "2 MB/s"}
    for name in ("rows", "summary"):
        whole[name] = [each for each in whole[name] if each["sweep"] == point]
    found = draw_comparison(whole, tmp_path, FigureRequest(form=COLUMN))
    names = {path.stem for path in found}
    assert {"total_delay_p99_s", "total_delay_s", "cdf_total_delay_s"} <= names
    assert "failed" not in names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metric", "total_delay"), "did you mean 'total_delay_s'?"),
        (("--metric", "failed"), "--metric failed: the comparison has no values"),
        (("--kind", "parts"), "--kind parts: not of a comparison; expected one of means, cdf"),
        (("--kind", "pie"), "--kind: 'pie' is unknown; expected one of means"),
        (("--label", "gredy=x"), "--label gredy: is unknown; did you mean 'greedy'?"),
        (("--label", "greedy"), "--label greedy: expected NAME=TEXT"),
        (("--format", "gif"), "--format: 'gif' is unknown; expected pdf, svg, png"),
        (("--format", ","), "--format: empty list"),
        (("--width", "wide"), "--width wide: expected column, page or a length such as"),
        (("--width", "1in"), "--width 1in: expected 2in to 20in"),
        (("--font-size", "6"), "--font-size 6: expected 7 to 24 points"),
        (("--font-size", "20"), "--font-size 20: too large for --width column"),
    ],
)
def test_faults_of_options(compared: Path, options: tuple[str, ...], message: str) -> None:
    pytest.importorskip("matplotlib")
    assert message in mecsim("plot", str(compared), *options, code=2).stderr
    assert not (compared / "figures").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no comparison.json; expected a folder of `mecsim compare`"),
        ('{"rows": [', "comparison.json: is damaged: "),
        ("[]", "comparison.json: is damaged: the document"),
        (
            '{"rows": [{}], "summary": [], "failed": []}',
            "is damaged: rows.0.scenario: Field required",
        ),
        ('{"rows": [], "summary": []}', "is damaged: failed: Field required"),
        ('{"rows": [], "summary": [], "failed": []}', "no run of the comparison has a result"),
    ],
)
def test_faults_of_comparisons(tmp_path: Path, text: str | None, message: str) -> None:
    pytest.importorskip("matplotlib")
    if text is not None:
        (tmp_path / "comparison.json").write_text(text, encoding="utf-8")
    found = mecsim("plot", str(tmp_path), code=2).stderr
    assert message in found
    assert found.count("\n") == 1


def test_a_path_that_is_nowhere_may_be_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("nowhere", "x" * 300):
        said = mecsim("plot", str(tmp_path / name), code=2).stderr
        assert "there is no such file or folder. Expected: the folder of a comparison" in said


def test_metrics_of_another_version_are_left_out(compared: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    other = document(compared)
    names = {"total_delay_s": "total_delay_s", "energy_J": "jitter_s"}
    other["summary"] = [
        {**each, "metric": names[each["metric"]]}
        for each in other["summary"]
        if each["metric"] in names
    ]
    del other["curves"]  # of an earlier one
    (tmp_path / "comparison.json").write_text(json.dumps(other), encoding="utf-8")
    files = answer("plot", str(tmp_path), "--format", "svg")["files"]
    assert {Path(each).stem for each in files} == {"total_delay_s", "cdf_total_delay_s"}


def test_comparisons_of_earlier_versions_have_no_cdf(compared: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    old = document(compared)
    for row in old["rows"]:
        del row["total_delay_quantiles_s"]
    (tmp_path / "comparison.json").write_text(json.dumps(old), encoding="utf-8")
    said = mecsim("plot", str(tmp_path), "--kind", "cdf", code=2).stderr
    assert "has no quantiles of the total delay" in said


# Panels --------------------------------------------------------------------------------------


def test_labels_of_keys() -> None:
    assert key_axis("edge_servers", [2, 4]) == ("number of edge servers", [2, 4])
    assert key_axis("dnn.max_tolerated_delay", ["500 ms", "1 s"]) == (
        "tolerated delay of a block (ms)", [500, 1000],
    )  # fmt: skip
    assert key_axis("radio.transmit_power", ["20 dBm", "0.1 W"])[1] == ["20 dBm", "0.1 W"]
    assert key_axis("radio.transmit_power", ["20 dBm", "22 dBm"])[0] == "transmit power (dBm)"
    assert key_axis("device.battery", ["unlimited", "2 kJ"])[0] == "battery capacity"
    assert key_axis("device.battery", ["unlimited"])[0] == "battery capacity"
    assert key_axis("edge_server.capacity", ["[4 GHz, 8 GHz]"])[0] == "edge server capacity"
    assert point_title({"a.b": ["4 GHz", 2], "c": True}) == "a.b = [4 GHz, 2], c = true"
    assert positions([["4 GHz", 2], {"uniform": [1, 2]}])[1] == ["[4 GHz, 2]", "{uniform: [1, 2]}"]
    assert key_axis("lookahead.budget", [3]) == ("lookahead.budget", [3])
    assert key_unit("arrivals.mean_dwell") == "s"


def test_panels_of_categories_have_bars_from_zero(compared: Path) -> None:
    pytest.importorskip("matplotlib")
    panels = comparison_panels(document(compared)["summary"], "total_delay_s")
    assert [panel.title for panel in panels] == ["radio rate = 800 kB/s", "radio rate = 2 MB/s"]
    near = [
        Panel(
            [Line(name, ["ring", "star"], [1.0, 1.2 + at], [0.9, 1.0], [1.1, 1.4 + at])
             for at, name in enumerate(["greedy", "dqn"])],
            "topology", "total delay (s)", bars=True,
        )
    ]  # fmt: skip
    (axes,) = plots.make_figure(near, form=COLUMN).axes
    bars = [bar.get_height() for group in axes.containers for bar in group]
    assert bars == [1.0, 1.2, 1.0, 2.2]
    assert axes.get_ylim()[0] == 0
    equal = [Line("greedy", ["a", "b"], [1.0, 1.0], [0.5, 0.5], [1.5, 1.5]),
             Line("dqn", ["a", "b"], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]),
             Line("rpdi", ["a", "b"], [2.0, 99.0], [2.0, 99.0], [2.0, 99.0])]  # fmt: skip
    (view,) = plots.make_figure([Panel(equal, "", "total delay (s)", bars=True)]).axes
    assert 2 < view.get_ylim()[1] < 3  # whole intervals; the far bar is cut off
    assert len({bar.get_hatch() for group in axes.containers for bar in group}) == 2
    assert all(np.ptp(line.get_xdata()) == 0 for line in axes.lines)  # nothing joins categories


def test_shares_are_in_percent() -> None:
    entry: Entry = {
        "scenario": "a", "sweep": {"edge_servers": 2}, "scheduler": "greedy", "seeds": 2,
        "metric": "miss_ratio", "mean": 0.25, "ci95_low": 0.2, "ci95_high": 0.3, "overloaded": 0,
        "vs": {},
    }  # fmt: skip
    (panel,) = comparison_panels([entry], "miss_ratio")
    assert panel.y_label == "deadline-miss ratio (%)"
    assert (panel.lines[0].y, panel.lines[0].low, panel.lines[0].high) == ([25], [20], [30])


def two_panels(*heights: float) -> list[Panel]:
    return [
        Panel([Line("greedy", [1, 2], [y, 2 * y], [None] * 2, [None] * 2)], "servers", "delay (s)")
        for y in heights
    ]


def test_panels_share_axes() -> None:
    pytest.importorskip("matplotlib")
    upper, lower = plots.make_figure(two_panels(1.0, 1.5), form=COLUMN, share=True).axes
    assert upper.get_ylim() == lower.get_ylim()
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "servers")
    left, right = plots.make_figure(two_panels(1.0, 1.5), share=True).axes  # next to each other
    assert (left.get_ylabel(), right.get_ylabel()) == ("delay (s)", "")
    one, other = plots.make_figure(two_panels(1.0, 50.0), share=True).axes
    assert one.get_ylim() != other.get_ylim()  # one axis would flatten the first
    assert other.get_ylabel() == "delay (s)"
    page = figure_format("pdf", "page", 8)
    assert [len(row) for row in rows_of(two_panels(1, 1, 1, 1), 2, 2)] == [2, 2]
    assert len({axes.get_ylim() for axes in plots.make_figure(two_panels(1, 1, 1), form=page,
                                                              share=True).axes}) == 1  # fmt: skip


def categories(*names: str) -> Panel:
    none: list[None] = [None] * len(names)
    lines = [Line(each, names, [1.0] * len(names), none, none) for each in ("greedy", "rpdi")]
    return Panel(lines, "resource", "time (s)", bars=True)


def test_names_of_categories_are_rotated_only_if_they_do_not_fit_in_lines() -> None:
    pytest.importorskip("matplotlib")

    def ticks(*names: str) -> list[tuple[str, float]]:
        (axes,) = plots.make_figure([categories(*names)], form=COLUMN).axes
        return [(each.get_text(), each.get_rotation()) for each in axes.get_xticklabels()]

    parts = ticks("device", "uplink", "wired link", "server", "downlink")
    assert parts[2:4] == [("wired\nlink", 0), ("server", 0)]
    assert ticks("device", "uplink", "unbreakable", "server", "downlink")[2] == ("unbreakable", 40)
    assert ticks("ring", "star") == [("ring", 0), ("star", 0)]


def test_log_scale_is_in_one_line() -> None:
    pytest.importorskip("matplotlib")

    def label(text: str) -> str:
        lines = [Line(name, [1, 2], [y, y], [None] * 2, [None] * 2)
                 for name, y in (("greedy", 1.0), ("lookahead", 100.0))]  # fmt: skip
        (axes,) = plots.make_figure([Panel(lines, "servers", text)], form=COLUMN).axes
        return axes.get_ylabel()

    assert label("delay (s)") == "delay (s), log scale"
    assert label("deadline-miss ratio (%)") == "deadline-miss ratio (%),\nlog scale"


# Distributions -------------------------------------------------------------------------------


def row(seed: int, factor: float, scheduler: str = "greedy") -> Any:
    return {
        "scenario": "a", "sweep": {}, "scheduler": scheduler, "seed": seed, "training_seed": None,
        "total_delay_quantiles_s": [factor * (1 + q) for q in QUANTILES],
    }  # fmt: skip


def test_cdf_is_the_mean_of_the_quantiles() -> None:
    rows = [row(0, 1.0), row(1, 3.0)]
    (panel,) = distribution_panels(rows, "cdf")
    (line,) = panel.lines
    assert line.x == pytest.approx([2 * (1 + q) for q in QUANTILES])
    half = 12.706 * 2**0.5 / 2**0.5  # Student's t with one degree of freedom
    assert line.low[0] == pytest.approx(2 - half, rel=1e-4)
    (tail,) = distribution_panels(rows, "tail")
    assert len(tail.lines[0].y) == len(QUANTILES) - 1  # 1 - F = 0 has no logarithm
    assert min(tail.lines[0].y) == pytest.approx(0.001)


def test_lines_of_a_cdf_differ_without_colour() -> None:
    pytest.importorskip("matplotlib")
    rows = [row(s, f, n) for n, f in (("greedy", 1.0), ("dqn", 1.5), ("a3c", 2.0)) for s in (0, 1)]
    (axes,) = plots.make_figure(distribution_panels(rows, "cdf"), form=COLUMN).axes
    assert len({str(line._dash_pattern) for line in axes.lines}) == 3  # type: ignore[attr-defined]
    assert len(axes.collections) == 3  # bands
    far = [*rows, row(0, 100.0, "apdi")]
    (axes,) = plots.make_figure(distribution_panels(far, "cdf"), form=COLUMN).axes
    assert axes.get_xlim()[1] < 5
    assert "→ apdi: median 150 s, off the scale" in [each.get_text() for each in axes.texts]


def test_distributions_share_an_axis_of_which_each_uses_enough() -> None:
    pytest.importorskip("matplotlib")

    def axes(*factors: float) -> list[Any]:
        rows: list[Any] = [{**row(0, each), "sweep": {"slots": each}} for each in factors]
        return plots.make_figure(distribution_panels(rows, "cdf"), form=COLUMN, share=True).axes

    upper, lower = axes(1.0, 3.0)
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xlabel() == ""
    upper, lower = axes(1.0, 9.0)
    assert upper.get_xlim()[1] < 3
    assert upper.get_xlabel() == lower.get_xlabel() == "total delay (s)"


def test_parts_are_read_in_pieces(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trace_parts(trace)
    read, spans = TraceFile.read, set[Any]()

    def noted(self: TraceFile, group: str, name: str, *ends: int) -> Any:
        if group == "hops":
            spans.add(ends)
        return read(self, group, name, *ends)

    monkeypatch.setattr(TraceFile, "read", noted)
    monkeypatch.setattr(distribution_module, "pieces", partial(pieces, size=7))
    parts = trace_parts(trace)
    assert len(spans) > 2
    assert all(0 < end - begin <= 7 for begin, end in spans)
    assert [each.x for each in parts.lines] == [each.x for each in whole.lines]
    for line, expected in zip(parts.lines, whole.lines, strict=True):
        assert line.y == pytest.approx(expected.y, rel=1e-12)


def test_figures_of_a_trace(trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = answer("plot", str(trace), "--format", "svg", "--out", str(tmp_path))["files"]
    assert [Path(each).name for each in found] == ["cdf_total_delay_s.svg", "parts.svg"]
    assert "mean time per task (s)" in Path(found[1]).read_text(encoding="utf-8")
    said = mecsim("plot", str(trace), "--metric", "reward", code=2).stderr
    assert "--metric reward: not per task; expected one of total_delay_s" in said
    assert "--kind means: not of a trace" in mecsim(
        "plot", str(trace), "--kind", "means", code=2
    ).stderr  # fmt: skip


def test_parts_add_up_to_the_total_delay(trace: Path) -> None:
    """Without latency a task is always waiting or served somewhere."""
    line = trace_distribution(trace, "total_delay_s", "cdf").lines[0]
    assert line.y[-1] == 1
    assert list(line.x) == sorted(line.x)
    means = [sum(each.y) for each in trace_parts(trace).lines]
    delays = [0.0, *line.y]
    mean = sum(x * (delays[at + 1] - delays[at]) for at, x in enumerate(line.x))
    assert sum(means) == pytest.approx(mean, rel=1e-6)


def test_tasks_that_do_not_count_are_left_out(tmp_path: Path) -> None:
    mecsim("run", str(SCENARIO), "--set", "slots=3", "--set", "measurement.warm_up=1 s", "--quiet",
           "--scheduler", "local", "--out", str(tmp_path / "run.h5"))  # fmt: skip
    with TraceFile(tmp_path / "run.h5") as file:
        late = file.read("tasks", "total_s")[file.read("tasks", "release_s") >= 1]
        early = file.read("tasks", "total_s")[file.read("tasks", "release_s") < 1]
    line = trace_distribution(tmp_path / "run.h5", "total_delay_s", "cdf").lines[0]
    assert set(line.x) == set(late)
    assert set(early) - set(late)


def test_names_must_have_text() -> None:
    with pytest.raises(InputError, match="expected NAME=TEXT"):
        figures.parse_names(["greedy="])


def test_compare_writes_each_format_once_whatever_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    in_this_process(monkeypatch)
    monkeypatch.setattr(figures, "METRICS", ("total_delay_s",))  # others take as long
    mecsim(
        "compare", str(SCENARIO), "--set", "slots=1", "--schedulers", "greedy", "--seeds", "1",
        "--figure-format", "PNG,png,Pdf", "--quiet", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    found = {path.suffix for path in (tmp_path / "out" / "figures").iterdir()}
    assert found == {".png", ".pdf"}
