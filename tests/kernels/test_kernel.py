"""The kernel keeps the order of events: against an independent program, and worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim import Observation, Scenario
from mecsim.model.model import resolve
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, route, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.reference_programs import Served, event_driven
from tests.helpers.schedulers import SCRIPTED

Log = list[list[tuple[float, float, float]]]


def log_of(trace: MemoryTrace) -> Log:
    """Enqueue, start and finish of every hop of every task."""
    log: Log = [[] for _ in trace["tasks/release_s"]]
    times = (trace[f"hops/{name}_s"].tolist() for name in ("enqueue", "start", "finish"))
    for task, *hop in zip(trace["hops/task"].tolist(), *times, strict=True):
        log[task].append((hop[0], hop[1], hop[2]))
    return log


def resources_of(trace: MemoryTrace, spec: Scenario) -> list[list[str]]:
    """The names of what every task crosses."""
    names = resolve(spec).resource_names()
    crossed: list[list[str]] = [[] for _ in trace["tasks/release_s"]]
    pairs = zip(trace["hops/task"].tolist(), trace["hops/resource"].tolist(), strict=True)
    for task, resource in pairs:
        crossed[task].append(names[resource])
    return crossed


# ---------------------------------------------------------------- an independent program


@st.composite
def cases(draw: st.DrawFn) -> tuple[Scenario, list[list[int]]]:
    """Small scenarios in which most things happen at the same few instants."""
    blocks, servers = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    devices = draw(st.integers(1, 3))
    few = st.lists(st.integers(1, 3), min_size=blocks, max_size=blocks)
    speed = st.sampled_from([1.0, 2.0])
    topologies = ["full_mesh", "ring", "star", "line", "tree", "grid"]
    size: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"distribution": "constant"},
                {"distribution": "constant"},
                {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "slot"},
                {"distribution": "exponential", "per": "task"},
                {"distribution": "lognormal", "sigma": 0.5, "per": "block"},
            ]
        )
    )
    spec = scenario(
        slots=draw(st.integers(2, 4)),
        slot_length=draw(st.sampled_from([0.5, 1.0, 3.0])),
        decision_epoch=draw(st.sampled_from(["per_slot", "per_task"])),
        dnn=chain(draw(few), draw(few)),
        size_factor=size,
        arrivals={"process": "slotted", "rate": draw(st.sampled_from([0.5, 1, 2, 2.5, 4]))},
        edge_servers=servers,
        edge_server={"capacity": {"repeat": [draw(speed), 1.0]}, "cores": draw(st.integers(1, 3))},
        devices=devices,
        device={"capacity": {"repeat": [1.0, draw(speed)]}},
        radio={"rate": draw(st.sampled_from([1.0, 2.0, 4.0, {"uniform": [1.0, 3.0]}]))},
        wired={
            "topology": draw(st.sampled_from(topologies)),
            "rate": draw(speed),
            "latency": draw(st.sampled_from([0.0, 0.5, 1.0])),
        },
        return_result=draw(st.booleans()),
    )
    placement = st.lists(st.integers(0, servers), min_size=blocks, max_size=blocks)
    return spec, draw(st.lists(placement, min_size=1, max_size=6))


def expected(
    spec: Scenario, placements: list[list[int]], trace: MemoryTrace
) -> tuple[list[list[Served]], list[list[int]]]:
    """What the reference program makes of the same tasks, and the resources of their hops."""
    model = resolve(spec)
    release, slots = trace["tasks/release_s"].tolist(), trace["tasks/slot"].tolist()
    epochs = slots if spec.decision_epoch == "per_slot" else range(len(release))
    sizes = trace["tasks/size_factor"].reshape(len(release), -1).tolist()
    factors = zip(trace["tasks/device"].tolist(), sizes, strict=True)
    routes = [
        route(
            model,
            device,
            placements[epoch % len(placements)],
            float(trace["slots/rate_bps"][slot, device]),
            size,
        )
        for epoch, slot, (device, size) in zip(epochs, slots, factors, strict=True)
    ]
    served = event_driven(release, routes, model.capacity.tolist())
    return served, [[hop.resource for hop in hops] for hops in routes]


@given(cases())
@settings(max_examples=examples(250), deadline=None, derandomize=True)
def test_every_hop_is_that_of_an_independent_program(
    case: tuple[Scenario, list[list[int]]],
) -> None:
    spec, placements = case
    _, trace = simulate(spec, SCRIPTED, {"placements": placements})
    served, resources = expected(spec, placements, trace)
    assert log_of(trace) == served
    assert trace["hops/resource"].tolist() == [r for row in resources for r in row]


def test_every_hop_of_a_long_crowded_run_is_that_of_an_independent_program() -> None:
    spec = scenario(
        slots=60,
        decision_epoch="per_task",
        dnn=chain([3, 1, 2], [1, 2, 1]),
        arrivals={"process": "slotted", "rate": 7.5},
        edge_servers=3,
        edge_server={"capacity": 8.0, "cores": 2},
        devices=4,
        device={"capacity": 4.0},
        radio={"rate": 4.0},
        wired={"topology": "line", "rate": 8.0, "latency": 0.25},
        return_result=True,
    )
    placements = [[i % 4, i // 4 % 4, i // 16 % 4] for i in range(0, 64, 5)]
    _, trace = simulate(spec, SCRIPTED, {"placements": placements})
    assert len(trace["tasks/release_s"]) == 450
    served, _ = expected(spec, placements, trace)
    assert log_of(trace) == served
    other, _ = expected(spec, placements[1:], trace)
    assert log_of(trace) != other  # the comparison can fail


# ---------------------------------------------------------------- ties, worked by hand


def test_log_of_three_tasks_that_meet_at_a_server_at_one_instant() -> None:
    """All reach ES 1 at 3 s, and there go by number: task 1 was the first to be on its way."""
    spec = scenario(
        dnn=chain([2, 2, 2], [3, 1, 1]),
        decision_epoch="per_task",
        arrivals={"process": "slotted", "rate": 3},
        edge_servers=1,
        edge_server={"capacity": 1.0},
        devices=3,
        device={"capacity": [2.0, 2.0, 1.0]},
        radio={"rate": 1.0},
    )
    _, trace = simulate(spec, SCRIPTED, {"placements": [[0, 0, 1], [1, 1, 1], [0, 1, 1]]})
    assert resources_of(trace, spec) == [
        ["device0.cpu", "device0.cpu", "device0.uplink", "es1.cpu"],
        ["device1.uplink", "es1.cpu", "es1.cpu", "es1.cpu"],
        ["device2.cpu", "device2.uplink", "es1.cpu", "es1.cpu"],
    ]
    assert log_of(trace) == [
        [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 5)],
        [(0, 0, 3), (3, 5, 7), (7, 9, 11), (11, 13, 15)],  # each time to the tail, behind task 2
        [(0, 0, 2), (2, 2, 3), (3, 7, 9), (9, 11, 13)],
    ]


def one_device(slots: int, rate: float, cycles: Sequence[float], **more: Any) -> Scenario:
    """Everything at one device that does one cycle a second."""
    return scenario(
        slots=slots,
        dnn=chain(cycles, [1] * len(cycles)),
        arrivals={"process": "slotted", "rate": rate},
        device={"capacity": 1.0},
        **more,
    )


def test_a_completion_goes_before_a_release() -> None:
    """At 1 s task 0 comes back to the device's queue and task 1 is released there."""
    _, trace = simulate(one_device(2, 1, [1, 1]), "local")
    assert log_of(trace) == [[(0, 0, 1), (1, 1, 2)], [(1, 2, 3), (3, 3, 4)]]


def test_tasks_released_together_go_by_number() -> None:
    _, trace = simulate(one_device(1, 3, [2]), "local")
    assert log_of(trace) == [[(0, 0, 2)], [(0, 2, 4)], [(0, 4, 6)]]


def test_a_service_of_no_length_is_a_hop_like_any_other() -> None:
    """Block 2 of task 0 waits at the tail for 1 s, and then takes no time."""
    _, trace = simulate(one_device(1, 2, [1, 0]), "local")
    assert log_of(trace) == [[(0, 0, 1), (1, 2, 2)], [(0, 1, 2), (2, 2, 2)]]


def test_blocks_of_no_length_in_a_row_and_nothing_to_send() -> None:
    spec = scenario(
        dnn=chain([0, 0, 3], [0, 0, 0]), edge_server={"capacity": 1.0}, radio={"rate": 1.0}
    )
    _, trace = simulate(spec, "fixed", {"placement": [1, 2, 1]})
    assert log_of(trace) == [[(0, 0, 0)] * 5 + [(0, 0, 3)]]


def test_latency_holds_the_task_and_not_the_link() -> None:
    spec = scenario(
        dnn=chain([1], [2]),
        arrivals={"process": "slotted", "rate": 2},
        edge_server={"capacity": 1.0},
        devices=2,
        device={"positions": [[400, 0], [0, 400]]},
        radio={"rate": 2.0},
        wired={"rate": 1.0, "latency": 5.0},
    )
    _, trace = simulate(spec, "fixed", {"placement": [2]})
    assert log_of(trace) == [
        [(0, 0, 1), (1, 1, 3), (8, 8, 9)],  # radio 1 s, link 2 s, latency 5 s, server 1 s
        [(0, 0, 1), (1, 3, 5), (10, 10, 11)],
    ]


# ---------------------------------------------------------------- what a decision sees


def observations(spec: Scenario, placements: list[list[int]]) -> list[Observation]:
    seen: list[Observation] = []
    simulate(spec, SCRIPTED, {"placements": placements, "seen": seen})
    return seen


def test_a_decision_sees_what_ended_at_that_instant_and_not_what_is_released_then() -> None:
    """At 1 s block 1 of task 0 has ended and block 2 is under way, until 2 s; so at 2 s."""
    seen = observations(one_device(3, 1, [1, 1]), [[0, 0]])
    assert [o.time_s for o in seen] == [0.0, 1.0, 2.0]
    # at 2 s: task 1 began its block 1 at 2 s and needs until 3 s
    assert [o.device_backlog_s.tolist() for o in seen] == [[0.0], [1.0], [1.0]]


def test_decisions_of_one_instant_come_before_its_releases() -> None:
    seen = observations(one_device(2, 3, [1], decision_epoch="per_task"), [[0]])
    assert [o.device_backlog_s.item() for o in seen] == [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]


def test_backlogs_by_hand_with_two_cores() -> None:
    """Three tasks go up from 0 to 3 s; two are computed from 3 to 7 s, the third to 11 s."""
    spec = scenario(
        slots=5,
        slot_length=2.0,
        dnn=chain([4], [3]),
        arrivals={"process": "slotted", "rate": 3},
        edge_servers=1,
        edge_server={"capacity": 1.0, "cores": 2},
        devices=3,
        device={"capacity": 1.0},
        radio={"rate": 1.0},
    )
    seen = observations(spec, [[1], [0], [0], [0], [0]])
    assert [o.uplink_backlog_s.tolist() for o in seen] == [[x] * 3 for x in (0, 1, 0, 0, 0)]
    assert [o.server_backlog_s.tolist() for o in seen] == [[x] for x in (0, 0, 3, 1, 0)]
    # a local task a slot and device from 2 s on, 4 s each: busy until 6, 10, 14 s
    assert [o.device_backlog_s.tolist() for o in seen] == [[x] * 3 for x in (0, 0, 2, 4, 6)]
    assert all(not o.downlink_backlog_s.any() for o in seen)


def test_backlog_of_a_link() -> None:
    spec = scenario(
        slots=4,
        dnn=chain([1], [2]),
        edge_server={"capacity": 1.0},
        device={"positions": [[400, 0]]},
        radio={"rate": 4.0},
        wired={"rate": 1.0, "latency": 9.0},
    )
    seen = observations(spec, [[2]])
    # sent from 0.5 to 2.5 s; the next is there at 1.5 s: until 4.5 s; and at 2.5 s: until 6.5 s
    assert [o.link_backlog_s.tolist() for o in seen] == [[0, 0], [1.5, 0], [2.5, 0], [3.5, 0]]


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_what_a_decision_sees_cannot_be_written(epoch: str) -> None:
    (seen,) = observations(one_device(1, 1, [1], decision_epoch=epoch), [[0]])
    properties = {name for name, of in vars(Observation).items() if isinstance(of, cached_property)}
    assert {"cycles", "backlog_s", "uplink_backlog_s", "battery_j"} < properties
    at_the_epoch = {"queue_length", "committed_s", "under_way", "slack_s"}
    for name in (properties | set(vars(seen))) - at_the_epoch:
        values = getattr(seen, name)
        if hasattr(values, "flags"):
            assert not values.flags.writeable, name
