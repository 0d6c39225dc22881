"""The compiled kernel gives what the SimPy kernel gives, to the last bit."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim import Scenario
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.hops import HOP, HopBuilder, Hops, Records
from mecsim.kernels.simpy_kernel import SimpyKernel
from mecsim.model import workload
from mecsim.model.model import Model, resolve
from mecsim.scenario.loading import load
from mecsim.scheduler.observation import ALL, UnderWay
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.run import run as run_scenario
from mecsim.simulation.session import Session
from mecsim.support.arrays import Floats, Ints
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.cli import mecsim
from tests.helpers.examples import examples
from tests.helpers.schedulers import SCRIPTED
from tests.helpers.shipped import SIMPLE
from tests.helpers.strategies import SIZES, cases, cases_of_classes, cases_with_retries

FOLDER = Path(__file__).parents[2] / "scenarios"
SCHEDULERS: dict[str, dict[str, Any]] = {
    "apdi": {},
    "edge": {},
    "fixed": {"placement": [0, 1, 1, 2, 1, 0]},
    "greedy": {},
    "local": {},
    "lookahead": {"budget": 4},
    "rpdi": {},
    "single-cut": {},
    "viterbi": {},
}


def assert_same(spec: Scenario, scheduler: str, options: dict[str, Any], seed: int = 0) -> int:
    """Both kernels give the same summary and trace; return how many hops were compared."""
    one, other = (simulate(spec, scheduler, options, seed, kernel) for kernel in KERNELS)
    assert one.trace.first_difference(other.trace) is None
    assert one.summary | {"kernel": "compiled"} == other.summary
    return len(other.trace["hops/task"])


def same_array(one: Floats | Ints, other: Floats | Ints) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)


class Both:
    """Both kernels side by side, compared after every step. Rings of 2 must grow, and come round.

    A copy of the compiled one is let run dry at every step, which must leave the original alone.
    """

    def __init__(self, model: Model) -> None:
        self.simpy, self.compiled = SimpyKernel(model), CompiledKernel(model, size=2)
        self.branch = self.compiled.copy()
        self.compared = 0

    def submit(self, hops: Hops) -> None:
        self.simpy.submit(hops)
        self.compiled.submit(replace(hops, rows=hops.rows.copy()))  # each fills in its own
        self._compare()

    def advance(self, until_s: float) -> float:
        reached_s = self.simpy.advance(until_s)
        assert self.compiled.advance(until_s) == reached_s
        self._compare()
        return reached_s

    def drain(self) -> float:
        reached_s = self.simpy.drain()
        assert self.compiled.drain() == reached_s
        self._compare()
        if reached_s < math.inf:
            return reached_s
        while self.branch.drain() < math.inf:
            pass
        assert same_array(self.simpy.backlog_s(), self.branch.backlog_s())
        return reached_s

    def lost_tasks(self) -> dict[int, Records]:
        lost, others = self.simpy.lost_tasks(), self.compiled.lost_tasks()
        assert lost.keys() <= others.keys()  # the other kernel gives those of the whole instant
        for number, rows in lost.items():
            assert all(same_array(rows[name], others[number][name]) for name in HOP.names or ())
        return lost

    def backlog_s(self, resources: slice = ALL) -> Floats:
        return self.simpy.backlog_s(resources)

    def battery_j(self) -> Floats:
        return self.simpy.battery_j()

    def queue_length(self) -> Ints:
        return self.simpy.queue_length()

    def committed_s(self) -> Floats:
        return self.simpy.committed_s()

    def under_way(self) -> UnderWay:
        return self.simpy.under_way()

    def active(self) -> dict[int, Hops]:
        one, other = self.simpy.active(), self.compiled.active()
        assert list(one) == list(other)
        self._compare_hops(list(one.values()), list(other.values()))
        return one

    def collect(self) -> list[Hops]:
        ended = self.simpy.collect()
        self._compare_hops(ended, self.compiled.collect())
        return ended

    def _compare(self) -> None:
        one, other = self.simpy, self.compiled
        assert same_array(one.backlog_s(), other.backlog_s())
        assert same_array(one.battery_j(), other.battery_j())
        assert same_array(one.queue_length(), other.queue_length())
        assert same_array(one.committed_s(), other.committed_s())
        mine, theirs = one.under_way(), other.under_way()
        assert all(same_array(getattr(mine, key), getattr(theirs, key)) for key in mine._fields)
        self.branch = other.copy()
        other.copy().drain()

    def _compare_hops(self, one: list[Hops], other: list[Hops]) -> None:
        self.compared += len(one)
        assert [t.tasks.first for t in one] == [t.tasks.first for t in other]
        for a, b in zip(one, other, strict=True):
            for name in ("start_s", "service_s", "latency_s", "energy_j"):
                assert same_array(a.column(name), b.column(name))


def step_both(spec: Scenario, placements: Sequence[Sequence[int]]) -> Both:
    model = resolve(spec)
    both = Both(model)
    session = Session(model, workload.slots(model), both, SchedulerSpec.of(model), [MemoryTrace()])
    for epoch in session:
        placement = placements[epoch.number % len(placements)]
        session.rewards()
        blocks = session.spec.classes[epoch.task_class].blocks
        session.act(epoch, np.array(placement[:blocks]))
    session.rewards()
    return both


# ---------------------------------------------------------------- shipped scenarios


@pytest.mark.quick("*-greedy", "small_battery-*", "vgg16_loaded-*", "bursty-*")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("path", SIMPLE, ids=lambda path: path.stem)
def test_shipped_scenarios(path: Path, scheduler: str) -> None:
    spec = load(path)
    if path.stem in ("metro", "city"):
        rate = {"process": "poisson", "rate": 150}
        changes = {"slots": 2, "arrivals": rate, "devices": 300}
        if scheduler != "edge":  # most of the time goes into routes between hundreds of servers
            changes["edge_servers"] = 40
    else:
        slots = 40 if path.stem == "testbed" else 12  # it has few tasks
        changes = {"slots": slots, "arrivals": spec.arrivals.model_dump()}
    spec = Scenario.model_validate(spec.model_dump() | changes)
    options = dict(SCHEDULERS[scheduler])
    if scheduler == "fixed":
        options["placement"] = np.resize(options["placement"], resolve(spec).blocks).tolist()
    assert assert_same(spec, scheduler, options, seed=3) > 300


@pytest.mark.parametrize("name", ["vgg16_loaded", "small_battery", "bursty"])
def test_every_step_of_shipped_scenarios(name: str) -> None:
    spec = load(
        FOLDER / f"{name}.yaml",
        ["slots=6", "arrivals.rate=20"] if name != "bursty" else ["slots=6"],
    )
    blocks = resolve(spec).blocks
    placements = np.arange(5 * blocks).reshape(5, blocks) * 7 % (spec.server_count + 1)
    assert step_both(spec, placements.tolist()).compared >= 6


# ---------------------------------------------------------------- random scenarios


@given(cases())
@settings(max_examples=examples(200), deadline=None, derandomize=True)
def test_random_scenarios(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    assert_same(spec, SCRIPTED, {"placements": placements})


@given(cases())
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_every_step_of_random_scenarios(case: tuple[Scenario, list[list[int]]]) -> None:
    step_both(*case)


@given(cases_with_retries())
@settings(max_examples=examples(200), deadline=None, derandomize=True)
def test_every_step_where_lost_tasks_are_placed_again(
    case: tuple[Scenario, list[list[int]]],
) -> None:
    step_both(*case)


@given(cases())
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_random_scenarios_with_recorded_arrivals(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recorded.h5"
        run_scenario(spec, SCRIPTED, {"placements": placements}, kernel="compiled", out=file)
        recorded = {"arrivals": {"process": "trace", "file": str(file)}, "size_factor": SIZES[0]}
        spec = Scenario.model_validate(spec.model_dump() | recorded)
        assert_same(spec, SCRIPTED, {"placements": placements[::-1]})


@given(cases_of_classes(), st.sets(st.sampled_from([0, 1, 2]), min_size=1))
@settings(max_examples=examples(40), deadline=None, derandomize=True)
def test_random_classes_with_recorded_arrivals(
    case: tuple[Scenario, list[list[int]]], which: set[int]
) -> None:
    """Some classes have recorded arrivals, the others drawn ones; a run replays exactly."""
    spec, placements = case
    with tempfile.TemporaryDirectory() as folder:
        file, again = Path(folder) / "recorded.h5", Path(folder) / "again.h5"
        run_scenario(spec, SCRIPTED, {"placements": placements}, kernel="compiled", out=file)
        values = spec.model_dump(mode="json")
        recorded = {"arrivals": {"process": "trace", "file": str(file)}, "size_factor": SIZES[0]}
        for number in which & set(range(len(spec.classes))):
            values["tasks"][number] |= recorded
        spec = Scenario.model_validate(values)
        assert_same(spec, SCRIPTED, {"placements": placements[::-1]}, seed=1)
        run_scenario(spec, SCRIPTED, {"placements": placements}, kernel="compiled", out=again)
        assert replay_trace(again, kernel="simpy").difference is None


def test_a_crowd_of_ties() -> None:
    """Hundreds of tasks in flight, all in step: heaps of tasks and of servers that are deep."""
    spec = scenario(
        slots=40,
        dnn=chain([3, 1, 2], [1, 2, 1]),
        arrivals={"process": "slotted", "rate": 37},
        edge_servers=3,
        edge_server={"capacity": {"repeat": [1.0, 2.0]}, "cores": 13},
        devices=5,
        device={"capacity": 4.0, "battery": 60.0},
        radio={"rate": 4.0, "transmit_power": 1.0},
        wired={"topology": "line", "rate": 8.0, "latency": 0.25},
        energy={"kappa": 0.01},
        return_result=True,
    )
    placements = [[i % 4, i // 4 % 4, i // 16 % 4] for i in range(0, 64, 5)]
    assert assert_same(spec, SCRIPTED, {"placements": placements}) > 1000
    unlimited = Scenario.model_validate(spec.model_dump() | {"device": {"capacity": 4.0}})
    assert assert_same(unlimited, SCRIPTED, {"placements": placements}) > 10000


def test_the_comparison_can_fail() -> None:
    spec = load(FOLDER / "vgg16_loaded.yaml", ["slots=2"])
    one = simulate(spec, "edge", kernel="compiled").trace
    assert one.first_difference(simulate(spec, "local", kernel="compiled").trace) is not None


# ---------------------------------------------------------------- the kernel by itself


def tables(slots: int, **overrides: Any) -> tuple[Model, list[Hops]]:
    """The hops of some slots of three tasks each, all at server 1."""
    spec = scenario(slots=slots, arrivals={"process": "slotted", "rate": 3}, **overrides)
    model = resolve(spec)
    builder = HopBuilder(model)
    return model, [
        builder.hops(slot.tasks, np.array([[1]]), slot) for slot in workload.slots(model)
    ]


def test_memory_is_that_of_the_tasks_in_flight() -> None:
    model, hops = tables(500)
    kernel = CompiledKernel(model, size=2)
    for slot, table in enumerate(hops):
        kernel.advance(float(slot))
        kernel.collect()
        kernel.submit(table)
    assert all(len(ring) <= 16 for ring in (kernel.state.tasks, kernel.state.hops))


def test_many_slots_at_once_and_their_order() -> None:
    model, hops = tables(4)
    both = Both(model)
    for table in hops:
        both.submit(table)
    both.drain()
    assert len(both.collect()) == 4
    kernel = CompiledKernel(model, size=2)
    kernel.submit(hops[3])
    with pytest.raises(ValueError, match="released at 2 s was submitted after one of 3 s"):
        kernel.submit(hops[2])


def test_a_copy_goes_its_own_way() -> None:
    model, (first, second) = tables(2)
    kernel = CompiledKernel(model)
    kernel.submit(first)
    branch = kernel.copy()
    branch.submit(second)
    branch.drain()
    assert len(branch.collect()) == 2
    assert kernel.active() == {}
    assert kernel.collect() == []
    kernel.drain()
    assert len(kernel.collect()) == 1


# ---------------------------------------------------------------- compiler and command line


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER.parent,
        env=inherited | environment,
    )


def test_with_the_compiler_off() -> None:
    """A few tests run without the compiler; `make verify` runs most that way."""
    tests = [
        "tests/kernels/test_accounting.py::test_sums_are_rounded_once",
        "tests/kernels/test_compiled_kernel.py::test_every_step_of_shipped_scenarios",
        "tests/kernels/test_compiled_kernel.py::test_shipped_scenarios[small_battery-rpdi]",
        "tests/simulation/test_replicas.py::test_rings_grow",
    ]
    plain = "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist"
    done = python("-m", "pytest", "-q", *plain, *tests, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("one", "other"), [KERNELS, KERNELS[::-1]])
def test_a_trace_replays_with_the_other_kernel(tmp_path: Path, one: str, other: str) -> None:
    trace = tmp_path / "t.h5"
    spec = load(FOLDER / "small_battery.yaml", ["slots=5"])
    run_scenario(spec, "rpdi", kernel=one, out=trace)
    assert replay_trace(trace, kernel=other).difference is None
    assert "identical" in mecsim("replay", str(trace), "--kernel", other).stdout
