"""The rules for claims, and learning curves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mecsim.paper import panels
from mecsim.paper.curves import episodes_to_converge, final_reward
from mecsim.paper.verdicts import (
    Finding,
    Verdict,
    improvement_verdict,
    order_verdict,
    trend_verdict,
    value_verdict,
    worst,
)
from mecsim.study.statistics import Estimate, Ratio
from mecsim.study.summary import CurvePoint
from mecsim.support.arrays import Floats

HOLDS, DIRECTION, NOT, INCOMPARABLE = Verdict


def moving(*means: float, noise: float = 0.0) -> list[Floats]:
    """Samples at places, of four seeds that scatter about their means, differently at each."""
    scatter = np.array([[1, -1, 1, -1], [1, 1, -1, -1]]) * noise
    return [mean + scatter[[place % 2]] for place, mean in enumerate(means)]


@pytest.mark.parametrize(
    ("measured", "verdict", "reason"),
    [
        (Ratio(5, 4, 6), HOLDS, ""),
        (Ratio(9, 8, 10), HOLDS, "more than the 4.61% claimed"),
        (Ratio(3, 2, 4.61), HOLDS, ""),
        (Ratio(3, 2, 4), DIRECTION, "less than the 4.61% claimed"),
        (Ratio(3, -1, 7), NOT, "not significant"),
        (Ratio(-3, -4, -2), NOT, "negative"),
        (Ratio(5, None, None), INCOMPARABLE, "one seed"),
    ],
)
def test_improvement_verdict(measured: Ratio, verdict: Verdict, reason: str) -> None:
    found = improvement_verdict(measured, 4.61, "at 6: ")
    assert found.verdict is verdict
    assert reason in found.reason
    assert found.measured.startswith(f"at 6: {measured.percent:.1f}%")


def test_order_verdict() -> None:
    shown, chance, wrong = Ratio(2, 1, 3), Ratio(2, -1, 5), Ratio(-2, -3, -1)
    assert order_verdict([("a", "b", shown), ("b", "c", shown)]).verdict is HOLDS
    found = order_verdict([("a", "b", shown), ("b", "c", chance)])
    assert (found.verdict, found.reason) == (DIRECTION, "b and c do not differ significantly")
    found = order_verdict([("a", "b", wrong), ("b", "c", chance)])
    assert (found.verdict, found.reason) == (NOT, "b is ahead of a")


def test_a_mean_near_zero_is_compared_by_a_factor() -> None:
    found = order_verdict([("a", "b", Ratio(-23_469_646.7, -24_852_834.3, -22_086_459.0))])
    assert found.measured == "a at ×234,697 [220,866, 248,529] of b"
    assert order_verdict([("a", "b", Ratio(-5e4, None, None))]).measured == "a at ×501 of b"
    assert improvement_verdict(Ratio(-1e4, -2e4, -5e3), 50).measured == "×101 [51, 201]"


@pytest.mark.parametrize(
    ("measured", "claimed", "verdict"),
    [
        (Estimate(390, 380, 410), 400, HOLDS),  # inside the interval
        (Estimate(390, 389, 391), 400, HOLDS),  # off by 2.5%
        (Estimate(320, 319, 321), 400, DIRECTION),
        (Estimate(200, 199, 201), 400, NOT),
        (Estimate(-18_000, None, None), -18_300, HOLDS),
    ],
)
def test_value_verdict(measured: Estimate, claimed: float, verdict: Verdict) -> None:
    assert value_verdict(measured, claimed).verdict is verdict


@pytest.mark.parametrize(
    ("shape", "samples", "verdict"),
    [
        ("falling", moving(5, 4, 3), HOLDS),
        ("falling", moving(5, 4, 4.5, 3), DIRECTION),  # a shown rise between
        ("falling", moving(5, 4, 4.1, 3, noise=0.3), HOLDS),  # a rise within chance
        ("falling", moving(5, 4.9, noise=1), DIRECTION),
        ("falling", moving(3, 4), NOT),
        ("falling", moving(3, 3), NOT),
        ("rising", moving(3, 4, 5), HOLDS),
        ("rising", moving(3, 5, 4), DIRECTION),
        ("rising", moving(5, 4), NOT),
        ("rising slightly", moving(4, 4.2), HOLDS),
        ("rising slightly", moving(4, 8), DIRECTION),
        ("rising slightly", moving(4, 3), NOT),
        ("falls then rises", moving(5, 3, 4), HOLDS),
        ("falls then rises", moving(5, 4.9, 5, noise=1), DIRECTION),
        ("falls then rises", moving(5, 4, 3), NOT),
        ("rises then flat", moving(1, 3, 3), HOLDS),
        ("rises then flat", moving(1, 3, 3.1), HOLDS),  # by 3%, shown
        ("rises then flat", moving(1, 3, 2.8), DIRECTION),  # a fall of 7%
        ("rises then flat", moving(1, 3, 3, noise=0.1), DIRECTION),  # no change shown: no evidence
        ("rises then flat", moving(1, 3, 1.1, noise=1), DIRECTION),  # nor is the rise
        ("rises then flat", moving(1, 3, 4), DIRECTION),
        ("rises then flat", moving(3, 2, 1), NOT),
        ("flat", moving(3, 3.1), HOLDS),
        ("flat", moving(3, 3.1, noise=1), DIRECTION),  # it may be 3% or much more
        ("flat", moving(3, 4), NOT),
    ],
)
def test_trend_verdict(shape: str, samples: list[Floats], verdict: Verdict) -> None:
    places = [str(place) for place in range(len(samples))]
    found = trend_verdict(shape, places, samples)
    assert found.verdict is verdict
    assert bool(found.reason) == (verdict is not HOLDS)
    assert found.measured.startswith(f"{samples[0].mean():.4g} at 0, ")


def test_trend_verdict_with_best_place() -> None:
    places = ["30", "50", "70"]
    assert trend_verdict("rising", places, moving(1, 2, 3), best="30").verdict is HOLDS
    found = trend_verdict("rising", places, moving(1, 2, 3), best="50")
    assert (found.verdict, found.reason) == (DIRECTION, "lowest at 30, not at 50")
    assert trend_verdict("rises then flat", places, moving(1, 3, 3), best="50").verdict is HOLDS


@pytest.mark.parametrize(
    ("means", "verdict", "reason"),
    [
        ((2, 1, 3, 4), HOLDS, ""),  # what comes before the lowest does not count
        ((0.5, 1, 3, 4), DIRECTION, "lowest at 30, not at 50"),
        ((5, 2, 1, 4), DIRECTION, "falls in 1 of 2 steps"),
        ((5, 4, 3, 2), NOT, "falls from end to end"),
        ((2, 3, 3, 3), NOT, "does not rise from end to end"),
    ],
)
def test_trend_verdict_from_lowest_place(
    means: tuple[float, ...], verdict: Verdict, reason: str
) -> None:
    found = trend_verdict("rising", ["30", "50", "70", "90"], moving(*means), lowest="50")
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.measured == ", ".join(
        f"{mean:g} at {place}" for mean, place in zip(means, (30, 50, 70, 90), strict=True)
    )


def test_trend_verdict_without_the_claimed_place() -> None:
    for claimed in ({"lowest": "50"}, {"best": "50"}):
        found = trend_verdict("rising", ["30", "70"], moving(1, 2), **claimed)
        assert found == Finding(INCOMPARABLE, "1 at 30, 2 at 70", "not run at 50")


def test_worst_finding() -> None:
    parts = [Finding(HOLDS, "a"), Finding(NOT, "b", "why"), Finding(DIRECTION, "c", "x")]
    assert worst(parts) == Finding(NOT, "a; b; c", "why")


def test_mean_learning_curve() -> None:
    points = [(0, 0, -9.0), (0, 10, -3.0), (0, 40, -1.0), (1, 20, -5.0), (1, 40, -1.0)]
    rows: list[CurvePoint] = [
        {"scenario": "", "sweep": {}, "scheduler": "dqn",
         "training_seed": training, "episode": episode, "reward": reward}
        for training, episode, reward in points
    ]  # fmt: skip
    results = panels.Results({}, {"x": []}, {"x": rows})
    (line,) = panels.learning_curves("x", results)
    assert line.x == [20, 40]
    assert line.y == [-4.0, -1.0]


def test_final_reward_and_convergence() -> None:
    curve = [(0.0, -100.0), (10.0, -50.0), (20.0, -21.0), (30.0, -20.0), (40.0, -20.0)]
    assert final_reward(curve) == -20
    assert episodes_to_converge(curve) == 20
    steady = [(float(n), -100.0 + n) for n in range(11)]
    assert final_reward(steady) == -90.5
    assert episodes_to_converge(steady) == 5  # -95 is within 5% of it, -96 is not
    swinging = [(float(n), -100.0 - 20 * (n % 2)) for n in range(11)]
    climbing = [(float(n), -1000.0 / (n + 1)) for n in range(6)]
    for never in (swinging, climbing, [(0.0, -5.0)]):
        assert episodes_to_converge(never) == math.inf
