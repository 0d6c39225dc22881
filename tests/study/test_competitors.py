"""Competitors as users write them: labels, options and presets."""

from __future__ import annotations

import pytest

from mecsim.errors import InputError
from mecsim.study.competitors import Competitor, check_labels, competitors
from mecsim.study.plan import plan
from mecsim.study.report import failures
from mecsim.study.styles import shipped_name
from tests.study.test_plan import TOY, asked


@pytest.mark.parametrize(
    ("text", "label", "scheduler"),
    [
        ("greedy", "greedy", "greedy"),
        ("quick=lookahead", "quick", "lookahead"),
        (" a.b_c+d (2) - é = lookahead", "a.b_c+d (2) - é", "lookahead"),
        ("lookahead=lookahead", "lookahead", "lookahead"),
        ("mine=some/lr=1/own.py:Own", "mine", "some/lr=1/own.py:Own"),
        ("greedy=own.py:Greedy", "greedy", "own.py:Greedy"),
        ("./lr=1/own.py:Own", "Own", "./lr=1/own.py:Own"),
        ("name:lr=1.zip", "lr=1.zip", "name:lr=1.zip"),
    ],
)
def test_labels(text: str, label: str, scheduler: str) -> None:
    (found,) = competitors([text])
    assert (found.label, found.scheduler) == (label, scheduler)


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("=greedy", "label ''. Expected: 1 to 40 letters"),
        ("x=", "names no scheduler"),
        ("a/b=greedy", "label 'a/b'. Expected"),
        ("-x=greedy", "label '-x'. Expected"),
        (f"{'x' * 41}=greedy", "Expected: 1 to 40 letters"),
        ("$x$=greedy", "Expected: 1 to 40 letters"),
        ("lower bound=greedy", "label 'lower bound': is reserved"),
        ("lookahead=quick", "is the name of another scheduler.*Try: quick=lookahead"),
        ("greedy=lookahead", "is the name of another scheduler"),
    ],
)
def test_wrong_labels(text: str, reported: str) -> None:
    with pytest.raises(InputError, match=reported):
        competitors([text])


def test_a_scheduler_twice_needs_labels() -> None:
    with pytest.raises(InputError, match="Try: 'lookahead 2=lookahead'"):
        competitors(["lookahead", "lookahead"])
    assert len(competitors(["lookahead", "lookahead 2=lookahead"])) == 2
    with pytest.raises(InputError, match=r"Try: 'Own 2=b\.py:Own'"):
        competitors(["a.py:Own", "b.py:Own"])
    with pytest.raises(InputError, match="is reserved"):
        check_labels([Competitor("lower bound", "greedy")])  # also in a figure file


def test_options_belong_to_labels() -> None:
    schedulers = ["lookahead", "v1=lookahead", "v1.5=lookahead", "own.py:Own"]
    options = ["lookahead.budget=1", "v1.5.budget=3", "v1.budget=2", "own.py:Own.x=4", "Own.y=5"]
    found = {each.label: each.options for each in competitors(schedulers, options)}
    assert found == {
        "lookahead": {"budget": 1}, "v1": {"budget": 2}, "v1.5": {"budget": 3},
        "Own": {"x": 4, "y": 5},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"LABEL\.KEY=VALUE with one of a, b"):
        competitors(["a=lookahead", "b=lookahead"], ["lookahead.budget=1"])


def test_presets_belong_to_labels() -> None:
    schedulers = ["greedy", "a=dqn", "b=dqn", "c=dqn"]
    options = ["c.policy=p.safetensors"]
    found = competitors(schedulers, options, ["paper", "b=tuned"])
    assert [each.preset for each in found] == [None, "paper", "tuned", None]
    for wrong, reported in (
        (["d=paper"], "LABEL=PRESET with one of greedy, a, b, c"),
        (["a=paper", "a=tuned"], "--preset a=tuned: is the second for a"),
        (["paper", "tuned"], "--preset tuned: is the second for all learners"),
    ):
        with pytest.raises(InputError, match=reported):
            competitors(schedulers, options, wrong)


def test_messages_name_the_label() -> None:
    wrong = Competitor("quick", "lookahead", {"budget": "x"})
    with pytest.raises(InputError, match="label 'quick': scheduler 'lookahead': option budget"):
        plan(asked(wrong, baseline="quick"))
    mine = Competitor("mine", TOY.scheduler)
    with pytest.raises(InputError, match=r"'mine': needs training.*--option mine\.policy=FILE"):
        plan(asked(mine, baseline="mine"))


def test_failures_name_the_label() -> None:
    trials = plan(asked(Competitor("quick", "lookahead"), baseline="quick", seeds=[4]))
    (found,) = failures(trials, {trials[0].job.key: "no memory"})
    assert found["job"] == "quick, seed 4"


def test_labels_that_begin_with_a_scheduler_have_its_colour() -> None:
    labels = ["dqn 2", "lookahead (30)", "dqn tuned", "edge node", "quick"]
    assert [shipped_name(each) for each in labels] == ["dqn", "lookahead", "dqn", None, None]
