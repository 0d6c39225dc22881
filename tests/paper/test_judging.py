"""The claims and the verdicts on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import pytest

from mecsim.paper import pages, panels, reproduce
from mecsim.paper.claims import (
    PROPOSED,
    AnyClaim,
    Improvement,
    Order,
    Trend,
    Value,
    load_claims,
)
from mecsim.paper.evidence import Evidence
from mecsim.paper.figure_files import load_figure, load_figures
from mecsim.paper.judging import FITTED, judge
from mecsim.paper.verdicts import Verdict
from mecsim.study.competitors import trained
from mecsim.study.summary import Row
from tests.helpers.results import competitors_of, everything, findings, invented, invented_row

HOLDS, DIRECTION, NOT, INCOMPARABLE = Verdict


def test_claims_file() -> None:
    claims, figures = load_claims(), load_figures([])
    assert len({claim.id for claim in claims}) == len(claims) == 33
    for claim in claims:
        for where in claim.where:
            figure, _, name = where.partition(".")
            assert name in figures[figure].studies, claim.id
        if claim.kind == "improvement":
            assert len(claim.percent) == max(1, len(claim.at)), claim.id
            spec = figures[claim.where[0].partition(".")[0]]
            made = spec.make_study(claim.where[0].partition(".")[2])
            assert made is not None
            assert all(point in made.points for point in claim.at), claim.id
        else:
            assert claim.kind in ("order", "trend", "value")


def schedulers_in(claim: AnyClaim) -> set[str]:
    match claim:
        case Improvement():
            return {PROPOSED, *claim.over}
        case Order():
            pairs = claim.pairs if claim.among == "scheduler" else ()
            return {PROPOSED} if not pairs else {name for pair in pairs for name in pair}
        case Trend():
            return {*claim.schedulers, *claim.gap_to}
        case Value():
            return {claim.scheduler}


@pytest.mark.parametrize("claim", load_claims(), ids=lambda claim: claim.id)
def test_claims_are_about_the_preset_of_the_paper(claim: AnyClaim) -> None:
    """Each learner in a claim has the preset, and as many trainings as the figure."""
    for where in claim.where:
        figure, _, study = where.partition(".")
        competitors = competitors_of(load_figure(figure), study)
        named = [competitors[name] for name in schedulers_in(claim)]
        learners = [each for each in named if trained(each)]
        assert {each.preset for each in learners} <= {"paper"}
        assert {each.trainings for each in learners} <= {None}


def test_fitted_claims() -> None:
    """The two numbers of results/calibration.md; the other levels of Fig. 6 are tests."""
    fitted = {claim.id for claim in load_claims() if claim.fitted}
    assert fitted == {"fig6-reward-mtl", "fig8a-n6-greedy"}


def test_verdict_of_every_claim() -> None:
    found = {claim.id: finding for claim, finding in findings()}
    missing = [name for name, finding in found.items() if "not run" in finding.reason]
    assert not missing
    assert found["abstract-total"].verdict is HOLDS
    assert found["fig8a-n6-a3c"].verdict is HOLDS  # 5% against 4.61%
    assert found["fig9c-greedy"].verdict is HOLDS
    assert found["fig9b-dqn"].verdict is DIRECTION  # 7% against 7.25, 10.52 and 15.61%
    assert found["fig8a-trend"].verdict is NOT  # here everything rises
    assert found["fig6-order"].verdict is HOLDS
    assert found["fig6-flat"].verdict is HOLDS
    assert found["fig6-reward-mtl"].verdict is NOT  # -953
    assert found["fig10bc-trend"].verdict is HOLDS
    assert found["fig10a-gap"].verdict is DIRECTION  # it rises, but is smallest at 30
    assert "lowest at 30, not at 50" in found["fig10a-gap"].reason
    assert found["fig11-order"].verdict is HOLDS
    assert found["fig13-order"].verdict is NOT  # all four alike
    page = pages.claims_page(findings(), quick=True)
    assert (
        len(re.findall(r"^\| [a-z0-9-]+ \| [^|]+ \| [^|]+ \| [^|]+ \|", page, re.MULTILINE))
        == 33 + 2
    )
    assert "Made with --quick" in page


@pytest.mark.parametrize("learner", ["mtl-a3c", "a3c", "dqn"])
@pytest.mark.parametrize("seed", [None, 4])
def test_verdicts_with_failed_jobs(learner: str, seed: int | None) -> None:
    whole = everything()
    left = {
        place: [
            row
            for row in rows
            if (row["scheduler"], row["training_seed"]) != (learner, 2)
            or seed not in (None, row["seed"])
        ]
        for place, rows in whole.rows.items()
    }
    usual = {claim.id: finding for claim, finding in findings()}
    found = reproduce.judged(panels.Results(left, whole.summary, whole.curves))
    reported = {claim.id: finding.verdict for claim, finding in found}
    assert reported == {name: finding.verdict for name, finding in usual.items()}


def test_improvement_over_several() -> None:
    found = {claim.id: each for claim, each in findings()}
    assert re.fullmatch(
        r"5\.9% \[.*\] \(5\.0% .* against a3c, 6\.8% .* against dqn\)",
        found["abstract-total"].measured,
    )


def test_improvement_over_zero() -> None:
    results = invented(load_figures(["fig8"]))
    for row in results.rows["fig8.servers"]:
        if row["scheduler"] == "dqn" and row["sweep"] == {"edge_servers": 6}:
            row["local_delay_s"]["mean"] = 0.0
    found = {claim.id: each for claim, each in reproduce.judged(results)}["fig8c-dqn"]
    assert found.measured.endswith("; at 6: no percentage of dqn, which is 0")
    for row in results.rows["fig8.servers"]:
        if row["scheduler"] == "dqn":
            row["local_delay_s"]["mean"] = 0.0
    found = {claim.id: each for claim, each in reproduce.judged(results)}["fig8c-dqn"]
    assert (found.verdict, found.text) == (INCOMPARABLE, "local_delay_s is zero in fig8.servers")


def gap_rows(extra: Mapping[int, float]) -> list[Row]:
    """Fig. 10(a): greedy and the other baselines take ``extra`` seconds more at each rate."""
    baselines = ("a3c", "dqn", "greedy", "apdi", "rpdi")
    return [
        invented_row("vgg16_4es", {"arrivals.rate": rate}, label, None, seed, 20 + more)
        for rate, gap in extra.items()
        for label, more in [("mtl-a3c", 0.0), *((name, gap) for name in baselines)]
        for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("gaps", "verdict", "reason"),
    [
        ({30: 2, 50: 1, 70: 3, 90: 4}, HOLDS, ""),
        ({30: 1, 50: 2, 70: 3, 90: 4}, DIRECTION, "lowest at 30, not at 50"),
        ({30: 4, 50: 3, 70: 2, 90: 1}, NOT, "falls from end to end"),
        ({30: 1, 70: 2, 110: 3}, INCOMPARABLE, "not run at 50"),  # the points of --quick
    ],
)
def test_smallest_gap(gaps: Mapping[int, float], verdict: Verdict, reason: str) -> None:
    """A tuned variant whose gap is the other way round changes nothing."""
    (claim,) = [each for each in load_claims() if each.id == "fig10a-gap"]
    rows = gap_rows(gaps)
    found = judge(claim, Evidence({"fig10.rates": rows}, {}))
    assert (found.verdict, found.reason) == (verdict, reason)
    tuned = [
        invented_row("vgg16_4es", {"arrivals.rate": rate}, "mtl-a3c tuned", None, seed, 10 + gap)
        for rate, gap in zip(gaps, reversed(list(gaps.values())), strict=True)
        for seed in range(3)
    ]
    both = Evidence({"fig10.rates": [*tuned, *rows]}, {})
    assert judge(claim, both) == found


def test_tuned_is_not_judged() -> None:
    """Whatever the tuned variants do, and whether they ran or not."""
    whole = everything()
    usual = findings()
    for better in (None, 0.5):
        rows = {
            place: [
                cast(
                    Row, row | ({"reward": -1.0, "total_delay_s": {"mean": better}} if own else {})
                )
                for row in found
                if not (own := row["scheduler"].endswith(" tuned")) or better is not None
            ]
            for place, found in whole.rows.items()
        }
        curves = {
            place: [
                row | ({"reward": -9.0 - row["episode"]} if own else {})
                for row in found
                if not (own := row["scheduler"].endswith(" tuned")) or better is not None
            ]
            for place, found in whole.curves.items()
        }
        assert rows != whole.rows
        assert curves != whole.curves
        assert reproduce.judged(panels.Results(rows, whole.summary, curves)) == usual


def test_tuned_does_not_stand_in() -> None:
    """Without the paper's MTL-A3C its claims cannot be compared."""
    whole = everything()
    rows = {
        place: [row for row in found if row["scheduler"] != "mtl-a3c"]
        for place, found in whole.rows.items()
    }
    curves = {
        place: [row for row in found if row["scheduler"] != "mtl-a3c"]
        for place, found in whole.curves.items()
    }
    for left in (rows["fig8.servers"], curves["fig6.default"]):
        assert "mtl-a3c tuned" in {row["scheduler"] for row in left}
    found = {claim.id: each for claim, each in reproduce.judged(panels.Results(rows, {}, curves))}
    for name in (
        "fig6-convergence-mtl", "fig8a-n6-a3c", "fig10a-gap", "fig11-order", "fig13-trend",
    ):  # fmt: skip
        assert found[name].verdict is INCOMPARABLE
        assert "not run: mtl-a3c" in found[name].reason
    assert found["fig8a-n6-a3c"].reason == "not run: mtl-a3c, a3c, not all, in fig8.servers at 6"


def test_fitted_in_the_finding() -> None:
    """5% against A3C is a test; the gap to greedy was fitted, whatever the verdict."""
    found = {claim.id: each for claim, each in findings()}
    assert FITTED not in found["fig8a-n6-a3c"].reason
    assert found["fig8a-n6-greedy"].verdict is HOLDS
    assert found["fig8a-n6-greedy"].reason == f"at 6: more than the 7.53% claimed; {FITTED}"
    assert found["fig6-reward-mtl"].verdict is NOT
    assert found["fig6-reward-mtl"].reason == f"off by 95% from -18300; {FITTED}"


def test_verdicts_without_results() -> None:
    studies = [
        f"{name}.{each}" for name, figure in load_figures([]).items() for each in figure.studies
    ]
    nothing = panels.Results(*({place: [] for place in studies} for _ in range(3)))
    verdicts = {finding.verdict for _, finding in reproduce.judged(nothing)}
    assert verdicts == {INCOMPARABLE}
    assert reproduce.judged(panels.Results({}, {}, {})) == []
    assert Evidence({}, {}).points("fig8.servers") == []
