"""Runs played in one compiled call a chunk end as those that are stepped through do."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import Observation, Placement, Scenario, Scheduler, SchedulerSpec
from mecsim.errors import Interrupted, PlacementError, SchedulerError
from mecsim.model.arrivals import CHUNK
from mecsim.model.model import resolve
from mecsim.model.workload import slots
from mecsim.scenario.loading import load
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.metrics import BoundGap
from mecsim.simulation.run import run as run_scenario
from mecsim.simulation.static_run import StaticRun
from mecsim.support.arrays import Ints
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario
from tests.helpers.cli import answer
from tests.helpers.examples import examples
from tests.helpers.shipped import SIMPLE
from tests.helpers.strategies import cases

FOLDER = Path(__file__).parents[2] / "scenarios"
SCRIPT = "tests.simulation.test_static_run:Constant"


class Constant(Scheduler):
    """A placement for each device (for slots: the first), and a count of how often it was asked."""

    static = True

    def __init__(self, spec: SchedulerSpec, *, placements: Any, asked: Any = None) -> None:
        super().__init__(spec)
        self.placements, self.asked = placements, [] if asked is None else asked

    def decide(self, observation: Observation) -> Placement:
        self.asked.append(observation.device)
        placement: Placement = self.placements[(observation.device or 0) % len(self.placements)]
        return placement

    def run_ended(self) -> None:
        self.asked.append("end")


class Changing(Constant):
    """The same, but it does not say that it is constant."""

    static = False


def summary(spec: Scenario, scheduler: str, options: Any = None, **more: Any) -> dict[str, Any]:
    found = run_scenario(spec, scheduler, options, kernel="compiled", **more).summary.as_json()
    del found["wall_s"]
    return found


def assert_same(spec: Scenario, placements: list[list[int]], seed: int = 0) -> dict[str, Any]:
    """Played and stepped through, a run ends with the same numbers, and has the same trace."""
    options, traces = {"placements": placements}, [MemoryTrace(), MemoryTrace()]
    names = [f"tests.simulation.test_static_run:{name}" for name in ("Constant", "Changing")]
    played, stepped = (summary(spec, name, options, seed=seed) for name in names)
    assert played == stepped | {"scheduler": SCRIPT}
    for name, trace in zip(names, traces, strict=True):
        traced = summary(spec, name, options, seed=seed, memory=trace)
        assert traced == played | {"scheduler": name}
    assert traces[0].first_difference(traces[1]) is None
    return played


# ---------------------------------------------------------------- the same numbers


@pytest.mark.quick("*-per_slot", "vgg16_loaded-per_task", "small_battery-per_task")
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("path", SIMPLE, ids=lambda path: path.stem)
def test_shipped_scenarios(path: Path, epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load(path)
    changes: dict[str, Any] = {"decision_epoch": epoch, "slots": 3}
    if path.stem in ("metro", "city"):
        changes |= {"arrivals": {"process": "poisson", "rate": 150}, "devices": 300}
        changes["edge_servers"] = 40
    spec = Scenario.model_validate(spec.model_dump() | changes)
    placement = np.resize([0, 1, 1, 2, 1, 0], resolve(spec).blocks).tolist()
    schedulers: dict[str, Any] = {"local": {}, "edge": {}, "apdi": {}}
    schedulers["fixed"] = {"placement": placement}
    played = {name: summary(spec, name, options) for name, options in schedulers.items()}
    for name, options in schedulers.items():
        module, cls = f"schedulers.{name}", {"apdi": "APDI"}.get(name, name.capitalize())
        monkeypatch.setattr(f"{module}.{cls}.static", False)
        assert summary(spec, name, options) == played[name]
        assert played[name]["tasks"] > 0


@given(cases())
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_random_scenarios(case: tuple[Scenario, list[list[int]]]) -> None:
    assert_same(*case)


def busy(**overrides: Any) -> Scenario:
    base: dict[str, Any] = {
        "slots": 3 * CHUNK + 5,
        "dnn": chain([3e8, 5e8, 4e8], [2e5, 9e5, 3e5], max_tolerated_delay=0.5),
        "size_factor": {"distribution": "exponential", "per": "block"},
        "arrivals": {"process": "poisson", "rate": 6},
        "edge_servers": 3,
        "edge_server": {"capacity": 1.3e9, "cores": 2},
        "devices": 4,
        "device": {"capacity": {"uniform": [5e7, 1e9]}, "battery": 200.0},
        "radio": {"bandwidth": 2e6, "fading": "rayleigh"},
        "wired": {"topology": "line", "rate": 5e6, "latency": 0.01},
        "return_result": True,
    }
    return scenario(**(base | overrides))


SEVERAL = [[0, 1, 2], [0, 0, 0], [3, 3, 3], [1, 0, 1]]


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_several_chunks(epoch: str) -> None:
    found = assert_same(busy(decision_epoch=epoch), SEVERAL, seed=2)
    assert 0 < found["failed"] < found["tasks"]
    assert len(found["resources"]) > 4


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_rings_grow_under_overload(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(monkeypatch)
    spec = busy(decision_epoch=epoch, device={"capacity": 1e7})
    assert assert_same(spec, [[0, 0, 1]])["tasks"] > 1000
    assert all(len(run._state.tasks) > 512 for run in made)
    recorded = {run._recorder is not None for run in made}
    assert recorded == ({True, False} if epoch == "per_slot" else {False})


def watched(monkeypatch: pytest.MonkeyPatch) -> list[StaticRun]:
    """The static runs that are made from now on, with little room at first."""
    made: list[StaticRun] = []

    def make(*arguments: Any) -> StaticRun:
        made.append(StaticRun(*arguments))
        return made[-1]

    monkeypatch.setattr("mecsim.simulation.drive.StaticRun", make)
    monkeypatch.setattr("mecsim.simulation.static_run.BUFFER", 2)
    return made


def test_a_trace_whose_rings_and_tables_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched(monkeypatch)
    wired = {"topology": "line", "rate": 5e6}
    spec = busy(device={"capacity": 1e7}, wired=wired, edge_servers=9)
    for placement in ([0, 0, 1], [9, 1, 9]):  # a long line, more hops than are expected
        assert_same(spec, [placement])
    backlogged, travelling = (run for run in made if run._recorder)
    assert len(backlogged._state.tasks) > 512
    assert travelling._most_hops > 1


@pytest.mark.parametrize("numbers", [0, 100, 1000])
def test_a_trace_does_not_depend_on_the_slots_at_once(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mecsim.simulation.static_run.NUMBERS", numbers)
    assert_same(busy(), SEVERAL, seed=1)


@pytest.mark.parametrize("rate", [0, 0.01])
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_hardly_any_tasks(rate: float, epoch: str) -> None:
    arrivals = {"process": "slotted", "rate": rate}
    assert assert_same(busy(decision_epoch=epoch, arrivals=arrivals), SEVERAL)["tasks"] == (
        rate > 0
    )


# ---------------------------------------------------------------- what schedulers are asked


@pytest.mark.parametrize("kernel", KERNELS)
def test_asked_once_or_once_for_each_device(kernel: str) -> None:
    for epoch, expected in (("per_slot", [None, "end"]), ("per_task", [0, 1, 2, 3, "end"])):
        asked: list[Any] = []
        options = {"placements": SEVERAL, "asked": asked}
        run_scenario(busy(decision_epoch=epoch), SCRIPT, options, kernel=kernel)
        assert asked[-1] == "end"
        assert sorted(asked, key=str) == sorted(expected, key=str)


class Listening(Constant):
    """Constant, and yet with the hook."""

    def epoch_ended(self, observation: Observation, placement: Ints, reward: float) -> None:
        self.asked.append(reward)


def test_one_that_listens_hears_its_rewards() -> None:
    heard = []
    for kernel in KERNELS:
        asked: list[Any] = []
        options = {"placements": SEVERAL, "asked": asked}
        run_scenario(
            busy(slots=5), "tests.simulation.test_static_run:Listening", options, kernel=kernel
        )
        heard.append([x for x in asked if isinstance(x, float)])
    assert len(heard[0]) == 5
    assert heard[0] == heard[1]


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_a_wrong_placement_is_told(epoch: str) -> None:
    with pytest.raises(PlacementError, match=r"Constant', epoch 0.*: the placement puts block 2"):
        summary(busy(decision_epoch=epoch), SCRIPT, {"placements": [[0, 0, 4]]})
    with pytest.raises(SchedulerError, match="epoch 0: raised ZeroDivisionError"):
        summary(busy(decision_epoch=epoch), SCRIPT, {"placements": []})


# ---------------------------------------------------------------- progress, Ctrl-C


def test_progress_comes_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecsim.simulation.static_run.UNTRACED_SLOTS", CHUNK)
    reported: list[tuple[int, int]] = []
    total = 3 * CHUNK + 5
    summary(busy(), "local", progress=lambda *counts: reported.append(counts))
    assert reported == [(min(done, total), total) for done in range(CHUNK, total + CHUNK, CHUNK)]


def test_ctrl_c_ends_it_after_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecsim.simulation.static_run.UNTRACED_SLOTS", CHUNK)
    reported: list[int] = []

    def press(done: int, _: int) -> None:
        reported.append(done)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="nothing is kept of a run without a trace"):
        summary(busy(), "local", progress=press)
    assert reported == [CHUNK]
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------- run --bound


def bounded(*sets: str, scheduler: str = "local") -> dict[str, Any]:
    path = FOLDER / "small_battery.yaml"
    changes = [part for change in ("slots=5", *sets) for part in ("--set", change)]
    run = ("run", str(path), "--no-trace", "--scheduler", scheduler, "--kernel", "compiled")
    return answer(*run, "--lower-bound", *changes)


def test_the_bound_on_the_command_line() -> None:
    document = bounded("arrivals.rate=3")
    model = resolve(load(FOLDER / "small_battery.yaml", ["slots=5", "arrivals.rate=3"]))
    least = LowerBound(model)
    for slot in slots(model):
        least.add(slot)
    gap = least.gap_percent(document["reward"])
    assert document["failed"] == 0
    assert gap is not None
    assert gap > 0
    assert document["lower_bound"] == {"cost": least.total, "gap_percent": gap}


def test_no_gap_where_tasks_failed_or_there_were_none() -> None:
    failed = bounded("device.battery=1")
    assert failed["failed"] > 0
    assert failed["lower_bound"]["cost"] > 0
    assert failed["lower_bound"]["gap_percent"] is None
    for scheduler in ("local", "greedy"):  # played, and stepped through
        run = run_scenario(
            busy(arrivals={"process": "slotted", "rate": 0}), scheduler, lower_bound=True
        )
        assert run.summary.lower_bound == BoundGap(cost=0.0, gap_percent=None)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_bound_is_that_of_the_scenario(kernel: str) -> None:
    spec = busy(slots=CHUNK + 3)
    found = [
        run_scenario(spec, name, seed=1, kernel=kernel, lower_bound=True).summary.as_json()
        for name in ("local", "rpdi")
    ]
    assert found[0]["lower_bound"]["cost"] == found[1]["lower_bound"]["cost"] > 0
    assert run_scenario(spec, "local", kernel=kernel).summary.lower_bound is None
