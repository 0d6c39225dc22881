"""The figure of a training: what its lines show, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import InputError
from mecsim.learning.learning_curve import read_curve, write_curve
from mecsim.study.training_figure import draw_training, training_panel


def trained(folder: Path, **more: Any) -> dict[str, Any]:
    rows = [{"episode": 0.0, "validation_reward": -5e5}]
    rows += [{"episode": n + 1.0, "training_reward": -100.0 - n % 2} for n in range(40)]
    rows += [{"episode": 40.0, "validation_reward": -90.0}]
    write_curve(folder / "p.curve.h5", rows, {})
    return trained_at(folder) | more


def trained_at(folder: Path) -> dict[str, Any]:
    named = {"scheduler": "dqn", "scenario": "tiny", "seed": 3}
    return named | {"curve_file": str(folder / "p.curve.h5")}


def test_the_lines_of_a_training(tmp_path: Path) -> None:
    panel = training_panel(trained(tmp_path, prolonged=[20]))
    validation, training = panel.lines
    assert (list(validation.x), list(validation.y)) == ([40.0], [-90.0])
    assert training.label == "dqn, training: mean of 2 iterations"
    assert list(training.x) == [n + 1.0 for n in range(40)]
    assert list(training.y[:3]) == [-100.0, -100.5, -100.5]
    assert panel.remarks == ["not shown, validation seeds: 1 of 2 points, to -500,000 s"]
    assert (panel.title, panel.x_label) == ("dqn on tiny, seed 3", "episode")
    assert panel.y_unit == "s"
    assert [mark.x for mark in panel.marks] == [20.0]


def test_evaluations_are_drawn_also_where_training_rewards_are_partial(tmp_path: Path) -> None:
    rows = [{"episode": float(n), "validation_reward": -700.0 + 50 * n} for n in range(4)]
    rows += [{"episode": 4.0, "training_reward": -5.0}, {"episode": 5.0, "training_reward": -9e4}]
    write_curve(tmp_path / "p.curve.h5", rows, {})
    validation, training = training_panel(trained_at(tmp_path)).lines
    assert list(validation.y) == [-700.0, -650.0, -600.0, -550.0]
    assert list(training.y) == [-5.0]


def test_the_files_are_named_as_the_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = draw_training(trained(tmp_path))
    assert [path.name for path in files] == ["p.curve.png", "p.curve.svg"]
    assert "mean of 2 iterations" in files[1].read_text(encoding="utf-8")


def test_a_file_that_is_no_curve_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.h5").write_text("no", encoding="utf-8")
    with pytest.raises(InputError, match=r"p\.h5: is not a learning curve of mecsim"):
        read_curve(tmp_path / "p.h5")
