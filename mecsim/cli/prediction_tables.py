"""The tables of a predicted run next to the measured one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from mecsim.cli.display import plain_table
from mecsim.support.text import number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mecsim.testbed.prediction import Prediction
    from mecsim.testbed.scores import Pair, Score

MOST_RESOURCES: Final = 12
"""Resources in the table of utilizations, the busiest."""


def prediction_tables(found: Prediction) -> Iterator[RenderableType]:
    """Yield the tables and lines about a prediction."""
    run = f"{found.scheduler}, seed {found.seed}, predicted on {found.scenario}"
    yield Text.assemble((run, "bold"), f" ({found.kernel} kernel)")
    yield times_table(found)
    yield ""
    yield parts_table(found)
    yield ""
    yield utilization_table(found)
    yield ""
    yield from scored_lines(found)


def times_table(found: Prediction) -> Table:
    """Return mean, p50 and p95 of the totals, the classes and the parts."""
    head = ["time of a task", "measured (s)", "predicted (s)", "error (%)", "95% interval"]
    rows = [row for each in (found.total, *found.classes, *found.parts) for row in _rows(each)]
    return plain_table(head, rows)


def _rows(score: Score) -> Iterator[list[str]]:
    for name in ("mean", "p50", "p95"):
        shown = _interval(score.mean_error_ci95) if name == "mean" else ""
        yield [f"{score.name}, {name}", *_cells(getattr(score, name)), shown]


def parts_table(found: Prediction) -> Table:
    """Return waiting and service by part, and the errors of single tasks."""
    head = ["per task", "wait (s)\nmeasured", "\npredicted", "service (s)\nmeasured",
            "\npredicted", "\nerror (%)", "MAPE (%)\nof tasks", "\ntasks"]  # fmt: skip
    rows = [
        [each.name, *_cells(each.wait)[:2], *_cells(each.service), *_single(each)]
        for each in found.parts
    ]
    rows += [[each.name, *[""] * 5, *_single(each)] for each in (*found.classes, found.total)]
    return plain_table(head, rows)


def _single(score: Score) -> list[str]:
    return [percent(score.mape_percent), f"{score.tasks:,}"]


def utilization_table(found: Prediction) -> Table:
    """Return the utilization of the busiest resources."""
    rows = []
    for each in found.resources[:MOST_RESOURCES]:
        measured, predicted, error = (
            each.utilization.measured,
            each.utilization.predicted,
            each.utilization.error_percent,
        )
        rows.append([each.name, f"{measured:.1%}", f"{predicted:.1%}", percent(error, sign="+")])
    return plain_table(["utilization", "measured", "predicted", "error (%)"], rows)


def scored_lines(found: Prediction) -> Iterator[str]:
    """Yield which tasks are scored, and which are not."""
    window = f"released from {number(found.from_s)} s to {number(found.to_s)} s"
    yield f"scored: {found.scored:,} of {found.tasks:,} tasks, {window}"
    if found.calibrated_until_s is not None:
        until = number(found.calibrated_until_s)
        yield f"not scored: tasks released before {until} s, on which the scenario was calibrated"
    for what, failed in (
        ("measured", found.failed_measured),
        ("predicted", found.failed_predicted),
    ):
        if failed:
            causes = ", ".join(f"{count:,} {cause}" for cause, count in failed.items())
            yield f"not scored: tasks that failed in the {what} run: {causes}"


def _cells(pair: Pair) -> list[str]:
    return [number(pair.measured), number(pair.predicted), percent(pair.error_percent, sign="+")]


def percent(value: float | None, sign: str = "") -> str:
    """Return a number of percent with one digit, with its sign if ``sign`` is ``+``."""
    return "–" if value is None else f"{value:{sign}.1f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:+.1f} to {ends[1]:+.1f}"
