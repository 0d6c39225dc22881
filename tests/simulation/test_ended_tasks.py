"""What schedulers hear of tasks that have ended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import EndedTask, Observation, Placement, Scenario, Scheduler, SchedulerSpec, run
from mecsim.model.model import resolve
from mecsim.simulation.drive import KERNELS
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import Scripted
from tests.helpers.strategies import cases

HEARING = "tests.simulation.test_ended_tasks:Hearing"


class Hearing(Scripted):
    """A scripted scheduler that keeps the tasks it hears of, and when, in ``heard``."""

    def __init__(self, spec: SchedulerSpec, *, placements: Any, heard: Any) -> None:
        super().__init__(spec, placements=placements)
        self.heard = heard
        self.late: list[EndedTask] = []

    def task_ended(self, task: EndedTask) -> None:
        self.late.append(task)

    def decide(self, observation: Observation) -> Placement:
        self._file(observation.time_s)
        return super().decide(observation)

    def run_ended(self) -> None:
        self._file(np.inf)

    def _file(self, time_s: float) -> None:
        self.heard += [(time_s, task) for task in self.late]
        self.late = []


def heard_in(spec: Scenario, placements: Any, kernel: str) -> tuple[list[Any], Any]:
    heard: list[Any] = []
    found = simulate(spec, HEARING, {"placements": placements, "heard": heard}, 0, kernel)
    return heard, found.trace


@pytest.mark.parametrize("kernel", KERNELS)
def test_parts_of_a_task(kernel: str) -> None:
    """A block of 2 s on the device, one of 4 s on server 2, and a link with a latency.

    The second task waits for the first at the device, the uplink and the server.
    """
    spec = scenario(
        slots=2,
        slot_length=12,
        dnn=chain([2, 4], [1, 3], 5, max_tolerated_delay=11),
        arrivals={"process": "deterministic", "rate": 2},
        edge_server={"capacity": 1.0},
        device={"capacity": 1.0, "positions": [[0, 0]]},
        radio={"rate": 1.0, "transmit_power": 1.0},
        wired={"rate": 1.0, "latency": 0.5},
        energy={"kappa": 1.0},
        return_result=True,
    )
    heard, _ = heard_in(spec, [[0, 2]], kernel)
    (at, first), *_ = heard
    # 0-2 device, 2-5 uplink, 5-8 link, 8.5-12.5 server, result: 12.5-17.5 link, 18-23 downlink
    assert at == np.inf
    assert (first.number, first.slot, first.device, first.release_s) == (0, 0, 0, 0.0)
    assert first.placement.tolist() == [0, 2]
    assert first.finish_s == first.total_s == 23.0
    assert first.delay_s.tolist() == [2.0, 21.0]
    assert first.part_s == {
        "device": 2.0,
        "uplink": 3.0,
        "link": 3.5 + 5.5,
        "server": 4.0,
        "downlink": 5.0,
    }
    assert first.energy_j == 2.0 + 3.0
    assert (first.late_blocks, first.failed) == (1, False)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_task_that_fails(kernel: str) -> None:
    """The battery pays one block of 2 J; the second task fails when the device would begin it."""
    spec = scenario(
        slots=2,
        slot_length=10,
        dnn=chain([2], [1]),
        device={"capacity": 1.0, "battery": 3.0},
        energy={"kappa": 1.0},
    )
    heard, _ = heard_in(spec, [[0]], kernel)
    assert [(at, task.number, task.failed, task.finish_s) for at, task in heard] == [
        (10.0, 0, False, 2.0),
        (np.inf, 1, True, 10.0),
    ]
    assert np.isnan(heard[1][1].delay_s).all()
    assert sum(heard[1][1].part_s.values()) == 0.0


@given(cases())
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_every_task_is_reported_once_as_the_trace_has_it(
    case: tuple[Scenario, list[list[int]]],
) -> None:
    spec, placements = case
    blocks, both = resolve(spec).blocks, []
    for kernel in KERNELS:
        heard, trace = heard_in(spec, placements, kernel)
        tasks, times = trace["tasks/finish_s"], trace["decisions/time_s"]
        assert sorted(task.number for _, task in heard) == list(range(len(tasks)))
        order = [(at, task.finish_s, task.number) for at, task in heard]
        assert order == sorted(order)
        for at, task in heard:
            own = slice(task.number * blocks, (task.number + 1) * blocks)
            assert task.finish_s == tasks[task.number]
            assert task.failed == (trace["tasks/status"][task.number] != 0)
            assert task.energy_j == trace["tasks/energy_J"][task.number]
            np.testing.assert_array_equal(task.delay_s, trace["blocks/delay_s"][own])
            known = np.nansum(task.delay_s) if not task.failed else sum(task.part_s.values())
            assert sum(task.part_s.values()) == pytest.approx(known)
            # at the first epoch that comes after its end
            after = times[times >= task.finish_s]
            assert at <= (after[after > task.release_s].min(initial=np.inf))
        both.append([(at, task.number, task.part_s) for at, task in heard])
    assert both[0] == both[1]


def test_a_static_scheduler_hears_of_its_tasks() -> None:
    heard: list[EndedTask] = []

    class Static(Scheduler):
        """Everything on the device."""

        static = True

        def decide(self, observation: Observation) -> Placement:
            return [0]

        def task_ended(self, task: EndedTask) -> None:
            heard.append(task)

    run(scenario(slots=3), Static, kernel="compiled")
    assert [task.number for task in heard] == [0, 1, 2]
