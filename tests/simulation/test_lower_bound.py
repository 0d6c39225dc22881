"""The bound and `viterbi` against exhaustive search, by hand, and below every policy's cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mecsim import Scenario
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.run import run as run_scenario
from mecsim.support.arrays import Floats, Ints
from mecsim.verification.conformance import SHAPES, check_scheduler
from tests.helpers.builders import chain, costs_of_all, scenario, simulate
from tests.helpers.examples import examples, thorough
from tests.helpers.strategies import networks, size_factors

FOLDER = Path(__file__).parents[2] / "scenarios"
VITERBI = "schedulers.viterbi:Viterbi"
ROUNDING = 1e-12


def bounds(spec: Scenario, seed: int = 0) -> tuple[Floats, Ints, LowerBound]:
    """The bound and the best placement of every task of a run, and their sum."""
    model = resolve(spec, seed)
    bound = LowerBound(model)
    costs, placements = [], []
    for slot in workload.slots(model):
        bound.add(slot)
        costs.append(bound.costs(slot.tasks, slot))
        placements.append(bound.placements(slot.tasks, slot))
    return np.concatenate(costs), np.concatenate(placements), bound


# ---------------------------------------------------------------- by hand

HAND: dict[str, Any] = {  # ES 1 – ES 2 by 10 bit/s and 1 s; the device hears ES 1 at 4 bit/s
    "dnn": chain([2, 12, 1], [40, 20, 8], 8, max_tolerated_delay=[9, 5, 2]),
    "edge_servers": 2,
    "edge_server": {"capacity": [2, 6], "positions": [[0, 0], [1500, 0]]},
    "device": {"capacity": 1, "positions": [[400, 0]]},
    "radio": {"rate": 4},
    "wired": {"topology": "line", "rate": 10, "latency": 1},
    "reward": {"beta": 2},
}


def test_a_number_worked_out_by_hand() -> None:
    # Block 1: at the device 2 s; at ES 1 40/4 + 2/2 = 11 s, 2 s late, which costs 15.
    # Block 2 at ES 2: from the device 20/4 + 20/10 + 1 + 12/6 = 10 s, 5 s late, costs 20; from
    # ES 1 20/10 + 1 + 12/6 = 5 s, not late. At ES 1: from there 12/2 = 6 s, 1 s late, costs 8.
    # Block 3 stays: 1/6 s at ES 2, 1/2 s at ES 1. So 15 + 5 + 1/6 is less than 2 + 20 + 1/6.
    costs, placements, bound = bounds(scenario(**HAND))
    assert costs == pytest.approx([20 + 1 / 6], rel=1e-15)
    assert placements.tolist() == [[1, 2, 2]]
    assert (bound.total, bound.reward) == (costs[0], -costs[0])
    assert bound.gap_percent(-1.5 * costs[0]) == pytest.approx(50)


def test_the_result_counts_with_the_last_block() -> None:
    # From ES 2 the result takes 8/10 + 1 + 8/4 = 3.8 s: block 3 then has 3.9667 s, 1.9667 s late,
    # and costs 7.9. From ES 1 it takes 2 s: 2.5 s, 0.5 s late, 3.5. So 15 + 8 + 3.5 < 20 + 7.9.
    costs, placements, _ = bounds(scenario(**HAND, return_result=True))
    assert costs == pytest.approx([26.5], rel=1e-15)
    assert placements.tolist() == [[1, 1, 1]]


def test_every_block_takes_the_route_of_its_own_input() -> None:
    # From ES 1 to ES 3 straight at 1 bit/s, or by ES 2 at 100 bit/s with 1 s of latency a hop. The
    # 100 bits of the first input go round in 2·(100/100 + 1) = 4 s (straight: 100 s), the 1 bit of
    # the result comes straight back in 1 s (round: 2.02 s). The radio takes 1 s and 0.01 s.
    slow, fast = {"rate": 1, "latency": 0}, {"rate": 100, "latency": 1}
    ends = {(1, 2): fast, (2, 3): fast, (1, 3): slow}
    links = [{"from": i, "to": j, **link} for (i, j), link in ends.items()]
    spec = scenario(
        dnn=chain([100], [100], 1, max_tolerated_delay=3),
        edge_servers=3,
        edge_server={"capacity": [1, 1, 50], "positions": [[0, 0], [1500, 0], [3000, 0]]},
        device={"capacity": 1, "positions": [[400, 0]]},
        radio={"rate": 100},
        wired={"topology": "explicit", "links": links},
        return_result=True,
    )
    costs, placements, _ = bounds(spec)
    seconds = 1 + 4 + 100 / 50 + 1 + 0.01
    assert placements.tolist() == [[3]]
    assert costs == pytest.approx([seconds + (seconds - 3)], rel=1e-15)
    assert simulate(spec, VITERBI).summary["reward"] == pytest.approx(-costs[0], rel=ROUNDING)


def test_equal_places_go_to_the_lowest_number() -> None:
    """Blocks without work and input cost nothing anywhere; alike servers cost the same."""
    idle = scenario(dnn=chain([0, 0, 0], [0, 0, 0]), edge_servers=3)
    assert bounds(idle)[1].tolist() == [[0, 0, 0]]
    alike = scenario(
        dnn=chain([9e9, 9e9], [0, 0]), edge_servers=3, device={"positions": [[1500, 0]]}
    )
    assert bounds(alike)[1].tolist() == [[1, 1]]
    assert simulate(alike, VITERBI).trace["decisions/placement"].tolist() == [[1, 1]]


def test_no_tasks_have_no_gap() -> None:
    costs, placements, bound = bounds(scenario(arrivals={"process": "slotted", "rate": 0}))
    assert (costs.shape, placements.shape) == ((0,), (0, 1))
    assert bound.reward == 0
    assert bound.gap_percent(0.0) is None


# ---------------------------------------------------------------- against exhaustive search


@settings(max_examples=examples(40), deadline=None)
@given(
    values=networks(most=256 if thorough() else 64),
    size=size_factors,
    epoch=st.sampled_from(["per_slot", "per_task"]),
)
def test_one_task_alone_against_exhaustive_search(
    values: dict[str, Any], size: dict[str, Any], epoch: str
) -> None:
    """The bound, its placement and `viterbi` are the best of all placements of a simulated task."""
    if epoch == "per_slot":
        values |= {"devices": 1}  # for one device the mean over all devices is that device
    table = values["dnn"]["model"]
    reported = table["flops"][-1] or table["input_bits"][-1]  # else the last size is not observed
    assume(reported or size.get("per") != "block" or not values["return_result"])
    spec = scenario(**values, size_factor=size, decision_epoch=epoch)
    simulated = costs_of_all(spec, seed=3)
    (cost,), (placement,), _ = bounds(spec, seed=3)
    least = pytest.approx(min(simulated.values()), rel=ROUNDING, abs=1e-300)
    assert cost == least
    assert simulated[tuple(placement.tolist())] == least
    assert -run_scenario(spec, VITERBI, seed=3).summary.reward == least


@settings(max_examples=examples(15), deadline=None)
@given(values=networks(most=64 if thorough() else 27))
def test_one_placement_for_several_devices_against_exhaustive_search(
    values: dict[str, Any],
) -> None:
    """For a slot `viterbi` takes what is best on average over the devices.

    Here the devices release one task each, one after the other and so far apart that each has the
    network to itself; over such a run the best fixed placement is the one of least mean cost.
    """
    devices = {"devices": 3, "slots": 3, "slot_length": 2.0**16}
    spec = scenario(**(values | devices))
    simulated = costs_of_all(spec, seed=3)
    run = simulate(spec, VITERBI, seed=3)
    first, *others = run.trace["decisions/placement"].tolist()
    assert others == [first] * 2
    # The clock of a run of two days rounds to 2^-36 s, at every hop of a task.
    rounding = 3 * 20 * 2.0**-36 * (1 + spec.reward.beta)
    least = pytest.approx(min(simulated.values()), rel=ROUNDING, abs=rounding)
    assert -run.summary["reward"] == least


# ---------------------------------------------------------------- below every policy

LOADED: dict[str, list[str]] = {
    "vgg16_loaded": ["slots=8"],
    "vgg16_4es": ["slots=5"],
    "bursty": ["slots=8"],
    "vgg16_224": ["slots=12"],
    "resnet32": ["slots=5", "return_result=true", "dnn.max_tolerated_delay=10 ms"],
}
POLICIES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "rpdi": {},
    "apdi": {},
    "edge": {},
    "local": {},
    "single-cut": {},
    "fixed": {},
    VITERBI: {},
}


@pytest.mark.quick("vgg16_loaded-*", "*-greedy")
@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("file", LOADED)
def test_no_policy_gets_below_the_bound_of_any_task(file: str, name: str) -> None:
    changes = [*LOADED[file], "radio.fading=rayleigh", "size_factor={distribution: exponential}"]
    spec = load(FOLDER / f"{file}.yaml", changes)
    blocks = resolve(spec).blocks
    options = {"placement": [0] + [1] * (blocks - 1)} if name == "fixed" else {}
    run = simulate(spec, name, options, seed=1)
    least, _, bound = bounds(spec, seed=1)
    delay = run.trace["blocks/delay_s"].reshape(-1, blocks)
    late = np.maximum(delay - resolve(spec).tolerated_s, 0)
    cost = (delay + spec.reward.beta * late).sum(axis=1)
    assert run.summary["failed"] == 0
    # Delays are differences of times: each is good to a few units in the last place of its end.
    rounding = 8 * blocks * np.spacing(run.trace["tasks/finish_s"])
    assert len(cost) == len(least) > 100
    assert (cost >= least - rounding).all()
    slot = run.trace["tasks/slot"]
    weight = 1 / np.bincount(slot)[slot] if spec.reward.aggregation == "mean" else 1.0
    assert bound.total == pytest.approx((weight * least).sum(), rel=ROUNDING)
    gap = bound.gap_percent(run.summary["reward"])
    assert gap is not None
    assert gap == pytest.approx(100 * ((weight * cost).sum() / (weight * least).sum() - 1))
    assert gap > 0


# ---------------------------------------------------------------- the scheduler


def test_viterbi_keeps_the_contract() -> None:
    assert check_scheduler(VITERBI) == list(SHAPES)


@pytest.mark.parametrize("per", ["slot", "task", "block"])
def test_viterbi_places_every_task_at_its_optimum_whatever_the_load(per: str) -> None:
    """It sees sizes drawn for each block, the rates of the slot and where the device is."""
    spec = scenario(
        slots=20,
        decision_epoch="per_task",
        dnn=chain([2, 4, 8, 16], [40, 16, 6, 2], 8, max_tolerated_delay=[1, 2, 2, 3]),
        edge_servers=4,
        edge_server={"capacity": [4, 8, 16, 32]},
        devices=12,
        device={"capacity": 3},
        radio={"rate": {"uniform": [2, 40]}},
        wired={"topology": "line", "rate": 10, "latency": 0.2},
        size_factor={"distribution": "lognormal", "sigma": 0.8, "per": per},
        arrivals={"process": "poisson", "rate": 10},
        return_result=True,
    )
    chosen = simulate(spec, VITERBI, seed=1).trace["decisions/placement"]
    _, placements, _ = bounds(spec, seed=1)
    assert len(np.unique(chosen, axis=0)) > 7
    assert chosen.tolist() == placements.tolist()
