"""When a claim holds: one rule per kind of claim, as pure functions of the measurements.

A change or difference is *shown* if its 95% interval is on one side of zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np

from mecsim.study import statistics
from mecsim.study.statistics import Estimate, Ratio
from mecsim.support.arrays import Floats

NEAR_PERCENT: Final = 5.0
"""A value holds if it is off by at most this much."""
FAR_PERCENT: Final = 25.0
"""A value has the right size if it is off by at most this much."""
SLIGHTLY_PERCENT: Final = 25.0
"""A change from end to end by less than this is slight."""
MOST_PERCENT: Final = 1000.0
"""A larger increase is written as a factor."""


NOTHING: Final = "–"
"""The measurement of a claim without one."""


class Verdict(StrEnum):
    """The verdict on a claim, from best to worst."""

    HOLDS = "holds"
    DIRECTION = "holds in direction only"
    NOT = "does not hold"
    INCOMPARABLE = "cannot be compared"


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim, the measurement, and the reason where one is needed."""

    verdict: Verdict
    measured: str
    reason: str = ""

    @property
    def text(self) -> str:
        """The measurement, or the reason why there is none."""
        return self.measured if self.measured != NOTHING else self.reason


def worst(findings: Sequence[Finding]) -> Finding:
    """Return findings as one: a claim of several parts has the verdict of its worst part."""
    order = list(Verdict)
    verdict = max((each.verdict for each in findings), key=order.index)
    reasons = dict.fromkeys(each.reason for each in findings if each.verdict == verdict)
    measured = "; ".join(each.measured for each in findings)
    return Finding(verdict, measured, "; ".join(filter(None, reasons)))


def improvement_verdict(measured: Ratio, claimed: float, where: str = "") -> Finding:
    """Judge a reduction by a percentage.

    Holds: the reduction is shown, and its interval reaches the claimed percentage. In direction
    only: it is shown, but smaller. Otherwise it does not hold.
    """
    text = f"{where}{percent_text(measured)}"
    if measured.low is None or measured.high is None:
        return Finding(Verdict.INCOMPARABLE, text, "one seed gives no interval")
    if measured.low <= 0:
        what = "negative" if measured.high < 0 else "not significant"
        return Finding(Verdict.NOT, text, f"{where}the reduction is {what}")
    if measured.high < claimed:
        reason = f"{where}less than the {claimed:g}% claimed"
        return Finding(Verdict.DIRECTION, text, reason)
    more = f"{where}more than the {claimed:g}% claimed" if measured.low > claimed else ""
    return Finding(Verdict.HOLDS, text, more)


def order_verdict(pairs: Iterable[tuple[str, str, Ratio]]) -> Finding:
    """Judge that in each pair the first is better than the second.

    Holds: all differences are shown. In direction only: all means are in this order. Differences
    are reductions in percent.
    """
    findings = []
    for better, other, ratio in pairs:
        text = _order_text(better, other, ratio)
        if ratio.percent <= 0:
            found = Finding(Verdict.NOT, text, f"{other} is ahead of {better}")
        elif ratio.low is None or ratio.low <= 0:
            reason = f"{better} and {other} do not differ significantly"
            found = Finding(Verdict.DIRECTION, text, reason)
        else:
            found = Finding(Verdict.HOLDS, text)
        findings.append(found)
    return worst(findings)


def value_verdict(measured: Estimate, claimed: float) -> Finding:
    """Judge a number: holds if the interval contains it or it is off by at most 5%.

    In direction only: it is off by at most 25%.
    """
    text = _estimate(measured)
    off = abs(measured.mean / claimed - 1) * 100
    inside = None not in measured and measured.low <= claimed <= measured.high  # type: ignore[operator]
    if inside or off <= NEAR_PERCENT:
        return Finding(Verdict.HOLDS, text)
    reason = f"off by {off:.0f}% from {claimed:g}"
    return Finding(Verdict.DIRECTION if off <= FAR_PERCENT else Verdict.NOT, text, reason)


def trend_verdict(
    shape: str,
    places: Sequence[str],
    samples: Sequence[Floats],
    best: str | None = None,
    lowest: str | None = None,
) -> Finding:
    """Judge how a quantity changes along places.

    Args:
        shape: One of :data:`SHAPES`.
        places: Names of the places, in order.
        samples: A sample (T, E) at each place, of the same seeds.
        best: The place where the quantity is claimed to be highest, or lowest if the shape is
            falling or rising. If it is elsewhere, the claim holds in direction only; if it is none
            of the places, the claim cannot be compared.
        lowest: As ``best``, where the quantity is claimed to be lowest. The shape is claimed from
            there on.

    Raises:
        KeyError: The shape is unknown.
    """
    means = [float(sample.mean()) for sample in samples]
    text = ", ".join(f"{_short(mean)} at {p}" for mean, p in zip(means, places, strict=True))
    claimed = best or lowest
    if claimed is not None and claimed not in places:
        return Finding(Verdict.INCOMPARABLE, text, f"not run at {claimed}")
    begin = 0 if lowest is None else places.index(lowest)
    found = replace(SHAPES[shape](samples[begin:]), measured=text)
    if claimed is None or found.verdict is not Verdict.HOLDS:
        return found
    least = lowest is not None or shape in ("falling", "rising")
    top = places[int(np.argmin(means) if least else np.argmax(means))]
    if top == claimed:
        return found
    kind = "lowest" if least else "highest"
    return Finding(Verdict.DIRECTION, text, f"{kind} at {top}, not at {claimed}")


def _falling(samples: Sequence[Floats]) -> Finding:
    """Holds: first to last is a shown fall, and no step in between a shown rise.

    In direction only: the last mean is below the first.
    """
    whole = statistics.paired(samples[-1], samples[0])
    rises = [
        place
        for place in range(1, len(samples))
        if _sign(statistics.paired(samples[place], samples[place - 1])) > 0
    ]
    if whole.mean >= 0:
        moved = "rises" if _sign(whole) > 0 else "does not fall"
        return Finding(Verdict.NOT, "", f"{moved} from end to end")
    if _sign(whole) == 0:
        return Finding(Verdict.DIRECTION, "", "the change from end to end is not significant")
    if rises:
        return Finding(Verdict.DIRECTION, "", f"rises in {len(rises)} of {len(samples) - 1} steps")
    return Finding(Verdict.HOLDS, "")


def _rising(samples: Sequence[Floats]) -> Finding:
    """As falling, with the opposite sign."""
    found = _falling([-sample for sample in samples])
    swapped = found.reason.replace("does not fall", "does not rise")
    if swapped.startswith("rises"):
        swapped = swapped.replace("rises", "falls", 1)
    return replace(found, reason=swapped)


def _rising_slightly(samples: Sequence[Floats]) -> Finding:
    """Rising, and by less than 25% from end to end; in direction only if by more."""
    found = _rising(samples)
    change = 100 * (float(samples[-1].mean() / samples[0].mean()) - 1)
    if found.verdict is Verdict.HOLDS and change >= SLIGHTLY_PERCENT:
        return Finding(Verdict.DIRECTION, "", f"rises by {change:.0f}%")
    return found


def _falls_then_rises(samples: Sequence[Floats]) -> Finding:
    """Holds: the lowest mean is inside, and is shown to be below both ends.

    In direction only: it is inside.
    """
    low = int(np.argmin([sample.mean() for sample in samples]))
    if low in (0, len(samples) - 1):
        return Finding(Verdict.NOT, "", "the lowest is at an end")
    shown = [_sign(statistics.paired(samples[low], samples[end])) < 0 for end in (0, -1)]
    if all(shown):
        return Finding(Verdict.HOLDS, "")
    return Finding(Verdict.DIRECTION, "", "the dip is not significant")


def _rises_then_flat(samples: Sequence[Floats]) -> Finding:
    """Holds: first to last is a shown rise, and the last step is shown to be at most 5%.

    In direction only: the last mean is above the first. (That no change is shown in the last step
    is no evidence of flatness: few trainings show no change.)
    """
    whole = statistics.paired(samples[-1], samples[0])
    last = statistics.paired(samples[-1], samples[-2])
    if whole.mean <= 0:
        return Finding(Verdict.NOT, "", "does not rise from end to end")
    if _sign(whole) == 0:
        return Finding(Verdict.DIRECTION, "", "the rise is not significant")
    if not _within(last, samples[-2]):
        moved = "rise" if last.mean > 0 else "fall"
        return Finding(Verdict.DIRECTION, "", f"the last step may be a {moved} of more than 5%")
    return Finding(Verdict.HOLDS, "")


def _flat(samples: Sequence[Floats]) -> Finding:
    """Holds: the change from first to last is shown to be at most 5%.

    In direction only: no change is shown, or one of at most 5%.
    """
    whole = statistics.paired(samples[-1], samples[0])
    level = abs(float(samples[0].mean()))
    if _within(whole, samples[0]):
        return Finding(Verdict.HOLDS, "")
    if _sign(whole) == 0:
        return Finding(Verdict.DIRECTION, "", "neither a change nor its absence is significant")
    change = abs(100 * whole.mean / level)
    verdict = Verdict.DIRECTION if change <= NEAR_PERCENT else Verdict.NOT
    return Finding(verdict, "", f"changes by {change:.1f}%")


def _within(change: Estimate, level: Floats) -> bool:
    """Whether a change is shown to be at most 5% of the mean of a sample."""
    ends = [abs(end) for end in (change.low, change.high) if end is not None]
    return bool(ends) and max(ends) <= NEAR_PERCENT / 100 * abs(float(level.mean()))


SHAPES: Final[dict[str, Callable[[Sequence[Floats]], Finding]]] = {
    "falling": _falling,
    "rising": _rising,
    "rising slightly": _rising_slightly,
    "falls then rises": _falls_then_rises,
    "rises then flat": _rises_then_flat,
    "flat": _flat,
}


def _sign(change: Estimate) -> int:
    """Return 1 for a shown rise, -1 for a shown fall, 0 if neither is significant."""
    if change.low is None or change.high is None:
        return 0
    return (change.low > 0) - (change.high < 0)


def _order_text(better: str, other: str, ratio: Ratio) -> str:
    if _many_times(ratio):
        return f"{better} at {percent_text(ratio)} of {other}"
    return f"{better} better than {other} by {percent_text(ratio)}"


def _many_times(ratio: Ratio) -> bool:
    return ratio.percent <= -MOST_PERCENT


def percent_text(ratio: Ratio) -> str:
    """Return a percentage with its interval; a factor where the other's mean is near zero.

    >>> percent_text(Ratio(5.0, 4.0, 6.0))
    '5.0% [4.0, 6.0]'
    >>> percent_text(Ratio(-1900.0, -2000.0, -1800.0))
    '×20 [19, 21]'
    """
    if _many_times(ratio):
        times = [None if end is None else f"{1 - end / 100:,.0f}" for end in ratio]
        return f"×{times[0]}" if None in times else f"×{times[0]} [{times[2]}, {times[1]}]"
    interval = "" if ratio.low is None else f" [{ratio.low:.1f}, {ratio.high:.1f}]"
    return f"{ratio.percent:.1f}%{interval}"


def _estimate(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _short(estimate.mean)
    return f"{_short(estimate.mean)} [{_short(estimate.low)}, {_short(estimate.high)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
