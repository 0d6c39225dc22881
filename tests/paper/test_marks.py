"""The claims of the paper in the pictures, and the layout of the paper's figures."""

from __future__ import annotations

from typing import Any

import pytest

from mecsim.paper import panels
from mecsim.paper.claims import load_claims
from mecsim.paper.figure_files import figure_names, load_figure
from mecsim.paper.marks import marks
from mecsim.study.layout import rows_of
from mecsim.study.panel import Line, Mark, Panel
from tests.helpers.results import everything


def line(label: str, x: list[Any], y: list[float]) -> Line:
    return Line(label, x, y, [None] * len(x), [None] * len(x))


def marks_of(place: str, metric: str, *lines: Line, curves: bool = False) -> list[Mark]:
    return marks(load_claims(), place, metric, lines, curves=curves)


def test_marks_of_improvements() -> None:
    """Fig. 8(a), N = 6: 4.61, 6.88 and 7.53% less than A3C's, DQN's and greedy's."""
    names = ("mtl-a3c", "a3c", "dqn", "greedy", "a3c tuned")
    lines = [line(name, [5, 6], [7.0, 100.0 * (at + 1)]) for at, name in enumerate(names)]
    found = {each.label: each for each in marks_of("fig8.servers", "total_delay_s", *lines)}
    assert {each.x for each in found.values()} == {6}
    assert {label: each.y for label, each in found.items()} == pytest.approx(
        {"a3c": 200 * 0.9539, "dqn": 300 * 0.9312, "greedy": 400 * 0.9247}
    )
    assert marks_of("fig8.servers", "edge_delay_s", *lines) == []
    assert marks_of("fig8.servers", "total_delay_s", line("greedy", [2, 4], [1.0, 1.0])) == []
    assert marks_of("beyond_episodes.readings", "total_delay_s", *lines) == []


def test_marks_of_tolerances() -> None:
    lines = [line(name, ["1 s", "3 s", "5 s", "7 s"], [100.0] * 4) for name in ("a3c", "dqn")]
    found = marks_of("fig12.tolerances", "edge_delay_s", *lines)
    assert [(each.label, each.x) for each in found] == [
        (name, x) for name in ("a3c", "dqn") for x in ("1 s", "3 s", "7 s")
    ]
    assert [each.y for each in found] == pytest.approx([91.37, 92.78, 92.72, 90.41, 89.15, 89.26])
    nothing = line("a3c", ["1 s"], [0.0])
    assert marks_of("fig12.tolerances", "edge_delay_s", nothing) == []


def test_marks_of_convergence() -> None:
    """Fig. 6: three levels, and 400 and 2,000 episodes where the trainings are that long."""
    names = ("mtl-a3c", "a3c", "dqn", "greedy")
    short, long = ([line(name, [0, end], [-1.0, -2.0]) for name in names] for end in (400, 2500))
    found = marks_of("fig6.default", "reward", *long, curves=True)
    assert {each.label: each.y for each in found if each.y} == {
        "mtl-a3c": -18300, "a3c": -18490, "dqn": -18560,
    }  # fmt: skip
    assert {each.label: each.x for each in found if each.x} == {"mtl-a3c": 400, "dqn": 2000}
    fewer = marks_of("fig6.default", "reward", *short, curves=True)
    assert {each.label: each.x for each in fewer if each.x} == {"mtl-a3c": 400}


def test_mark_of_smallest_gap() -> None:
    lines = [line(name, [30, 50, 70], [1.0, 2.0, 3.0]) for name in ("mtl-a3c", "greedy")]
    tuned = line("mtl-a3c tuned", [30, 50, 70], [0.5, 0.6, 0.7])
    (mark,) = marks_of("fig10.rates", "total_delay_s", *lines, tuned)
    assert mark.label == "mtl-a3c"
    assert (mark.x, mark.y) == (50, None)
    assert marks_of("fig10.rates", "edge_delay_s", *lines) == []
    assert marks_of("fig10.rates", "total_delay_s", tuned) == []


def drawn(name: str) -> list[Panel]:
    return panels.panels(name, load_figure(name), everything())


@pytest.mark.slow
def test_panels_have_marks() -> None:
    count = {name: [len(each.marks) for each in drawn(name)] for name in figure_names()}
    assert count["fig6"] == [3]  # 30 episodes only
    assert count["fig8"] == [3, 0, 4]
    assert count["fig9"] == [0, 3, 2]
    assert count["fig10"] == [1, 0, 0]
    assert count["fig12"] == [0, 6, 3]
    assert count["fig13"] == [0] * 5
    assert all(sum(found) == 0 for name, found in count.items() if name.startswith("beyond"))


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("fig6", [1]), ("fig7", [3]), ("fig8", [3]), ("fig9", [3]), ("fig10", [3]), ("fig11", [3]),
        ("fig12", [3]), ("fig13", [1, 4]),
    ],
)  # fmt: skip
def test_layout_of_the_paper(name: str, rows: list[int]) -> None:
    found = drawn(name)
    assert [len(row) for row in rows_of(found, 3)] == rows
    assert all(each.title.startswith("extra, ") == each.extra for each in found)
    assert all(each.x_label and each.y_label for each in found)
