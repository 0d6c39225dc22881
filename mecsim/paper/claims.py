"""The paper's claims as data, and what the results say of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import Discriminator

from mecsim.paper.curves import episodes_to_converge, final_reward
from mecsim.paper.figure_files import read
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
from mecsim.scenario.schema import Section
from mecsim.study import statistics
from mecsim.study.plan import Point
from mecsim.study.statistics import Ratio
from mecsim.study.summary import Sample, metric
from mecsim.support.arrays import Floats

OURS: Final = "mtl-a3c"
"""The scheduler that the paper proposes."""
PAPER_SETTINGS: Final = "with the paper's settings and nothing of ours (beyond_plain)"
DEFAULT: Final = "vgg16_4es"
"""The scenario of all figures but the last."""


Shape: TypeAlias = Literal[
    "falling", "rising", "rising slightly", "falls then rises", "rises then flat", "flat"
]


class Claim(Section):
    """What all claims have."""

    id: str
    says: str
    """What the paper claims, in our words."""
    metric: str
    """A metric of runs, or of a training: final_reward, episodes_to_converge."""
    where: tuple[str, ...]
    """Figures and their studies, as ``fig8.servers``."""
    context: str = ""
    """What a reader should know."""
    alone: tuple[str, ...] = ()
    """The same studies with the paper's settings and nothing of ours, told besides."""


class Improvement(Claim):
    """The proposed scheduler reduces the metric by so many percent, relative to others."""

    kind: Literal["improvement"]
    over: tuple[str, ...]
    """The mean over these, if there are several."""
    at: tuple[dict[str, Any], ...] = ()
    """Points, each with its percentage; or none, for the mean over all points."""
    percent: tuple[float, ...]


class Order(Claim):
    """In each pair the first is better, over all points."""

    kind: Literal["order"]
    pairs: tuple[tuple[str, str], ...]
    among: Literal["scheduler", "scenario"] = "scheduler"


class Trend(Claim):
    """How a metric moves along a sweep, or along schedulers with different settings."""

    kind: Literal["trend"]
    shape: Shape
    more_metrics: tuple[str, ...] = ()
    """Metrics that move alike, it is claimed."""
    schedulers: tuple[str, ...] = (OURS,)
    scenarios: tuple[str, ...] = ("vgg16_4es",)
    along: Literal["sweep", "schedulers", "episodes"] = "sweep"
    best: str | None = None
    gap_to: tuple[str, ...] = ()
    """Not the metric itself, but by how much that of each of these is above it."""


class Value(Claim):
    """A number."""

    kind: Literal["value"]
    scheduler: str
    value: float
    incomparable: str = ""
    """Why the number cannot be compared, if so."""


AnyClaim: TypeAlias = Annotated[Improvement | Order | Trend | Value, Discriminator("kind")]


class Claims(Section):
    """All claims."""

    claims: tuple[AnyClaim, ...]


def load_claims() -> tuple[AnyClaim, ...]:
    """Read the claims that come with mecsim."""
    return read(
        Path(str(resources.files("mecsim.paper") / "figures" / "claims.yaml")), Claims
    ).claims


class MissingError(Exception):
    """What a claim is about was not run, or has no number."""


@dataclass(frozen=True)
class Evidence:
    """The results of the figures' studies, by figure and study."""

    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    """``fig8.servers`` to rows as :func:`mecsim.study.summary.rows` makes them."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]]
    """The same to rows of learning curves."""

    def points(self, where: str, scenario: str | None = None) -> list[Point]:
        """Return the points of a study, in the order they were simulated."""
        found: list[Point] = []
        for row in self.rows.get(where, ()):
            if row["sweep"] not in found and scenario in (None, row["scenario"]):
                found.append(row["sweep"])
        return found

    def samples(
        self, where: str, name: str, competitors: Sequence[str], point: Point, scenario: str
    ) -> list[Floats]:
        """Return a metric of each scheduler as a sample, on seeds that all of them have met.

        Of learners as many trainings each. Raises ``MissingError`` if one of them was not run.
        """
        found = [self._sample(where, name, each, point, scenario) for each in competitors]
        seeds = sorted(set.intersection(*(set(statistics.complete_seeds(each)) for each in found)))
        if not seeds:
            raise MissingError(f"not run: {', '.join(competitors)}, not all, in {where}")
        return statistics.truncated(*(statistics.matrix(each, seeds) for each in found))

    def _sample(self, where: str, name: str, competitor: str, point: Point, scenario: str) -> Sample:
        if name in ("final_reward", "episodes_to_converge"):
            return self._trained(where, name, competitor, scenario)
        return {
            (row["training_seed"] or 0, row["seed"]): value
            for row in self.rows.get(where, ())
            if (row["scheduler"], row["sweep"], row["scenario"]) == (competitor, point, scenario)
            and (value := metric(row, name)) is not None
        }

    def _trained(self, where: str, name: str, competitor: str, scenario: str) -> Sample:
        curves: dict[int, list[tuple[float, float]]] = {}
        for row in self.curves.get(where, ()):
            if (row["scheduler"], row["scenario"]) == (competitor, scenario):
                pair = row["episode"], row["reward"]
                curves.setdefault(row["training_seed"], []).append(pair)
        if name == "final_reward":
            return {(seed, 0): final_reward(curve) for seed, curve in curves.items()}
        found = {(seed, 0): episodes_to_converge(curve) for seed, curve in curves.items()}
        if late := sum(math.isinf(each) for each in found.values()):
            last = max(curve[-1][0] for curve in curves.values())
            raise MissingError(
                f"{late} of {len(found)} trainings of {competitor} have not settled by the end, "
                f"after {last:.0f} episodes"
            )
        return found


def judge(claim: AnyClaim, evidence: Evidence) -> Finding:
    """Return what the results say of a claim, by the rule for its kind."""
    found = _judged(claim, evidence)
    if not any(evidence.rows.get(each) or evidence.curves.get(each) for each in claim.alone):
        return found
    alone = _judged(claim.model_copy(update={"where": claim.alone}), evidence)
    told = f"{PAPER_SETTINGS}: {alone.told}: {alone.verdict}"
    return replace(found, reason="; ".join(part for part in (found.reason, told) if part))


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
    findings, untold = [], []
    for point, percent in zip(claim.at, claim.percent, strict=True):
        ours, *others = evidence.samples(
            claim.where[0], claim.metric, (OURS, *claim.over), point, DEFAULT
        )
        measured = statistics.improvement(ours, _mean(others))
        where = f"at {', '.join(str(value) for value in point.values())}: "
        if measured is None:
            untold.append(f"{where}no percentage of {', '.join(claim.over)}, which is 0")
        else:
            findings.append(improvement_verdict(measured, percent, where))
    if not findings:
        raise MissingError(f"{claim.metric} is zero in {', '.join(claim.where)}")
    found = worst(findings)
    return replace(found, measured="; ".join([found.measured, *untold]))


def _judge_mean_improvement(claim: Improvement, evidence: Evidence) -> Finding:
    """Judge the mean over all points and baselines; tell besides what each baseline is worth."""
    over = [claim.over, *((each,) for each in claim.over if len(claim.over) > 1)]
    ratios = [_pooled(evidence, claim.where, claim.metric, (OURS, *some)) for some in over]
    found = improvement_verdict(ratios[0], claim.percent[0])
    parts = [f"{percent_text(r)} against {some[0]}" for r, some in zip(ratios, over, strict=True)]
    apart = f" ({', '.join(parts[1:])})" if parts[1:] else ""
    return replace(found, measured=found.measured + apart)


def _mean(samples: Sequence[Floats]) -> Floats:
    """Return the mean of samples, shape (T, E) or (1, E)."""
    return np.mean(np.broadcast_arrays(*samples), axis=0)


def _pooled(evidence: Evidence, where: Sequence[str], name: str, competitors: Sequence[str]) -> Ratio:
    """Return how much the first is below the mean of the others, over all points alike.

    Each point counts in units of the others' mean at that point.
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
    """Return how much the first scenario's mean is below the second's, over all points."""
    (where,) = claim.where
    points = evidence.points(where)
    found = [
        [evidence.samples(where, claim.metric, (OURS,), point, each)[0] for point in points]
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
    """Return what a claim says at once, one part a metric and baseline."""
    gaps: list[tuple[str, ...]] = [(each,) for each in claim.gap_to] or [()]
    metrics = (claim.metric, *claim.more_metrics)
    return [{"metric": name, "gap_to": gap} for name in metrics for gap in gaps]


def _along_episodes(claim: Trend, evidence: Evidence, scheduler: str) -> Finding:
    """Judge runs on one seed after the other as episodes: their first half and their second."""
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
    found = trend_verdict(claim.shape, places, samples, claim.best)
    about = [*claim.gap_to, *([claim.metric] if claim.more_metrics else [])]
    about += [scenario] if scenario != DEFAULT else []
    return replace(found, measured=": ".join([*about, found.measured]))


def _judge_value(claim: Value, evidence: Evidence) -> Finding:
    (where,) = claim.where
    (sample,) = evidence.samples(where, claim.metric, (claim.scheduler,), {}, DEFAULT)
    found = value_verdict(statistics.estimate(sample), claim.value)
    if claim.incomparable:
        return Finding(Verdict.INCOMPARABLE, found.measured, claim.incomparable)
    return found
