"""The kernel of a testbed on nodes that answer in the same process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mecsim.errors import NodeFailedError
from mecsim.kernels.simpy_kernel import SimpyKernel
from mecsim.model.model import Model, resolve
from mecsim.model.task_status import COMPLETED, DROPPED, LOST
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import Placement, SchedulerSpec
from mecsim.simulation.drive import SchedulerPolicy, Source, drive
from mecsim.testbed.kernel import TestbedKernel
from mecsim.testbed.messages import Dropped, Error, Lost, Message, Poll, Record, State
from mecsim.testbed.pool import Event
from mecsim.testbed.way import Ways
from mecsim.trace.schema import MemoryTrace
from tests.testbed.fake_pool import FakePool

SMALL: dict[str, Any] = {
    "slots": 3,
    "devices": 1,
    "edge_servers": 1,
    "decision_epoch": "per_task",
    "dnn": {"blocks": 3},
    "arrivals": {"process": "poisson", "rate": 4.0},
    "radio": {"rate": 5e6},
    "return_result": True,
}


class Alternating(Scheduler):
    """Computes every second task on the server, all others on the device."""

    def decide(self, observation: Observation) -> Placement:
        return [observation.epoch % 2] * self.spec.blocks


class Run:
    """A run on fake nodes, with its trace."""

    def __init__(
        self,
        changes: dict[str, Any] | None = None,
        change: Callable[[list[Message]], list[Message]] = lambda reports: reports,
        *,
        continues: bool = False,
    ) -> None:
        self.model = resolve(Scenario.model_validate(SMALL | (changes or {})), 1)
        self.ways, self.trace = Ways(self.model), MemoryTrace()
        self.pool = FakePool(self.ways.names, change)
        self.clock = self.pool.clock
        self.kernel = TestbedKernel(
            self.model, self.ways, self.pool, self.clock, continues=continues
        )

    def play(self, scheduler: str | type[Scheduler] = Alternating) -> MemoryTrace:
        return play(self.model, self.kernel, scheduler, self.trace)

    def column(self, name: str) -> Any:
        return self.trace[f"tasks/{name}"]


def play(
    model: Model, kernel: Any, scheduler: str | type[Scheduler], trace: MemoryTrace
) -> MemoryTrace:
    spec = SchedulerSpec.of(model)
    made = registry.create(scheduler, spec, {}) if isinstance(scheduler, str) else scheduler(spec)
    source = Source(model, spec, lambda _: kernel, None, [trace])
    drive(source, SchedulerPolicy(made, "test"))
    return trace


def test_nodes_that_keep_to_the_plan_give_the_times_of_a_simulation() -> None:
    run = Run({"dnn": {"blocks": 1}})  # tasks of several blocks would overtake each other
    measured = run.play()
    simulated = play(run.model, SimpyKernel(run.model), Alternating, MemoryTrace())
    assert len(run.column("status")) > 3
    for name in ("tasks/total_s", "tasks/energy_J", "blocks/delay_s", "hops/start_s"):
        assert measured[name] == pytest.approx(simulated[name], rel=1e-6), name
    assert measured["hops/resource"].tolist() == simulated["hops/resource"].tolist()


def test_reports_may_come_in_any_order() -> None:
    clock_free = {name: Run(change=order) for name, order in (("as", list), ("back", reversed_))}
    found = {name: run.play()["tasks/total_s"] for name, run in clock_free.items()}
    assert found["as"] == pytest.approx(found["back"], rel=1e-6)


def reversed_(reports: list[Message]) -> list[Message]:
    return reports[::-1]


def test_times_are_as_measured_and_energy_follows() -> None:
    planned = Run()
    planned.play("local")

    def slower(reports: list[Message]) -> list[Message]:
        """Let the first block take twice as long."""
        first = reports[0]
        assert isinstance(first, Record)
        took = first.finish_at - first.start_at
        return [
            each.model_copy(
                update={
                    "finish_at": each.finish_at + took,
                    "start_at": each.start_at + (took if number else 0.0),
                }
            )
            for number, each in enumerate(reports)
            if isinstance(each, Record)
        ]

    run = Run({"slots": 1, "arrivals": {"process": "deterministic", "rate": 1.0}}, slower)
    run.play("local")
    energy, service = energies_and_services(run.model)
    assert run.column("total_s") == pytest.approx(sum(service) + service[0], rel=1e-6)
    assert run.column("energy_J") == pytest.approx(sum(energy) + energy[0], rel=1e-6)


def energies_and_services(model: Model) -> tuple[list[float], list[float]]:
    """Energy and service of each block on the device, by Eqs. 3 and 4."""
    hz, kappa = float(model.device_hz[0]), float(model.kappa[0])
    cycles = model.cycles.tolist()
    return [kappa * hz * hz * c for c in cycles], [c / hz for c in cycles]


def test_a_service_that_seems_to_begin_too_early_begins_when_its_task_comes() -> None:
    def early(reports: list[Message]) -> list[Message]:
        return [
            each.model_copy(update={"start_at": each.start_at - 1.0}) if number else each
            for number, each in enumerate(reports)
            if isinstance(each, Record)
        ]

    trace = Run(change=early).play()
    assert (trace["hops/start_s"] >= trace["hops/enqueue_s"]).all()
    assert (trace["hops/finish_s"] >= trace["hops/start_s"]).all()


@pytest.mark.parametrize("lost", [True, False])
def test_a_task_that_a_node_loses_or_drops_has_no_further_hops(lost: bool) -> None:
    def end(reports: list[Message]) -> list[Message]:
        """Let task 1 end at its second hop; its reports come in the wrong order."""
        second = reports[1]
        assert isinstance(second, Record)
        if second.task != 1:
            return reports
        fields: dict[str, Any] = {"task": 1, "hop": 1, "at": second.start_at}
        ended = Lost(**fields, reason="broken pipe") if lost else Dropped(**fields)
        return [ended, reports[0]]

    changes = {"deadline": 2.0, "drop_late": True}
    run = Run(changes, end)
    run.play()
    status = run.column("status").tolist()
    assert status[1] == (LOST if lost else DROPPED)
    assert status.count(COMPLETED) == len(status) - 1
    hops = run.trace["hops/task"].tolist()
    assert hops.count(1) == (2 if lost else 1)  # where it was lost, it had been
    told = {name for name, message in run.pool.sent if isinstance(message, Lost | Dropped)}
    assert told == {"device0"}  # the other node on its way


def test_a_node_that_ends_stops_the_run() -> None:
    run = Run()
    run.pool.end("es1", at=run.clock.reading(1.0))
    with pytest.raises(NodeFailedError, match="node es1: was killed by SIGKILL"):
        run.play()


def test_an_error_of_a_node_stops_the_run() -> None:
    run = Run()
    run.pool.put(run.clock.reading(1.0), Event("device0", Error(message="frame came twice")))
    with pytest.raises(NodeFailedError, match="node device0: frame came twice"):
        run.play()


class WatchesServer(Scheduler):
    """Computes on the server while it is available."""

    seen: list[bool]

    def decide(self, observation: Observation) -> Placement:
        vars(self).setdefault("seen", []).append(bool(observation.server_available[0]))
        return [int(observation.server_available[0])] * self.spec.blocks


def test_a_run_continues_without_a_node() -> None:
    run = Run({"slots": 6}, continues=True)
    run.pool.end("es1", at=run.clock.reading(3.0))
    run.play(WatchesServer)
    release, status = run.column("release_s"), run.column("status")
    assert (status[release < 1.0] == COMPLETED).all()
    assert (status[release > 3.5] == COMPLETED).all()
    on_server = run.trace["decisions/placement"][:, 0] == 1
    late = release > 3.5
    assert not on_server[late].any()
    assert on_server[release < 2.5].all()
    assert run.kernel.lost().tolist() == [True, False, False, False]
    assert list(run.kernel.lateness.facts()["failures"]) == ["es1"]


def test_tasks_that_come_to_a_node_that_has_ended_are_lost() -> None:
    run = Run(continues=True)
    run.pool.end("device0")
    run.play("local")
    assert (run.column("status") == LOST).all()
    assert run.column("total_s") == pytest.approx(0.0)


def test_a_task_that_went_on_before_its_node_ended_is_not_lost() -> None:
    def without_uplink(reports: list[Message]) -> list[Message]:
        """Leave out the device's report of the uplink: the map was received."""
        return reports[1:]

    run = Run({"slots": 1, "return_result": False}, without_uplink, continues=True)
    run.pool.end("device0", at=run.clock.reading(5.0))
    run.play("edge")
    assert (run.column("status") == COMPLETED).all()
    planned = Run({"slots": 1, "return_result": False})
    planned.play("edge")
    assert run.column("total_s") == pytest.approx(planned.column("total_s"), rel=1e-6)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (
            Record(task=99, hop=0, joined_at=0.0, start_at=0.0, begun_at=0.0, finish_at=0.0),
            "reported task 99",
        ),
        (
            Record(task=0, hop=99, joined_at=0.0, start_at=0.0, begun_at=0.0, finish_at=0.0),
            "hop 99 of task 0",
        ),
        (Poll(number=1), "sent a frame poll"),
    ],
)
def test_reports_of_nothing_stop_the_run(report: Message, message: str) -> None:
    run = Run(change=lambda reports: [])
    run.pool.put(run.clock.reading(2.0), Event("es1", report))
    with pytest.raises(NodeFailedError, match=message):
        run.play()


def test_nodes_that_report_nothing_stop_the_run() -> None:
    run = Run(change=lambda _: [])
    expected = r"node device0: nothing was reported for \d+ s.*task 0 has come to device0\.cpu"
    with pytest.raises(NodeFailedError, match=expected):
        run.play()


def test_schedulers_see_what_nodes_report() -> None:
    class Backlogs(FakePool):
        def send(self, names: Any, message: Message) -> None:
            super().send(names, message)
            if isinstance(message, Poll):
                self._now.clear()
                states = {"es1": {"0": (1.5, 2)}, "device0": {"1": (0.25, 1)}}
                for name, resources in states.items():
                    state = State(number=message.number, at=0.0, resources=resources)
                    self._now.append(Event(name, state))

    run = Run()
    pool = Backlogs(run.ways.names)
    kernel = TestbedKernel(run.model, run.ways, pool, pool.clock, continues=False)
    seen: list[tuple[list[float], list[int], list[float]]] = []

    class Looks(Scheduler):
        def decide(self, observation: Observation) -> Placement:
            of = observation
            seen.append((of.backlog_s.tolist(), of.queue_length.tolist(), of.committed_s.tolist()))
            return [0] * self.spec.blocks

    play(run.model, kernel, Looks, MemoryTrace())
    assert seen[0] == ([0.0] * 4, [0] * 4, [0.0] * 4)  # nothing is in flight: nobody is asked
    assert ([1.5, 0.25, 0.0, 0.0], [2, 1, 0, 0], [0.0] * 4) in seen[1:]
    assert len([m for _, m in pool.sent if isinstance(m, Poll)]) <= 2 * len(seen)


def test_tasks_under_way_are_those_of_the_trace() -> None:
    run, seen = Run({"slots": 6}), list[tuple[float, list[float], list[int]]]()

    class Looks(Alternating):
        def decide(self, observation: Observation) -> Placement:
            tasks = observation.under_way
            seen.append((observation.time_s, tasks.release_s.tolist(), tasks.device.tolist()))
            assert (tasks.resource >= 0).all()
            return super().decide(observation)

    run.play(Looks)
    release, finish = run.column("release_s"), run.column("finish_s")
    assert sum(len(each) for _, each, _ in seen) > 0
    for time_s, released, device in seen:
        mine = [a for a, b in zip(release, finish, strict=True) if a < time_s < b]
        assert released == mine
        assert device == [0] * len(mine)


def test_services_that_were_placed_at_the_same_instant_are_committed() -> None:
    changes = {"arrivals": {"process": "slotted", "rate": 3}, "slots": 1}
    run, seen = Run(changes), list[float]()

    class Looks(Scheduler):
        def decide(self, observation: Observation) -> Placement:
            seen.append(float(observation.committed_s[1]))
            return [0] * self.spec.blocks

    run.play(Looks)
    whole_s = float(run.model.cycles.sum() / run.model.device_hz[0])
    assert seen == pytest.approx([0.0, whole_s, 2 * whole_s])


def test_tasks_in_flight_have_not_ended_for_schedulers_that_learn() -> None:
    ended: list[tuple[float, bool]] = []

    class Hears(Alternating):
        def task_ended(self, task: Any) -> None:
            ended.append((task.finish_s, task.failed))

    run = Run({"slots": 5})
    run.play(Hears)
    assert [failed for _, failed in ended] == [False] * len(run.column("status"))
    assert sorted(each for each, _ in ended) == pytest.approx(sorted(run.column("finish_s")))


def test_lateness_is_measured() -> None:
    run = Run()
    run.play()
    facts = run.kernel.lateness.facts()
    assert facts["decision_s"]["max"] >= facts["decision_s"]["mean"] >= 0.0
    assert 0.0 <= facts["late_executions"] <= 1.0
    assert facts["late_release_s"]["max"] >= 0.0
    assert not math.isnan(facts["late_epoch_s"]["mean"])
    assert np.isfinite(facts["poll_s"]["max"]) if facts["poll_s"] else True
