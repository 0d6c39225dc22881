"""Judge each claim by the results, with the rule for its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from mecsim.paper.claims import (
    DEFAULT,
    PROPOSED,
    AnyClaim,
    Improvement,
    Order,
    Trend,
    Value,
    load_claims,
)
from mecsim.paper.evidence import Evidence, MissingError
from mecsim.paper.verdicts import (
    NOTHING,
    Finding,
    Verdict,
    improvement_verdict,
    order_verdict,
    percent_text,
    trend_verdict,
    value_verdict,
    worst,
)
from mecsim.study import statistics
from mecsim.study.statistics import Ratio
from mecsim.support.arrays import Floats

FITTED: Final = "the scenario was fitted to this number, so it is no test"


def judge_all(evidence: Evidence) -> list[tuple[AnyClaim, Finding]]:
    """Return each claim about the figures of the evidence with its finding."""
    about = [claim for claim in load_claims() if evidence.rows.keys() & set(claim.where)]
    return [(claim, judge(claim, evidence)) for claim in about]


def judge(claim: AnyClaim, evidence: Evidence) -> Finding:
    """Return the finding for a claim; its reason says whether the scenario was fitted to it."""
    found = _judged(claim, evidence)
    reasons = [found.reason, FITTED if claim.fitted else ""]
    return replace(found, reason="; ".join(filter(None, reasons)))


def _judged(claim: AnyClaim, evidence: Evidence) -> Finding:
    try:
        match claim:
            case Improvement():
                return _judge_improvement(claim, evidence)
            case Order():
                return _judge_order(claim, evidence)
            case Trend():
                return _judge_trend(claim, evidence)
            case Value():
                return _judge_value(claim, evidence)
    except MissingError as error:
        return Finding(Verdict.INCOMPARABLE, NOTHING, str(error))


def _judge_improvement(claim: Improvement, evidence: Evidence) -> Finding:
    if not claim.at:
        return _judge_mean_improvement(claim, evidence)
    findings, undefined = [], []
    for point, percent in zip(claim.at, claim.percent, strict=True):
        proposed, *others = evidence.samples(
            claim.where[0], claim.metric, (PROPOSED, *claim.over), point, DEFAULT
        )
        measured = statistics.improvement(proposed, _mean(others))
        where = f"at {', '.join(str(value) for value in point.values())}: "
        if measured is None:
            undefined.append(f"{where}no percentage of {', '.join(claim.over)}, which is 0")
        else:
            findings.append(improvement_verdict(measured, percent, where))
    if not findings:
        raise MissingError(f"{claim.metric} is zero in {', '.join(claim.where)}")
    found = worst(findings)
    return replace(found, measured="; ".join([found.measured, *undefined]))


def _judge_mean_improvement(claim: Improvement, evidence: Evidence) -> Finding:
    """Judge the mean over all points and baselines; the text also has each baseline alone."""
    over = [claim.over, *((each,) for each in claim.over if len(claim.over) > 1)]
    ratios = [_pooled(evidence, claim.where, claim.metric, (PROPOSED, *some)) for some in over]
    found = improvement_verdict(ratios[0], claim.percent[0])
    parts = [f"{percent_text(r)} against {some[0]}" for r, some in zip(ratios, over, strict=True)]
    apart = f" ({', '.join(parts[1:])})" if parts[1:] else ""
    return replace(found, measured=found.measured + apart)


def _mean(samples: Sequence[Floats]) -> Floats:
    """Return the mean of samples, shape (T, E) or (1, E)."""
    return np.mean(np.broadcast_arrays(*samples), axis=0)


def _pooled(
    evidence: Evidence, where: Sequence[str], name: str, competitors: Sequence[str]
) -> Ratio:
    """Return the reduction of the first against the mean of the others, over all points.

    Points have equal weight: numbers are in units of the others' mean at their point.
    """
    sums: list[Floats] = []
    for place in where:
        for point in evidence.points(place) or [{}]:
            first, *others = evidence.samples(place, name, competitors, point, DEFAULT)
            baseline = _mean(others)
            scale = abs(float(baseline.mean())) or 1.0
            sums.append(np.stack(np.broadcast_arrays(first, baseline)) / scale)
    if len({each.shape for each in sums}) > 1:
        raise MissingError(f"some runs in {', '.join(where)} failed")
    total = np.mean(sums, axis=0)
    ratio = statistics.improvement(total[0], total[1])
    if ratio is None:
        raise MissingError(f"{name} is zero in {', '.join(where)}")
    return ratio


def _judge_order(claim: Order, evidence: Evidence) -> Finding:
    if claim.among == "scheduler":
        return order_verdict(
            (*pair, _pooled(evidence, claim.where, claim.metric, pair)) for pair in claim.pairs
        )
    return order_verdict((*pair, _scenarios(claim, evidence, pair)) for pair in claim.pairs)


def _scenarios(claim: Order, evidence: Evidence, pair: tuple[str, str]) -> Ratio:
    """Return the reduction of the first scenario against the second, over all points."""
    (where,) = claim.where
    points = evidence.points(where)
    found = [
        [evidence.samples(where, claim.metric, (PROPOSED,), point, each)[0] for point in points]
        for each in pair
    ]
    if not points or len({sample.shape for samples in found for sample in samples}) > 1:
        raise MissingError(f"{' or '.join(pair)} in {where}")
    ratio = statistics.improvement(np.mean(found[0], axis=0), np.mean(found[1], axis=0))
    if ratio is None:
        raise MissingError(f"{claim.metric} is zero in {where}")
    return ratio


def _judge_trend(claim: Trend, evidence: Evidence) -> Finding:
    (where,) = claim.where
    if claim.along == "schedulers":
        samples = evidence.samples(where, claim.metric, claim.schedulers, {}, DEFAULT)
        return trend_verdict(claim.shape, claim.schedulers, samples, claim.best)
    if claim.along == "episodes":
        return worst([_along_episodes(claim, evidence, each) for each in claim.schedulers])
    return worst(
        [
            _along_sweep(claim.model_copy(update=part), evidence, scheduler, scenario)
            for part in _parts(claim)
            for scheduler in claim.schedulers
            for scenario in claim.scenarios
        ]
    )


def _parts(claim: Trend) -> list[dict[str, Any]]:
    """Split a claim into one part per metric and baseline."""
    gaps: list[tuple[str, ...]] = [(each,) for each in claim.gap_to] or [()]
    metrics = (claim.metric, *claim.more_metrics)
    return [{"metric": name, "gap_to": gap} for name in metrics for gap in gaps]


def _along_episodes(claim: Trend, evidence: Evidence, scheduler: str) -> Finding:
    """Treat runs on successive seeds as episodes, and compare their first and second half."""
    (sample,) = evidence.samples(claim.where[0], claim.metric, (scheduler,), {}, DEFAULT)
    half = sample.shape[1] // 2
    if not half:
        raise MissingError(f"{scheduler}: one seed only in {claim.where[0]}")
    places = [f"the first half ({scheduler})", "the second"]
    return trend_verdict(claim.shape, places, [sample[:, :half], sample[:, -half:]])


def _along_sweep(claim: Trend, evidence: Evidence, scheduler: str, scenario: str) -> Finding:
    (where,) = claim.where
    points = evidence.points(where, scenario)
    if len(points) < 2:
        raise MissingError(f"{where}, {scenario}")
    samples = []
    for point in points:
        names = (scheduler, *claim.gap_to)
        own, *others = evidence.samples(where, claim.metric, names, point, scenario)
        samples.append(others[0] - own if others else own)
    if len({sample.shape for sample in samples}) > 1:
        raise MissingError(f"some runs of {scheduler} in {where} failed")
    places = [", ".join(str(value) for value in point.values()) for point in points]
    found = trend_verdict(claim.shape, places, samples, claim.best, claim.lowest)
    about = [*claim.gap_to, *([claim.metric] if claim.more_metrics else [])]
    about += [scenario] if scenario != DEFAULT else []
    return replace(found, measured=": ".join([*about, found.measured]))


def _judge_value(claim: Value, evidence: Evidence) -> Finding:
    (where,) = claim.where
    (sample,) = evidence.samples(where, claim.metric, (claim.scheduler,), {}, DEFAULT)
    return value_verdict(statistics.estimate(sample), claim.value)
