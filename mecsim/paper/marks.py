"""The claims of the paper that speak of a point, as marks in the panels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mecsim.paper.claims import PROPOSED, AnyClaim, Improvement, Trend, Value
from mecsim.study.panel import Line, Mark

IMPROVEMENT: Final = (
    f"claimed by the paper for {PROPOSED}, relative to the mean of the scheduler in this colour"
)
LEVEL: Final = "claimed by the paper: final reward"
CONVERGENCE: Final = "claimed by the paper: begins to converge"
SMALLEST: Final = "claimed by the paper: smallest gap to the baselines"


def marks(
    claims: Iterable[AnyClaim], place: str, metric: str, lines: Sequence[Line], *, curves: bool
) -> list[Mark]:
    """Return the marks of the claims about a panel.

    Args:
        claims: The claims of the paper.
        place: Figure and study of the panel, as ``fig8.servers``.
        metric: The metric of the panel; ``reward`` for learning curves.
        lines: The lines of the panel.
        curves: Whether they are learning curves.

    Returns:
        A level or an episode for each claimed value; what a claimed improvement makes of the mean
        of another scheduler; the place where a gap is claimed to be smallest.
        Nothing for points and schedulers that the panel lacks.
    """
    by_label = {line.label: line for line in lines}
    found: list[Mark] = []
    for claim in claims:
        if place not in claim.where:
            continue
        if isinstance(claim, Value) and curves and claim.scheduler in by_label:
            found += _value(claim, by_label[claim.scheduler])
        elif isinstance(claim, Improvement) and claim.metric == metric and not curves:
            found += _improvement(claim, by_label)
        elif isinstance(claim, Trend) and claim.metric == metric and not curves:
            found += _smallest_gap(claim, by_label)
    return found


def _value(claim: Value, line: Line) -> list[Mark]:
    if claim.metric == "reward":
        return [Mark(claim.scheduler, y=claim.value, legend=LEVEL)]
    if claim.metric == "episodes_to_converge" and claim.value <= max(line.x):
        return [Mark(claim.scheduler, x=claim.value, legend=CONVERGENCE)]
    return []


def _improvement(claim: Improvement, by_label: dict[str, Line]) -> list[Mark]:
    if len(claim.over) != 1 or claim.over[0] not in by_label:
        return []
    line = by_label[claim.over[0]]
    means = dict(zip(line.x, line.y, strict=True))
    return [
        Mark(line.label, x, mean * (1 - percent / 100), legend=IMPROVEMENT)
        for point, percent in zip(claim.at, claim.percent, strict=False)
        for x in point.values()
        if (mean := means.get(x))  # a percentage of 0 is no claim
    ]


def _smallest_gap(claim: Trend, by_label: dict[str, Line]) -> list[Mark]:
    if not claim.gap_to or claim.lowest is None or PROPOSED not in by_label:
        return []
    places = [x for x in by_label[PROPOSED].x if str(x) == claim.lowest]
    return [Mark(PROPOSED, x, text="claimed: smallest gap", legend=SMALLEST) for x in places]
