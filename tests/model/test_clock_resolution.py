"""Runs whose times are too coarse for their services say so."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.helpers.builders import chain, scenario, simulate

SLOW: dict[str, Any] = {"device": {"capacity": 1e9}, "edge_server": {"capacity": 1e9}}


@pytest.mark.parametrize(
    ("cycles", "bits", "warned"),
    [
        # ulp(1e7 s) = 1.86e-9 s, and 50 of them are 9.3e-8 s
        ([1.0, 0.1], [1e3, 1e3], "a block takes 1e-10 s"),
        ([90.0, 1e9], [1e3, 1e3], "a block takes 9e-08 s"),
        ([0.0, 100.0], [0.0, 1e3], ""),
        ([1e9, 1e9], [1e3, 0.01], "a transfer takes 1e-08 s"),
    ],
)
def test_services_below_the_resolution_of_the_clock(
    cycles: list[float], bits: list[float], warned: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = scenario(
        dnn=chain(cycles, bits),
        slots=10,
        slot_length=1e6,
        edge_servers=1,
        radio={"rate": 1e6},
        **SLOW,
    )
    with caplog.at_level(logging.WARNING, "mecsim.model.clock_resolution"):
        simulate(spec, "local")
    assert len(caplog.messages) == bool(warned)
    assert warned in "".join(caplog.messages)
