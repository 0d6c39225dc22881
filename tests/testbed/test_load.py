"""Whether a run fits a machine: shares, padding and the least stretch, worked by hand."""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import pytest

from mecsim.errors import InputError
from mecsim.model.model import Model, resolve
from mecsim.scenario.schema import Scenario
from mecsim.testbed.load import HOP_S, Load, check_load, load_of
from mecsim.testbed.modes import Modes

TABLE = {"flops": [2e9, 1e9], "parameter_bytes": [1, 1], "input_bits": [8, 8]}
SCENARIO: dict[str, Any] = {
    "slots": 10,
    "slot_length": 2.0,
    "dnn": {"model": TABLE},
    "arrivals": {"process": "poisson", "rate": 4.0},
    "edge_servers": 1,
    "edge_server": {"capacity": 10e9, "cores": 2},
    "devices": 1,
    "device": {"capacity": 1e9},
}
BLOCK_MS = [[20.0, 50.0]]


def model(**changes: Any) -> Model:
    return resolve(Scenario.model_validate(SCENARIO | changes))


def test_shares_and_padding_are_those_worked_by_hand() -> None:
    load = load_of(model(), BLOCK_MS, 2, Modes(stretch=5.0))
    # 2 tasks a second, 0.4 of them a real second; 70 ms and 2 hops for each of 2 blocks
    assert load.share == pytest.approx(0.4 * (0.07 + 4 * HOP_S) / 2)
    # block 1 on the server: 0.1 s planned, 0.5 s stretched, 50 ms really
    assert load.padding == pytest.approx(10.0)
    assert load.worst_block == "block1 at es1"
    # 2 cores of the server at 10 times, the device's block 0 at 500, block 1 at 100 times
    assert load.together == pytest.approx(2 / 10 + 1 / 100)


def test_natural_nodes_need_no_padding() -> None:
    load = load_of(model(), BLOCK_MS, 2, Modes("natural"))
    assert load.padding == math.inf
    assert load.share == pytest.approx(2.0 * (0.07 + 4 * HOP_S) / 2)


def test_rates_of_classes_are_added() -> None:
    task = {"dnn": SCENARIO["dnn"], "arrivals": SCENARIO["arrivals"]}
    own = {key: value for key, value in SCENARIO.items() if key not in task}
    both = Scenario.model_validate(own | {"tasks": [{"name": n} | task for n in ("a", "b")]})
    one = load_of(model(), BLOCK_MS, 2, Modes(stretch=5.0))
    two = load_of(resolve(both), BLOCK_MS * 2, 2, Modes(stretch=5.0))
    assert two.share == pytest.approx(2 * one.share)


def load(**changes: Any) -> Load:
    known: dict[str, Any] = {
        "share": 0.1,
        "padding": 9.0,
        "worst_block": "b at es1",
        "together": 0.5,
    }
    return Load(**known | {"stretch": 2.0, "cores": 2} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.4}, r"would take 140% of 2 cores .*allowed: 70%.*Try: --stretch 4$"),
        ({"padding": 0.4}, r"block b at es1 really takes 2.5 times .*Try: --stretch 5$"),
        ({"padding": 0.4, "share": 0.8}, r"80% of 2 cores.*; block b .*Try: --stretch 5$"),
        ({"padding": 0.21}, r"Try: --stretch 9.6$"),  # 2 / 0.21 = 9.52…, rounded up
        ({"padding": math.inf, "share": 0.8}, "Try: fewer tasks$"),
        ({"padding": 0.0}, "takes 0 s in the scenario"),
        ({"share": 0.7001}, r"would take 71% of 2 cores .*allowed: 70%"),
        ({"padding": 0.999}, r"really takes 1.1 times .*Try: --stretch 2.1$"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_load(load(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"padding": 2.5}, "padded to only 2.5 times .*Try: --stretch 4$"),
        ({"padding": 4.9999}, "padded to only 4.9 times .*at least 5 .*Try: --stretch 2.1$"),
        ({"together": 2.001}, "need 2.1 cores, and there are 2: .*Try: --stretch 2.1$"),
        ({"together": 4.0}, "need 4 cores, and there are 2: .*Try: --stretch 4$"),
    ],
)
def test_what_hardly_fits_is_reported(
    changes: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mecsim"):
        check_load(load(**changes))
    (record,) = caplog.records
    assert re.search(message, record.getMessage())


def test_what_fits_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    check_load(load())
    check_load(load(padding=math.inf, together=0.0))
    assert not caplog.records


def test_a_machine_with_some_nodes() -> None:
    """Of 1.48% for all tasks, the device can take 1 core at 1/100, half a percent of 2 cores."""
    device = load_of(model(), BLOCK_MS, 2, Modes(stretch=5.0), nodes=[1])
    assert device.padding == pytest.approx(100.0)
    assert device.worst_block == "block1 at device0"
    assert device.together == pytest.approx(0.01)
    assert device.share == pytest.approx(0.005)
    server = load_of(model(), BLOCK_MS, 2, Modes(stretch=5.0), nodes=[0])
    assert (server.padding, server.together) == pytest.approx((10.0, 0.2))
    assert server.share == load_of(model(), BLOCK_MS, 2, Modes(stretch=5.0)).share


def test_a_natural_machine_with_some_nodes() -> None:
    """The device computes with one of 64 cores, however many tasks there are."""
    many = model(arrivals={"process": "poisson", "rate": 4000.0})
    assert load_of(many, BLOCK_MS, 64, Modes("natural"), nodes=[1]).share == 1 / 64


def test_the_machine_is_named() -> None:
    load = load_of(model(), BLOCK_MS, 2, Modes(stretch=0.01), nodes=[1])
    with pytest.raises(InputError, match=r"does not fit 10\.0\.0\.2: "):
        check_load(load, "10.0.0.2")
