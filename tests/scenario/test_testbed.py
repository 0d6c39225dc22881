"""The section `testbed` of a scenario: it changes no hash, and names nodes and groups."""

from __future__ import annotations

import pytest

from mecsim.scenario.loading import load
from mecsim.scenario.schema import Scenario
from mecsim.scenario.testbed import HostAddress, host_address, node_names, nodes_named

GROUPS = {
    "edge_servers": [{"name": "rack", "count": 2}, {"name": "cloud", "radio": False}],
    "devices": 2,
}


def test_hashes_are_those_of_the_scenario_without_it() -> None:
    plain = load("vgg16_4es")
    given = load("vgg16_4es", ["testbed.hosts.es1=10.0.0.7", "testbed.on_node_failure=continue"])
    assert given.testbed is not None
    assert given.sha256() == plain.sha256()
    assert given.sha256_of_slots() == plain.sha256_of_slots()
    assert given.sha256() != load("vgg16_4es", "slots=3").sha256()


def test_a_section_without_values_is_left_out() -> None:
    assert "testbed" not in Scenario.model_validate({"testbed": {}}).model_dump()
    assert Scenario.model_validate({"testbed": {"on_node_failure": "stop"}}).canonical_json() == (
        Scenario().canonical_json()
    )


def test_nodes_are_named_by_node_or_group() -> None:
    scenario = Scenario.model_validate(GROUPS)
    nodes = node_names(scenario.edge_servers, scenario.devices)
    assert nodes == ["rack.1", "rack.2", "cloud", "device0", "device1"]
    assert nodes_named("rack", nodes) == ["rack.1", "rack.2"]
    assert nodes_named("cloud", nodes) == ["cloud"]
    assert nodes_named("rack.2", nodes) == ["rack.2"]
    assert nodes_named("device", nodes) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("es.lab", HostAddress("es.lab", 0)), ("10.0.0.7:65535", HostAddress("10.0.0.7", 65535))],
)
def test_addresses_are_read(text: str, found: HostAddress) -> None:
    assert host_address(text) == found


@pytest.mark.parametrize("text", ["", ":9000", "a:0", "a:65536", "a b", "a:b", "[::1]:9000"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="should be ADDRESS or ADDRESS:PORT"):
        host_address(text)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "0", "0.0", "0x0", "255.255.255.255", "239.1.2.3", "10.0.0", "10.0.0.256"]
)
def test_addresses_of_no_single_machine_are_refused(host: str) -> None:
    for text in (host, f"{host}:9000"):
        with pytest.raises(ValueError, match="should be the address of one machine"):
            host_address(text)
