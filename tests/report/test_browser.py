"""Reports in a real browser: headless Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("bokeh")
pytest.importorskip("selenium")

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.helpers.cli import mecsim
from tests.report import browser as chromium
from tests.report.conftest import HOSTILE, LONG

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

if (reason := chromium.missing()) is not None:
    pytest.skip(reason, allow_module_level=True)

ROWS = "#{} tbody tr:not([hidden])"
CHART = "const chart = mecsimReport.charts.get('{}'), plot = chart.plot;"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests."""
    started = chromium.start(tmp_path_factory.mktemp("profile"))
    try:
        yield started
    finally:
        started.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, trace: Path, comparison: Path) -> Any:
    """The reports of a run and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    for kind, path in (("run", trace), ("comparison", comparison)):
        mecsim("report", str(path), "--out", str(folder / f"{kind}.html"))
    return folder


@pytest.fixture
def show(browser: Chrome, pages: Path) -> Iterator[Callable[[str], Chrome]]:
    """Opens a report; in the end the console has no error and the network was not used."""

    def opened(kind: str, width: int = 1200, scheme: str = "light") -> Chrome:
        chromium.size(browser, width, 800)
        chromium.scheme(browser, scheme)
        chromium.logged(browser, "browser")
        chromium.logged(browser, "performance")
        chromium.load(browser, pages / f"{kind}.html")
        return browser

    yield opened
    console = [each for each in chromium.logged(browser, "browser") if each["level"] == "SEVERE"]
    assert console == []
    asked = [
        json.loads(each["message"])["message"] for each in chromium.logged(browser, "performance")
    ]
    urls = {
        each["params"]["request"]["url"].partition(":")[0]
        for each in asked
        if each["method"] == "Network.requestWillBeSent"
    }
    assert urls <= {"file", "data", "blob"}


def wait(browser: Chrome, script: str) -> Any:
    return WebDriverWait(browser, 10, 0.02).until(lambda it: it.execute_script(script))


def column(browser: Chrome, table: str, number: int) -> list[str]:
    cells = f"{ROWS.format(table)} > :nth-child({number})"
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((each) => each.dataset.value ?? each.textContent)",
        cells,
    )
    return found


def test_the_numbers_are_those_of_the_json(show: Callable[..., Chrome], trace: Path) -> None:
    made = json.loads(trace.with_suffix(".json").read_text())
    browser = show("run")
    names = ("total_delay_s", "edge_delay_s", "local_delay_s", "energy_J")
    for place, name in enumerate(("mean", "std", "p50", "p95", "p99", "max"), start=2):
        shown = [float(each) for each in column(browser, "per-task", place)]
        assert shown == [made[key][name] for key in names]
    assert column(browser, "resources", 1) == [each["name"] for each in made["resources"]]
    shown = [float(each) for each in column(browser, "resources", 2)]
    assert shown == [each["utilization"] for each in made["resources"]]
    assert len(browser.find_elements(By.CSS_SELECTOR, "[data-drawn]")) == 8
    assert trace.name in browser.find_element(By.ID, "origin").text


def test_tables_are_filtered_and_sorted(show: Callable[..., Chrome], comparison: Path) -> None:
    entries = json.loads((comparison / "comparison.json").read_text())["summary"]
    browser = show("comparison")
    means = [each["mean"] for each in entries]
    assert [float(each) for each in column(browser, "summary-table", 5)] == means
    head = browser.find_elements(By.CSS_SELECTOR, "#summary-table thead button")[4]
    head.click()
    assert [float(each) for each in column(browser, "summary-table", 5)] == sorted(means)
    head.click()
    assert [float(x) for x in column(browser, "summary-table", 5)] == sorted(means, reverse=True)
    table = browser.find_element(By.ID, "summary-table")
    Select(table.find_element(By.CSS_SELECTOR, "[data-column='0']")).select_by_visible_text(HOSTILE)
    assert column(browser, "summary-table", 1) == [HOSTILE] * 2
    table.find_element(By.CSS_SELECTOR, "[data-filter]").send_keys("22.12")
    assert column(browser, "summary-table", 3) == ["2"]
    assert table.find_element(By.TAG_NAME, "output").text == "1 rows"


def test_hostile_names_are_shown_as_they_are(show: Callable[..., Chrome]) -> None:
    browser = show("comparison")
    keys = browser.find_elements(By.CSS_SELECTOR, ".keys label")
    assert HOSTILE in [each.text.strip() for each in keys]
    assert browser.find_element(By.CSS_SELECTOR, ".alert").text == f"failed: {HOSTILE}: <i>no</i>"
    assert LONG in browser.find_element(By.CSS_SELECTOR, "figcaption").text
    script = CHART.format("total_delay_s-0") + "return plot.renderers.map((each) => each.name);"
    assert HOSTILE in browser.execute_script(script)


def test_lines_and_views_are_chosen(show: Callable[..., Chrome]) -> None:
    browser = show("run")
    visible = CHART.format("queues") + (
        "return plot.renderers.filter((each) => each.visible)"
        ".map((each) => each.glyph.tags.join());"
    )
    before = browser.execute_script(visible)
    assert len(before) == 5
    assert all("choice:waiting" in each for each in before)
    select = browser.find_element(By.CSS_SELECTOR, "[data-choose=queues]")
    Select(select).select_by_visible_text("in service")
    assert all("choice:in service" in each for each in browser.execute_script(visible))
    browser.find_element(By.CSS_SELECTOR, "[data-key=queues]").click()
    assert len(browser.execute_script(visible)) == 4


def test_a_figure_is_zoomed(show: Callable[..., Chrome]) -> None:
    browser = show("run")
    tools = CHART.format("timeline") + (
        "plot.toolbar.tools.filter((each) => each.type === 'PanTool')[0].active = false;"
        "plot.toolbar.tools.filter((each) => each.type === 'BoxZoomTool')[0].active = true;"
        "document.getElementById('timeline').scrollIntoView({block: 'center'});"
        "return [plot.x_range.start, plot.x_range.end];"
    )
    start, end = browser.execute_script(tools)
    place = browser.find_element(By.ID, "timeline")
    (
        ActionChains(browser).move_to_element_with_offset(place, -100, 20).click_and_hold()
        .move_by_offset(80, 40).move_by_offset(80, 40).release().perform()
    )  # fmt: skip
    wait(browser, CHART.format("timeline") + f"return plot.x_range.end < {end};")
    now = browser.execute_script(CHART.format("timeline") + "return plot.x_range.start;")
    assert now > start


def test_a_task_is_followed_from_hop_to_hop(show: Callable[..., Chrome]) -> None:
    browser = show("run")
    field = browser.find_element(By.CSS_SELECTOR, "[data-path] input")
    path = CHART.format("timeline") + (
        "const data = (name) => chart.document.get_model_by_name(name).data;"
        "const services = data('services');"
        "const rows = [...services.task.keys()].filter((row) => services.task[row] === TASK);"
        "return [rows.length, data('path').x.length, rows.map((row) => services.resource[row])];"
    )
    for task in (7, 3):
        field.clear()
        field.send_keys(str(task))
        hops, points, resources = browser.execute_script(path.replace("TASK", str(task)))
        assert points == 3 * hops > 0
        listed = browser.find_elements(By.CSS_SELECTOR, "#timeline-hops tbody th")
        assert sorted(each.text for each in listed) == sorted(resources)
    field.send_keys("999")
    assert (
        "is not in the window" in browser.find_element(By.CSS_SELECTOR, "[data-path] output").text
    )
    select = CHART.format("timeline") + (
        "const services = chart.document.get_model_by_name('services');"
        "services.selected.indices = [0]; return services.data.task[0];"
    )
    chosen = browser.execute_script(select)
    assert field.get_attribute("value") == str(chosen)


def test_a_tapped_service_chooses_its_task(show: Callable[..., Chrome]) -> None:
    browser = show("run")
    browser.find_element(By.CSS_SELECTOR, "[data-clear]").click()
    where = (
        CHART.format("timeline")
        + """
      document.getElementById('timeline').scrollIntoView({block: 'center'});
      const {data} = chart.document.get_model_by_name('services');
      const length = (row) => data.finish[row] - data.start[row];
      const row = [...data.task.keys()].reduce((a, b) => length(a) >= length(b) ? a : b);
      const frame = chart.view.frame;
      const box = document.getElementById('timeline').getBoundingClientRect();
      const x = frame.bbox.left + frame.x_scale.compute((data.start[row] + data.finish[row]) / 2)
        - frame.x_scale.compute(plot.x_range.start);
      const y = frame.y_scale.compute(data.y[row]);
      return [data.task[row], Math.round(x - box.width / 2), Math.round(y - box.height / 2)];
    """
    )
    task, x, y = browser.execute_script(where)
    place = browser.find_element(By.ID, "timeline")
    ActionChains(browser).move_to_element_with_offset(place, x, y).click().perform()
    wait(browser, f"return document.querySelector('[data-path] input').value === '{task}';")


def test_the_page_follows_the_colour_scheme(show: Callable[..., Chrome]) -> None:
    browser = show("run", scheme="light")
    ground = "return getComputedStyle(document.body).backgroundColor;"
    label = CHART.format("queues") + "return plot.below[0].major_label_text_color;"
    light = browser.execute_script(ground), browser.execute_script(label)
    chromium.scheme(browser, "dark")
    wait(browser, f"{label[:-1]} !== '{light[1]}';")
    assert browser.execute_script(ground) != light[0]
    chromium.scheme(browser, "light")
    wait(browser, f"{label[:-1]} === '{light[1]}';")


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_phone_needs_no_horizontal_scrolling(kind: str, show: Callable[..., Chrome]) -> None:
    browser = show(kind, width=360)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    active = CHART.format("queues" if kind == "run" else "total_delay_s-0") + (
        "return plot.toolbar.tools.filter((each) => each.active && /Zoom|Pan/.test(each.type))"
        ".length;"
    )
    assert browser.execute_script("return matchMedia('(pointer: coarse)').matches")
    assert browser.execute_script(active) == 0  # a finger scrolls the page


def test_tables_next_to_figures_show_all_columns(show: Callable[..., Chrome]) -> None:
    hidden = show("run", 1200).execute_script(
        "return [...document.querySelectorAll('.table.half .scroll')]"
        ".map((each) => each.scrollWidth - each.clientWidth);"
    )
    assert len(hidden) == 4
    assert max(hidden) == 0
