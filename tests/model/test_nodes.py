"""Groups of devices and servers, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.model import coverage, equations
from mecsim.model.model import Model, reseeded, resolve
from mecsim.model.workload import slots
from mecsim.scenario.loading import with_overrides
from mecsim.scheduler.feature_scale import FeatureScale
from tests.helpers.builders import chain, simulate

RACKS: list[dict[str, Any]] = [
    {"name": "rack", "count": 2, "capacity": 2.0, "cores": 3},
    {"name": "cloud", "radio": False, "capacity": 8.0, "cores": 16},
    {"name": "pole", "positions": [[5000, 0]], "coverage_radius": 100.0},
]
KINDS: list[dict[str, Any]] = [
    {"name": "phone", "count": 2, "capacity": 4.0, "battery": 20.0, "transmit_power": 2.0},
    {"name": "camera", "kappa": 3.0, "rate": 2.0, "positions": [[4950, 0]]},
]
BASE: dict[str, Any] = {
    "slots": 1,
    "dnn": chain([4], [2]),
    "arrivals": {"process": "slotted", "rate": 3},
    "edge_servers": RACKS,
    "edge_server": {"capacity": 1.0, "spacing": 1000.0},
    "devices": KINDS,
    "device": {"distance": [10, 20]},
    "radio": {"transmit_power": 1.0},
    "energy": {"kappa": 1.0},
}


def model_of(seed: int = 0, **changes: Any) -> Model:
    return resolve(Scenario.model_validate(BASE | changes), seed)


def test_every_node_has_the_values_of_its_group() -> None:
    model = model_of()
    assert model.server_names() == ["rack.1", "rack.2", "cloud", "pole"]
    assert model.device_names() == ["phone.1", "phone.2", "camera"]
    assert (model.server_groups, model.device_groups) == (
        ("rack", "cloud", "pole"),
        ("phone", "camera"),
    )
    assert model.server_group.tolist() == [0, 0, 1, 2]
    assert model.device_group.tolist() == [0, 0, 1]
    assert model.server_hz.tolist() == [2, 2, 8, 1]
    assert model.cores.tolist() == [3, 3, 16, 1]
    assert model.capacity.tolist() == [3, 3, 16, 1, *[1] * (9 + 12)]
    assert model.radio.tolist() == [True, True, False, True]
    assert model.device_hz.tolist() == [4, 4, 1e9]
    assert model.battery_j.tolist() == [20, 20, np.inf]
    assert model.kappa.tolist() == [1, 1, 3]
    assert model.power_w.tolist() == [2, 2, 1]
    assert model.resource_names()[:6] == [
        *("rack.1.cpu", "rack.2.cpu", "cloud.cpu", "pole.cpu", "phone.1.cpu", "phone.2.cpu")
    ]
    assert model.resource_names()[13:16] == ["rack.1-rack.2", "rack.1-cloud", "rack.1-pole"]


def test_devices_stand_around_servers_with_a_radio() -> None:
    """The racks and the pole take turns; nothing stands around the cloud or belongs to it."""
    spread = [{"name": "phone", "count": 90}]
    model = model_of(devices=spread)
    assert model.server_xy[:2].tolist() == [[0, 0], [1000, 0]]
    assert np.isnan(model.server_xy[2]).all()
    assert model.server_xy[3].tolist() == [5000, 0]
    assert model.serving_server.tolist() == [0, 1, 3] * 30
    only = model_of(devices=[spread[0] | {"servers": ["pole"]}])
    assert set(only.serving_server.tolist()) == {3}


def test_a_device_belongs_to_the_nearest_server_that_covers_it() -> None:
    """The pole is nearer to both, but covers 100 m only."""
    two = [{"name": "pole", "positions": [[0, 0]], "coverage_radius": 100.0},
           {"name": "rack", "positions": [[500, 0]]}]  # fmt: skip
    at = [{"name": "phone", "count": 2, "positions": [[100, 0], [101, 0]]}]
    model = model_of(edge_servers=two, devices=at, device={})
    assert model.serving_server.tolist() == [0, 1]
    assert model.gain[1] == equations.path_gain(399.0, 128.1, 37.6)


def test_draws_of_a_group_do_not_shift_those_of_others() -> None:
    drawn = {"capacity": {"uniform": [1.0, 2.0]}}
    one, other = (
        model_of(seed=3, devices=[{"name": "phone", "count": 2} | more, {"name": "tag", **drawn}])
        for more in ({}, {"positions": [[0, 0], [1, 1]], **drawn})
    )
    assert one.device_hz[2] == other.device_hz[2]
    assert one.device_xy[2].tolist() == other.device_xy[2].tolist()
    assert reseeded(one, 4).device_hz[2] != one.device_hz[2]


def test_one_group_gives_what_the_short_form_gives() -> None:
    """The same positions, capacities, rates and tasks, to the last bit."""
    whole = {"capacity": {"uniform": [1e9, 2e9]}, "battery": 50.0, "distance": [100, 200]}
    short = {"devices": 7, "device": whole, "edge_servers": 3,
             "edge_server": {"capacity": {"uniform": [1e9, 3e9]}, "cores": 2},
             "radio": {"fading": "rayleigh"}, "dnn": {"blocks": 3}, "slots": 5}  # fmt: skip
    servers = {"name": "rack", "count": 3, "capacity": {"uniform": [1e9, 3e9]}, "cores": 2}
    long = {"slots": 5, "dnn": {"blocks": 3}, "edge_servers": [servers],
            "devices": [{"name": "phone", "count": 7, "fading": "rayleigh"} | whole]}  # fmt: skip
    one, other = (Scenario.model_validate(described) for described in (short, long))
    found = simulate(one, seed=5), simulate(other, seed=5)
    for column in ("hops/start_s", "hops/finish_s", "slots/rate_bps", "tasks/energy_J"):
        assert np.array_equal(found[0].trace[column], found[1].trace[column])
    assert one.sha256() != other.sha256()


def test_rates_by_group() -> None:
    """Given, drawn once, drawn in every slot, from the channel, and fading."""
    kinds = [
        {"name": "given", "rate": 5.0},
        {"name": "once", "rate": {"uniform": [1.0, 2.0], "redraw": "run"}},
        {"name": "drawn", "rate": {"uniform": [1.0, 2.0]}},
        {"name": "still", "bandwidth": 3.0},
        {"name": "fades", "fading": "rayleigh"},
    ]
    model = model_of(devices=kinds, slots=40)
    rates = np.array([slot.rate_bps for slot in slots(model)])
    assert len(rates) == 40
    distinct = [len(set(column)) for column in rates.T.tolist()]
    assert distinct == [1, 1, 40, 1, 40]
    assert rates[0, 0] == 5.0
    assert 1.0 <= rates[0, 1] < 2.0
    assert 1.0 <= rates[:, 2].min() < rates[:, 2].max() < 2.0
    nominal = equations.shannon_rate(3.0, 1.0, model.gain[3], model.scenario.radio.noise_density)
    assert rates[0, 3] == nominal
    low, high = model.channel.bounds(model.gain)
    assert (low[:3].tolist(), high[:3].tolist()) == ([5, 1, 1], [5, 2, 2])


def test_each_device_pays_by_its_own_power_and_battery() -> None:
    """Sending 2 bits at 1 bit/s; computing 4 cycles at 1 Hz.

    Devices a and b send with 2 W and 5 W: 4 J and 10 J; at home they spend κ·f²·c = 4 J and 12 J.
    The battery of a holds 4.5 J, so a second task spends it, and the first one fails on its way;
    that of b is unlimited.
    """
    pair = [
        {"name": "a", "battery": 4.5, "transmit_power": 2.0, "rate": 1.0},
        {"name": "b", "kappa": 3.0, "transmit_power": 5.0, "rate": 1.0},
    ]
    spec = Scenario.model_validate(
        BASE | {"devices": pair, "device": {"capacity": 1.0, "distance": [1, 2]}}
    )
    spec = with_overrides(spec, ["arrivals.rate=4"])
    for kernel in ("simpy", "compiled"):
        sent = simulate(spec, "fixed", {"placement": [1]}, kernel=kernel).trace
        assert sent["tasks/device"].tolist() == [0, 1, 0, 1]
        assert sent["tasks/energy_J"].tolist() == [4, 10, 0, 10]
        assert sent["tasks/status"].tolist() == [1, 0, 1, 0]
        kept = simulate(spec, "fixed", {"placement": [0]}, kernel=kernel).trace
        assert kept["tasks/energy_J"].tolist() == [4, 12, 0, 12]
        assert kept["slots/energy_remaining_J"].tolist() == [[4.5, np.inf]]


def test_features_of_mixed_batteries() -> None:
    """The mean is over limited batteries; an unlimited one is encoded as 1."""
    spec = Scenario.model_validate(BASE | {"slots": 2})
    trace = simulate(spec, "fixed", {"placement": [0]}).trace
    scale = FeatureScale.of(resolve(spec))
    assert trace["decisions/observation"][0, -1] == 20.0
    assert scale(trace["decisions/observation"][0].copy())[-1] == 1.0
    per_task = with_overrides(spec, ["decision_epoch=per_task"])
    seen = simulate(per_task, "fixed", {"placement": [0]}).trace["decisions/observation"]
    assert seen[:3, -2].tolist() == [20.0, 20.0, np.inf]
    half = seen[0].copy()
    half[-2] = 5.0
    scale = FeatureScale.of(resolve(per_task))
    assert [scale(row.copy())[-2] for row in (seen[0], half, seen[2])] == [1.0, 0.25, 1.0]


def test_links_by_group() -> None:
    """Two racks joined with each other, and with the cloud."""
    links = [{"from": "rack", "to": "rack"}, {"from": "rack", "to": "cloud", "latency": 0.5},
             {"from": "rack.2", "to": 4, "both_ways": False},
             {"from": "pole", "to": "rack.1", "both_ways": False}]  # fmt: skip
    wired = {"topology": "explicit", "links": links}
    model = model_of(wired=wired)
    ends = zip(model.links.source.tolist(), model.links.target.tolist(), strict=True)
    assert [*ends] == [(0, 1), (0, 2), (1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0)]
    assert model.links.latency_s.tolist() == [0, 0.5, 0, 0.5, 0, 0.5, 0.5, 0]


@pytest.mark.parametrize(
    "change", ["devices.phone.battery=7", "devices.0.battery=7", "devices.0={name: x, battery: 7}"]
)
def test_set_into_groups(change: str) -> None:
    spec = with_overrides(Scenario.model_validate(BASE), [change])
    assert spec.devices[0].battery == 7.0  # type: ignore[index]
    assert resolve(spec).battery_j[0] == 7.0


def test_groups_survive_json() -> None:
    spec = Scenario.model_validate(BASE)
    again = Scenario.model_validate_json(spec.canonical_json())
    assert again == spec
    assert again.sha256() == spec.sha256()


def test_tables_of_a_network_with_groups() -> None:
    """Two phones and a camera around two racks, with a cloud behind the first.

    A task has two blocks of 4 cycles and 8 bits each. All at the phone: 2 · 4 / 2 = 4 s. At its
    own rack (4 Hz): 8 / 4 on the air and 2 · 4 / 4 = 4 s; at the other one, 8 / 8 more over the
    link. At the cloud (8 Hz): 2 + 1 s there, and 1 + 0.5 s over each link on the way.
    """
    links = [{"from": "rack", "to": "rack"}, {"from": "rack.1", "to": "cloud", "latency": 0.5}]
    model = model_of(
        dnn=chain([4, 4], [8, 8]),
        edge_servers=[{"name": "rack", "count": 2, "capacity": 4.0}, RACKS[1]],
        devices=[
            {"name": "phone", "count": 2, "capacity": 2.0, "rate": 4.0},
            {"name": "camera", "capacity": 1.0, "rate": {"uniform": [4.0, 8.0]}},
        ],
        wired={"topology": "explicit", "rate": 8.0, "links": links},
    )
    rows = coverage.coverage_table(model)
    assert [(row["name"], row["devices"], row["members"]) for row in rows] == [
        ("rack.1", 2, {"phone": [1], "camera": [1]}),
        ("rack.2", 1, {"phone": [2]}),
        ("cloud", 0, {}),
    ]
    assert [row["position_m"] for row in rows] == [[0, 0], [1000, 0], None]
    assert coverage.link_table(model)[1] == {
        "from": "rack.1", "to": "cloud", "rate_bps": 8.0, "latency_s": 0.5,
    }  # fmt: skip
    assert coverage.place_times(model) == [
        {"place": "device", "seconds": {"phone": [4, 4], "camera": [8, 8]}},
        {"place": "rack.1", "seconds": {"phone": [4, 5], "camera": [3, 4]}},
        {"place": "rack.2", "seconds": {"phone": [4, 5], "camera": [4, 5]}},
        {"place": "cloud", "seconds": {"phone": [4.5, 5.5], "camera": [3.5, 4.5]}},
        {"place": "best placement", "seconds": {"phone": [4, 4], "camera": [3, 4]}},
    ]


def test_deadlines_in_the_table_of_times() -> None:
    model = model_of(edge_servers=1, devices=1, deadline=0.5)
    assert {row["deadline_s"] for row in coverage.place_times(model)} == {0.5}


def test_no_times_for_large_networks() -> None:
    large = model_of(edge_servers=300, devices=[{"name": "phone", "count": 300, "rate": 1.0}])
    assert coverage.place_times(large) == []
