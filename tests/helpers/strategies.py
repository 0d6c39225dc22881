"""Hypothesis strategies: random scenarios with placements."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

from mecsim import Scenario
from mecsim.scenario import groups
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
    {"bandwidth": 0.1, "fading": "rayleigh", "varies_within_transfers": True},
]
OVERHEADS: list[dict[str, Any]] = [
    {},
    {},
    {"headers": 0.5},
    {"headers": 1.0, "overhead": 0.25},
]
TYPES: list[dict[str, dict[str, Any]]] = [
    {},
    {},
    {"edge_server": {"type": "b"}, "device": {"type": "a"}},
    {"edge_server": {"type": "a"}, "device": {"type": "b", "compute_power": 0.5}},
    {"edge_server": {"type": "formula"}, "device": {"type": "a"}},
    {"edge_server": {"type": "a"}, "device": {"type": "formula"}},
]
"""Whether service times are measured, and at which nodes."""


@st.composite
def arrivals(draw: st.DrawFn) -> dict[str, Any]:
    process = draw(st.sampled_from(["slotted", "slotted", "deterministic", "poisson", "mmpp"]))
    if process == "mmpp":
        return {"process": "mmpp", "rates": [0.5, 6.0], "mean_dwell": [1.0, 0.5]}
    return {"process": process, "rate": draw(st.sampled_from([0, 0.5, 1, 2.5, 4, 9]))}


BATTERIES: list[Any] = ["unlimited", "unlimited", 0.5, 1.0, 4.0, 9.0]
SPEEDS = st.sampled_from([1.0, 2.0])

RATES_OVER_TIME: list[dict[str, Any]] = [
    {"steps": [[0.0, 1.0], [1.25, 0.3]]},
    {"steps": [[0.0, 0.0], [0.5, 1.7]], "period": 2.1},
    {"steps": [[0.0, 2.0], [1.0, 0.5], [2.0, 1.0]], "nominal": 1.0},
]
OVER_TIME = st.sampled_from([None, None, *RATES_OVER_TIME])


@st.composite
def servers(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four servers: equal ones, or groups, among them a cloud."""
    if draw(st.booleans()):
        cores = draw(st.integers(1, 4))
        return {
            "edge_servers": draw(st.integers(1, 4)),
            "edge_server": {
                "capacity": draw(OVER_TIME) or {"repeat": [draw(SPEEDS), 1.0]},
                "cores": cores,
            },
        }
    rack = {"name": "rack", "count": draw(st.integers(1, 2)), "cores": draw(st.integers(1, 3))}
    cloud = {"name": "cloud", "radio": False, "capacity": draw(SPEEDS)}
    pole = {"name": "pole", "capacity": draw(SPEEDS), "coverage_radius": 800.0}
    some = draw(st.sampled_from([[rack], [cloud, rack], [rack, cloud], [rack, pole, cloud]]))
    return {"edge_servers": some, "edge_server": {"capacity": 1.0}}


@st.composite
def devices(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four devices: equal ones, or groups with batteries, powers and radios of their own."""
    battery, few = st.sampled_from(BATTERIES), st.integers(1, 2)
    whole = {"battery": draw(battery), "capacity": {"repeat": [1.0, draw(SPEEDS)]}}
    if draw(st.booleans()):
        return {"devices": draw(st.integers(1, 4)), "device": whole}
    fast = {"name": "fast", "count": draw(few), "capacity": 2.0, "kappa": draw(SPEEDS)}
    radio = {"name": "radio", "count": draw(few), "transmit_power": draw(st.sampled_from([0.5, 2]))}
    rates = [RATES_OVER_TIME[1], {"uniform": [1.0, 2.0]}]
    fast |= draw(st.sampled_from([{}, *({"rate": rate} for rate in rates)]))
    return {"devices": [fast | {"battery": draw(battery)}, radio], "device": whole}


def with_type(nodes: Any, section: dict[str, Any]) -> Any:
    """Nodes of a scenario without what has no effect next to the type of their section."""
    if isinstance(nodes, int) or section["type"] == "formula":
        return nodes
    if isinstance(nodes, list):
        return [with_type(group, section) for group in nodes]
    return {key: value for key, value in nodes.items() if key not in ("capacity", "kappa")}


@st.composite
def backbones(draw: st.DrawFn, servers: int) -> dict[str, Any]:
    """A wired network of ``servers`` servers; all links of an explicit one lead on to the next."""
    every = {
        "rate": draw(OVER_TIME) or draw(SPEEDS),
        "latency": draw(st.sampled_from([0.0, 0.5, 1.0])),
    }
    shapes = ["full_mesh", "ring", "star", "line", "tree", "grid", "explicit", "explicit"]
    shape = draw(st.sampled_from(shapes))
    if shape != "explicit":
        return {"topology": shape, **every}
    some: list[dict[str, Any]] = [
        {},
        {"rate": 1.0},
        {"rate": RATES_OVER_TIME[0]},
        {"latency": 0.25},
    ]
    own = st.sampled_from(some)
    line = [{"from": n, "to": n + 1, **draw(own)} for n in range(1, servers)]
    more = [{"from": 1, "to": servers, "both_ways": False, "rate": 2.0}] if servers > 2 else []
    return {"topology": shape, **every, "links": line + draw(st.sampled_from([[], more]))}


OUTAGES: list[dict[str, Any]] = [
    {"at": [[0.5, 1.0], [2.0, 3.5]]},
    {"at": [[0.0, 0.25], [1.0, 1.5], [1.75, 4.0]]},
    {"mean_time_to_failure": 1.0, "mean_time_to_repair": 0.5},
]


@st.composite
def failures(draw: st.DrawFn, count: int) -> list[dict[str, Any]]:
    """At most one failure of servers, one of devices and one of links."""
    found: list[dict[str, Any]] = []
    some: dict[str, list[Any]] = {"servers": [[count], "all"], "devices": [[0], "all"]}
    if count > 1:
        some["links"] = [[[1, 2]], "all"]
    for key, which in some.items():
        if draw(st.booleans()):
            times = draw(st.sampled_from(OUTAGES))
            work = draw(st.sampled_from(["resumes", "restarts", "lost"]))
            waits = {"arrivals": draw(st.sampled_from(["wait", "wait", "fail"]))}
            found.append({key: draw(st.sampled_from(which)), "work": work} | times | waits)
    return found


@st.composite
def mobility(draw: st.DrawFn, nodes: Scenario) -> list[dict[str, Any]]:
    """Devices that walk around the first server, or one that goes to the next one and back."""
    groups_ = nodes.edge_servers
    count = groups_ if isinstance(groups_, int) else sum(g.count for g in groups_ if g.radio)
    far = 800.0 if count > 1 else 200.0
    points = [[0.0, 0, 700.0, 0.0], [2.0, 0, far, 0.0], [4.0, 0, 700.0, 0.0]]
    area = [[-500.0, -500.0], [500.0, 500.0]]
    ways: list[dict[str, Any]] = [{"points": points}, {"speed": [40.0, 90.0], "area": area}]
    change = {
        "hysteresis_db": draw(st.sampled_from([0.0, 0.5, 3.0])),
        "handover": draw(st.sampled_from([0.0, 0.5, 1.0])),
    }
    return draw(st.sampled_from([[], *([way | change] for way in ways)]))


def with_overheads(draw: st.DrawFn, section: dict[str, Any], *rates: Any) -> dict[str, Any]:
    """A section with headers and, where none of the rates changes over time, overheads."""
    added = draw(st.sampled_from(OVERHEADS))
    if section.get("varies_within_transfers") or any(
        isinstance(rate, dict) and "uniform" not in rate for rate in rates
    ):
        added = {key: value for key, value in added.items() if key != "overhead"}
    return section | added


@st.composite
def cases(draw: st.DrawFn) -> tuple[Scenario, list[list[int]]]:
    """Small scenarios of everything that there is; in most, ties are the rule."""
    blocks = draw(st.integers(1, 3))
    few = st.lists(st.integers(0, 3), min_size=blocks, max_size=blocks)
    nodes = draw(servers()) | draw(devices())
    count = groups.count(Scenario.model_validate(nodes).edge_servers)
    radio, rate = draw(st.sampled_from(RADIOS)), draw(OVER_TIME)
    failing = draw(st.just([]) | failures(count))
    moving = draw(mobility(Scenario.model_validate(nodes)))
    dnn, types = chain(draw(few), draw(few)), draw(st.sampled_from(TYPES))
    if types:
        dnn["model"] |= {"ms": {t: [500 * n for n in draw(few)] for t in "ab"}}
        dnn["model"] |= {"joules": {"a": draw(few)}}
        dnn["service_times"] = "measured"
        nodes = {key: with_type(of, types[key.removesuffix("s")]) for key, of in nodes.items()}
        nodes = nodes | {key: nodes.get(key, {}) | types[key] for key in types}
    radio = (radio if rate is None else {"rate": rate}) | {"transmit_power": 1.0}
    of_groups = nodes["devices"] if isinstance(nodes["devices"], list) else []
    radio = with_overheads(draw, radio, rate, *(each.get("rate") for each in of_groups))
    backbone = draw(backbones(count))
    of_links = [link.get("rate") for link in backbone.get("links", ())]
    backbone = with_overheads(draw, backbone, backbone["rate"], *of_links)
    spec = scenario(
        failures=failing,
        mobility=moving,
        slots=draw(st.integers(1, 5)),
        slot_length=draw(st.sampled_from([0.5, 1.0, 3.0])),
        decision_epoch=draw(st.sampled_from(["per_slot", "per_task"])),
        dnn=dnn,
        size_factor=draw(st.sampled_from([SIZES[0], *SIZES])),
        arrivals=draw(arrivals()),
        **nodes,
        radio=radio,
        wired=backbone,
        energy={"kappa": 1.0, "literal_eq7": draw(st.booleans())},
        return_result=draw(st.booleans()),
        reward={"aggregation": draw(st.sampled_from(["mean", "sum"]))},
    )
    placement = st.lists(st.integers(0, count), min_size=blocks, max_size=blocks)
    return spec, draw(st.lists(placement, min_size=1, max_size=6))


DEADLINES: list[dict[str, Any]] = [
    {},
    {"deadline": 4.0},
    {"deadline": 1.0, "drop_late": True},
    {"deadline": 3.0, "drop_late": True},
]


@st.composite
def cases_of_classes(draw: st.DrawFn) -> tuple[Scenario, list[list[int]]]:
    """Small scenarios with two or three classes of tasks; a class takes the first places."""
    spec, _ = draw(cases())
    few, tasks = st.integers(0, 3), []
    for number in range(draw(st.integers(2, 3))):
        blocks = draw(st.integers(1, 3))
        cycles, bits = (draw(st.lists(few, min_size=blocks, max_size=blocks)) for _ in range(2))
        tasks.append({
            "name": f"class{number}",
            "dnn": chain(cycles, bits, draw(few), max_tolerated_delay=draw(SPEEDS)),
            "arrivals": draw(arrivals()),
            "size_factor": draw(st.sampled_from(SIZES)),
            **draw(st.sampled_from(DEADLINES)),
        })  # fmt: skip
    values = spec.model_dump(mode="json") | {"tasks": tasks}
    for name in ("dnn", "arrivals", "size_factor"):
        del values[name]
    placement = st.lists(st.integers(0, spec.server_count), min_size=3, max_size=3)
    return Scenario.model_validate(values), draw(st.lists(placement, min_size=1, max_size=6))


@st.composite
def cases_with_retries(draw: st.DrawFn) -> tuple[Scenario, list[list[int]]]:
    """Small scenarios, of one class or several, in which lost tasks are placed again."""
    spec, placements = draw(cases() | cases_of_classes())
    which: dict[str, Any] = {"servers": draw(st.sampled_from([[1], "all"]))}
    if draw(st.booleans()):
        which["devices"] = draw(st.sampled_from([[0], "all"]))
    if spec.server_count > 1 and draw(st.booleans()):
        which["links"] = "all"
    losing = {"work": "lost", "arrivals": draw(st.sampled_from(["wait", "wait", "fail"]))}
    failing = [{key: of} | losing | draw(st.sampled_from(OUTAGES)) for key, of in which.items()]
    values = spec.model_dump(mode="json", exclude_none=True) | {"failures": failing}
    for each in values.get("tasks", [values]):
        each["retries"] = draw(st.integers(1, 3))
    if "tasks" not in values:
        values |= draw(st.sampled_from(DEADLINES))
    return Scenario.model_validate(values), placements


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
