"""The ways of tasks: who owns each station, who receives each transfer, at which rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mecsim.kernels.hops import HopBuilder
from mecsim.model import workload
from mecsim.model.model import Model, resolve
from mecsim.scenario.schema import Scenario
from mecsim.testbed.messages import Hop
from mecsim.testbed.settings import StationConfig
from mecsim.testbed.way import Ways

SCENARIO: dict[str, Any] = {
    "slots": 1,
    "devices": 2,
    "edge_servers": 3,
    "edge_server": {"cores": 2, "positions": [[0, 0], [1000, 0], [2000, 0]]},
    "device": {"positions": [[100, 0], [1100, 0]]},
    "wired": {"topology": "line", "rate": 1e9, "latency": 0.002},
    "dnn": {"blocks": 3},
    "arrivals": {"process": "slotted", "rate": 2},
    "radio": {"rate": 4e6},
    "return_result": True,
    "deadline": 7.0,
    "drop_late": True,
}


def model_of(**changes: Any) -> Model:
    return resolve(Scenario.model_validate(SCENARIO | changes))


def way(model: Model, placement: list[int], row: int = 0) -> tuple[Hop, ...]:
    slot = next(iter(workload.slots(model)))
    hops = HopBuilder(model).hops(slot.tasks, np.array([placement]), slot)
    return Ways(model).release(hops, row).hops


def test_a_task_goes_from_node_to_node() -> None:
    """Block 0 on the device, block 1 on server 3, block 2 on server 1, and back."""
    model = model_of()
    hops = way(model, [0, 3, 1])
    names = model.resource_names()
    assert [(names[hop.resource], hop.owner, hop.target) for hop in hops] == [
        ("device0.cpu", "device0", None),
        ("device0.uplink", "device0", "es1"),
        ("es1-es2", "es1", "es2"),
        ("es2-es3", "es2", "es3"),
        ("es3.cpu", "es3", None),
        ("es3-es2", "es3", "es2"),
        ("es2-es1", "es2", "es1"),
        ("es1.cpu", "es1", None),
        ("device0.downlink", "es1", "device0"),
    ]
    assert [hop.block for hop in hops] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    rates = [0.0, 4e6, 1e9, 1e9, 0.0, 1e9, 1e9, 0.0, 4e6]
    assert [hop.rate_bps for hop in hops] == pytest.approx(rates)
    assert [hop.latency_s for hop in hops] == [0, 0, 0.002, 0.002, 0, 0.002, 0.002, 0, 0]
    bits = [hop.service_s * hop.rate_bps for hop in hops]
    inputs = model.input_bits.tolist()
    expected = [0, *[inputs[1]] * 3, 0, *[inputs[2]] * 2, 0, float(model.result_bits[0])]
    assert bits == pytest.approx(expected)


def test_an_uplink_leads_to_the_server_of_the_device() -> None:
    hops = way(model_of(), [2, 2, 2])
    assert [(hop.owner, hop.target) for hop in hops[:3]] == [
        ("device0", "es1"),
        ("es1", "es2"),
        ("es2", None),
    ]


def test_rates_are_those_of_links_although_transfers_have_headers_and_overheads() -> None:
    wired = {**SCENARIO["wired"], "headers": 0.05, "overhead": 0.003}
    radio = {"rate": 4e6, "headers": 0.1, "overhead": 0.001}
    hops = way(model_of(wired=wired, radio=radio), [0, 3, 1])
    rates = [0.0, 4e6, 1e9, 1e9, 0.0, 1e9, 1e9, 0.0, 4e6]
    assert [hop.rate_bps for hop in hops] == pytest.approx(rates)


def test_blocks_and_results_of_a_second_class_have_their_sizes() -> None:
    task = {key: SCENARIO[key] for key in ("arrivals", "deadline", "drop_late")}
    other = {key: value for key, value in SCENARIO.items() if key not in (*task, "dnn")}
    classes = [
        {"name": "a", "dnn": {"blocks": 2}, **task},
        {"name": "b", "dnn": {"model": "alexnet", "blocks": 3}, **task},
    ]
    model = resolve(Scenario.model_validate(other | {"tasks": classes}))
    slot = next(iter(workload.slots(model)))
    row = slot.tasks.class_.tolist().index(1)
    placements = np.array([[1, 1, 0], [1, 1, 1]])
    release = Ways(model).release(HopBuilder(model).hops(slot.tasks, placements, slot), row)
    assert release.task_class == 1
    transfers = [hop for hop in release.hops if hop.target]
    bits = [transfers[0].service_s * transfers[0].rate_bps]
    bits += [transfers[-1].service_s * transfers[-1].rate_bps]
    assert bits == pytest.approx([model.input_bits[2], model.result_bits[1]])
    assert [hop.block for hop in release.hops if hop.target is None] == [2, 3, 4]


def test_deadlines_are_those_after_which_tasks_are_dropped() -> None:
    model = model_of()
    slot = next(iter(workload.slots(model)))
    hops = HopBuilder(model).hops(slot.tasks, np.array([[0, 0, 0]]), slot)
    release = Ways(model).release(hops, 1)
    assert (release.task, release.release_s, release.drop_s) == (1, 0.0, 7.0)
    kept = model_of(drop_late=False)
    hops = HopBuilder(kept).hops(slot.tasks, np.array([[0, 0, 0]]), slot)
    assert Ways(kept).release(hops, 1).drop_s is None


def test_every_resource_is_a_station_of_one_node() -> None:
    model = model_of()
    stations = Ways(model).stations()
    assert stations["device1"] == [StationConfig(4, "cpu", 1), StationConfig(6, "link", 1)]
    assert stations["es2"][0] == StationConfig(1, "cpu", 2)
    numbers = [each.resource for own in stations.values() for each in own]
    assert sorted(numbers) == list(range(len(model.resources)))


def test_where_devices_move_every_server_has_all_downlinks() -> None:
    walk = {"speed": [1.0, 2.0], "area": [[0, 0], [500, 5]]}
    model = model_of(mobility=[walk], device={})
    downlinks = [model.resources.downlink, model.resources.downlink + 1]
    for server in ("es1", "es2", "es3"):
        found = [each.resource for each in Ways(model).stations()[server]]
        assert [each for each in found if each in downlinks] == downlinks


def test_resources_that_are_gone_with_a_node() -> None:
    model = model_of()
    names = np.array(model.resource_names())
    ways = Ways(model)
    assert names[ways.resources_of("device1")].tolist() == [
        *("device1.cpu", "device1.uplink", "device1.downlink")
    ]
    gone = names[ways.resources_of("es3")].tolist()
    assert gone == ["es3.cpu", *(n for n in names if n in ("es2-es3", "es3-es2"))]
