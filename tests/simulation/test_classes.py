"""Runs with several classes of tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import Scenario
from mecsim.errors import PlacementError, ScenarioError, SchedulerError
from mecsim.model.model import resolve
from mecsim.scheduler.observation import Observation, feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.recorded import recorded_summary
from mecsim.simulation.replay import replay, replay_with
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.run import run
from mecsim.trace import TraceFile
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.schedulers import LISTENING, SCRIPTED, Scripted
from tests.helpers.strategies import cases_of_classes

LONG: dict[str, Any] = {
    "name": "long",
    "dnn": chain([2, 2], [0, 0], max_tolerated_delay=3),
    "arrivals": {"process": "slotted", "rate": 1},
    "deadline": 4.0,
}
SHORT: dict[str, Any] = {
    "name": "short",
    "dnn": chain([1], [0], max_tolerated_delay=3),
    "arrivals": {"process": "slotted", "rate": 2},
    "deadline": 4.5,
}


def described(*tasks: dict[str, Any], **more: Any) -> Scenario:
    """One server and one device at 1 Hz, by default two slots of 10 s."""
    more = {"slots": 2, "slot_length": 10.0, "edge_servers": 1} | more
    base = scenario(**more, device={"capacity": 1.0}, edge_server={"capacity": 1.0})
    values = base.model_dump(mode="json")
    kept = {k: v for k, v in values.items() if k not in ("dnn", "arrivals", "size_factor")}
    return Scenario.model_validate(kept | {"tasks": list(tasks)})


BY_HAND = {"long": [1, 1], "short": [1]}
"""All at the server: the long task in [0, 2] and, behind the short ones, [4, 6] of every slot."""


def test_delays_and_misses_by_hand() -> None:
    """Releases at one instant enter by number: long, short, short; the second block queues anew."""
    found = simulate(described(LONG, SHORT), "fixed", {"placement": BY_HAND})
    assert found.trace["tasks/class"].tolist() == [0, 1, 1] * 2
    assert found.trace["tasks/total_s"].tolist() == [6, 3, 4] * 2
    assert found.trace["blocks/block"].tolist() == [0, 1, 0, 0] * 2
    assert found.trace["hops/block"].tolist() == [0, 0, 1, 0, 0, 0, 0] * 2  # uplinks first
    assert found.trace["decisions/class"].tolist() == [0, 1] * 2
    assert found.trace["decisions/placement"].tolist() == [[1, 1], [1, -1]] * 2
    assert found.trace["tasks/late_blocks"].tolist() == [1, 0, 1] * 2
    assert found.summary["deadline_miss_ratio"] == 2 / 6
    long, short = found.summary["classes"]
    assert (long["name"], long["tasks"], long["deadline_miss_ratio"]) == ("long", 2, 1.0)
    assert (short["tasks"], short["deadline_miss_ratio"], short["miss_ratio"]) == (4, 0.0, 0.5)
    assert short["total_delay_s"]["mean"] == 3.5
    # costs, a third each: long 2 + 4 + 1 late, short 3 and 4 + 1 late
    assert found.trace["decisions/reward"] == pytest.approx([-7 / 3, -8 / 3] * 2)


def test_a_deadline_that_is_met_to_the_last_bit_is_no_miss() -> None:
    exact = described(LONG | {"deadline": 6.0}, SHORT)
    found = simulate(exact, "fixed", {"placement": BY_HAND}).summary
    assert found["classes"][0]["deadline_miss_ratio"] == 0


def test_one_class_has_a_deadline_too() -> None:
    """Tasks of 1 s, 2 s, 3 s in a batch: one of three is past 2 s. Blocks are judged apart."""
    one = scenario(
        dnn=chain([1], [0], max_tolerated_delay=0.5),
        arrivals={"process": "slotted", "rate": 3},
        device={"capacity": 1.0},
        deadline=2.0,
    )
    found = simulate(one, "local").summary
    assert (found["deadline_miss_ratio"], found["miss_ratio"]) == (1 / 3, 1.0)
    assert "classes" not in found
    assert "deadline_miss_ratio" not in simulate(scenario(), "local").summary


def test_a_list_of_one_class_is_the_short_form() -> None:
    task = {"dnn": chain([1, 2], [1, 1]), "arrivals": {"process": "poisson", "rate": 3}}
    short = scenario(slots=5, **task)
    values = short.model_dump(mode="json")
    kept = {k: v for k, v in values.items() if k not in ("dnn", "arrivals", "size_factor")}
    listed = Scenario.model_validate(kept | {"tasks": [task | {"name": "only"}]})
    one, other = (simulate(each, "greedy") for each in (short, listed))
    assert one.trace.first_difference(other.trace) is None
    assert one.summary == other.summary


def without_wall(path: Path, spec: Scenario) -> Any:
    with TraceFile(path) as trace:
        found = recorded_summary(trace, resolve(spec)).model_dump(mode="json")
    return {k: v for k, v in found.items() if k not in ("wall_s", "trace", "scenario", "kernel")}


@settings(max_examples=15, deadline=None)
@given(cases_of_classes())
def test_kernels_static_runs_and_sums_agree(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    one, other = (
        simulate(spec, SCRIPTED, {"placements": placements}, kernel=kernel)
        for kernel in ("simpy", "compiled")
    )
    assert one.trace.first_difference(other.trace) is None
    assert one.summary | {"kernel": "compiled"} == other.summary
    rewards = one.trace["decisions/reward"]
    assert rewards.sum() == pytest.approx(one.summary["reward"], abs=1e-9)
    classes = one.summary["classes"]
    for name in ("tasks", "completed", "failed", "late_blocks"):
        assert sum(each[name] for each in classes) == one.summary[name]
    names = [each.name for each in spec.classes]
    fixed = {
        name: placements[0][: m.blocks]
        for name, m in zip(names, resolve(spec).classes, strict=True)
    }
    static = run(spec, "fixed", {"placement": fixed}, kernel="compiled").summary
    stepped = run(spec, "fixed", {"placement": fixed}, kernel="simpy").summary
    assert (static.reward, static.classes) == (stepped.reward, stepped.classes)


@settings(max_examples=8, deadline=None)
@given(cases_of_classes())
def test_rewards_are_those_that_a_scheduler_hears(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    heard: list[tuple[int, float]] = []
    found = simulate(spec, LISTENING, {"placements": placements, "heard": heard})
    assert heard == list(enumerate(found.trace["decisions/reward"].tolist()))


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_a_trace_of_classes_replays(epoch: str, tmp_path: Path) -> None:
    per_block = {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "block"}
    poisson = {"arrivals": {"process": "poisson", "rate": 2}, "size_factor": per_block}
    spec = described(LONG, SHORT | poisson, decision_epoch=epoch, slots=6)
    path, done = tmp_path / "run.h5", tmp_path / "other.h5"
    first = run(spec, "greedy", out=path)
    assert set(first.tasks) >= {"class", "late_blocks"}
    for kernel in ("simpy", "compiled"):
        found = replay(path, kernel=kernel)
        assert found.difference is None
        assert found.rows["tasks"] == len(first.tasks["class"])
    other = replay_with(path, "apdi", out=done)
    assert other.summary.reward == run(spec, "apdi").summary.reward
    again = without_wall(path, spec)
    assert again == {k: v for k, v in first.summary.model_dump(mode="json").items() if k in again}
    with TraceFile(path) as trace:
        assert trace.attributes()["format_version"] == 2
        assert json.loads(trace.attributes()["scenario"])["tasks"][1]["name"] == "short"


def test_traces_of_one_class_have_format_1(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    run(scenario(), "local", out=path)
    with TraceFile(path) as trace:
        assert trace.attributes()["format_version"] == 1
        assert "class" not in trace.columns["tasks"]


def test_a_placement_has_the_blocks_of_its_class() -> None:
    with pytest.raises(PlacementError, match=r"epoch 1: the placement has the shape \(2,\); allow"):
        simulate(described(LONG, SHORT), "fixed", {"placement": [1, 1]})
    with pytest.raises(SchedulerError, match="placement: is for long; expected: long, short"):
        simulate(described(LONG, SHORT), "fixed", {"placement": {"long": [1, 1]}})


def test_the_spec_of_several_classes_has_no_blocks() -> None:
    spec = SchedulerSpec.of(resolve(described(LONG, SHORT)))
    assert [(each.class_name, each.blocks, each.deadline_s) for each in spec.classes] == [
        ("long", 2, 4.0),
        ("short", 1, 4.5),
    ]
    with pytest.raises(SchedulerError, match=r"classes of tasks \(long, short\).*observation.spec"):
        _ = spec.blocks
    names = feature_names(spec)
    assert names[-2:] == ["class.long", "class.short"]
    seen: list[Observation] = []
    simulate(described(LONG, SHORT), SCRIPTED, {"placements": [[1, 1]], "seen": seen})
    first, second = (each.features() for each in seen[:2])
    assert len(first) == len(names)
    work = names.index("block0.cycles")
    assert (first[work : work + 2].tolist(), second[work : work + 2].tolist()) == ([2, 2], [1, 0])
    assert (first[-2:].tolist(), second[-2:].tolist()) == ([1, 0], [0, 1])
    assert [each.tasks for each in seen[:2]] == [1, 2]


def test_rollouts_have_the_tasks_placed_before_at_the_instant() -> None:
    """The costs of the short tasks alone at the server are 1 + 2; behind the long one, more."""
    costs: list[float] = []

    class Asking(Scripted):
        uses_rollouts = True

        def decide(self, observation: Observation) -> Any:
            placement = super().decide(observation)
            costs.append(float(observation.what_if([placement]).cost[0]))
            return placement

    for kernel in ("simpy", "compiled"):
        costs.clear()
        spec = described(LONG, SHORT, slots=1)
        found = run(spec, Asking, {"placements": [[1, 1]]}, kernel=kernel)
        assert costs[0] == pytest.approx(4 / 3)  # the long task alone: 2 + 2
        assert costs[1] == pytest.approx(-found.summary.reward)


def test_what_does_not_know_classes_refuses_them() -> None:
    spec = described(LONG, SHORT)
    with pytest.raises(ScenarioError, match="tasks: has 2 classes; replicas"):
        Replicas(spec, 2)
    with pytest.raises(SchedulerError, match=r"'dqn': decides for one class of tasks.*long, short"):
        run(spec, "dqn", {"policy": "untrained"})
    assert run(spec).summary.scheduler == "greedy"


@pytest.mark.parametrize(
    "name", ["apdi", "edge", "greedy", "local", "rpdi", "single-cut", "viterbi"]
)
def test_no_scheduler_is_below_the_lower_bound(name: str) -> None:
    found = run(described(LONG, SHORT), name, lower_bound=True).summary
    assert found.lower_bound is not None
    assert -found.reward >= found.lower_bound.cost - 1e-12
    least = np.array([4, 1, 1, 4, 1, 1])  # each task alone, at 1 cycle a second; no block is late
    assert found.lower_bound.cost == pytest.approx(least.sum() / 3)
