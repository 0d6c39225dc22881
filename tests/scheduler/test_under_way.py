"""What a scheduler sees of tasks under way, of past rates and of positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import Observation, Placement, Scenario, Scheduler
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS, SchedulerPolicy, Source, drive
from mecsim.simulation.run import run
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario
from tests.helpers.examples import examples
from tests.helpers.schedulers import Scripted
from tests.helpers.strategies import cases_of_classes


class Watching(Scripted):
    """A scripted scheduler that keeps what it sees of tasks under way and of rates."""

    def decide(self, observation: Observation) -> Placement:
        tasks = [column.tolist() for column in observation.under_way]
        slack, rates = observation.slack_s.tolist(), observation.past_rate_bps(3).tolist()
        seen, self.seen = self.seen, []
        placement = super().decide(observation)
        self.seen = seen
        seen.append((observation.time_s, *tasks, slack, rates))
        return placement


def watched(
    spec: Scenario, placements: list[list[int]], kernel: str
) -> tuple[list[Any], MemoryTrace]:
    model, seen, trace = resolve(spec), list[Any](), MemoryTrace()
    about = SchedulerSpec.of(model)
    policy = SchedulerPolicy(Watching(about, placements=placements, seen=seen), "watching")
    drive(Source(model, about, kernel, sinks=[trace]), policy)
    return seen, trace


@pytest.mark.parametrize("kernel", KERNELS)
def test_tasks_under_way_by_hand(kernel: str) -> None:
    """At 0 s three tasks of 3 s on the uplink, 2 s on the server: they end at 5, 8 and 11 s."""
    spec = scenario(
        slots=3,
        slot_length=4,
        tasks=[
            {
                "name": "only",
                "deadline": 7.5,
                "dnn": chain([2], [3]),
                "arrivals": {"process": "slotted", "rate": 1},
                "devices": {"phone": 1},
            },
        ],
        edge_servers=1,
        edge_server={"capacity": 1.0},
        devices=[{"name": "phone"}, {"name": "idle"}],
        radio={"rate": 1.0},
    )
    seen, _ = watched(spec, [[1]], kernel)
    server = 0
    assert [each[:-1] for each in seen] == [
        (0.0, [], [], [], [], []),
        (4.0, [0.0], [0], [0], [server], [3.5]),
        (8.0, [4.0], [0], [0], [server], [3.5]),
    ]


@given(cases_of_classes())
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_tasks_under_way_are_those_of_the_trace_in_both_kernels(
    case: tuple[Scenario, list[list[int]]],
) -> None:
    spec, placements = case
    seen, trace = watched(spec, placements, "simpy")
    assert watched(spec, placements, "compiled")[0] == seen
    release, finish = trace["tasks/release_s"], trace["tasks/finish_s"]
    deadlines = np.array([each.deadline or math.inf for each in spec.classes])
    for time_s, released, class_, device, _, slack, _ in seen:
        mine = np.flatnonzero((release < time_s) & (finish > time_s))
        assert released == release[mine].tolist()
        assert device == trace["tasks/device"][mine].tolist()
        assert class_ == trace["tasks/class"][mine].tolist()
        assert slack == (release[mine] + deadlines[class_] - time_s).tolist()


@pytest.mark.parametrize("kernel", KERNELS)
def test_past_rates_are_means_of_the_last_slots(kernel: str) -> None:
    spec = scenario(slots=6, devices=2, radio={"rate": {"uniform": [1.0, 9.0]}})
    rates = np.array([slot.rate_bps for slot in workload.slots(resolve(spec))])
    seen, _ = watched(spec, [[1]], kernel)
    for slot, each in enumerate(seen):
        last = rates[max(0, slot - 2) : slot + 1]
        assert each[-1] == (np.add.reduce(list(last)) / len(last)).tolist()


class Still(Scheduler):
    """Everything at the device; asked again where a device changes its server."""

    static = True

    def __init__(self, spec: SchedulerSpec, *, seen: Any) -> None:
        super().__init__(spec)
        self.seen = seen

    def decide(self, observation: Observation) -> Placement:
        self.seen.append((
            observation.slot,
            observation.device_xy.tolist(),
            observation.past_rate_bps(4).tolist(),
        ))  # fmt: skip
        return [0] * self.spec.blocks


def test_positions_and_rates_of_a_static_scheduler() -> None:
    """Device 0 goes 100 m a slot, from the first server to the second one; device 1 stands."""
    spec = scenario(
        slots=6,
        devices=2,
        edge_servers=2,
        device={"positions": [[0.0, 0.0], [10.0, 20.0]]},
        edge_server={"spacing": 500.0},
        radio={"rate": {"uniform": [1.0, 9.0]}},
        mobility=[{"points": [[0.0, 0, 0.0, 0.0], [5.0, 0, 500.0, 0.0]], "hysteresis_db": 0.0}],
    )
    told: dict[str, list[Any]] = {kernel: [] for kernel in KERNELS}
    for kernel in KERNELS:
        run(spec, lambda s, to=told[kernel]: Still(s, seen=to), kernel=kernel)
    assert told["simpy"] == told["compiled"]
    assert [(slot, xy) for slot, xy, _ in told["simpy"]] == [
        (slot, [[100.0 * slot, 0.0], [10.0, 20.0]]) for slot in (0, 3)
    ]


def test_wrong_numbers_of_slots_are_refused() -> None:
    seen: list[Any] = []
    run(scenario(), lambda s: Scripted(s, placements=[[0]], seen=seen))
    for slots in (0, 101):
        with pytest.raises(ValueError, match=f"slots is {slots}; allowed: 1 to 100"):
            seen[0].past_rate_bps(slots)
    with pytest.raises(RuntimeError, match="under_way: the network has changed since epoch 0"):
        seen[0].under_way  # noqa: B018
