"""Sweeps over the scenario and over options of schedulers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import InputError, MecsimError
from mecsim.study.comparison_panels import comparison_panels
from mecsim.study.competitors import Competitor
from mecsim.study.jobs import Training
from mecsim.study.plan import Trial, plan
from mecsim.study.summary import Entry
from mecsim.study.sweep import grid, owner, parse_sweep, split
from tests.helpers.batches import SCENARIO, in_this_process
from tests.helpers.cli import answer, mecsim
from tests.study.test_plan import TOY, asked

GREEDY = Competitor("greedy", "greedy")
QUICK = Competitor("quick", "lookahead")


def test_parse_sweep_and_grid() -> None:
    sweep = parse_sweep(["edge_servers=2,3", "radio.rate=0.8 MB/s,{uniform: [1e6, 2e6]}"])
    points = grid(sweep)
    assert len(points) == 4
    assert points[1] == {"edge_servers": 2, "radio.rate": {"uniform": [1e6, 2e6]}}
    assert grid({}) == [{}]
    for wrong in ("edge_servers", "=2", "edge_servers=", "a=[1"):
        with pytest.raises(MecsimError, match="--sweep"):
            parse_sweep([wrong])


def test_keys_belong_to_the_scenario_or_to_the_longest_label() -> None:
    point = {"v1.2.budget": 30, "v1.budget": 10, "radio.rate": "1 MB/s", "slots": 3}
    found = split(point, ["v1", "v1.2", "slots"])
    assert found.scenario == {"radio.rate": "1 MB/s", "slots": 3}
    assert found.options == {"v1.2": {"budget": 30}, "v1": {"budget": 10}}
    assert owner("v1", ["v1"]) is None


@pytest.mark.parametrize(
    ("sweep", "competitor", "reported"),
    [
        ("quick.bugdet=3,4", QUICK, "--sweep quick.bugdet=3: .* did you mean 'budget'"),
        ("quick.budget=3,x", QUICK, "--sweep quick.budget=\"x\": .* option budget: 'x'"),
        ("slow.budget=3,4", QUICK, "LABEL.KEY with one of greedy, quick"),
        ("radio.rate=1,2", Competitor("radio", "lookahead"), "radio is a key of the scenario"),
        ("radio.x.budget=1", Competitor("radio.x", "lookahead"), "label 'radio.x' begins with it"),
        ("quick.budget=3,4", Competitor("quick", "lookahead", {"budget": 3}), "Try: omit it"),
        ("toy.wish=1,a", TOY, "option wish: 'a' should be a valid integer"),
    ],
)
def test_wrong_sweeps_of_options(sweep: str, competitor: Competitor, reported: str) -> None:
    points = grid(parse_sweep([sweep]))
    with pytest.raises(InputError, match=reported):
        plan(asked(GREEDY, competitor, points=points, training=Training(5)))


def of(trials: list[Trial], label: str, kind: str = "run") -> list[Trial]:
    return [
        each
        for each in trials
        if each.competitor and each.competitor.label == label and each.job.kind == kind
    ]


def test_competitors_without_the_swept_option_have_equal_jobs() -> None:
    points = grid(parse_sweep(["quick.budget=3,4", "edge_servers=2,3"]))
    trials = plan(asked(GREEDY, QUICK, points=points, seeds=[0], lower_bound=True))
    budgets = [json.loads(trial.job.options)["budget"] for trial in of(trials, "quick")]
    assert budgets == [3, 3, 4, 4]
    assert [trial.point for trial in of(trials, "greedy")] == points
    keys = [trial.job.key for trial in of(trials, "greedy")]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2
    assert len({each.job.key for each in trials if each.job.kind == "bound"}) == 2


def test_options_of_training_and_policies_are_swept() -> None:
    points = grid(parse_sweep(["toy.wish=1,2", "edge_servers=2,3"]))
    once = Competitor("toy", TOY.scheduler, train_once=True)
    for learner, trainings in ((TOY, 4), (once, 2)):
        trials = plan(asked(learner, points=points, baseline="toy", training=Training(5)))
        found = of(trials, "toy", "train")
        assert len({trial.job.key for trial in found}) == len(found) == trainings
        runs = of(trials, "toy")
        assert all(
            trial.job.needs
            and json.loads(trial.job.needs.options)["wish"] == trial.point["toy.wish"]
            for trial in runs
        )
    assert [trial.point for trial in found] == [{"toy.wish": 1}, {"toy.wish": 2}]
    given = grid(parse_sweep(["toy.policy=a.safetensors,b.safetensors"]))
    trials = plan(asked(TOY, points=given, baseline="toy", seeds=[0]))  # without --episodes
    assert [json.loads(trial.job.options)["policy"] for trial in trials] == [
        "a.safetensors", "b.safetensors",
    ]  # fmt: skip


def test_compare_with_variants_and_a_sweep_of_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    arguments = (
        "compare", str(SCENARIO), "--set", "slots=3", "--seeds", "1", "--no-figures",
        "--schedulers", "greedy, two (b)=lookahead, one=lookahead", "--option", "one.budget=3",
        "--sweep", "two (b).budget=5,3", "--baseline", "one", "--out", str(tmp_path / "o"),
    )  # fmt: skip
    document = answer(*arguments)
    summary: list[Entry] = [e for e in document["summary"] if e["metric"] == "total_delay_s"]
    means: dict[str, list[Any]] = {}
    for each in summary:
        means.setdefault(each["scheduler"], []).append(each["mean"])
    assert means["greedy"][0] == means["greedy"][1]
    assert means["two (b)"][1] == means["one"][0] == means["one"][1]
    assert "one" in summary[0]["vs"]
    (panel,) = comparison_panels(summary, "total_delay_s")
    assert (panel.x_label, {tuple(line.x) for line in panel.lines}) == ("two (b).budget", {(5, 3)})
    shown = mecsim(*arguments, "--resume").stdout
    assert "6 rows" in shown
    assert "computed: nothing; results from an earlier call: 3" in shown
