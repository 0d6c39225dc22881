"""The reproduction: descriptions of figures, the rules for claims, pages and pictures."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from mecsim.errors import InputError, ScenarioError
from mecsim.paper import figure_files, pages, panels, reproduce
from mecsim.paper.claims import (
    PROPOSED,
    AnyClaim,
    Improvement,
    Order,
    Trend,
    Value,
    load_claims,
)
from mecsim.paper.curves import episodes_to_converge, final_reward
from mecsim.paper.evidence import Evidence
from mecsim.paper.figure_files import Figure, figure_names, load_figure, load_figures, read
from mecsim.paper.judging import FITTED, judge
from mecsim.paper.verdicts import (
    Finding,
    Verdict,
    improvement_verdict,
    order_verdict,
    trend_verdict,
    value_verdict,
    worst,
)
from mecsim.study import plan
from mecsim.study import summary as summary_module
from mecsim.study.job_queue import ResultStore, run_batch
from mecsim.study.statistics import Estimate, Ratio
from mecsim.study.summary import CurvePoint, Row
from mecsim.support.arrays import Floats
from tests.helpers import toy_learner
from tests.helpers.batches import Inline
from tests.helpers.cli import answer, mecsim

HOLDS, DIRECTION, NOT, INCOMPARABLE = Verdict
PAPER = [f"fig{n}" for n in range(6, 14)]
BEYOND = [
    f"beyond_{which}"
    for which in (
        "224",
        "ablation",
        "bursts",
        "episodes",
        "generalisation",
        "poisson",
        "sparse",
        "task_epochs",
    )
]
HEURISTICS = ("greedy", "apdi", "rpdi", "single-cut", "lookahead")


def moving(*means: float, noise: float = 0.0) -> list[Floats]:
    """Samples at places, of four seeds that scatter about their means, differently at each."""
    scatter = np.array([[1, -1, 1, -1], [1, 1, -1, -1]]) * noise
    return [mean + scatter[[place % 2]] for place, mean in enumerate(means)]


# Rules ---------------------------------------------------------------------------------------


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


# Descriptions --------------------------------------------------------------------------------


def test_figure_names() -> None:
    assert figure_names() == [*PAPER, *BEYOND]
    assert list(load_figures([])) == list(load_figures(["all"])) == figure_names()
    sizes = {name: len(figure.panels) for name, figure in load_figures(PAPER).items()}
    assert sizes == {
        "fig6": 1, "fig7": 3, "fig8": 3, "fig9": 3, "fig10": 3, "fig11": 3, "fig12": 3, "fig13": 5,
    }  # fmt: skip
    assert list(load_figures(["fig9", "fig9"])) == ["fig9"]
    with pytest.raises(InputError, match="expected one of fig6, fig7"):
        load_figures(["fig5"])


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", [*PAPER, *BEYOND])
def test_plan_of_every_figure(name: str, quick: bool) -> None:
    plans = reproduce.plan({name: load_figure(name)}, quick=quick, only=HEURISTICS)
    assert all(plans.values())


@pytest.mark.parametrize("name", BEYOND)
def test_figures_beyond_the_paper(name: str) -> None:
    figure = load_figure(name)
    assert figure.title.startswith("Beyond the paper: ")
    assert figure.note.startswith("Not in the paper.")
    assert not any(panel.title.startswith("Fig.") for panel in figure.panels)
    for each in figure.studies:
        made = figure.make_study(each)
        assert made is not None
        learners = set() if each == "readings" else {"mtl-a3c", "a3c", "dqn"}
        most = {
            "readings": {"greedy", "lookahead"},
            "settings": {"greedy", "single-cut", "lookahead"},
            "ablation": {"greedy", "lookahead"},
        }.get(each, set(HEURISTICS))
        assert learners | most <= {competitor.label for competitor in made.competitors}
        assert made.lower_bound == (each != "readings")
        assert made.baseline == "greedy"


def competitors_of(
    figure: Figure, name: str, *, quick: bool = False, only: Sequence[str] = ()
) -> dict[str, plan.Competitor]:
    """The competitors of a study, by label."""
    made = figure.make_study(name, quick=quick, only=only)
    assert made is not None
    return {each.label: each for each in made.competitors}


def test_episodes_and_trainings_of_a_competitor() -> None:
    """The paper's MTL-A3C: 10 trainings of 2,000 episodes; tuned: 3 of 100, as its file says."""
    figure = load_figure("fig10")
    competitors = competitors_of(figure, "rates")
    given = {label: (each.episodes, each.trainings) for label, each in competitors.items()}
    assert given["mtl-a3c"] == (None, None)
    assert given["a3c"] == (400, None)
    assert given["mtl-a3c tuned"] == (100, 3)
    trials = reproduce.plan({"fig10": figure}, only=("mtl-a3c", "mtl-a3c tuned"))["fig10.rates"]
    trainings = [
        (trial.competitor.label, trial.job.training.episodes)
        for trial in trials
        if trial.competitor and trial.job.training and trial.point == {"arrivals.rate": 30}
    ]
    assert Counter(trainings) == {("mtl-a3c", 2000): 10, ("mtl-a3c tuned", 100): 3}


def test_quick_limits_the_episodes_of_a_competitor() -> None:
    """--quick trains for 200 episodes: not for a3c's 400, nor for more than tuned's 100."""
    competitors = competitors_of(load_figure("fig10"), "rates", quick=True)
    assert {label: each.episodes for label, each in competitors.items() if each.episodes} == {
        "a3c": 200,
        "mtl-a3c tuned": 100,
    }


@pytest.mark.parametrize("key", ["episodes", "trainings"])
def test_invalid_counts_of_a_competitor(key: str, tmp_path: Path) -> None:
    path = tmp_path / "fig.yaml"
    text = f"extends: {shipped('common.yaml')}\ntitle: x\nstudies: {{a: {{}}}}\n"
    text += f"panels: [{{study: a, metric: reward}}]\nschedulers: [{{name: dqn, {key}: 0}}]\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=rf"fig.yaml:5: .*{key}: 0"):
        read(path, Figure)


def shipped(name: str) -> Path:
    return Path(figure_files.__file__).parent / "figures" / name


@pytest.mark.parametrize(
    ("name", "study", "only", "labels"),
    [
        ("fig8", "servers", ["mtl-a3c"], ["mtl-a3c"]),  # the paper's: a label comes first
        ("fig8", "servers", ["mtl-a3c tuned", "greedy"], ["mtl-a3c tuned", "greedy"]),
        ("fig7", "batches", ["mtl-a3c"], [f"batch of {n}" for n in (16, 32, 64, 128)]),
        ("fig7", "batches", ["batch of 64"], ["batch of 64"]),
        ("beyond_generalisation", "settings", ["dqn"], ["dqn, trained at 60", "dqn"]),
        ("fig8", "servers", [], ["mtl-a3c", "a3c", "dqn", "mtl-a3c tuned", *HEURISTICS]),
    ],
)
def test_chosen_schedulers(name: str, study: str, only: list[str], labels: list[str]) -> None:
    assert list(competitors_of(load_figure(name), study, only=only)) == labels


def test_every_competitor_can_be_chosen() -> None:
    for figure in load_figures([]).values():
        for study in figure.studies:
            for label in competitors_of(figure, study):
                name = label.partition(",")[0]
                assert name in figure.names_of()
                assert label in competitors_of(figure, study, only=[name])


def test_options_of_figure() -> None:
    figure = load_figure("beyond_ablation").model_copy(
        update={
            "options": {
                "mtl-a3c": {"actor_learning_rate": 0.5, "hidden_units": 8},
                "dqn": {"learning_rate": 0.5},
            }
        }
    )
    found = {label: each.options for label, each in competitors_of(figure, "ablation").items()}
    assert found["hard sharing"] == {
        "actor_learning_rate": 0.5,
        "hidden_units": 8,
        "sharing": "hard",
    }
    assert found["paper's numbers"]["actor_learning_rate"] == 0.01
    assert found["paper's numbers"]["hidden_units"] == 8
    assert found["a3c"] == {}


def test_sweeps_have_reference_schedulers() -> None:
    for figure in load_figures([]).values():
        for name, spec in figure.studies.items():
            if spec.sweep:
                made = figure.make_study(name)
                assert made is not None
                assert {"single-cut", "lookahead"} <= {each.label for each in made.competitors}
                assert made.lower_bound


def test_figure_11_shares_runs() -> None:
    plans = reproduce.plan(load_figures(["fig8", "fig9", "fig10", "fig11"]), only=("greedy",))
    jobs = reproduce.all_jobs(plans)
    assert len(jobs) == sum(
        len(plans[each]) for each in ("fig8.servers", "fig9.blocks", "fig10.rates")
    )


def test_invalid_figure_file(tmp_path: Path) -> None:
    path = tmp_path / "fig.yaml"
    text = "title: x\nseeds: 0\ntraining: {episodes: 1}\nschedulers: [greedy]\n"
    path.write_text(text + "studies: {a: {sweeep: {}}}\npanels: []\n", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"fig.yaml:2: seeds: 0") as reported:
        read(path, Figure)
    assert "did you mean 'sweep'" in str(reported.value)


def test_sweep_and_settings(tmp_path: Path) -> None:
    head = "title: x\nseeds: 1\ntraining: {episodes: 1}\nschedulers: [greedy]\n"
    head += "panels: [{study: a, metric: reward}]\nquick: {seeds: 1, training: {episodes: 1}}\n"
    path = tmp_path / "fig.yaml"
    for studies, reported in (
        ("{a: {sweep: {slots: [1]}, evaluate_on: {b: []}}}", "sweep and evaluate_on"),
        ("{a: {evaluate_on: {b: []}, quick_evaluate_on: [c]}}", "'c' in .*expected one of b"),
    ):
        path.write_text(f"{head}studies: {studies}\n", encoding="utf-8")
        with pytest.raises(ScenarioError, match=reported):
            read(path, Figure)


def test_plan_of_generalisation() -> None:
    figures = load_figures(["beyond_generalisation"])
    plans = reproduce.plan(figures)
    ours, jobs = plans["beyond_generalisation.settings"], reproduce.all_jobs(plans)
    points = {trial.point.get("evaluated_on") for trial in ours if trial.job.kind == "run"}
    assert points == {f"{n} tasks" for n in (30, 50, 70, 90, 110)} | {"fading", "bursts"}
    trainings = [job for job in jobs if job.kind == "train"]
    assert len(trainings) == 3 * 3 * (1 + 7)  # three learners, thrice: once for all and in each
    quick = figures["beyond_generalisation"].make_study("settings", quick=True)
    assert quick is not None
    assert len(quick.points) == 3


def test_relative_panel() -> None:
    name = "beyond_generalisation"
    figure = load_figure(name)
    results = invented({name: figure})
    ratios, delays = panels.panels(name, figure, results)
    by_label = {line.label: line for line in ratios.lines}
    assert list(by_label["greedy"].y) == [1] * 7
    assert by_label["lookahead"].y[0] == pytest.approx(0.8 / 1.1, rel=1e-2)
    low, high = by_label["lookahead"].low[0], by_label["lookahead"].high[0]
    assert low is not None
    assert high is not None
    assert low <= by_label["lookahead"].y[0] <= high
    assert (ratios.y_label, delays.y_label) == ("total delay, greedy = 1", "total delay (s)")
    page = pages.figure_page(name, figure, results, quick=False)
    assert "## relative: total delay, greedy = 1" in page
    assert re.search(r"^\| 110 tasks \|.* 1 ± 0 ", page, re.MULTILINE)


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
        learners = [each for each in named if plan.trained(each)]
        assert {each.preset for each in learners} <= {"paper"}
        assert {each.trainings for each in learners} <= {None}


def test_fitted_claims() -> None:
    """The two numbers of results/calibration.md; the other levels of Fig. 6 are tests."""
    fitted = {claim.id for claim in load_claims() if claim.fitted}
    assert fitted == {"fig6-reward-mtl", "fig8a-n6-greedy"}


# Everything together -------------------------------------------------------------------------


def invented(figures: Mapping[str, Figure]) -> panels.Results:
    """Results as a world would give them in which MTL-A3C saves 5% of everything."""
    rows: dict[str, list[Row]] = {}
    curves: dict[str, list[CurvePoint]] = {}
    worth = {"mtl-a3c": 0.95, "a3c": 1.0, "dqn": 1.02, "lookahead": 0.8}
    for name, figure in figures.items():
        for each in figure.studies:
            made, place = figure.make_study(each), f"{name}.{each}"
            assert made is not None
            rows[place], curves[place] = [], []
            for at, point in enumerate(made.points):
                for scenario in made.scenarios:
                    for competitor in made.competitors:
                        learns = competitor.scheduler in ("mtl-a3c", "a3c", "dqn")
                        for training in range(3) if learns else (None,):
                            mean = worth.get(competitor.label, 1.1) * (1 + 0.1 * at)
                            mean += 0.001 * (training or 0)
                            rows[place] += [
                                invented_row(
                                    scenario, point, competitor.label, training, seed, mean
                                )
                                for seed in made.seeds
                            ]
                            if training is not None and not at:
                                curves[place] += [
                                    {"scenario": scenario, "sweep": point, "episode": episode,
                                     "scheduler": competitor.label, "training_seed": training,
                                     "reward": -100.0 * mean / (1 + episode)}
                                    for episode in (0, 10, 20, 30)
                                ]  # fmt: skip
    summary = {place: summary_module.summarise(found, "greedy") for place, found in rows.items()}
    return panels.Results(rows, summary, curves)


@cache
def everything() -> panels.Results:
    """Results of all figures, to be read only."""
    return invented(load_figures([]))


def invented_row(
    scenario: str, point: plan.Point, label: str, training: int | None, seed: int, mean: float
) -> Row:
    values = dict.fromkeys(("mean", "p95", "p99"), mean + 0.002 * (seed % 3))
    delays = dict.fromkeys(("total_delay_s", "edge_delay_s", "local_delay_s"), values)
    document = {
        "scenario": scenario, "sweep": point, "scheduler": label, "seed": seed,
        "training_seed": training, "reward": -1000 * values["mean"], "late_blocks": 0, "failed": 0,
        "energy_J": values, "tasks": 10, "completed": 10, "events": 100,
    }  # fmt: skip
    return cast(Row, document | delays)


def test_verdict_of_every_claim() -> None:
    found = {claim.id: finding for claim, finding in reproduce.judged(everything())}
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
    page = pages.claims_page(list(reproduce.judged(everything())), quick=True)
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
    usual = {claim.id: finding for claim, finding in reproduce.judged(whole)}
    found = reproduce.judged(panels.Results(left, whole.summary, whole.curves))
    reported = {claim.id: finding.verdict for claim, finding in found}
    assert reported == {name: finding.verdict for name, finding in usual.items()}


def test_improvement_over_several() -> None:
    found = {claim.id: each for claim, each in reproduce.judged(everything())}
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
        for rate, gap in zip(gaps, reversed(gaps.values()), strict=True)
        for seed in range(3)
    ]
    both = Evidence({"fig10.rates": [*tuned, *rows]}, {})
    assert judge(claim, both) == found


def test_tuned_is_not_judged() -> None:
    """Whatever the tuned variants do, and whether they ran or not."""
    whole = everything()
    usual = reproduce.judged(whole)
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
        assert rows != whole.rows
        assert reproduce.judged(panels.Results(rows, whole.summary, whole.curves)) == usual


def test_tuned_does_not_stand_in() -> None:
    """Without the paper's MTL-A3C its claims cannot be compared."""
    whole = everything()
    rows = {
        place: [row for row in found if row["scheduler"] != "mtl-a3c"]
        for place, found in whole.rows.items()
    }
    assert any(row["scheduler"] == "mtl-a3c tuned" for row in rows["fig8.servers"])
    found = {claim.id: each for claim, each in reproduce.judged(panels.Results(rows, {}, {}))}
    for name in ("fig8a-n6-a3c", "fig10a-gap", "fig11-order", "fig13-trend"):
        assert found[name].verdict is INCOMPARABLE
        assert "not run: mtl-a3c" in found[name].reason


def test_fitted_in_the_finding() -> None:
    """5% against A3C is a test; the gap to greedy was fitted, whatever the verdict."""
    found = {claim.id: each for claim, each in reproduce.judged(everything())}
    assert FITTED not in found["fig8a-n6-a3c"].reason
    assert found["fig8a-n6-greedy"].verdict is HOLDS
    assert found["fig8a-n6-greedy"].reason == f"at 6: more than the 7.53% claimed; {FITTED}"
    assert found["fig6-reward-mtl"].verdict is NOT
    assert found["fig6-reward-mtl"].reason == f"off by 95% from -18300; {FITTED}"


def test_fitted_on_the_page() -> None:
    """A fitted claim counts as no test if it holds."""
    found = reproduce.judged(everything())
    page = pages.claims_page(found, quick=False)
    (counted,) = re.findall(r"^Of 33 claims, .*$", page, re.MULTILINE)
    hold = Counter(each.verdict for _, each in found)[HOLDS]
    assert f"claims, {hold} hold, " in counted
    assert counted.endswith(
        f"The scenario was fitted to 1 of the {hold} that hold, so that is no test of them."
    )
    assert "All are judged on the preset `paper` of the learners." in page
    assert page.count(FITTED) == 2
    unfitted = [(claim, each) for claim, each in found if not claim.fitted]
    assert f"fitted to 0 of the {hold - 1} that hold" in pages.claims_page(unfitted, quick=False)


def test_files_on_the_page_of_claims() -> None:
    named = re.findall(r"`(mecsim/[^`]+)`", pages.claims_page([], quick=False))
    assert len(named) == 2
    root = Path(figure_files.__file__).parents[2]
    assert all((root / name).is_file() for name in named)


def test_verdicts_without_results() -> None:
    studies = [
        f"{name}.{each}" for name, figure in load_figures([]).items() for each in figure.studies
    ]
    nothing = panels.Results(*({place: [] for place in studies} for _ in range(3)))
    verdicts = {finding.verdict for _, finding in reproduce.judged(nothing)}
    assert verdicts == {INCOMPARABLE}
    assert reproduce.judged(panels.Results({}, {}, {})) == []
    assert Evidence({}, {}).points("fig8.servers") == []


def test_write_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = load_figures(["fig6", "fig12", "fig13"])
    results = invented(figures)
    pages.write_figures(tmp_path, figures, results, quick=False)
    for name in figures:
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
        assert (tmp_path / f"{name}.svg").stat().st_size > 1000
    page = (tmp_path / "fig12.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 3
    assert "they bind here" in page
    assert "--quick" not in page
    with (tmp_path / "fig6.default.curves.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4 * 3 * 4  # learners, trainings, episodes
    assert "nin, 0.8 MB/s" in (tmp_path / "fig13.md").read_text(encoding="utf-8")


TINY = """\
title: A toy learns
seeds: 2
training: {episodes: 10, seeds: 2}
quick: {seeds: 1, training: {episodes: 5, seeds: 1}}
schedulers: [{name: "tests.helpers.toy_learner:Toy", label: mtl-a3c}, greedy]
studies:
  servers: {overrides: ["slots=3"], sweep: {edge_servers: [2, 3]}, quick_sweep: {edge_servers: [2]}}
  default: {overrides: ["slots=3"]}
panels:
  - {study: servers, metric: total_delay_s}
  - {study: default, metric: learning_curve}
"""


def test_reproduction_with_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_learner.use(monkeypatch)
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    figures = {"fig8": read(tmp_path / "tiny.yaml", Figure)}
    plans = reproduce.plan(figures)
    jobs = reproduce.all_jobs(plans)
    done = run_batch(jobs, ResultStore(tmp_path / "out", resume=False), Inline())
    volume = reproduce.volume(jobs, done.results)
    assert (volume["trainings"], volume["runs"]) == (3 * 2, 3 * 2 * 3)
    results = reproduce.collect(figures, plans, done.results)
    first, second = panels.panels("fig8", figures["fig8"], results)
    assert {line.label for line in first.lines} == {"mtl-a3c", "greedy", "lower bound"}
    (curve,) = [line for line in second.lines if line.label == "mtl-a3c"]
    assert curve.x == [0, 5, 10]
    assert curve.y[0] == -100
    (level,) = [line for line in second.lines if line.label == "greedy"]
    assert level.x == [0, 10]
    quick = reproduce.plan(figures, quick=True)
    assert len(reproduce.all_jobs(quick)) == 2 * (1 + 1 + 1 + 1)


def test_reproduce_command(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = str(tmp_path / "out")
    arguments = ("reproduce", "fig10", "--quick", "--schedulers", "greedy,single-cut", "--out", out)
    document = answer(*arguments)
    claims = document["claims"]
    assert {each["id"].partition("-")[0] for each in claims} == {"abstract", "fig10a", "fig10bc"}
    assert {each["verdict"] for each in claims} == {"cannot be compared"}
    assert document["volume"]["runs"] == 3 * 3 * 2
    made_by = json.loads((tmp_path / "out" / "made_by.json").read_text(encoding="utf-8"))
    assert made_by["command"].startswith("mecsim reproduce fig10 --quick")
    assert "--resume" in mecsim(*arguments, code=2).stderr
    again = mecsim(*arguments, "--resume").stdout
    assert "27 jobs had results already" in again
    assert "not run: mtl-a3c" in again
    assert "expected one of fig6" in mecsim("reproduce", "fig99", code=2).stderr
    before = (tmp_path / "out" / "claims.md").read_bytes()
    fewer = ("reproduce", "fig10", "--quick", "--schedulers", "greedy", "--out", out, "--resume")
    assert "its pages and claims also cover single-cut" in mecsim(*fewer, code=2).stderr
    other = ("reproduce", "fig8", *arguments[2:], "--resume")
    assert "its pages and claims also cover fig10" in mecsim(*other, code=2).stderr
    slower = ("reproduce", "fig10", *arguments[3:], "--resume")
    assert "also cover --quick" in mecsim(*slower, code=2).stderr
    assert (tmp_path / "out" / "claims.md").read_bytes() == before


def test_reproduce_unknown_scheduler(tmp_path: Path) -> None:
    reported = mecsim(
        "reproduce", "fig8", "--schedulers", "nix", "--out", str(tmp_path / "o"), code=2
    )
    assert "--schedulers: nix: not in these figures; expected some of a3c, apdi" in reported.stderr
    assert not (tmp_path / "o").exists()


def test_help_names_every_figure() -> None:
    shown = " ".join(mecsim("reproduce", "--help").stdout.replace("│", " ").split())
    assert all(name in shown for name in BEYOND)


def test_preset_of_a_competitor_in_a_figure() -> None:
    """The figure's own values of options belong to the defaults."""
    both = ({"name": "dqn", "preset": "paper", "options": {"gamma": 0.5}}, "dqn")
    figure = load_figure("fig10")
    document = figure.model_dump() | {"schedulers": both, "options": {"dqn": {"batch_size": 64}}}
    document["schedulers"][0]["label"] = "DQN of the paper"
    paper, tuned = competitors_of(Figure.model_validate(document), "rates").values()
    assert (paper.label, paper.preset) == ("DQN of the paper", "paper")
    assert (tuned.label, tuned.preset) == ("dqn", None)
    assert (paper.options, tuned.options) == ({"gamma": 0.5}, {"batch_size": 64})
