"""Figures: styles, axes, what is off the scale, and what is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.study import layout, plots, scales
from mecsim.study.competitors import BOUND
from mecsim.study.panel import Line, Mark, Panel, positions
from mecsim.study.scales import Limits
from mecsim.study.styles import OTHERS, STYLES, styles


def line(label: str, y: Sequence[float], spread: float | None = None, x: Any = None) -> Line:
    """A line at x = 1, 2, ... with intervals of one size."""
    low = [None if spread is None else each - spread for each in y]
    high = [None if spread is None else each + spread for each in y]
    return Line(label, x or range(1, len(y) + 1), y, low, high)


def panel(*lines: Line, y_label: str = "total delay (s)", **more: Any) -> Panel:
    return Panel(lines, "servers", y_label, **more)


def curve(label: str, *trainings: Sequence[float]) -> Line:
    """A learning curve with its trainings."""
    mean = [sum(each) / len(each) for each in zip(*trainings, strict=True)]
    none = [None] * len(mean)
    return Line(label, range(len(mean)), mean, none, none, trainings)


# Styles --------------------------------------------------------------------------------------


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* of an sRGB colour, D65."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ rgb / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_differ() -> None:
    every = [*STYLES.values(), *OTHERS]
    for one, other in itertools.combinations(every, 2):
        assert np.linalg.norm(lab(one.colour) - lab(other.colour)) > 20, (one, other)
    markers = [each.marker for each in every]
    assert len(set(markers)) == len(markers)
    assert all(lab(each.colour)[0] < 75 for each in every)  # readable on white


def test_every_installed_scheduler_has_a_style() -> None:
    assert {each.name for each in entry_points(group="mecsim.schedulers")} <= set(STYLES)


def test_styles_are_stable() -> None:
    few, many = styles(["greedy", "mine"]), styles(["a3c", "other", "mine", "greedy", "rpdi"])
    assert (few["greedy"], few["mine"]) == (many["greedy"], many["mine"])
    assert few["mine"].colour not in {each.colour for each in STYLES.values()}
    assert styles(["mine", "yours"]) == styles(["yours", "mine"])
    names = [f"own {number}" for number in range(20)]
    assert len(set(styles(names).values())) == 20
    assert len({each.colour for each in styles(names[:8]).values()}) == 8


def test_labels_of_similar_colours_have_different_lines() -> None:
    """Two magenta lines, or two blue ones, differ in their dashes."""
    found = styles(["near", "far", *(f"own {number}" for number in range(6))])
    hues = [(style, np.arctan2(*lab(style.colour)[1:])) for style in found.values()]
    near = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(hues, 2)
        if abs((a - b + np.pi) % (2 * np.pi) - np.pi) < np.radians(25)
    ]
    assert len(near) >= 3
    assert all(one.line != other.line for one, other in near)
    assert found["near"].line != found["far"].line


@pytest.mark.parametrize("label", ["dqn tuned", "dqn, trained elsewhere", "dqn:gamma=0.9"])
def test_styles_of_variants(label: str) -> None:
    found = styles([label, "dqn"])
    assert found[label].colour == found["dqn"].colour
    assert found[label].line != found["dqn"].line
    assert (found[label].hollow, found["dqn"].hollow) == (True, False)


def test_styles_of_several_variants() -> None:
    assert len(set(styles([f"a3c, {each}" for each in range(6)]).values())) == 6
    assert styles(["dqn-like"])["dqn-like"].colour != STYLES["dqn"].colour


# Axes ----------------------------------------------------------------------------------------


def test_kind_of_axis() -> None:
    near = panel(line("greedy", [1.0, 100.0]), line("dqn", [5.0, 500.0]))  # 5 at each place
    far = panel(line("greedy", [1.0, 1.0]), line("dqn", [4.0, 5.1]))
    assert scales.kinds([near]) == ["linear"]
    assert scales.kinds([far]) == ["log"]
    assert scales.kinds([far, far]) == ["log", "log"]
    assert scales.kinds([panel(line("greedy", [0.0]), line("dqn", [9.0]))]) == ["linear"]
    losses = panel(line("greedy", [-1.0]), line("dqn", [-9.0]), y_label="reward")
    assert scales.kinds([losses]) == ["negative log"]
    assert scales.kinds([]) == []


def test_same_kind_for_the_same_unit() -> None:
    near = panel(line("greedy", [1.0]), line("dqn", [2.0]))
    far = panel(line("greedy", [1.0]), line("dqn", [9.0]), y_label="delay at devices (s)")
    energy = panel(line("greedy", [1.0]), line("dqn", [9.0]), y_label="energy (J)")
    extra = panel(line("greedy", [1.0]), line("dqn", [9.0]), extra=True)
    assert scales.kinds([near, far, energy, extra]) == ["linear", "linear", "log", "log"]


@pytest.mark.parametrize("baseline", ["apdi", "rpdi", "edge", "local", "fixed", BOUND])
def test_baselines_do_not_decide(baseline: str) -> None:
    shown = panel(line("greedy", [20.0, 30.0]), line("dqn", [22.0, 24.0]))
    more = panel(*shown.lines, line(baseline, [1200.0, 1300.0]))
    assert scales.kinds([more]) == ["linear"]
    assert scales.limits(more, "linear") == scales.limits(shown, "linear")


def test_baselines_decide_if_they_are_compared() -> None:
    """With fewer than two others, a picture of these alone would show no comparison."""
    shown = panel(line("greedy", [10.0]), line("rpdi", [30.0]), line(BOUND, [-1.0]))
    low, high = scales.limits(shown, "linear")
    assert -1 < low < 10 < 30 < high
    assert scales.kinds([panel(line("rpdi", [1.0]), line("apdi, evenly", [9.0]))]) == ["log"]


def test_limits_by_hand() -> None:
    compared = line("greedy", [20.0, 30.0]), line("dqn", [22.0, 22.0])
    shown = panel(*compared, line("rpdi", [34.0, 36.0]), line("apdi", [14.0, 1200.0]))
    # compared: 20 to 30; baselines count from 15 to 35
    assert scales.limits(shown, "linear") == pytest.approx((20 - 0.84, 34 + 0.84))
    assert [each.text for each in scales.notes(shown, Limits(19.16, 34.84))] == [
        "↑ rpdi: 36 s at 1 of 2 points, off the scale",
        "↑ apdi: 1,200 s at 1 of 2 points, off the scale",
        "↓ apdi: 14 s at 1 of 2 points, off the scale",
    ]
    gone = panel(*compared, line("apdi", [1200.0, 1300.0]))
    (note,) = scales.notes(gone, scales.limits(gone, "linear"))
    assert note == ("apdi", "↑ apdi: 1,200 to 1,300 s, off the scale")


def test_limits_of_intervals() -> None:
    wide = scales.limits(panel(line("greedy", [20.0, 30.0], 100.0)), "linear")
    assert wide == pytest.approx((15 - 1.2, 35 + 1.2))  # half the range of the means, and a margin
    assert scales.limits(panel(line("greedy", [1.0, 9.0], 3.0)), "linear").low == 0
    assert scales.limits(panel(line("greedy", [-1.0, -9.0], 3.0)), "linear").high == 0
    low, high = scales.limits(panel(line("greedy", [100.0, 100.0])), "linear")
    assert (low, high) == pytest.approx((97.2, 102.8))  # equal means: 5% of them
    assert scales.limits(panel(line("greedy", [0.0, 4.0], 1.0)), "linear").low < 0  # a 0 is seen


def test_limits_of_log_axis() -> None:
    shown = panel(line("greedy", [1.0, 1.0], 1.5), line("dqn", [100.0, 100.0], 1.5))
    low, high = scales.limits(shown, "log")
    assert 0.5 < low < 1
    assert 100 < high < 200
    zero = panel(*shown.lines, line("apdi", [0.0, 0.0]))
    assert scales.limits(zero, "log") == (low, high)
    assert [each.text for each in scales.notes(zero, Limits(low, high))] == [
        "↓ apdi: 0 s, off the scale"
    ]
    losses = panel(line("greedy", [-1.0]), line("dqn", [-100.0]), y_label="reward")
    low, high = scales.limits(losses, "negative log")
    assert low < -100 < -1 < high < 0


def test_limits_of_learning_curves() -> None:
    learns = curve("dqn", [-1e6, *[-20.0] * 9], [-1e6, *[-24.0] * 9])
    shown = panel(learns, line("greedy", [-26.0, -26.0], x=[0, 9]), y_label="reward", curves=True)
    low, high = scales.limits(shown, "linear")
    assert -30 < low < -26
    assert -22 < high < 0
    assert scales.notes(shown, Limits(low, high)) == []  # its beginning needs no note
    lost = panel(*shown.lines, line("apdi", [-1e5, -1e5], x=[0, 9]), y_label="reward", curves=True)
    (note,) = scales.notes(lost, scales.limits(lost, "linear"))
    assert note.text == "↓ apdi: -100,000, off the scale"


def test_band_is_mean_and_standard_deviation() -> None:
    low, high = scales.band(curve("dqn", [1.0, 2.0], [3.0, 2.0]))
    assert low == pytest.approx([2 - 2**0.5, 2])
    assert high == pytest.approx([2 + 2**0.5, 2])
    assert scales.band(curve("dqn", [1.0]))[0] == [1]


def test_claims_are_on_the_axis_or_noted() -> None:
    lines = line("greedy", [20.0, 30.0])
    near, far = Mark("greedy", y=33.0), Mark("greedy", y=99.0)
    assert scales.limits(panel(lines, marks=[near]), "linear").high > 33
    shown = panel(lines, marks=[far])
    (note,) = scales.notes(shown, scales.limits(shown, "linear"))
    assert note.text == "↑ greedy, claimed: 99 s, off the scale"


# Pictures ------------------------------------------------------------------------------------


def test_positions() -> None:
    assert positions([2, 9, 2]) == ({2: 2.0, 9: 9.0}, [])
    assert positions(["0.8 MB/s", "2 MB/s"])[0] == {"0.8 MB/s": 0.8, "2 MB/s": 2.0}
    assert positions(["800 kB/s", "2 MB/s"])[1] == ["800 kB/s", "2 MB/s"]
    assert positions(["nin", "vgg16"]) == ({"nin": 0, "vgg16": 1}, ["nin", "vgg16"])


def test_draw_is_deterministic(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = panel(line("greedy", [1.0, 20.0], 0.5), line("dqn", [9.0, 1.0], 0.5))
    one, other = (plots.draw([shown], tmp_path / name / "f") for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    text = one[1].read_text(encoding="utf-8")
    for words in ("log scale", "greedy", "95% intervals", "total delay (s)"):
        assert words in text
    assert "standard deviation" not in text


def drawn(*panels: Panel) -> list[Any]:
    """The axes of a figure with these panels."""
    pytest.importorskip("matplotlib")
    return list(plots.make_figure(panels).axes)


def test_categories_are_not_joined() -> None:
    settings = panel(line("greedy", [1.0, 2.0], 0.1, ["fading", "bursts"]),
                     line("dqn", [1.0, 3.0], 0.1, ["fading", "bursts"]))  # fmt: skip
    (axes,) = drawn(settings)
    points = [
        each for each in axes.lines if len(each.get_xdata()) == 2 and each.get_marker() in "D^"
    ]
    assert [each.get_linestyle() for each in points] == ["None", "None"]
    assert [each.get_text() for each in axes.get_xticklabels()] == ["fading", "bursts"]
    left, right = (each.get_xdata()[0] for each in points)
    assert -0.5 < left < right < 0.5  # side by side
    (axes,) = drawn(panel(line("greedy", [1.0, 2.0])))
    assert axes.lines[0].get_linestyle() == "--"


def test_ticks_are_the_values() -> None:
    (axes,) = drawn(panel(line("greedy", [1.0, 2.0], x=[3, 18])))
    assert [each.get_text() for each in axes.get_xticklabels()] == ["3", "18"]
    (axes,) = drawn(panel(line("greedy", [1.0, 2.0], x=[0.02, 0.5])))
    assert [each.get_text() for each in axes.get_xticklabels()] == ["0.02", "0.5"]


@pytest.mark.parametrize("kind", ["linear", "log"])
def test_intervals_end_at_the_edge_of_the_axis(kind: str) -> None:
    factor = 9.0 if kind == "log" else 2.0
    (axes,) = drawn(panel(line("greedy", [1.0, 1.0], 50.0), line("dqn", [factor, factor], 50.0)))
    assert axes.get_yscale() == kind
    low, high = axes.get_ylim()
    assert all(low <= y <= high for each in axes.lines for y in each.get_ydata())
    at_floor = {each.get_marker() for each in axes.lines if each.get_ydata()[0] == low}
    assert 7 in at_floor  # an arrowhead in place of a cap
    assert "_" not in at_floor


def test_off_the_scale_is_written_in_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = panel(line("greedy", [20.0, 30.0]), line("dqn", [20.0, 30.0]),
                  line("apdi", [1200.0, 1200.0]))  # fmt: skip
    _, svg = plots.draw([shown], tmp_path / "f")
    assert "↑ apdi: 1,200 s, off the scale" in svg.read_text(encoding="utf-8")


def test_picture_of_learning_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trainings = [[-30.0, -20.0 - each, -20.0] for each in range(10)]
    shown = panel(curve("dqn", *trainings), line("greedy", [-22.0, -22.0], x=[0, 2]),
                  y_label="reward", curves=True)  # fmt: skip
    (axes,) = drawn(shown)
    thin = [each for each in axes.lines if each.get_linewidth() < 1]
    assert len(thin) == 10
    (band,) = axes.collections
    assert max(each.get_zorder() for each in [*thin, band]) < axes.lines[0].get_zorder()
    _, svg = plots.draw([shown], tmp_path / "f")
    text = svg.read_text(encoding="utf-8")
    assert "mean ± standard deviation over trainings" in text
    assert "95% intervals" not in text


def test_marks_are_drawn_where_they_are_claimed() -> None:
    marks = [Mark("greedy", 2, 25.0, legend="one"), Mark("greedy", y=28.0, legend="two"),
             Mark("greedy", x=1, text="here", legend="three"), Mark("greedy", 2, 99.0)]  # fmt: skip
    (axes,) = drawn(panel(line("greedy", [20.0, 30.0]), marks=marks))
    found = [each for each in axes.lines if each.get_markeredgecolor() == "black"]
    assert [(each.get_xdata()[0], each.get_ydata()[0]) for each in found] == [
        (2, 25), (1, 28), (1, 0),  # at the right edge, at the lower edge; the last is off the scale
    ]  # fmt: skip
    assert [each.get_marker() for each in found] == [4, 4, "^"]
    assert "here" in [each.get_text() for each in axes.texts]


def test_rows_of_figure() -> None:
    one, extra = panel(line("greedy", [1.0])), panel(line("greedy", [1.0]), extra=True)
    sizes = [[len(row) for row in layout.rows_of(panels, 3)] for panels in (
        [one], [one] * 3, [one] * 4, [one] * 5, [one, *[extra] * 4], [*[one] * 3, *[extra] * 5],
    )]  # fmt: skip
    assert sizes == [[1], [3], [4], [3, 2], [1, 4], [3, 3, 2]]


def test_legends() -> None:
    """A label of one panel of several is in the legend below it, and shipped ones in the shared."""
    pytest.importorskip("matplotlib")
    panels = [panel(line(each, [1.0, 2.0]), line("greedy", [1.0, 2.0])) for each in ("a1", "b1")]
    figure = plots.make_figure([*panels, panel(line("dqn", [1.0, 2.0]))])
    own = [axes.get_legend() for axes in figure.axes]
    assert [each and [text.get_text() for text in each.texts] for each in own] == [
        ["a1"], ["b1"], None,
    ]  # fmt: skip
    assert [text.get_text() for text in figure.legends[0].texts] == ["greedy", "dqn"]
