"""What if: outcomes are what really happens then, and exploring leaves the run as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import ArrayLike, NDArray

from mecsim import Observation, Placement, Scenario, Scheduler, SchedulerSpec
from mecsim.errors import PlacementError, SchedulerError
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.rollout import Rollouts
from mecsim.kernels.simpy_kernel import SimpyKernel
from mecsim.kernels.state import FIRST_TASK, State
from mecsim.kernels.tables import KernelTables
from mecsim.model import workload
from mecsim.model.model import Model, resolve
from mecsim.model.task_status import COMPLETED
from mecsim.model.workload import Slot, Tasks
from mecsim.scenario.loading import load
from mecsim.scheduler.observation import Outcomes
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.run import run as run_scenario
from mecsim.simulation.session import Session
from mecsim.support.arrays import Ints
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import SCRIPTED
from tests.helpers.strategies import cases

FOLDER = Path(__file__).parents[2] / "scenarios"
EXPLORING = "tests.kernels.test_rollout:Exploring"
ROUNDING = 1e-12
"""Costs are added up in another order than rewards are, which are rounded once."""


class Exploring(Scheduler):
    """Simulates placements at every epoch and then does what its script says all the same."""

    uses_rollouts = True

    def __init__(self, spec: SchedulerSpec, *, placements: Any, candidates: Any, kept: Any) -> None:
        super().__init__(spec)
        self.placements, self.candidates, self.kept = placements, candidates, kept

    def decide(self, observation: Observation) -> Placement:
        outcomes = observation.what_if(self.candidates)
        self.kept.append((observation, outcomes))
        again = observation.what_if(self.candidates[::-1])
        assert again.cost[::-1].tolist() == outcomes.cost.tolist()
        assert again.failed[::-1].tolist() == outcomes.failed.tolist()
        placement: Placement = self.placements[observation.epoch % len(self.placements)]
        return placement


# ---------------------------------------------------------------- what really happens then


class Branching(NamedTuple):
    """A moment of a run: an epoch, what has been decided, and which tasks were forgotten."""

    epoch: int
    slot: Slot
    tasks: Tasks
    history: list[Sequence[int]]
    forgotten: int
    outcomes: Outcomes


def explored(
    spec: Scenario, placements: Sequence[Sequence[int]], candidates: ArrayLike
) -> list[Branching]:
    """Every epoch of a run on the compiled kernel, with the outcomes of the candidates there."""
    model, found, history = resolve(spec), list[Branching](), list[Sequence[int]]()
    kernel = CompiledKernel(model)
    slots = workload.slots(model)
    session = Session(model, slots, kernel, SchedulerSpec.of(model), [], uses_rollouts=True)
    for epoch in session:
        outcomes = session.observe(epoch).what_if(candidates)
        forgotten = int(kernel.state.counters[FIRST_TASK])
        found.append(
            Branching(epoch.number, epoch.slot, epoch.tasks, history.copy(), forgotten, outcomes)
        )
        history.append(placements[epoch.number % len(placements)])
        session.act(epoch, np.array(history[-1]))
    return found


def until(model: Model, at: Branching) -> Iterator[Slot]:
    """The slots up to an epoch, and then what a scheduler may suppose of its tasks."""
    for slot in workload.slots(model):
        if slot.number == at.slot.number:
            break
        yield slot
    tasks, start_s = slot.tasks, slot.start_s
    known = len(tasks) > 0 and bool((tasks.release_s == start_s).all())
    if model.scenario.decision_epoch == "per_task":
        tasks = tasks[: at.tasks.first - tasks.first + 1]
    elif not known:
        count = round(float(slot.expected_tasks[0]))
        at_once = model.scenario.arrivals.process == "slotted"
        gap_s = 0.0 if at_once else model.scenario.slot_length / max(count, 1)
        release_s = np.array([start_s + gap_s * n for n in range(count)])
        device = (slot.number * count + np.arange(count)) % model.devices
        size = np.ones((count, tasks.size.shape[1])) * slot.expected_size
        class_ = np.zeros(count, dtype=np.int64)
        tasks = Tasks(slot.number, tasks.first, release_s, class_, device, size, count)
    yield slot._replace(tasks=replace(tasks, in_slot=round(float(slot.expected_tasks[0]))))


def really(spec: Scenario, at: Branching, candidate: Sequence[int]) -> MemoryTrace:
    """A run on the SimPy kernel that acts on the candidate, and then nothing else comes."""
    model, memory = resolve(spec), MemoryTrace()
    spec_, kernel = SchedulerSpec.of(model), SimpyKernel(model)
    session = Session(model, until(model, at), kernel, spec_, [memory])
    for epoch in session:
        chosen = candidate if epoch.number >= at.epoch else at.history[epoch.number]
        session.act(epoch, np.array(chosen))
    return memory


def assert_true(
    spec: Scenario,
    at: Branching,
    candidates: Sequence[Sequence[int]],
) -> None:
    for row, candidate in enumerate(candidates):
        trace = really(spec, at, candidate)
        cost = -math.fsum(trace["decisions/reward"][at.epoch :].tolist())
        assert at.outcomes.cost[row] == pytest.approx(cost, rel=ROUNDING, abs=ROUNDING)
        failed = 0
        if "tasks/status" in trace.paths():
            failed = int(np.count_nonzero(trace["tasks/status"][at.forgotten :] != COMPLETED))
        assert at.outcomes.failed[row] == failed


@given(cases())
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_random_scenarios(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    candidates = [
        placements[-1],
        [spec.server_count] * len(placements[0]),
        [0] * len(placements[0]),
    ]
    found = explored(spec, placements, candidates)
    for at in {row: found[row] for row in (0, len(found) // 2, -1) if found}.values():
        assert_true(spec, at, candidates)


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("vgg16_4es", ["slots=6", "arrivals.rate=9"]),
        ("vgg16_loaded", ["slots=6", "arrivals.rate=9"]),
        ("small_battery", ["slots=12", "device.battery=5"]),
        ("bursty", ["slots=3", "decision_epoch=per_task"]),
        ("bursty", ["slots=4"]),
        ("bursty", ["slots=3", "decision_epoch=per_task", "reward.aggregation=mean"]),
        ("bursty", ["slots=4", "reward.aggregation=mean"]),
    ],
)
def test_shipped_scenarios(name: str, sets: list[str]) -> None:
    spec = load(FOLDER / f"{name}.yaml", sets)
    blocks, places = resolve(spec).blocks, spec.server_count + 1
    placements = np.random.default_rng(0).integers(places, size=(5, blocks)).tolist()
    found = explored(spec, placements, placements[:2])
    for at in (found[0], found[len(found) // 2], found[-1]):
        assert_true(spec, at, placements[:2])
    if name == "small_battery":
        assert any(at.outcomes.failed.any() for at in found)


def test_numbers_worked_out_by_hand() -> None:
    """A task a slot; 3 s at the device, 1 s up and 2 s at the server; τ = 2 s."""
    spec = scenario(
        slots=2,
        dnn=chain([6], [4], max_tolerated_delay=2.0),
        edge_servers=1,
        edge_server={"capacity": 3.0},
        device={"capacity": 2.0},
        radio={"rate": 4.0},
        reward={"beta": 0.5},
    )
    first, second = explored(spec, [[1]], [[0], [1]])
    assert first.outcomes.cost.tolist() == [3 + 0.5, 3 + 0.5]
    # At 1 s the first task has come to the server, where it is until 3 s. The second one is at the
    # device until 4 s, or up until 2 s and at the server from 3 to 5 s.
    assert second.outcomes.cost.tolist() == [3.5 + 3.5, 3.5 + 4 + 0.5 * 2]
    assert second.outcomes.failed.tolist() == [0, 0]


# ---------------------------------------------------------------- what cannot be known


@pytest.mark.parametrize("process", ["poisson", "mmpp"])
def test_the_future_is_not_known(process: str) -> None:
    arrivals: dict[str, Any] = {"process": "poisson", "rate": 5}
    if process == "mmpp":
        arrivals = {"process": "mmpp", "rates": [2.0, 8.0], "mean_dwell": [1.0, 1.0]}
    spec = crowded(
        arrivals=arrivals, decision_epoch="per_slot", size_factor={"distribution": "exponential"}
    )
    drawn, found = set(), set()
    for seed in range(5):
        kept: list[Any] = []
        options = {"placements": [[0, 0, 0]], "candidates": [[1, 2, 0], [0, 0, 0]], "kept": kept}
        trace = simulate(spec, EXPLORING, options, seed).trace
        drawn.add(tuple(trace["tasks/release_s"][:3]))
        found.add(tuple(kept[0][1].cost))
    assert len(drawn) == 5
    assert len(found) == 1


# ---------------------------------------------------------------- the run stays as it was


def crowded(**overrides: Any) -> Scenario:
    base: dict[str, Any] = {
        "slots": 6,
        "dnn": chain([3, 2, 4], [2, 3, 1], max_tolerated_delay=2.0),
        "arrivals": {"process": "slotted", "rate": 4},
        "edge_server": {"capacity": {"repeat": [2.0, 4.0]}, "cores": 2},
        "devices": 3,
        "device": {"capacity": 2.0, "battery": 60.0},
        "radio": {"rate": 4.0, "transmit_power": 1.0},
        "wired": {"rate": 4.0, "latency": 0.25},
        "energy": {"kappa": 1.0},
        "return_result": True,
    }
    return scenario(**(base | overrides))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("process", ["slotted", "poisson"])
def test_exploring_changes_nothing(kernel: str, epoch: str, process: str) -> None:
    spec = crowded(decision_epoch=epoch, arrivals={"process": process, "rate": 4})
    placements = [[1, 2, 0], [0, 0, 0], [2, 1, 1]]
    candidates = np.indices((3, 3, 3)).reshape(3, -1).T
    plain = simulate(spec, SCRIPTED, {"placements": placements}, 1, kernel)
    kept: list[Any] = []
    options = {"placements": placements, "candidates": candidates, "kept": kept}
    run = simulate(spec, EXPLORING, options, 1, kernel)
    assert plain.trace.first_difference(run.trace) is None
    assert run.summary | {"scheduler": SCRIPTED} == plain.summary
    assert len(kept) == len(run.trace["decisions/reward"])
    assert run.summary["failed"] > 0


@given(cases())
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_exploring_changes_nothing_of_random_scenarios(
    case: tuple[Scenario, list[list[int]]],
) -> None:
    spec, placements = case
    found = []
    for kernel in KERNELS:
        kept: list[Any] = []
        plain = simulate(spec, SCRIPTED, {"placements": placements}, kernel=kernel)
        options = {"placements": placements, "candidates": np.array(placements), "kept": kept}
        run = simulate(spec, EXPLORING, options, kernel=kernel)
        assert plain.trace.first_difference(run.trace) is None
        assert run.summary | {"scheduler": SCRIPTED} == plain.summary
        found.append([(o.cost.tolist(), o.failed.tolist()) for _, o in kept])
    assert found[0] == found[1]  # both kernels foretell the same, to the last bit


def test_an_observation_that_is_kept_still_tells_the_same() -> None:
    kept: list[Any] = []
    candidates = [[1, 2, 0], [0, 0, 0]]
    options = {"placements": [[1, 1, 2]], "candidates": candidates, "kept": kept}
    simulate(crowded(), EXPLORING, options, kernel="compiled")
    for observation, outcomes in kept:
        assert observation.what_if(candidates).cost.tolist() == outcomes.cost.tolist()


# ---------------------------------------------------------------- buffers that must grow


def rollouts(spec: Scenario, size: int) -> Rollouts:
    """Rollouts of the first epoch, from buffers of a given size."""
    model = resolve(spec)
    (slot,) = islice(workload.slots(model), 1)
    epochs = EpochTable.of_epoch(0.0, slot, slot.tasks)
    placed = np.zeros((1, model.blocks), dtype=np.int64)
    return Rollouts(State.of(model, size), KernelTables.of(model), epochs, placed)


def test_buffers_grow() -> None:
    """17 blocks that go to and fro on a line: more hops than there is room for at first."""
    spec = scenario(
        dnn=chain([1] * 17, [1] * 17),
        edge_servers=8,
        wired={"topology": "line"},
        devices=3,
        arrivals={"process": "slotted", "rate": 7},
    )
    far, near = [8, 1] * 8 + [8], [1] * 17
    placements = np.array([near, far, near, far])
    small, large = (rollouts(spec, size)(placements) for size in (2, 1 << 16))
    assert small.cost.tolist() == large.cost.tolist()
    assert small.cost[0] == small.cost[2] < small.cost[1] == small.cost[3]


# ---------------------------------------------------------------- what is refused


class Silent(Scheduler):
    """Asks without having said that it would."""

    def __init__(self, spec: SchedulerSpec, *, candidates: Any) -> None:
        super().__init__(spec)
        self.candidates = candidates

    def decide(self, observation: Observation) -> Placement:
        observation.what_if(self.candidates)
        return [0] * self.spec.blocks


class Asking(Silent):
    """Says so."""

    uses_rollouts = True


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_scheduler_must_say_that_it_explores(kernel: str) -> None:
    with pytest.raises(
        SchedulerError, match="what_if: the scheduler's class must set `uses_rollouts = True`"
    ):
        run_scenario(
            crowded(),
            "tests.kernels.test_rollout:Silent",
            {"candidates": [[0, 0, 0]]},
            kernel=kernel,
        )


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([[0, 1, 0.5]], r"what_if: the array \[\[0, 1, 0.5\]\] holds float64; allowed: integers"),
        ([0, 1, 2], r"has the shape \(3,\); allowed: \(placements, 3\)"),
        ([[0, 1]], r"has the shape \(1, 2\); allowed: \(placements, 3\)"),
        ([[0, 1, 2], [0, 3, 0]], "placement 1 puts block 1 at 3; allowed: 0 .* to 2"),
        ([[0, 0, -1]], "placement 0 puts block 2 at -1; allowed: 0 .* to 2"),
    ],
)
def test_wrong_candidates_are_refused(candidates: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        run_scenario(crowded(), "tests.kernels.test_rollout:Asking", {"candidates": candidates})


def test_no_candidates_have_no_outcomes() -> None:
    outcomes = rollouts(crowded(), 1024)(np.zeros((0, 3), dtype=np.int64))
    assert len(outcomes.cost) == len(outcomes.failed) == 0


# ---------------------------------------------------------------- the mirrored kernel


@given(cases())
@settings(max_examples=examples(30), deadline=None, derandomize=True)
def test_the_mirror_does_the_same(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    model = resolve(spec)
    kernel, slots = SimpyKernel(model), workload.slots(model)
    session = Session(model, slots, kernel, SchedulerSpec.of(model), uses_rollouts=True)
    for epoch in session:
        mirror = session._mirror
        assert mirror is not None
        assert same(kernel.backlog_s(), mirror.backlog_s())
        assert same(kernel.battery_j(), mirror.battery_j())
        placement: Ints = np.array(placements[epoch.number % len(placements)])
        session.act(epoch, placement)


def same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return one.tolist() == other.tolist()
