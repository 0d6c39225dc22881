"""Descriptions of figures and the studies that they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from mecsim.errors import InputError, ScenarioError
from mecsim.paper import figure_files, reproduce
from mecsim.paper.figure_files import Figure, figure_names, load_figure, load_figures, read
from tests.helpers.results import BEYOND, HEURISTICS, PAPER, competitors_of


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


@pytest.mark.quick("*-True", "fig6-False", "fig8-False")
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


def with_own_lengths() -> Figure:
    """Fig. 10 with four trainings of 50 episodes, of which two learners have fewer or others."""
    document = load_figure("fig10").model_dump() | {
        "training": {"episodes": 50, "seeds": 4},
        "quick": {"seeds": 1, "training": {"episodes": 20, "seeds": 2}},
        "schedulers": (
            {"name": "dqn"},
            {"name": "dqn", "label": "longer", "episodes": 80},
            {"name": "dqn", "label": "dqn tuned", "episodes": 10, "trainings": 3},
            "greedy",
        ),
    }
    return Figure.model_validate(document)


@pytest.mark.quick("True-*")
@pytest.mark.parametrize(
    ("quick", "trainings"),
    [
        (False, {("dqn", 50): 4, ("longer", 80): 4, ("dqn tuned", 10): 3}),
        (True, {("dqn", 20): 2, ("longer", 20): 2, ("dqn tuned", 10): 2}),  # its limits are upper
    ],
)
def test_episodes_and_trainings_of_a_competitor(
    quick: bool, trainings: Mapping[tuple[str, int], int]
) -> None:
    planned = reproduce.plan({"fig10": with_own_lengths()}, quick=quick)["fig10.rates"]
    found = [
        (trial.competitor.label, trial.job.training.episodes)
        for trial in planned
        if trial.competitor and trial.job.training and trial.point == {"arrivals.rate": 30}
    ]
    assert Counter(found) == trainings


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


@pytest.mark.slow
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
