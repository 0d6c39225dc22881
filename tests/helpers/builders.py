"""What several test files build on: small scenarios, runs in memory, routes worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import networkx as nx

from mecsim import Scenario
from mecsim.model.model import Model, resolve
from mecsim.scenario.schema import Radio, Wired
from mecsim.simulation.run import run
from mecsim.trace.schema import MemoryTrace


def chain(
    cycles: Sequence[float], bits: Sequence[float], result_bits: float = 8.0, **more: Any
) -> dict[str, Any]:
    """The ``dnn`` section of a chain of blocks with these cycles and input bits."""
    table = {"flops": cycles, "input_bits": bits, "output_bits": result_bits}
    return {"model": table | {"parameter_bytes": [4] * len(cycles)}, **more}


def scenario(**overrides: Any) -> Scenario:
    """One task of one block in one slot, one device, two servers; top-level keys replace these."""
    base: dict[str, Any] = {
        "slots": 1,
        "dnn": chain([1], [1]),
        "arrivals": {"process": "slotted", "rate": 1},
        "edge_servers": 2,
        "devices": 1,
    }
    return Scenario.model_validate(base | overrides)


MEASURED: dict[str, Any] = {
    "ms": {"board": [250, 500], "rack": [62.5, 31.25]},
    "joules": {"board": [2, 3]},
    "parameter_bytes": [1, 1],
    "input_bits": [100, 50],
}
"""A DNN whose blocks take 250 and 500 ms at a board, 62.5 and 31.25 ms at a rack."""


def measured_lab(table: dict[str, Any] | None = None, **overrides: Any) -> Scenario:
    """One task with measured times; 100 bit/s over the radio and 200 bit/s over a wire."""
    base: dict[str, Any] = {
        "dnn": {"model": MEASURED | (table or {}), "service_times": "measured"},
        "device": {"type": "board"},
        "edge_server": {"type": "rack"},
        "radio": {"rate": 100.0, "transmit_power": 2.0},
        "wired": {"rate": 200.0},
    }
    return scenario(**(base | overrides))


class Run(NamedTuple):
    """A summary without its wall-clock time, and a trace."""

    summary: dict[str, Any]
    trace: MemoryTrace


def simulate(
    scenario: Scenario,
    scheduler: str = "greedy",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    kernel: str = "simpy",
) -> Run:
    memory = MemoryTrace()
    result = run(scenario, scheduler, options, seed=seed, kernel=kernel, memory=memory)
    summary = result.summary.as_json()
    del summary["wall_s"]
    return Run(summary, memory)


def costs_of_all(spec: Scenario, seed: int = 0) -> dict[tuple[int, ...], float]:
    """Cost of a run under each of the (N + 1)^M placements, simulated."""
    places, blocks = range(spec.server_count + 1), resolve(spec).blocks
    return {
        places: -run(spec, "fixed", {"placement": list(places)}, seed=seed).summary.reward
        for places in product(places, repeat=blocks)
    }


class Hop(NamedTuple):
    """A hop as :mod:`tests.helpers.reference_programs` has it."""

    resource: int
    service: float
    latency: float


def both_ways(one_way: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Directed links in both directions between the ends of each pair, in order."""
    return sorted([*one_way, *((j, i) for i, j in one_way)])


def links_of(model: Model) -> dict[tuple[int, int], tuple[float, float]]:
    """Rate and latency of the link from each server to each other one that it is joined with."""
    links = model.links
    columns = (links.source, links.target, links.rate_bps, links.latency_s)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {(i, j): (rate, latency) for i, j, rate, latency in rows}


def sent_s(section: Radio | Wired, bits: float, rate_bps: float) -> float:
    """Seconds for which a transfer occupies its link."""
    return bits * (1 + section.headers) / rate_bps + section.overhead


def path(model: Model, source: int, target: int, bits: float) -> list[tuple[int, int]]:
    """The links (0-based) of least transfer time; of equals the lowest-numbered servers first."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(model.servers))
    for (i, j), (rate, latency) in links_of(model).items():
        graph.add_edge(i, j, weight=sent_s(model.scenario.wired, bits, rate) + latency)
    nodes = min(nx.all_shortest_paths(graph, source, target, weight="weight"))
    return list(pairwise(nodes))


def route(
    model: Model,
    device: int,
    placement: Sequence[int],
    rate_bps: float,
    sizes: Sequence[float] = (1.0,),
) -> list[Hop]:
    """What a task crosses, from the equations, one block after the other.

    ``sizes`` are its size factors, one for all blocks or one each.
    """
    row = {name: number for number, name in enumerate(model.resource_names())}
    links, radio, wired = links_of(model), model.scenario.radio, model.scenario.wired
    serving_server = int(model.serving_server[device])

    def transfer(here: int, place: int, bits: float, size: float) -> Iterator[Hop]:
        if here == place:
            return
        if here == 0:
            yield Hop(row[f"device{device}.uplink"], sent_s(radio, bits * size, rate_bps), 0.0)
        source, target = (n - 1 if n else serving_server for n in (here, place))
        for i, j in path(model, source, target, bits):
            speed, seconds = links[i, j]
            yield Hop(row[f"es{i + 1}-es{j + 1}"], sent_s(wired, bits * size, speed), seconds)
        if place == 0:
            yield Hop(row[f"device{device}.downlink"], sent_s(radio, bits * size, rate_bps), 0.0)

    hops: list[Hop] = []
    here = 0
    for m, place in enumerate(placement):
        size = sizes[m % len(sizes)]
        hops += transfer(here, place, float(model.input_bits[m]), size)
        name = f"es{place}.cpu" if place else f"device{device}.cpu"
        speed = model.server_hz[place - 1] if place else model.device_hz[device]
        hops.append(Hop(row[name], float(model.cycles[m] * size / speed), 0.0))
        here = place
    if model.scenario.return_result:
        hops += transfer(here, 0, float(model.result_bits[0]), sizes[-1])
    return hops
