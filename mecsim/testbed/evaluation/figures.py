"""Figures of an evaluation: means and p95, distributions, and the ranking of schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mecsim.simulation.metrics import QUANTILES
from mecsim.study import plots
from mecsim.study.panel import Line, Panel
from mecsim.testbed.evaluation.held_out import HeldOut
from mecsim.testbed.evaluation.ranking import Ranked

MEASURED: Final = "measured"
_MS: Final = 1000.0


def draw_figures(folder: Path, found: Sequence[HeldOut], ranking: Ranked | None) -> None:
    """Write the figures of what there is. Raises ``InputError`` without matplotlib."""
    plots.need_matplotlib()
    if found:
        panels = [statistic_panel(found, name) for name in ("mean", "p95")]
        plots.draw(panels, folder / "predicted", heading="Held-out tasks of measured runs")
        plots.draw([distribution_panel(each) for each in found], folder / "distributions",
                   heading="Total delay of the held-out tasks")  # fmt: skip
    if ranking is not None:
        plots.draw([ranking_panel(ranking)], folder / "ranking")


def statistic_panel(found: Sequence[HeldOut], statistic: str) -> Panel:
    """Return a statistic of the total delay of every run, measured and predicted, as bars."""
    names = [each.run.name for each in found]
    measured = [getattr(each.any.total, statistic).measured for each in found]
    lines = [_line(MEASURED, names, measured)]
    for kind in found[0].predictions:
        of_runs = [getattr(each.predictions[kind].total, statistic).predicted for each in found]
        lines.append(_line(f"predicted, {kind}", names, of_runs))
    return Panel(lines, "", f"{statistic} of the total delay (ms)", bars=True)


def _line(label: str, names: Sequence[str], seconds: Sequence[float]) -> Line:
    none = [None] * len(names)
    return Line(label, names, [_MS * each for each in seconds], none, none)


def distribution_panel(found: HeldOut) -> Panel:
    """Return the distributions of the total delay of a run, measured and predicted."""
    none = [None] * len(QUANTILES)
    quantiles = {MEASURED: found.any.total.measured_quantiles_s} | {
        f"predicted, {kind}": each.total.predicted_quantiles_s
        for kind, each in found.predictions.items()
    }
    lines = [
        Line(label, [_MS * each for each in seconds], QUANTILES, none, none)
        for label, seconds in quantiles.items()
    ]
    title, label = found.run.name, "total delay (ms)"
    return Panel(lines, label, "share of held-out tasks", title, distribution="cdf")


def ranking_panel(found: Ranked) -> Panel:
    """Return the mean delays of the schedulers with 95% intervals, in the measured order."""
    order = found.order(MEASURED)
    lines = []
    for source in found.delays:
        chosen = [found.estimate(source, name) for name in order]
        low = [None if each.low is None else _MS * each.low for each in chosen]
        high = [None if each.high is None else _MS * each.high for each in chosen]
        lines.append(Line(source, order, [_MS * each.mean for each in chosen], low, high))
    return Panel(lines, "", "mean total delay (ms)", bars=True)
