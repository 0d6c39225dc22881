"""The figure of one training: its learning curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from mecsim.learning.learning_curve import read_curve
from mecsim.study.panel import Line, Mark, Panel
from mecsim.study.plots import draw
from mecsim.support.arrays import Floats
from mecsim.support.text import number

SMOOTHED: Final = 20
"""A point of the smoothed curve is the mean of one iteration in this many."""
VALIDATION: Final = "validation seeds"
FAR: Final = 10.0
"""Rewards below the best evaluation by a larger factor are not drawn: they would flatten the
rest."""


def draw_training(summary: Mapping[str, Any]) -> list[Path]:
    """Draw the learning curve of a training next to its policy, as PNG and SVG.

    Args:
        summary: The summary that :func:`mecsim.learning.training.train` returned.

    Returns:
        The files, named as the learning curve.

    Raises:
        OutputError: A file cannot be written.
    """
    return draw([training_panel(summary)], Path(summary["curve_file"]).with_suffix(""))


def training_panel(summary: Mapping[str, Any]) -> Panel:
    """Return the smoothed reward during training and that of the evaluations, by episodes."""
    columns = read_curve(Path(summary["curve_file"]))
    title = f"{summary['scheduler']} on {summary['scenario']}, seed {summary['seed']}"
    evaluated = _known(columns, "validation_reward")
    episodes, rewards = _known(columns, "training_reward")
    window = max(1, len(rewards) // SMOOTHED)
    trained = episodes, smoothed(rewards, window)
    best = next(each.max() for _, each in (evaluated, trained) if len(each))
    name = f"{summary['scheduler']}, training" + (
        f": mean of {window} iterations" if window > 1 else ""
    )
    lines, remarks = [], []
    for label, (x, y) in {VALIDATION: evaluated, name: trained}.items():
        near = y >= FAR * best  # rewards are never positive
        lines.append(_line(label, x[near], y[near]))
        if not near.all():
            remarks.append(
                f"not shown, {label}: {(~near).sum()} of {len(y)} points, to {number(y.min())} s"
            )
    prolonged = [
        Mark(VALIDATION, float(x), legend="prolonged from here")
        for x in summary.get("prolonged", ())
    ]
    lines = [each for each in lines if each.x]
    return Panel(
        lines, "episode", "reward of a run (s)", title,
        curves=True, marks=prolonged, remarks=remarks,
    )  # fmt: skip


def smoothed(values: Floats, window: int) -> Floats:
    """Return the mean of each value and the ``window`` − 1 before it, fewer at the beginning.

    >>> smoothed(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [1.0, 2.0, 4.0]
    """
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _known(columns: Mapping[str, Floats], name: str) -> tuple[Floats, Floats]:
    """Return the episodes and the values of the rows that have a measure."""
    values = columns.get(name, np.full(len(columns["episode"]), np.nan))
    known = np.isfinite(values)
    return columns["episode"][known], values[known]


def _line(label: str, x: Floats, y: Floats) -> Line:
    nothing = [None] * len(y)
    return Line(label, x.tolist(), y.tolist(), nothing, nothing)
