"""Which links the kernel can shape, and how fast."""

from __future__ import annotations

from typing import Any

import pytest

from mecsim.errors import InputError
from mecsim.model.model import resolve
from mecsim.testbed.link_rates import check_rates, shaped_links
from mecsim.testbed.shaping import ShapedLink
from tests.helpers.builders import scenario

RATES: dict[str, Any] = {"radio": {"rate": "8 Mbit/s"}, "wired": {"rate": "80 Mbit/s"}}
WALKS: dict[str, Any] = {
    "slots": 2000,
    "devices": 2,
    "edge_server": {"positions": [[0, 0], [1000, 0]], "coverage_radius": 750.0},
    "mobility": [{"devices": [1], "speed": [10.0, 20.0], "area": [[0, -50], [1000, 50]]}],
}
STEPS = {"steps": [[0, "1 MB/s"], [0.5, "2 MB/s"]]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"radio": {"fading": "rayleigh"}}, "radio rate of device 0 changes from slot to slot"),
        (
            {"radio": {"rate": {"uniform": ["1 MB/s", "2 MB/s"]}}},
            "radio rate of device 0 changes from slot to slot",
        ),
        ({"radio": {"rate": STEPS}}, "radio rate of device 0 changes from slot to slot"),
        (WALKS, "radio rate of device 1 changes from slot to slot"),
        ({"wired": {"rate": STEPS}}, r"rate of link \(resource 5\) changes over time"),
        (
            {"failures": [{"links": "all", "at": [[0.1, 0.2]]}]},
            r"rate of link \(resource 5\) changes over time",
        ),
    ],
)
def test_changing_rate(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=f"--links tbf: the {problem}") as raised:
        check_rates(resolve(scenario(**change), seed=0))
    assert "Try: --links pacing" in str(raised.value)


def test_constant_rates() -> None:
    check_rates(resolve(scenario(), seed=0))
    check_rates(resolve(scenario(**RATES), seed=0))
    once = {"uniform": ["1 MB/s", "2 MB/s"], "redraw": "run"}
    check_rates(resolve(scenario(radio={"rate": once}), seed=0))
    check_rates(resolve(scenario(**WALKS | RATES), seed=0))
    failing = [{"servers": "all", "at": [[0.1, 0.2]]}]
    check_rates(resolve(scenario(failures=failing), seed=0))


def test_links_of_moving_device() -> None:
    model = resolve(scenario(**WALKS | RATES), seed=0)
    assert model.mobility is not None
    assert set(model.mobility.server.tolist()) == {0, 1}
    found = shaped_links(model, 1.0, ["s0", "s1", "d0", "d1"])
    uplinks = [(link.source, link.target) for link in found if link.source.startswith("d")]
    still = f"s{model.serving_server[0]}"
    assert uplinks == [("d0", still), ("d1", "s0"), ("d1", "s1")]
    assert len(found) == 2 + 2 * 3


def test_links() -> None:
    """Two devices at servers 2 and 1, and two wired links, ten times slower."""
    model = resolve(
        scenario(
            **RATES,
            devices=[
                {"name": "far", "rate": "8 Mbit/s", "positions": [[990, 0]]},
                {"name": "near", "rate": "4 Mbit/s", "positions": [[10, 0]]},
            ],
            edge_server={"positions": [[0, 0], [1000, 0]]},
        ),
        seed=0,
    )
    names = ["s1", "s2", "d1", "d2"]
    found = shaped_links(model, 10.0, names)
    assert found == [
        ShapedLink("s1", "s2", 1e6),
        ShapedLink("s2", "s1", 1e6),
        ShapedLink("d1", "s2", 1e5),
        ShapedLink("s2", "d1", 1e5),
        ShapedLink("d2", "s1", 5e4),
        ShapedLink("s1", "d2", 5e4),
    ]
    with pytest.raises(InputError, match="rate from d2 to s1 is 4000 bit/s, stretch included"):
        shaped_links(model, 1000.0, names)
