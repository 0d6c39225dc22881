"""Lost tasks that are placed again: by hand, and what holds in every run."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import EndedTask, Observation, Placement, Scenario
from mecsim.errors import InputError, ScenarioError
from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.recorded import recorded_summary
from mecsim.simulation.replay import replay, replay_with
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.run import run
from mecsim.study.summary import _gap_percent
from mecsim.trace import TraceFile
from mecsim.trace.export import export
from tests.helpers.builders import Run, chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import LISTENING, SCRIPTED, Scripted
from tests.helpers.strategies import cases_with_retries
from tests.simulation.test_ended_tasks import heard_in

LOSING: dict[str, Any] = {"servers": [1], "at": [[3.5, 5.0]], "work": "lost"}


def losing(**overrides: Any) -> Scenario:
    """Two blocks of 1 and 2 s, with 2 and 1 bits; server 1 is down from 3.5 to 5 s."""
    base: dict[str, Any] = {
        "slots": 3,
        "slot_length": 4.0,
        "dnn": chain([1, 2], [2, 1]),
        "edge_server": {"capacity": 1.0},
        "device": {"capacity": 1.0, "positions": [[0, 0]]},
        "radio": {"rate": 1.0, "transmit_power": 1.0},
        "energy": {"kappa": 1.0},
        "wired": {"rate": 1.0},
        "failures": [LOSING],
        "retries": 2,
    }
    return scenario(**(base | overrides))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_lost_task_joins_the_next_slot(kernel: str) -> None:
    """Task 0 is lost at 3.5 s in its second block, and placed at server 2 with task 1 at 4 s.

    It comes first: uplink until 6 s, link until 8 s, then 1 s and 2 s of work. Task 1 waits for it
    at each of them. Task 2 is computed by its device.
    """
    script = {"placements": [[1, 1], [2, 2], [0, 0]]}
    found = simulate(losing(), SCRIPTED, script, kernel=kernel)
    trace, summary = found.trace, found.summary
    assert trace["tasks/finish_s"].tolist() == [11.0, 14.0, 11.0]
    assert trace["tasks/attempts"].tolist() == [2, 1, 1]
    assert trace["tasks/status"].tolist() == [0, 0, 0]
    assert trace["tasks/total_s"].tolist() == [11.0, 10.0, 3.0]
    assert trace["tasks/energy_J"].tolist() == [4.0, 2.0, 3.0]  # of both transfers
    # The block that was computed twice counts once until it was finished first, and from then on
    # until it was finished again.
    assert trace["blocks/task"].tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert trace["blocks/attempt"].tolist() == [1, 1, 2, 2, 1, 1, 1, 1]
    assert trace["blocks/node"].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]
    np.testing.assert_array_equal(
        trace["blocks/delay_s"], [3.0, np.nan, 6.0, 2.0, 8.0, 2.0, 1.0, 2.0]
    )
    assert trace["hops/attempt"].tolist() == [1] * 3 + [2] * 4 + [1] * 6
    assert trace["hops/enqueue_s"].tolist()[2:5] == [3.0, 4.0, 6.0]
    assert trace["hops/finish_s"].tolist()[2:5] == [3.5, 6.0, 8.0]
    # τ is 3 s: 3 s by 4 s; nothing until 8 s; then 6 + 3, 2, 8 + 5, 2 and the device's 1 and 2 s.
    assert trace["decisions/reward"].tolist() == [-3.0, 0.0, -(9.0 + 2 + 13 + 2 + 1 + 2)]
    assert summary["reward"] == trace["decisions/reward"].sum()
    assert (summary["tasks"], summary["completed"], summary["retried"]) == (3, 3, 1)
    assert trace["slots/released"].tolist() == [1, 1, 1]
    assert summary["events"] == 3 + 1 + 13


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_lost_task_is_placed_at_once_where_each_task_is_an_epoch(kernel: str) -> None:
    """At 4 s the server refuses the second task: at its release, and at each decision for it."""
    spec = losing(
        decision_epoch="per_task",
        arrivals={"process": "listed", "release": [0.0, 4.0]},
        failures=[LOSING | {"arrivals": "fail"}],
        dnn=chain([1, 2], [0, 0]),
    )
    script = {"placements": [[1, 1], [1, 0], [0, 0], [0, 2]]}
    trace = simulate(spec, SCRIPTED, script, kernel=kernel).trace
    # 0 to 1 s and 1 to 3 s: completed. At 4 s server 1 refuses the second task at its release.
    assert trace["tasks/attempts"].tolist() == [1, 2]
    assert trace["decisions/time_s"].tolist() == [0.0, 4.0, 4.0]
    assert trace["decisions/slot"].tolist() == [0, 1, 1]
    assert trace["tasks/finish_s"].tolist() == [3.0, 7.0]
    assert trace["blocks/ready_s"][2:].tolist()[0] == 4.0
    script = {"placements": [[1, 1], [1, 0]]}
    trace = simulate(spec, SCRIPTED, script, kernel=kernel).trace
    assert trace["decisions/time_s"].tolist() == [0.0, 4.0, 4.0, 4.0]
    assert trace["decisions/placement"].tolist() == [[1, 1], [1, 0], [1, 1], [1, 0]]
    assert trace["tasks/attempts"].tolist() == [1, 3]
    assert trace["tasks/status"].tolist() == [0, 2]
    assert trace["tasks/finish_s"].tolist() == [3.0, 4.0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_task_that_is_lost_after_the_last_decision_fails(kernel: str) -> None:
    """With per-task decisions there is one whenever a task is lost, also after the last slot."""
    late = LOSING | {"at": [[5.5, 6.0]]}
    arrivals = {"process": "listed", "release": [3.0]}
    common = {"slots": 1, "failures": [late], "arrivals": arrivals}
    trace = simulate(losing(**common), SCRIPTED, {"placements": [[1, 1]]}, kernel=kernel).trace
    assert trace["tasks/status"].tolist() == [2]
    assert trace["tasks/finish_s"].tolist() == [5.5]
    spec = losing(**common, decision_epoch="per_task")
    trace = simulate(spec, SCRIPTED, {"placements": [[1, 1], [0, 0]]}, kernel=kernel).trace
    assert trace["decisions/time_s"].tolist() == [3.0, 5.5]
    assert trace["decisions/slot"].tolist() == [0, 0]
    assert trace["tasks/finish_s"].tolist() == [8.5]
    assert trace["tasks/local_s"].tolist() == [5.5]  # 3 to 6.5 s, 2 s


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("deadline", "missed"), [(10.0, 1.0), (11.0, 0.0)])
def test_deadlines_count_from_the_first_release(
    kernel: str, deadline: float, missed: float
) -> None:
    spec = losing(deadline=deadline, slots=2, arrivals={"process": "listed", "release": [0.0]})
    found = simulate(spec, SCRIPTED, {"placements": [[1, 1], [2, 2]]}, kernel=kernel)
    assert found.trace["tasks/finish_s"].tolist() == [11.0]
    assert found.summary["deadline_miss_ratio"] == missed
    spec = Scenario.model_validate(spec.model_dump() | {"drop_late": True})
    found = simulate(spec, SCRIPTED, {"placements": [[1, 1], [2, 2]]}, kernel=kernel)
    assert found.trace["tasks/status"].tolist() == [0]  # its last service begins at 9 s
    late = Scenario.model_validate(spec.model_dump() | {"deadline": 8.5})
    found = simulate(late, SCRIPTED, {"placements": [[1, 1], [2, 2]]}, kernel=kernel)
    assert found.trace["tasks/status"].tolist() == [3]
    assert found.trace["tasks/finish_s"].tolist() == [9.0]
    past = Scenario.model_validate(spec.model_dump() | {"deadline": 3.75})
    found = simulate(past, SCRIPTED, {"placements": [[1, 1], [2, 2]]}, kernel=kernel)
    assert found.trace["tasks/status"].tolist() == [3]
    assert found.trace["tasks/finish_s"].tolist() == [4.0]  # it waits for the decision


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("battery", "status"), [(5.0, 0), (3.0, 1)])
def test_a_battery_pays_for_all_attempts(kernel: str, battery: float, status: int) -> None:
    """A transfer costs 2 J. The task is lost at 5 s, and sent again at 8 s if 2 J are left."""
    spec = losing(
        slots=4,
        arrivals={"process": "listed", "release": [0.0]},
        failures=[LOSING | {"at": [[5.0, 6.0]]}],
        device={"capacity": 1.0, "positions": [[0, 0]], "battery": battery},
        dnn=chain([4], [2]),
    )
    trace = simulate(spec, SCRIPTED, {"placements": [[1]]}, kernel=kernel).trace
    left_j = battery - 2.0 - 2.0 * (status == 0)
    assert trace["slots/energy_remaining_J"][:, 0].tolist() == [battery, *[battery - 2] * 2, left_j]
    assert trace["tasks/status"].tolist() == [status]
    assert trace["tasks/finish_s"].tolist() == [14.0 if status == 0 else 8.0]
    assert trace["tasks/energy_J"].tolist() == [battery - left_j]


@pytest.mark.parametrize("kernel", KERNELS)
def test_task_ended_reports_all_attempts(kernel: str) -> None:
    heard, _ = heard_in(losing(), [[1, 1], [2, 2], [0, 0]], kernel)
    task: EndedTask = next(task for _, task in heard if task.number == 0)
    assert (task.attempts, task.failed, task.release_s, task.finish_s) == (2, False, 0.0, 11.0)
    assert task.placement.tolist() == [2, 2]
    assert task.delay_s.tolist() == [6.0, 2.0]
    assert task.energy_j == 4.0
    assert task.part_s == {
        "server": 1.0 + 0.5 + 1.0 + 2.0,
        "device": 0.0,
        "uplink": 4.0,
        "downlink": 0.0,
        "link": 2.0,
        "decision": 0.5,
    }
    assert task.late_blocks == 1
    assert sorted(task.number for _, task in heard) == [0, 1, 2]


def test_observations_include_tasks_that_are_placed_again() -> None:
    """One task of size 1.2 is lost; the next slot has one of size 0.9: 2 tasks of 1.05."""
    arrivals = {"process": "listed", "release": [0.0, 4.0], "sizes": [1.2, 0.9]}
    seen: list[Observation] = []
    spec = losing(slots=3, arrivals=arrivals)
    run(spec, lambda s: Scripted(s, placements=[[1, 1]], seen=seen))
    assert [o.tasks for o in seen] == [1.0, 2.0, 2 / 3]
    assert seen[1].size_factor == pytest.approx(1.05)
    assert seen[2].size_factor == 1.0


def test_a_class_sees_what_was_placed_again_of_the_classes_before() -> None:
    """Tasks of unknown number are expected, those that are placed again known."""
    each = {"dnn": chain([1, 2], [2, 1]), "retries": 1}
    tasks = [
        {"name": "a", "arrivals": {"process": "listed", "release": [0.0, 5.0]}, **each},
        {"name": "b", "arrivals": {"process": "slotted", "rate": 1}, **each},
    ]
    committed: list[Any] = []

    class Looking(Scripted):
        def decide(self, observation: Observation) -> Placement:
            committed.append((observation.tasks, observation.committed_s[:2].tolist()))
            return super().decide(observation)

    spec = losing(slots=2, tasks=tasks)
    values = spec.model_dump(exclude_none=True)
    spec = Scenario.model_validate(values)
    run(spec, lambda s: Looking(s, placements=[[1, 1], [0, 0], [2, 2], [1, 1]]))
    # At 4 s one task of class a is placed again, and one is expected: 3 s each at server 2.
    assert committed[2] == (2.0, [0.0, 0.0])
    assert committed[3] == (1.0, [0.0, 6.0])


# ---------------------------------------------------------------- what cannot retry


def test_rollouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scheduler 'lookahead': retries: what_if does not place"):
        run(losing(), "lookahead", out=tmp_path / "t.h5")
    assert not list(tmp_path.iterdir())


def test_rollouts_of_an_instance_are_refused() -> None:
    class Looking(Scripted):
        uses_rollouts = True

    with pytest.raises(InputError, match="retries: what_if does not place lost tasks again"):
        run(losing(), Looking(SchedulerSpec.of(resolve(losing())), placements=[[0, 0]]))


def test_a_comparison_has_no_gap_either() -> None:
    row: Any = {"failed": 0, "reward": -3.0}
    assert _gap_percent(row, 2.0) == 50.0
    assert _gap_percent(row | {"retried": 0}, 2.0) == 50.0
    assert _gap_percent(row | {"retried": 1}, 2.0) is None


def test_replicas_refuse_retries() -> None:
    with pytest.raises(ScenarioError, match="retries: 2, but trainings and environments do not"):
        Replicas(losing(), 2)


def test_static_schedulers_take_the_general_path() -> None:
    """Two servers serve alike; server 1 loses the task of the first slot."""
    both = [simulate(losing(), "fixed", {"placement": [1, 1]}, kernel=k) for k in KERNELS]
    assert both[0].trace.first_difference(both[1].trace) is None
    assert both[1].summary["retried"] == 1
    alone = run(losing(), "fixed", {"placement": [1, 1]}, kernel="compiled").summary
    assert alone.reward == both[1].summary["reward"]


def test_no_gap_where_tasks_were_placed_again() -> None:
    found = run(losing(), "fixed", {"placement": [1, 1]}, lower_bound=True).summary
    assert found.failed == 0
    assert found.lower_bound is not None
    assert found.lower_bound.gap_percent is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retries": -1}, "retries: -1 should be from 0 to 1000"),
        ({"retries": 1001}, "retries: 1001 should be from 0 to 1000"),
        ({"retries": 1.5}, "retries: 1.5 should be"),
        ({"retries": 2, "failures": ()}, "retries: 2 has no effect, since no failure loses tasks"),
        (
            {"failures": [{"servers": [1], "at": [[1.0, 2.0]]}]},
            "retries: 2 has no effect, since no failure loses tasks; allowed: 0. Try: work: lost",
        ),
    ],
)
def test_invalid_values(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {"slots": 3, "failures": [LOSING], "retries": 2} | changes
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ScenarioError, match=message) as raised:
        load(file)
    assert len(str(raised.value).splitlines()) == 1


def test_scenarios_without_retries_keep_their_hashes() -> None:
    spec = losing(retries=0)
    assert "retries" not in spec.model_dump()
    each = {"name": "a", "dnn": chain([1], [1])}
    assert "retries" not in losing(retries=0, tasks=[each]).model_dump()["tasks"][0]


# ---------------------------------------------------------------- traces


def test_traces_are_exported_and_run_again(tmp_path: Path) -> None:
    script = {"placements": [[1, 1], [2, 2], [0, 0]]}
    path = tmp_path / "t.h5"
    run(losing(), SCRIPTED, script, out=path)
    assert {each.name for each in export(path, "csv", tmp_path / "csv")} >= {"tasks.csv"}
    head, *rows = (tmp_path / "csv" / "tasks.csv").read_text(encoding="utf-8").splitlines()
    at = head.split(",").index("attempts")
    assert [row.split(",")[at] for row in rows] == ["2", "1", "1"]
    assert "attempt" in (tmp_path / "csv" / "hops.csv").read_text(encoding="utf-8")
    (timeline,) = export(path, "perfetto", tmp_path / "t.json")
    events = json.loads(timeline.read_text(encoding="utf-8"))["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == 13
    again = replay_with(path, SCRIPTED, {"placements": [[2, 2]]}).summary
    assert (again.tasks, again.retried) == (3, 0)


# ---------------------------------------------------------------- what holds in every run


def check_laws(spec: Scenario, found: Run) -> None:
    trace, summary = found.trace, found.summary
    if not summary["tasks"]:
        return
    limit = np.array([each.retries for each in spec.classes])
    class_ = trace["tasks/class"] if len(limit) > 1 else np.zeros(summary["tasks"], np.int64)
    attempts, status = trace["tasks/attempts"], trace["tasks/status"]
    failed = sum(summary.get("failed_by_cause", {"all": summary["failed"]}).values())
    assert summary["tasks"] == len(status) == summary["completed"] + failed
    assert summary["retried"] == (attempts > 1).sum()
    assert ((attempts >= 1) & (attempts <= 1 + limit[class_])).all()
    last_s = (spec.slots - 1) * spec.slot_length
    again = (status == 2) & (attempts <= limit[class_])
    assert not (again & (spec.decision_epoch == "per_task")).any()
    assert (trace["tasks/finish_s"][again] >= last_s).all()  # those of one instant come after it
    blocks_of = np.diff(resolve(spec).first_block)[class_]
    task, attempt = trace["blocks/task"], trace["blocks/attempt"]
    order = np.repeat(np.arange(len(status)), attempts * blocks_of)
    np.testing.assert_array_equal(task, order)
    assert (np.diff(1000 * task + attempt) >= 0).all()
    count = len(status)
    done, delay_s = status == 0, np.nan_to_num(trace["blocks/delay_s"])
    total_s = np.bincount(task, delay_s, count)
    spent_s = trace["tasks/finish_s"] - trace["tasks/release_s"]
    np.testing.assert_allclose(total_s, trace["tasks/total_s"], atol=1e-9)
    np.testing.assert_allclose(total_s[done], spent_s[done], atol=1e-9)
    energy_j = np.bincount(task, trace["blocks/energy_J"], count)
    np.testing.assert_allclose(energy_j, trace["tasks/energy_J"], atol=1e-9)
    assert trace["decisions/reward"].sum() == pytest.approx(summary["reward"], abs=1e-9)
    served = np.bincount(trace["hops/resource"], minlength=len(trace["resources/served"]))
    np.testing.assert_array_equal(served, trace["resources/served"])
    check_hops(trace, spec)


def check_hops(trace: Any, spec: Scenario) -> None:
    """An attempt begins at a decision, after the loss of the one before."""
    task, attempt, enqueue_s = (trace[f"hops/{n}"] for n in ("task", "attempt", "enqueue_s"))
    first = (np.diff(task, prepend=-1) != 0) | (np.diff(attempt, prepend=-1) != 0)
    again = np.flatnonzero(first & (attempt > 1))
    same = again[task[again - 1] == task[again]]
    lost_s = trace["hops/finish_s"][same - 1]
    assert (enqueue_s[same] >= lost_s).all()
    if spec.decision_epoch == "per_task":
        np.testing.assert_array_equal(enqueue_s[same], lost_s)
    assert np.isin(enqueue_s[again], trace["decisions/time_s"]).all()


@given(cases_with_retries())
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_laws(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    found = [
        simulate(spec, SCRIPTED, {"placements": placements}, kernel=kernel) for kernel in KERNELS
    ]
    assert found[0].trace.first_difference(found[1].trace) is None
    assert found[0].summary | {"kernel": "compiled"} == found[1].summary
    check_laws(spec, found[1])


@given(cases_with_retries())
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_hooks_hear_what_the_trace_has(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    both = []
    for kernel in KERNELS:
        heard, trace = heard_in(spec, placements, kernel)
        tasks = {task.number: task for _, task in heard}
        assert sorted(tasks) == list(range(len(trace["tasks/status"])))
        assert len(heard) == len(tasks)
        for number, task in tasks.items():
            for name, value in (
                ("release_s", task.release_s),
                ("finish_s", task.finish_s),
                ("late_blocks", task.late_blocks),
                ("attempts", task.attempts),
                ("slot", task.slot),
                ("device", task.device),
            ):
                assert trace[f"tasks/{name}"][number] == value
            assert task.failed == (trace["tasks/status"][number] != 0)
            assert task.energy_j == pytest.approx(trace["tasks/energy_J"][number])
            if not task.failed:
                assert sum(task.part_s.values()) == pytest.approx(task.total_s, abs=1e-9)
        both.append([(at, task.number, task.part_s, task.energy_j) for at, task in heard])
    assert both[0] == both[1]


@given(cases_with_retries())
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_rewards_are_known_at_the_next_epoch(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    heard: list[Any] = []
    found = simulate(spec, LISTENING, {"placements": placements, "heard": heard})
    assert [reward for _, reward in heard] == found.trace["decisions/reward"].tolist()


@given(cases_with_retries())
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_traces_replay_and_sum_up(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    with TemporaryDirectory() as folder:
        path = Path(folder, "t.h5")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mecsim.simulation.session.BATCH_HOPS", 3)  # in many pieces
            result = run(spec, SCRIPTED, {"placements": placements}, out=path)
        for kernel in KERNELS:
            assert replay(path, kernel=kernel).difference is None
        with TraceFile(path) as trace:
            again = recorded_summary(trace, resolve(trace.scenario, trace.made_by.seed))
    left = {"wall_s", "trace", "scenario"}
    assert again.model_dump(exclude=left) == result.summary.model_dump(exclude=left)
