"""Reports without a browser: what is in them, their size, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip("bokeh")

from bokeh.core.enums import MarkerType
from bokeh.models import LinearColorMapper, Whisker

from mecsim.errors import InputError
from mecsim.report import network_map, timeline
from mecsim.report.comparison import comparison_page
from mecsim.report.page import MARKERS as SWATCHES
from mecsim.report.page import Chart, Page, Table, Text
from mecsim.report.panel_chart import ANGLES, MARKERS, panel_chart, panel_key
from mecsim.report.recording import Recording, services_between
from mecsim.report.run_report import run_page
from mecsim.study.panel import Line, Panel
from mecsim.study.styles import OTHERS, STYLES, styles
from mecsim.trace import TraceFile
from tests.helpers.cli import answer, mecsim
from tests.report.conftest import HOSTILE, entry

ROOT = Path(__file__).parents[2]


def facts(page: Path) -> dict[str, Any]:
    text = re.search(r'id="facts">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert text is not None
    found: dict[str, Any] = json.loads(text[1])
    return found


@pytest.mark.quick("2000")
@pytest.mark.parametrize("devices", [30, 2000])
def test_a_run_is_a_small_page_with_the_numbers_of_the_run(devices: int, tmp_path: Path) -> None:
    changes = ["--set", "slots=2", "--set", f"devices={devices}"]
    made = answer("run", "vgg16_4es", "--scheduler", "greedy", "--kernel", "compiled", *changes,
                  "--out", str(tmp_path / "run.h5"))  # fmt: skip
    written = answer("report", str(tmp_path / "run.h5"))
    assert written["kind"] == "run"
    page = Path(written["report"])
    assert page == tmp_path / "run.html"
    assert page.stat().st_size == written["bytes"] < 5_000_000
    made["resources"] = made["resources"][:200]
    summary = facts(page)["summary"]
    assert {k: summary[k] for k in ("tasks", "reward", "total_delay_s", "resources")} == {
        k: made[k] for k in ("tasks", "reward", "total_delay_s", "resources")
    }
    text = page.read_text(encoding="utf-8")
    assert ("busiest of 2,000 devices" in text) == (devices == 2000)
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in text


def test_a_report_names_groups(tmp_path: Path) -> None:
    """The cloud has a place on the map, although it stands nowhere."""
    path, trace = tmp_path / "groups.yaml", tmp_path / "run.h5"
    path.write_text(
        "slots: 3\ndnn: {blocks: 3}\narrivals: {process: slotted, rate: 6}\n"
        "edge_servers: [{name: rack, count: 2}, {name: cloud, radio: false}]\n"
        "devices: [{name: phone, count: 2}, {name: camera}]\n",
        encoding="utf-8",
    )
    mecsim("run", str(path), "--scheduler", "apdi", "--out", str(trace))
    text = Path(answer("report", str(trace))["report"]).read_text(encoding="utf-8")
    for name in ("rack.2: ", "cloud: ", "phone.2", "camera.uplink", "rack.2-cloud", "rack.1-rack.2",
                 "group of devices", "drawn above the others"):  # fmt: skip
        assert name in text, name
    assert "ES 1" not in text
    assert "edge server 1" not in text
    model = Recording(TraceFile(trace)).model
    places = network_map._server_places(model)
    assert np.isfinite(places).all()
    assert places[2, 1] > max(model.device_xy[:, 1].max(), places[:2, 1].max())


def test_the_paper_is_a_page_with_its_claims(tmp_path: Path) -> None:
    folder, page = tmp_path / "paper", tmp_path / "paper.html"
    folder.mkdir()
    for each in (ROOT / "results" / "paper").glob("*"):
        if each.name in ("claims.md", "made_by.json") or each.name.startswith("fig6."):
            shutil.copy(each, folder)
    assert answer("report", str(folder), "--out", str(page))["kind"] == "paper"
    claims = (folder / "claims.md").read_text(encoding="utf-8").splitlines()
    assert facts(page)["claims"] == sum(line.startswith("| ") for line in claims) - 2
    assert page.stat().st_size < 5_000_000


def test_names_are_escaped(comparison: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    mecsim("report", str(comparison), "--out", str(page))
    text = page.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "<i>no</i>" not in text
    assert "&lt;i&gt;no&lt;/i&gt;" in text


def test_a_page_that_exists_is_kept(comparison: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    refused = mecsim("report", str(comparison), "--out", str(page), code=2).stderr
    assert refused == f"mecsim: {page}: already exists. Use --force, or choose another --out\n"
    assert page.read_text() == "mine"
    mecsim("report", str(comparison), "--out", str(page), "--force")
    assert page.stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.h5"], "no.h5: there is no such file or folder. Expected: a trace"),
        (["."], "has neither comparison.json nor claims.md"),
        (["TRACE", "--out", "x.pdf"], "expected a file name that ends in .html"),
        (["TRACE", "--window", "3"], "expected BEGIN:END"),
        (["TRACE", "--window", "3s:2s"], "expected BEGIN:END"),
        (["TRACE", "--window", "3s:2 m"], "expected BEGIN:END"),
        (["COMPARISON", "--window", "1:2"], "only valid for a trace"),
    ],
)
def test_what_is_refused(
    arguments: list[str], message: str, trace: Path, comparison: Path, tmp_path: Path
) -> None:
    places = {"TRACE": str(trace), "COMPARISON": str(comparison)}
    given = [places.get(each, each) for each in arguments]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out.html")]
    assert message in mecsim("report", *given, *out, code=2, cwd=tmp_path).stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "document",
    ["{", "[]", '{"rows": [], "summary": [1], "failed": []}',
     '{"rows": [], "summary": [{"scheduler": "a"}], "failed": []}',
        '{"rows": [{"scheduler": "a"}], "summary": [], "failed": []}',
        '{"rows": [], "summary": [], "failed": [{"job": 1}]}'],
)  # fmt: skip
def test_a_damaged_comparison_is_refused(document: str, tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text(document)
    assert "comparison.json: " in mecsim("report", str(tmp_path), code=2).stderr


def changed(comparison: Path, folder: Path, **more: Any) -> Path:
    document = json.loads((comparison / "comparison.json").read_text(encoding="utf-8"))
    (folder / "comparison.json").write_text(json.dumps(document | more), encoding="utf-8")
    return folder


def test_reports_and_figures_refuse_the_same(comparison: Path, tmp_path: Path) -> None:
    versus = entry("greedy", 1.0, 2) | {"vs": {"rpdi": {"percent": "much"}}}
    folder = changed(comparison, tmp_path, summary=[versus])
    with pytest.raises(InputError, match=r"summary\.0\.vs\.rpdi\.percent: Input should be"):
        comparison_page(folder)


def test_a_report_has_metrics_of_another_version_in_its_table(
    comparison: Path, tmp_path: Path
) -> None:
    own = entry("greedy", 1.0, 2, "jitter_s")
    page = comparison_page(changed(comparison, tmp_path, summary=[own]))
    (table,) = (each for section in page.sections for each in section.blocks
                if isinstance(each, Table) and each.name == "summary-table")  # fmt: skip
    assert "jitter_s" in table.rows[0]


def test_variants_of_a_learner_have_their_own_curves(comparison: Path, tmp_path: Path) -> None:
    curves: list[Any] = [
        {"scenario": "s", "sweep": {}, "scheduler": label, "training_seed": 0, "episode": episode,
         "reward": -episode}
        for label in ("small", "large")
        for episode in (0, 4)
    ]  # fmt: skip
    page = comparison_page(changed(comparison, tmp_path, curves=curves))
    (learning,) = (each for each in page.sections if each.name == "learning")
    (chart,) = learning.blocks
    assert isinstance(chart, Chart)
    assert [key.label for key in chart.keys] == ["small", "large"]


def test_damaged_jobs_are_left_out(comparison: Path, tmp_path: Path) -> None:
    folder = changed(comparison, tmp_path)
    (folder / "jobs").mkdir()
    task = {"kind": "run", "scheduler": "rpdi", "options": {}, "scenario": {}, "versions": {}}
    damaged: Any = ({}, {"job": {"kind": "run"}}, {"job": task | {"options": 3}})
    for name, document in enumerate(({"job": task}, *damaged)):
        (folder / "jobs" / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    page = comparison_page(folder)
    (table,) = (each for section in page.sections for each in section.blocks
                if isinstance(each, Table) and each.name == "jobs")  # fmt: skip
    assert [str(row[0]) for row in table.rows] == ["rpdi"]


def test_the_command_is_a_line_for_a_shell(comparison: Path, tmp_path: Path) -> None:
    folder = changed(comparison, tmp_path)
    found = {"command": ["mecsim", "compare", "a b.yaml"]}
    (folder / "provenance.json").write_text(json.dumps(found), encoding="utf-8")
    (table,) = (each for section in comparison_page(folder).sections for each in section.blocks
                if isinstance(each, Table) and each.name == "provenance-table")  # fmt: skip
    assert table.rows == [["command", "mecsim compare 'a b.yaml'"]]


def test_intervals_that_reach_zero_have_stems_on_a_logarithmic_axis() -> None:
    line = Line("greedy", [2, 4], [10.0, 100.0], [-5.0, 50.0], [25.0, 150.0])
    other = Line("rpdi", [2, 4], [1.0, 1.0], [None, None], [None, None])
    panel = Panel([line, other], "servers", "misses (blocks)")
    chart = panel_chart(panel, styles(["greedy", "rpdi"]), "a", "A")
    (first,) = (each for each in chart.plot.select({"type": Whisker})
                if each.source.data["y"] == [10.0, 100.0])  # fmt: skip
    lower = first.source.data[first.lower]
    assert 0 < lower[0] < 1e-6
    assert lower[1] == 50.0
    assert first.source.data["low"][0] == -5.0  # what the pointer shows


def test_averages_of_queues_are_those_of_little(trace: Path) -> None:
    """The mean of the intervals is the mean queue of the summary."""
    with TraceFile(trace) as file:
        recording = Recording(file)
        width = recording.edges_s[1]
        horizon_s = recording.end_s
        for row, each in enumerate(recording.summary.resources[:20]):
            mean = recording.waiting[row].sum() * width / horizon_s
            assert mean == pytest.approx(each.mean_queue, rel=1e-9, abs=1e-12)
            capacity = recording.model.capacity[recording.busiest[row]]
            busy = recording.serving[row].sum() * width / horizon_s
            assert busy == pytest.approx(each.utilization * capacity, rel=1e-9)
        done = recording.completed
        parts = (recording.parts.wait_s + recording.parts.service_s)[done].sum(axis=1)
        latency_s = recording.sample("total_s")[done] - parts
        assert np.abs(latency_s).max() < 1e-3 * recording.sample("total_s").max()


def shown(trace: Path, window: tuple[float, float]) -> str:
    """The text about a window."""
    with TraceFile(trace) as file:
        first = timeline.timeline(Recording(file), window)[0]
    assert isinstance(first, Text)
    return first.text


def test_a_window_has_a_most_of_services(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TraceFile(trace) as file:
        recording = Recording(file)
        every, total = services_between(recording, 0.0, 1e9, 10**6)
        first, same = services_between(recording, 0.0, 1e9, 5)
    assert total == same == len(every["task"])
    assert first["start_s"].tolist() == sorted(every["start_s"].tolist())[:5]
    monkeypatch.setattr(timeline, "MOST_SERVICES", 5)
    text = shown(trace, (0.0, 2000.0))
    assert f"The window from 0 s to 2,000 s has {total:,} services." in text
    assert "The first 5 are drawn" in text


def test_an_empty_window_says_so(trace: Path) -> None:
    assert shown(trace, (900.0, 901.0)) == "No service is in the window from 900 s to 901 s."


def test_a_page_is_named_after_scenario_scheduler_and_seed(trace: Path, tmp_path: Path) -> None:
    page, older = tmp_path / "page.html", tmp_path / "older.h5"
    mecsim("report", str(trace), "--out", str(page))
    ran = "rpdi on vgg16_4es (slots=2, arrivals.rate=9, devices=6), seed 0"
    assert f"<title>{ran}</title>" in page.read_text(encoding="utf-8")
    assert facts(page)["summary"]["scenario"] == ran[len("rpdi on ") : -len(", seed 0")]
    shutil.copy(trace, older)
    with h5py.File(older, "r+") as file:
        del file.attrs["scenario_label"]
    assert run_page(older, None).title == "rpdi on older, seed 0"


def charts(page: Page) -> dict[str, Chart]:
    every = [block for section in page.sections for block in section.blocks]
    return {block.name: block for block in every if isinstance(block, Chart)}


def test_figures_of_a_run(trace: Path) -> None:
    """Colours of utilization have one scale, and the slowest tasks do not take the axis."""
    found = charts(run_page(trace, None))
    (mapper,) = set(found["map"].plot.select({"type": LinearColorMapper}))
    assert (mapper.low, mapper.high) == (0.0, 1.0)
    ends = [max(each.data_source.data["y"]) for each in found["delays"].plot.renderers]
    assert set(ends) == {0.99}
    boxes = found["boxes-serving-server"].plot
    assert set(boxes.yaxis[0].major_label_overrides.values()) == {f"ES {n}" for n in range(1, 5)}


def test_blocks_are_numbered_as_in_traces_and_by_check(trace: Path) -> None:
    made = next(each for each in run_page(trace, None).sections if each.name == "placement")
    (table,) = [each for each in made.blocks if isinstance(each, Table)]
    assert [row[0].text.split(":")[0] for row in table.cells] == [
        *(f"block {m}" for m in range(6)), "all blocks",
    ]  # fmt: skip


def test_every_marker_is_drawn_in_its_own_way() -> None:
    used = [style.marker for style in [*STYLES.values(), *OTHERS] if style.marker]
    assert len({(MARKERS[each], ANGLES.get(each, 0)) for each in used}) == len(used)
    assert {MARKERS[each] for each in used} <= set(SWATCHES) & set(MarkerType)


def test_labels_have_one_style_in_all_figures(comparison: Path) -> None:
    labels = [HOSTILE, "greedy", "rpdi"]
    found = charts(comparison_page(comparison))
    keys = {chart.name: {key.label: key for key in chart.keys} for chart in found.values()}
    looks = styles(labels)
    assert keys
    assert all(each[label] == panel_key(label, looks[label]) for each in keys.values()
               for label in labels)  # fmt: skip
