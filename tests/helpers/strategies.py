"""Hypothesis strategies: random scenarios with placements."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

from mecsim import Scenario
from tests.helpers.builders import chain, scenario

SIZES: list[dict[str, Any]] = [
    {"distribution": "constant"},
    {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "slot"},
    {"distribution": "exponential", "per": "task"},
    {"distribution": "lognormal", "sigma": 0.5, "per": "block"},
]


RADIOS: list[dict[str, Any]] = [
    {"rate": 1.0},
    {"rate": 2.0},
    {"rate": {"uniform": [1.0, 3.0]}},
    {"rate": {"uniform": [1.0, 3.0], "redraw": "slot"}},
    {"bandwidth": 0.1, "fading": "rayleigh"},
]


@st.composite
def arrivals(draw: st.DrawFn) -> dict[str, Any]:
    process = draw(st.sampled_from(["slotted", "slotted", "deterministic", "poisson", "mmpp"]))
    if process == "mmpp":
        return {"process": "mmpp", "rates": [0.5, 6.0], "mean_dwell": [1.0, 0.5]}
    return {"process": process, "rate": draw(st.sampled_from([0, 0.5, 1, 2.5, 4, 9]))}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Scenario, list[list[int]]]:
    """Small scenarios of everything that there is; in most, ties are the rule."""
    blocks, servers = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    few = st.lists(st.integers(0, 3), min_size=blocks, max_size=blocks)
    speed = st.sampled_from([1.0, 2.0])
    battery: st.SearchStrategy[object] = st.sampled_from(
        ["unlimited", "unlimited", 0.5, 1.0, 4.0, 9.0]
    )
    spec = scenario(
        slots=draw(st.integers(1, 5)),
        slot_length=draw(st.sampled_from([0.5, 1.0, 3.0])),
        decision_epoch=draw(st.sampled_from(["per_slot", "per_task"])),
        dnn=chain(draw(few), draw(few)),
        size_factor=draw(st.sampled_from([SIZES[0], *SIZES])),
        arrivals=draw(arrivals()),
        edge_servers=servers,
        edge_server={"capacity": {"repeat": [draw(speed), 1.0]}, "cores": draw(st.integers(1, 4))},
        devices=draw(st.integers(1, 4)),
        device={"capacity": {"repeat": [1.0, draw(speed)]}, "battery": draw(battery)},
        radio=draw(st.sampled_from(RADIOS)) | {"transmit_power": 1.0},
        wired={
            "topology": draw(
                st.sampled_from(["full_mesh", "ring", "star", "line", "tree", "grid"])
            ),
            "rate": draw(speed),
            "latency": draw(st.sampled_from([0.0, 0.5, 1.0])),
        },
        energy={"kappa": 1.0, "literal_eq7": draw(st.booleans())},
        return_result=draw(st.booleans()),
        reward={"aggregation": draw(st.sampled_from(["mean", "sum"]))},
    )
    placement = st.lists(st.integers(0, servers), min_size=blocks, max_size=blocks)
    return spec, draw(st.lists(placement, min_size=1, max_size=6))


amounts = st.floats(0, 100) | st.integers(0, 5).map(float)
positive = st.floats(0.05, 20)
size_factors = st.one_of(
    st.just({"distribution": "constant"}),
    st.builds(
        lambda sigma, per: {"distribution": "lognormal", "sigma": sigma, "per": per},
        st.floats(0.1, 1),
        st.sampled_from(["slot", "task", "block"]),
    ),
)


@st.composite
def networks(draw: st.DrawFn, most: int = 256) -> dict[str, Any]:
    """A small network of any shape, and a chain of blocks with at most ``most`` placements."""
    servers = draw(st.integers(1, 3))
    blocks = draw(st.integers(1, 4).filter(lambda blocks: (servers + 1) ** blocks <= most))
    cycles, bits = (draw(st.tuples(*[amounts] * blocks)) for _ in range(2))
    tolerated = draw(st.tuples(*[st.floats(0.01, 50)] * blocks))
    return {
        "dnn": chain(cycles, bits, draw(amounts), max_tolerated_delay=tolerated),
        "edge_servers": servers,
        "edge_server": {
            "capacity": draw(st.tuples(*[positive] * servers)),
            "cores": draw(st.integers(1, 2)),
        },
        "devices": draw(st.integers(1, 3)),
        "device": {"capacity": {"uniform": [0.5, 5]}},
        "radio": {"rate": {"uniform": [1, draw(st.floats(1, 50))], "redraw": "run"}},
        "wired": draw(wired(servers)),
        "reward": {
            "beta": draw(st.sampled_from([0.0, 1.0, 3.5])),
            "aggregation": draw(st.sampled_from(["mean", "sum"])),
        },
        "return_result": draw(st.booleans()),
        "arrivals": {"process": "slotted", "rate": 1},
    }


@st.composite
def wired(draw: st.DrawFn, servers: int) -> dict[str, Any]:
    topology = draw(st.sampled_from(["full_mesh", "ring", "line", "star", "explicit"]))
    every = {"rate": draw(positive), "latency": draw(st.sampled_from([0.0, 0.3, 5.0]))}
    if topology != "explicit":
        return {"topology": topology, **every}
    links = [
        {"from": i, "to": j, "rate": draw(positive), "latency": draw(st.floats(0, 3))}
        for i, j in product(range(1, servers + 1), repeat=2)
        if i < j
    ]
    return {"topology": topology, "links": links, **every}
