"""Runs with several classes of tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import Scenario
from mecsim.errors import PlacementError, SchedulerError
from mecsim.model.model import resolve
from mecsim.scheduler.ended_task import EndedTask
from mecsim.scheduler.observation import Observation, feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.recorded import recorded_summary
from mecsim.simulation.replay import replay, replay_with
from mecsim.simulation.run import run
from mecsim.trace import TraceFile
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.examples import examples
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


@settings(max_examples=examples(24), deadline=None)
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


@settings(max_examples=examples(12), deadline=None)
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
            costs.append(float(observation.what_if(np.array([placement])).cost[0]))
            return placement

    for kernel in ("simpy", "compiled"):
        costs.clear()
        spec = described(LONG, SHORT, slots=1)
        found = run(spec, Asking, {"placements": [[1, 1]]}, kernel=kernel)
        assert costs[0] == pytest.approx(4 / 3)  # the long task alone: 2 + 2
        assert costs[1] == pytest.approx(-found.summary.reward)


def test_a_scheduler_for_one_class_is_refused() -> None:
    class OneClass(Scripted):
        several_classes = False

    spec = described(LONG, SHORT)
    with pytest.raises(SchedulerError, match=r"OneClass.*: decides for one class.*long, short"):
        run(spec, OneClass, {"placements": [[1, 1]]})
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


# ---------------------------------------------------------------- dropped tasks


def dropping(deadline: float = 2.5, rate: float = 4, cycles: Any = (1,), **more: Any) -> Scenario:
    """Tasks at one device at 1 Hz that are dropped at their deadline, in a slot of 10 s."""
    return scenario(
        slot_length=10.0,
        dnn=chain(cycles, [0] * len(cycles)),
        arrivals={"process": "slotted", "rate": rate},
        device={"capacity": 1.0},
        deadline=deadline,
        drop_late=True,
        **more,
    )


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
def test_a_task_is_dropped_if_its_service_would_begin_too_late(kernel: str) -> None:
    """Services begin at 0, 1, 2 and 3 s: the third ends late, the fourth is withdrawn at 2.5 s."""
    found = simulate(dropping(), "local", kernel=kernel)
    assert found.trace["tasks/status"].tolist() == [0, 0, 0, 3]
    assert found.trace["tasks/finish_s"].tolist() == [1, 2, 3, 2.5]
    assert found.trace["resources/busy_s"].sum() == 3
    assert found.summary["failed_by_cause"] == {"dropped late": 1}
    assert (found.summary["deadline_miss_ratio"], found.summary["completed"]) == (2 / 4, 3)
    assert found.summary["total_delay_s"]["mean"] == 2


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
def test_a_task_whose_deadline_has_passed_is_dropped_at_once(kernel: str) -> None:
    """The second task begins its first block at 2 s, ends it at 4 s, and begins no other."""
    found = simulate(dropping(3.0, 2, (2, 1)), "local", kernel=kernel)
    assert found.trace["tasks/status"].tolist() == [3, 3]
    assert found.trace["tasks/finish_s"].tolist() == [3, 4]  # the first would go on at 4 s
    assert found.trace["hops/task"].tolist() == [0, 1]
    assert np.isnan(found.trace["blocks/finish_s"]).tolist() == [False, True] * 2


def test_a_service_may_begin_at_the_deadline() -> None:
    found = simulate(dropping(3.0), "local")
    assert found.trace["tasks/status"].tolist() == [0, 0, 0, 0]


def queue_with_withdrawals(
    arrived_s: list[float], service_s: list[float], patience_s: float
) -> list[float]:
    """When each job of a FIFO queue ends, with jobs that leave the queue when their time is up."""
    waiting: list[int] = []
    ends = [np.nan] * len(arrived_s)
    free_s = 0.0
    for time_s in [*sorted({*arrived_s, *(each + patience_s for each in arrived_s)}), np.inf]:
        while waiting and max(free_s, arrived_s[waiting[0]]) < time_s:  # begin what can begin
            job = waiting.pop(0)
            free_s = ends[job] = max(free_s, arrived_s[job]) + service_s[job]
        for job in [each for each in waiting if arrived_s[each] + patience_s == time_s]:
            if free_s > time_s:
                waiting.remove(job)
                ends[job] = time_s
        waiting += [job for job, at in enumerate(arrived_s) if at == time_s]
    return ends


def test_withdrawn_work_delays_nobody() -> None:
    """Against a program with an explicit queue, from which jobs are removed at their deadline."""
    law: dict[str, Any] = {"size_factor": {"distribution": "exponential"}, "slots": 40}
    law["arrivals"] = {"process": "poisson", "rate": 12}
    spec = Scenario.model_validate(dropping(4.0).model_dump(mode="json") | law)
    trace = simulate(spec, "local").trace
    release_s, size = trace["tasks/release_s"].tolist(), trace["tasks/size_factor"].tolist()
    ends = queue_with_withdrawals(release_s, size, 4.0)
    assert trace["tasks/finish_s"].tolist() == pytest.approx(ends)
    share = (trace["tasks/status"] == 3).mean()
    assert 0.05 < share < 0.6


def test_rollouts_count_dropped_tasks_as_failed() -> None:
    failed: list[list[int]] = []

    class Asking(Scripted):
        uses_rollouts = True

        def decide(self, observation: Observation) -> Any:
            failed.append(observation.what_if([[0], [0]]).failed.tolist())
            return super().decide(observation)

    for kernel in ("simpy", "compiled"):
        run(dropping(), Asking, {"placements": [[0]]}, kernel=kernel)
    assert failed == [[1, 1], [1, 1]]


def test_a_scheduler_hears_of_a_dropped_task_after_its_deadline() -> None:
    heard: list[tuple[int, float, bool, bool]] = []

    class Hearing(Scripted):
        def task_ended(self, task: EndedTask) -> None:
            heard.append((task.number, task.finish_s, task.failed, task.missed_deadline))

    for kernel in ("simpy", "compiled"):
        heard.clear()
        run(dropping(slots=2), Hearing, {"placements": [[0]]}, kernel=kernel)
        assert heard[:4] == [(0, 1, False, False), (1, 2, False, False), (3, 2.5, True, True),
                             (2, 3, False, True)]  # fmt: skip
        assert len(heard) == 8


def test_work_placed_for_earlier_classes_is_committed() -> None:
    """The long task brings 2 + 2 s to the server before the short ones are placed."""
    found: list[list[float]] = []

    class Reading(Scripted):
        def decide(self, observation: Observation) -> Any:
            found.append(observation.committed_s[:2].tolist())
            return super().decide(observation)

    for kernel in ("simpy", "compiled"):
        found.clear()
        run(described(LONG, SHORT, slots=1), Reading, {"placements": [[1, 1]]}, kernel=kernel)
        assert found == [[0, 0], [4, 0]]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("epoch", "names", "expected"),
    [
        # 2 s of the long task for two cores, and 2 s at the device.
        ("per_slot", ("es1.cpu", "es1.mean_device"), [(0, 0), (1, 2)]),
        # A short one adds 1 s at the server for the last one.
        ("per_task", ("es1.cpu", "device.device"), [(0, 0), (1, 2), (1.5, 2)]),
    ],
)
def test_features_hold_the_committed_work(
    epoch: str, names: tuple[str, ...], expected: list[tuple[float, ...]], kernel: str
) -> None:
    """A scheduler that keeps observations finds it in them later, too."""
    values = described(LONG, SHORT, slots=1, decision_epoch=epoch).model_dump(mode="json")
    spec = Scenario.model_validate(values | {"edge_server": {"capacity": 1.0, "cores": 2}})
    found = list[tuple[float, ...]]()
    seen: list[Observation] = []

    class Reading(Scripted):
        def decide(self, observation: Observation) -> Any:
            found.append(committed(observation))
            return super().decide(observation)

    def committed(observation: Observation) -> tuple[float, ...]:
        features = dict(zip(feature_names(observation.spec), observation.features(), strict=True))
        return tuple(features[f"{name}_committed_s"] for name in names)

    options = {"placements": [[1, 0]], "seen": seen}
    trace = MemoryTrace()
    run(spec, Reading, options, kernel=kernel, memory=trace)
    assert found == expected
    assert [committed(observation) for observation in seen] == expected
    at = [feature_names(SchedulerSpec.of(resolve(spec))).index(f"{n}_committed_s") for n in names]
    assert trace["decisions/observation"][:, at].tolist() == [list(row) for row in expected]


def test_one_class_has_no_features_of_committed_work() -> None:
    names = feature_names(SchedulerSpec.of(resolve(described(LONG))))
    assert not any("committed" in name or name.startswith("class.") for name in names)
