"""The lookahead scheduler: optimal if it simulates everything, and within its budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim import Observation, Placement, Scenario
from mecsim.errors import SchedulerError
from mecsim.scenario.loading import load
from mecsim.scheduler.observation import Outcomes
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.run import run as run_scenario
from mecsim.support.arrays import Ints
from mecsim.verification.conformance import SHAPES, check_scheduler
from schedulers.lookahead import Lookahead
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.cli import mecsim
from tests.helpers.examples import examples
from tests.helpers.strategies import cases

FOLDER = Path(__file__).parents[2] / "scenarios"
LOOKAHEAD = "schedulers.lookahead:Lookahead"
WATCHED = "tests.scheduler.test_lookahead:Watched"


class Decided(NamedTuple):
    """What was simulated at an epoch, what was chosen, and what that and the best lead to."""

    simulated: Ints
    placement: Ints
    chosen: tuple[int, float]
    """Failures and cost."""
    best: tuple[int, float]
    """Of those simulated, or of ``everything``."""


class Watched(Lookahead):
    """Records in ``log`` what it decided at every epoch."""

    def __init__(self, spec: SchedulerSpec, *, log: Any, budget: int, everything: bool) -> None:
        super().__init__(spec, budget=budget)
        self.log, self.everything = log, everything

    def decide(self, observation: Observation) -> Placement:
        asked: list[Ints] = []

        def counting(placements: Ints) -> Outcomes:
            asked.append(placements)
            return observation.what_if(placements)

        chosen = np.array(super().decide(replace(observation, rollouts=counting)))
        simulated = rows = np.concatenate(asked)
        if self.everything:
            rows = np.indices([self.spec.servers + 1] * self.spec.blocks)
            rows = rows.reshape(self.spec.blocks, -1).T
        best, (own,) = (
            sorted(zip(outcomes.failed.tolist(), outcomes.cost.tolist(), strict=True))
            for outcomes in map(observation.what_if, (rows, chosen[None, :]))
        )
        self.log.append(Decided(simulated, chosen, own, best[0]))
        return chosen


def decisions(spec: Scenario, budget: int, *, everything: bool, seed: int = 0) -> list[Decided]:
    log: list[Decided] = []
    options = {"log": log, "budget": budget, "everything": everything}
    run_scenario(spec, WATCHED, options, seed=seed, kernel="compiled")
    return log


def small(**overrides: Any) -> Scenario:
    base: dict[str, Any] = {
        "slots": 5,
        "dnn": chain([3, 2, 4], [2, 3, 1], max_tolerated_delay=2.0),
        "arrivals": {"process": "slotted", "rate": 3},
        "edge_server": {"capacity": {"repeat": [2.0, 4.0]}},
        "devices": 2,
        "device": {"capacity": 2.0},
        "radio": {"rate": 4.0},
        "wired": {"rate": 8.0},
    }
    return scenario(**(base | overrides))


# ---------------------------------------------------------------- how good


@given(cases(), st.integers(0, 3))
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_exhaustive_search_is_optimal(case: tuple[Scenario, list[list[int]]], seed: int) -> None:
    spec, (placement, *_) = case
    every = (spec.server_count + 1) ** len(placement)
    for decided in decisions(spec, every, everything=True, seed=seed):
        assert decided.chosen == decided.best
        assert len(decided.simulated) == every


def test_one_slot_equals_best_fixed_placement() -> None:
    for servers, devices in ((1, 1), (2, 3)):
        spec = small(slots=1, edge_servers=servers, devices=devices)
        rewards = [
            run_scenario(spec, "fixed", {"placement": list(p)}, kernel="compiled").summary.reward
            for p in product(range(servers + 1), repeat=3)
        ]
        reward = run_scenario(spec, LOOKAHEAD, {"budget": 30}).summary.reward
        assert reward == max(rewards)


@pytest.mark.parametrize("name", ["vgg16_loaded", "nin", "small_battery"])
def test_one_slot_beats_other_schedulers(name: str) -> None:
    spec = load(FOLDER / f"{name}.yaml", ["slots=1"])
    best = run_scenario(spec, LOOKAHEAD, kernel="compiled").summary
    for other in ("apdi", "edge", "greedy", "local", "rpdi", "single-cut"):
        summary = run_scenario(spec, other, kernel="compiled").summary
        assert best.reward >= summary.reward or best.failed < summary.failed


def test_failure_is_worse_than_any_cost() -> None:
    """At the device the one task would cost little and fail."""
    spec = small(
        slots=1,
        arrivals={"process": "slotted", "rate": 1},
        device={"capacity": 2.0, "battery": 8.0},
        radio={"rate": 0.1, "transmit_power": 0.001},
        energy={"kappa": 1.0},
    )
    local = run_scenario(spec, "local").summary
    best = run_scenario(spec, LOOKAHEAD).summary
    assert (local.failed, best.failed) == (1, 0)
    assert best.reward < local.reward


# ---------------------------------------------------------------- its budget


@pytest.mark.parametrize("budget", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_budget_is_kept_and_nothing_simulated_twice(budget: int, epoch: str) -> None:
    spec = small(
        decision_epoch=epoch, edge_servers=4, dnn=chain([3, 2, 4, 1], [2, 3, 1, 2]), slots=3
    )  # 5^4 placements
    log = decisions(spec, budget, everything=False)
    assert len(log) == (3 if epoch == "per_slot" else 9)
    for decided in log:
        simulated = decided.simulated
        assert len(np.unique(simulated, axis=0)) == len(simulated) <= budget
        assert decided.chosen == decided.best


def test_search_ends_at_a_local_optimum() -> None:
    spec = small(edge_servers=4, dnn=chain([3, 2, 4, 1], [2, 3, 1, 2]))
    for epoch in decisions(spec, 600, everything=False):
        seen, placement = set(map(tuple, epoch.simulated.tolist())), epoch.placement.tolist()
        assert len(seen) < 600
        for block, place in product(range(4), range(5)):
            moved = [place if m == block else p for m, p in enumerate(placement)]
            assert tuple(moved) in seen
        for one, other in product(range(4), repeat=2):
            swapped = placement.copy()
            swapped[one], swapped[other] = placement[other], placement[one]
            assert tuple(swapped) in seen


def test_larger_budget_is_better() -> None:
    spec = load(FOLDER / "vgg16_loaded.yaml", ["slots=8"])
    one, two, three = (
        run_scenario(spec, LOOKAHEAD, {"budget": n}, kernel="compiled").summary.reward
        for n in (1, 30, 300)
    )
    assert one < two < three


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_small_budgets_begin_with_the_placement_of_single_cut(epoch: str) -> None:
    """A budget of 1 is that scheduler; one that covers a step of the search leaves it out."""
    changes = ["slots=3", "arrivals.rate=12", f"decision_epoch={epoch}"]
    spec = load(FOLDER / "vgg16_loaded.yaml", changes)
    one = simulate(spec, LOOKAHEAD, {"budget": 1}, kernel="compiled").trace
    other = simulate(spec, "single-cut", kernel="compiled").trace
    assert one["decisions/placement"].tolist() == other["decisions/placement"].tolist()
    first = {
        budget: decisions(spec, budget, everything=False)[0].simulated[0].tolist()
        for budget in (40, 300)
    }
    assert first[40] == other["decisions/placement"][0].tolist() != first[300]


# ---------------------------------------------------------------- the same again


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_reproducible_on_both_kernels(epoch: str) -> None:
    spec = small(decision_epoch=epoch, arrivals={"process": "poisson", "rate": 3})
    options = {"budget": 9}
    runs = [simulate(spec, LOOKAHEAD, options, 2, kernel) for kernel in ("simpy", "compiled") * 2]
    for run in runs[1:]:
        assert runs[0].trace.first_difference(run.trace) is None
    other = simulate(spec, LOOKAHEAD, options, 3)
    assert runs[0].trace.first_difference(other.trace) is not None


def test_conforms() -> None:
    assert check_scheduler(LOOKAHEAD, {"budget": 12}) == list(SHAPES)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget: 0 should be at least 1"),
        ({"budget": 1.5}, "option budget: 1.5 should be a valid integer"),
        ({"depth": 2}, "has no option 'depth'; allowed: budget"),
    ],
)
def test_invalid_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedulerError, match=message):
        run_scenario(small(), LOOKAHEAD, options)


def test_invalid_option_on_the_command_line() -> None:
    run = ["run", str(FOLDER / "vgg16_loaded.yaml"), "--no-trace", "--scheduler", LOOKAHEAD]
    done = mecsim(*run, "--option", "budget=0", code=2)
    assert len(done.stderr.splitlines()) == 1
    assert "budget: 0 should be at least 1" in done.stderr
