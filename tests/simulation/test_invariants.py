"""Laws that hold in every run of every shipped scenario, whatever the scheduler."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from mecsim import Scenario
from mecsim.model.model import Model, resolve
from mecsim.scenario.loading import load
from mecsim.trace.schema import Column
from tests.helpers.builders import Run, simulate
from tests.helpers.shipped import SIMPLE

SCHEDULERS = ("greedy", "rpdi")
TASKS = 1000
"""Slots are left out so that not many more tasks than these come, in 20 slots at most."""

SMALL = ["arrivals.rate=150", "devices=300", "edge_servers=36"]
SMALLER = {"city": SMALL, "metro": SMALL}
"""Without it, routes between hundreds of servers take most of the time."""

Floats = NDArray[np.float64]


@cache
def shortened(path: Path) -> Scenario:
    smaller = SMALLER.get(path.stem, [])
    spec = load(path, smaller)
    rate = max(getattr(spec.arrivals, "rates", None) or (getattr(spec.arrivals, "rate", 60.0),))
    slots = int(min(20, spec.slots, max(1, TASKS // max(rate, 1))))
    return spec.model_copy(update={"slots": slots})


@cache
def ran(path: Path, scheduler: str) -> Run:
    return simulate(shortened(path), scheduler, seed=2)


@cache
def model_of(path: Path) -> Model:
    return resolve(shortened(path), 2)


class Visits:
    """The passages through every resource, resource by resource in the order of its queue."""

    def __init__(self, run: Run, resources: int) -> None:
        trace = run.trace
        task = trace["hops/task"]
        first = np.diff(task, prepend=-1) > 0  # comes from a release, not from a completion
        resource, enqueue = trace["hops/resource"], trace["hops/enqueue_s"]
        order = np.lexsort((task, first, enqueue, resource))  # the order of events
        self.resources = resources
        self.resource = resource[order]
        self.enqueue, self.start, self.finish = (
            trace[f"hops/{name}_s"][order] for name in ("enqueue", "start", "finish")
        )

    def total(self, values: Floats) -> Floats:
        return self._sum(self.resource, values)

    def _sum(self, resource: Column, values: Floats) -> Floats:
        return np.asarray(np.bincount(resource, values, minlength=self.resources), dtype=float)

    def swept(self, come: Floats, go: Floats) -> tuple[Floats, Floats]:
        """Sweep over time: the integral of the number inside, and its largest, per resource."""
        resource = np.concatenate([self.resource, self.resource])
        time = np.concatenate([come, go])
        step = np.concatenate([np.ones(len(come)), -np.ones(len(go))])
        order = np.lexsort((step, time, resource))  # at one instant those who go are first
        resource, time, inside = resource[order], time[order], np.cumsum(step[order])
        assert (inside[np.append(np.diff(resource) > 0, True)] == 0).all()  # in the end, nobody
        area = inside[:-1] * np.diff(time) * (np.diff(resource) == 0)
        most = np.zeros(self.resources)
        np.maximum.at(most, resource, inside)
        return self._sum(resource[:-1], area), most


@pytest.fixture(
    params=[(f, s) for f in SIMPLE for s in SCHEDULERS], ids=lambda p: f"{p[0].stem}-{p[1]}"
)
def case(request: pytest.FixtureRequest) -> tuple[Path, str]:
    param: tuple[Path, str] = request.param
    return param


@pytest.fixture
def run(case: tuple[Path, str]) -> Run:
    return ran(*case)


@pytest.fixture
def model(case: tuple[Path, str]) -> Model:
    return model_of(case[0])


@pytest.fixture
def visits(run: Run, model: Model) -> Visits:
    return Visits(run, len(model.resources))


def horizon(run: Run, model: Model) -> float:
    end = model.scenario.slots * model.scenario.slot_length
    return max(end, float(run.trace["tasks/finish_s"].max()))


def by_name(run: Run, model: Model, key: str) -> Floats:
    """A number of the summary for every resource, 0 where the resource served nobody."""
    found = {entry["name"]: entry[key] for entry in run.summary["resources"]}
    assert found.keys() <= set(model.resource_names())
    return np.array([found.get(name, 0.0) for name in model.resource_names()])


def test_there_are_scenarios() -> None:
    assert "vgg16_4es" in {path.stem for path in SIMPLE}


def test_littles_law_holds_on_every_resource(run: Run, model: Model, visits: Visits) -> None:
    """L = λ·W in the system and in the queue, and ρ = λ·S in service, each swept over time."""
    time = horizon(run, model)
    served = np.bincount(visits.resource, minlength=visits.resources)
    assert served.max() > 10
    rate = served / time
    sojourn = visits.total(visits.finish - visits.enqueue) / np.maximum(served, 1)
    inside, _ = visits.swept(visits.enqueue, visits.finish)
    assert_allclose(inside / time, rate * sojourn, 1e-9, 1e-12)
    waiting, _ = visits.swept(visits.enqueue, visits.start)
    assert_allclose(by_name(run, model, "mean_queue"), waiting / time, 1e-9, 1e-12)
    busy, _ = visits.swept(visits.start, visits.finish)
    used = busy / time / model.capacity
    assert_allclose(by_name(run, model, "utilization"), used, 1e-9, 1e-12)
    assert used.max() > 1e-3  # long slots are idle for most of their time


def test_busy_time_is_the_sum_of_services(run: Run, visits: Visits) -> None:
    services = visits.total(visits.finish - visits.start)
    served = np.bincount(visits.resource, minlength=visits.resources)
    clock = float(served.max() * np.spacing(visits.finish.max()))  # each difference is rounded
    assert_allclose(run.trace["resources/busy_s"], services, 1e-9, max(1e-12, clock))
    assert run.trace["resources/served"].tolist() == served.tolist()


def test_nobody_is_served_before_coming_and_never_too_many_at_once(
    model: Model, visits: Visits
) -> None:
    assert (visits.start >= visits.enqueue).all()
    assert (visits.finish >= visits.start).all()
    _, most = visits.swept(visits.start, visits.finish)
    assert (most <= model.capacity).all()


def test_single_servers_are_first_in_first_out_without_overlap_or_idling(
    model: Model, visits: Visits
) -> None:
    """start = max(enqueue, finish of the one before), to the last bit, in the order of events."""
    single = model.capacity[visits.resource] == 1
    resource = visits.resource[single]
    start, finish, enqueue = (v[single] for v in (visits.start, visits.finish, visits.enqueue))
    free = np.concatenate([[0.0], finish[:-1]])
    free[np.diff(resource, prepend=-1) > 0] = 0.0
    assert np.array_equal(start, np.maximum(enqueue, free))
    assert (start > enqueue).any()  # there were queues


def test_every_task_ends(run: Run, model: Model) -> None:
    status, finish = run.trace["tasks/status"], run.trace["tasks/finish_s"]
    assert run.summary["tasks"] == len(status) == run.trace["slots/released"].sum() > 0
    assert run.summary["completed"] == (status == 0).sum()
    assert run.summary["failed"] == (status == 1).sum()
    assert np.isfinite(finish).all()
    done = np.isfinite(run.trace["blocks/finish_s"]).reshape(-1, model.blocks).all(axis=1)
    assert done.tolist() == (status == 0).tolist()
    if not model.metered:
        assert not status.any()
        delay = finish - run.trace["tasks/release_s"]
        assert_allclose(run.trace["tasks/total_s"], delay, 1e-9)


def test_the_hops_of_a_task_are_contiguous(run: Run, model: Model) -> None:
    """A hop is entered when the one before has finished and its latency has passed."""
    trace = run.trace
    task, finish = trace["hops/task"], trace["hops/finish_s"]
    latency = np.zeros(len(model.resources))
    latency[model.resources.link :] = model.links.latency_s
    able = np.concatenate([[0.0], (finish + latency[trace["hops/resource"]])[:-1]])
    first = np.diff(task, prepend=-1) > 0
    able[first] = trace["tasks/release_s"][task[first]]
    assert np.array_equal(trace["hops/enqueue_s"], able)
    assert (np.diff(task) >= 0).all()
    assert (np.diff(trace["hops/block"])[~first[1:]] >= 0).all()


@pytest.mark.parametrize("path", SIMPLE, ids=lambda path: path.stem)
def test_one_seed_gives_one_trace(path: Path) -> None:
    again = simulate(shortened(path), "greedy", seed=2)
    assert again.trace.first_difference(ran(path, "greedy").trace) is None
    assert again.summary == ran(path, "greedy").summary


@pytest.mark.parametrize("path", SIMPLE, ids=lambda path: path.stem)
def test_another_scheduler_meets_the_same_tasks_on_the_same_channels(path: Path) -> None:
    one, other = (ran(path, scheduler).trace for scheduler in SCHEDULERS)
    columns: list[Any] = [f"tasks/{c}" for c in ("release_s", "slot", "device", "size_factor")]
    for name in (*columns, "slots/rate_bps", "slots/time_s", "slots/released"):
        assert np.array_equal(one[name], other[name]), name
    assert one["decisions/placement"].tolist() != other["decisions/placement"].tolist()
