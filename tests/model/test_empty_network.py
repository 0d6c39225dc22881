"""One task on an empty network: delays and energies are those of Eqs. 3 to 9, to the last bit."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.model.model import resolve
from tests.helpers.builders import Run, chain, route, scenario, simulate
from tests.helpers.examples import examples

C = [3_000_000_001, 700_000_007]  # cycles
BITS = [24_576, 524_288]
RESULT = 320
F = [17.1e9, 14.2e9, 12.3e9]
f = 1.1e9
R = 11.2e6
W = 0.9e9
LATENCY = 0.0013
P = 0.2
KAPPA = 1e-26

LINE: dict[str, Any] = {  # ES 1 – ES 2 – ES 3; the device hears ES 1
    "dnn": chain(C, BITS, RESULT),
    "edge_servers": 3,
    "edge_server": {"capacity": F, "positions": [[0, 0], [1500, 0], [3000, 0]]},
    "device": {"capacity": f, "positions": [[400, 0]]},
    "radio": {"rate": R, "transmit_power": P},
    "wired": {"topology": "line", "rate": W, "latency": LATENCY},
    "energy": {"kappa": KAPPA},
}


def run(placement: list[int], **overrides: Any) -> Run:
    return simulate(scenario(**(LINE | overrides)), "fixed", {"placement": placement})


def after(time: float, *seconds: float) -> float:
    """The single additions by which time passes."""
    for step in seconds:
        time = time + step
    return time


def wire(block: int, hops: int) -> list[float]:
    """Store and forward: each link sends the whole block, then it propagates."""
    return [BITS[block] / W, LATENCY] * hops


def air(block: int) -> float:
    return BITS[block] / R


FIRST: dict[int, list[float]] = {  # place of block 1 to the terms of L_1
    0: [C[0] / f],  # Eq. 3
    1: [air(0), C[0] / F[0]],  # Eqs. 5, 6 and 8
    2: [air(0), *wire(0, 1), C[0] / F[1]],
    3: [air(0), *wire(0, 2), C[0] / F[2]],
}
SECOND: dict[tuple[int, int], list[float]] = {  # places of blocks 1 and 2 to the terms of L_2
    (0, 0): [C[1] / f],
    (0, 1): [air(1), C[1] / F[0]],
    (0, 2): [air(1), *wire(1, 1), C[1] / F[1]],
    (0, 3): [air(1), *wire(1, 2), C[1] / F[2]],
    (1, 0): [air(1), C[1] / f],
    (1, 1): [C[1] / F[0]],
    (1, 2): [*wire(1, 1), C[1] / F[1]],
    (1, 3): [*wire(1, 2), C[1] / F[2]],
    (2, 0): [*wire(1, 1), air(1), C[1] / f],
    (2, 1): [*wire(1, 1), C[1] / F[0]],
    (2, 2): [C[1] / F[1]],
    (2, 3): [*wire(1, 1), C[1] / F[2]],
    (3, 0): [*wire(1, 2), air(1), C[1] / f],
    (3, 1): [*wire(1, 2), C[1] / F[0]],
    (3, 2): [*wire(1, 1), C[1] / F[1]],
    (3, 3): [C[1] / F[2]],
}
PAIRS = sorted(SECOND)


def test_every_pair_of_places_is_covered() -> None:
    assert [*product(range(4), repeat=2)] == PAIRS


@pytest.mark.parametrize("pair", PAIRS)
def test_delays_of_adjacent_places(pair: tuple[int, int]) -> None:
    _, trace = run(list(pair))
    first = after(0.0, *FIRST[pair[0]])
    second = after(first, *SECOND[pair])
    delays = [first - 0.0, second - first]
    assert trace["blocks/finish_s"].tolist() == [first, second]
    assert trace["blocks/delay_s"].tolist() == delays
    assert trace["blocks/ready_s"].tolist() == [0.0, first]
    assert trace["blocks/compute_start_s"].tolist() == [
        after(0.0, *FIRST[pair[0]][:-1]),
        after(first, *SECOND[pair][:-1]),
    ]
    local = sum(delay for delay, place in zip(delays, pair, strict=True) if place == 0)
    edge = sum(delay for delay, place in zip(delays, pair, strict=True) if place != 0)
    assert trace["tasks/local_s"].tolist() == [local]  # Eq. 9, with the transfer to the device
    assert trace["tasks/edge_s"].tolist() == [edge]
    assert trace["tasks/total_s"].tolist() == [edge + local]
    assert trace["tasks/finish_s"].tolist() == [second]


@pytest.mark.parametrize("literal", [False, True], ids=["uplink only", "literal Eq. 7"])
@pytest.mark.parametrize("pair", PAIRS)
def test_energies_of_adjacent_places(pair: tuple[int, int], literal: bool) -> None:
    _, trace = run(list(pair), energy={"kappa": KAPPA, "literal_eq7": literal})
    energies = []
    for block, (here, place) in enumerate(zip((0, pair[0]), pair, strict=True)):
        terms = SECOND[pair] if block else FIRST[place]
        sent = [t for t in terms[:-1] if t != LATENCY]  # Eq. 7: p × time of transfer
        if not literal:
            sent = [air(block)] if here == 0 and place != 0 else []
        own = KAPPA * f**2 * C[block] if place == 0 else 0.0  # Eq. 4
        energies.append(after(0.0, *(P * seconds for seconds in sent), own))
    several = literal and 3 in pair  # sums of more than three terms: their order is left open
    assert trace["blocks/energy_J"] == pytest.approx(energies, rel=1e-15 if several else 0, abs=0)
    assert trace["tasks/energy_J"].tolist() == [trace["blocks/energy_J"].sum()]


@pytest.mark.parametrize(
    ("last", "back"),
    [
        pytest.param(0, [], id="is there already"),
        pytest.param(1, [RESULT / R], id="radio"),
        pytest.param(3, [RESULT / W, LATENCY, RESULT / W, LATENCY, RESULT / R], id="wired, radio"),
    ],
)
def test_result_returns_with_last_block(last: int, back: list[float]) -> None:
    _, trace = run([1, last], return_result=True)
    first = after(0.0, *FIRST[1])
    second = after(first, *SECOND[1, last], *back)
    assert trace["blocks/finish_s"].tolist() == [first, second]
    assert trace["blocks/delay_s"].tolist() == [first, second - first]
    assert trace["blocks/node"].tolist() == [1, last]
    parts = {0: (0.0, second - first), 1: (second, 0.0), 3: (second, 0.0)}
    assert trace["tasks/local_s"][0] == parts[last][1]
    air_j = P * air(0) + (KAPPA * f**2 * C[1] + 0.0 if last == 0 else 0.0)
    assert trace["tasks/energy_J"][0] == pytest.approx(air_j, rel=1e-15)  # receiving is free


def test_path_to_another_server() -> None:
    """The same device near ES 3: ES 1 is two links away."""
    near_third = LINE["device"] | {"positions": [[3000, 700]]}
    _, trace = run([1, 0], device=near_third)
    first = after(0.0, air(0), *wire(0, 2), C[0] / F[0])
    assert trace["blocks/finish_s"].tolist() == [
        first,
        after(first, *wire(1, 2), air(1), C[1] / f),
    ]


def test_each_direction_of_a_link_is_a_resource() -> None:
    _, trace = run([3, 1])
    names = resolve(scenario(**LINE)).resource_names()
    assert [names[r] for r in trace["hops/resource"].tolist()] == [
        *("device0.uplink", "es1-es2", "es2-es3", "es3.cpu"),
        *("es3-es2", "es2-es1", "es1.cpu"),
    ]
    assert trace["hops/block"].tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_late_blocks_penalty_and_reward() -> None:
    delays = [C[0] / f, after(C[0] / f, C[1] / f) - C[0] / f]  # 2.73 s and 0.64 s
    for tolerated, late, excess in (
        ([2.0, 1.0], 1, delays[0] - 2.0),
        ([2.0, 0.5], 2, delays[0] - 2.0 + (delays[1] - 0.5)),
        ([delays[0], 1.0], 0, 0.0),  # just in time is not late
    ):
        dnn = chain(C, BITS, RESULT, max_tolerated_delay=tolerated)
        summary, trace = run([0, 0], dnn=dnn, reward={"beta": 2.5})
        assert trace["tasks/late_blocks"].tolist() == [late]
        assert summary["late_blocks"] == late
        assert summary["reward"] == -(sum(delays) + 2.5 * excess)
        assert trace["decisions/reward"][0] == pytest.approx(summary["reward"], rel=1e-15)


# ---------------------------------------------------------------- random placements


@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.sampled_from(["line", "ring", "star", "full_mesh"]),
    st.sampled_from([0.0, 0.0013]),
    st.sampled_from(["device", "every"]),
    st.floats(0.01, 10.0),
)
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_total_delay_of_random_placements(
    placement: list[int], topology: str, latency: float, result: str, length: float
) -> None:
    """One task, released in the third slot."""
    small = LINE | {
        "dnn": chain([11, 5, 3, 2], [7, 13, 17, 19], 23, cycles_per_flop=1e8),
        "wired": {"topology": topology, "rate": 1e3, "latency": latency},
        "radio": {"rate": 77.0},
        "slots": 3,
        "slot_length": length,
        "arrivals": {"process": "slotted", "rate": 1 / 3},
        "return_result": result == "every",
    }
    spec = scenario(**small)
    _, trace = simulate(spec, "fixed", {"placement": placement})
    release = 2 * length
    hops = route(resolve(spec), 0, placement, 77.0)
    assert trace["hops/resource"].tolist() == [hop.resource for hop in hops]
    finish = after(release, *(second for hop in hops for second in hop[1:]))
    assert trace["tasks/release_s"].tolist() == [release]
    assert trace["tasks/finish_s"].tolist() == [finish]
    parts = trace["tasks/edge_s"] + trace["tasks/local_s"]
    assert trace["tasks/total_s"].tolist() == parts.tolist()
    hand = sum(second for hop in hops for second in hop[1:])
    assert trace["tasks/total_s"][0] == pytest.approx(hand, rel=1e-12, abs=1e-14 * length)
    assert (trace["hops/start_s"] == trace["hops/enqueue_s"]).all()  # nobody waits


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_delay_is_sum_of_its_parts(placements: list[list[int]]) -> None:
    """Also where tasks wait: transfer waiting, transfer, compute waiting, compute."""
    spec = scenario(
        **LINE
        | {
            "dnn": chain([11, 5, 3], [7, 13, 17], cycles_per_flop=1e8),
            "radio": {"rate": 77.0},
            "slots": 2,
            "arrivals": {"process": "slotted", "rate": 6},
            "decision_epoch": "per_task",
        }
    )
    _, trace = simulate(spec, "tests.helpers.schedulers:Scripted", {"placements": placements})
    model = resolve(spec)
    resource = trace["hops/resource"]
    link = resource >= model.resources.link
    travel = np.where(link, LATENCY, 0.0)  # counted as transfer
    computes = resource < model.resources.uplink
    wait = trace["hops/start_s"] - trace["hops/enqueue_s"]
    service = trace["hops/finish_s"] - trace["hops/start_s"] + travel
    block = trace["hops/task"] * 3 + trace["hops/block"]
    parts = np.zeros((4, 12 * 3))
    for part, (which, seconds) in enumerate(product((~computes, computes), (wait, service))):
        np.add.at(parts[part], block[which], seconds[which])
    assert (parts >= 0).all()
    assert wait.max() > 0  # twelve tasks of one device, six at a time
    assert parts.sum(axis=0) == pytest.approx(trace["blocks/delay_s"], rel=1e-12)
