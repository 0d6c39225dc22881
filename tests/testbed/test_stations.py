"""Stations: order, starts without gaps, the expected wait, drops and failures."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mecsim.testbed import clock
from mecsim.testbed.clock import Agenda, wait_until
from mecsim.testbed.stations import Job, LostError, Serve, Served, Station, computing
from tests.helpers.waiting import PATIENCE_S

NEVER = math.inf


def job(task: int, service_s: float = 1.0, drop_at: float = NEVER, content: Any = None) -> Job:
    return Job(task, 0, None, service_s, drop_at, content, time.monotonic())


class Ends:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self._ends: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def finished(self, job: Job, start_at: float, served: Served) -> None:
        self._ends.put(("finished", job.task, start_at, served))

    def dropped(self, job: Job, at: float) -> None:
        self._ends.put(("dropped", job.task, at))

    def lost(self, job: Job, at: float, reason: str) -> None:
        self._ends.put(("lost", job.task, at, reason))

    def next(self) -> tuple[Any, ...]:
        return self._ends.get(timeout=PATIENCE_S)


class Gate:
    """Lets the services of a station pass one by one."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._passes = threading.Semaphore(0)
        self.begun: queue.Queue[tuple[int, float]] = queue.Queue()

    def __call__(self, job: Job, start_at: float) -> Served:
        self.begun.put((job.task, start_at))
        assert self._passes.acquire(timeout=PATIENCE_S)
        return self._serve(job, start_at)

    def open(self, times: int = 1) -> None:
        self._passes.release(times)


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
def made(ends: Ends) -> Iterator[Callable[..., Station]]:
    stations = []

    def make(serve: Serve, workers: int = 1, **options: Any) -> Station:
        stations.append(Station("test", workers, serve, ends, **options))
        return stations[-1]

    yield make
    for station in stations:
        station.close()


def late(lateness_s: float) -> Serve:
    """Serve in no time; pretend that timers were late."""

    def serve(job: Job, start_at: float) -> Served:
        end_at = start_at + job.service_s
        return Served(end_at, time.monotonic() + lateness_s, end_at)

    return serve


def test_jobs_that_wait_start_when_the_one_before_ends(
    made: Callable[..., Station], ends: Ends
) -> None:
    """The plan is a chain of additions, in which lateness does not add up."""
    gate = Gate(late(lateness_s=0.25))
    station = made(gate)
    for task, service_s in enumerate((0.5, 0.25, 2.0)):
        station.join(job(task, service_s))
    gate.open(3)
    found = [ends.next() for _ in range(3)]
    planned = [gate.begun.get() for _ in range(3)]
    assert [task for task, _ in planned] == [0, 1, 2]
    first = planned[0][1]
    assert [at for _, at in planned] == [first, first + 0.5, first + 0.5 + 0.25]
    for (_, _, _, before), (kind, _, start_at, _) in pairwise(found):
        assert (kind, start_at) == ("finished", before.finish_at)


def test_a_job_that_comes_to_an_idle_station_starts_when_it_arrived(
    made: Callable[..., Station], ends: Ends
) -> None:
    station = made(late(0.0))
    station.join(job(0, service_s=0.0))
    ends.next()
    second = job(1)
    wait_until(second.joined_at + 1e-3)  # the node is slow
    station.join(second)
    _, _, start_at, served = ends.next()
    assert start_at == second.joined_at
    assert served.free_at == second.joined_at + second.service_s
    assert second.begun_at >= second.joined_at + 1e-3


def test_a_job_that_arrives_during_the_lateness_is_not_planned_before_it_arrived(
    made: Callable[..., Station], ends: Ends
) -> None:
    """The first service was planned until 10 and observed until 12; the second job comes at 11."""
    planned: list[float] = []

    def serve(job: Job, start_at: float) -> Served:
        planned.append(start_at)
        return Served(10.0, 12.0, 12.0)

    station = made(serve)
    for task, joined_at in ((0, 9.0), (1, 11.0), (2, 9.5)):
        station.join(Job(task, 0, None, 1.0, NEVER, None, joined_at))
    assert [ends.next()[2] for _ in range(3)] == [9.0, 12.0, 12.0]
    assert planned == [9.0, 11.0, 10.0]


def test_padding_ends_at_the_start_plus_the_service() -> None:
    serve, start_at = computing(lambda job: job.content + 1, padded=True), time.monotonic()
    own = job(0, service_s=0.01, content=1)
    served = serve(own, start_at)
    assert served.free_at == start_at + 0.01
    assert served.finish_at == served.reported_at >= served.free_at
    assert own.content == 2


def test_computing_that_takes_longer_than_its_padding_ends_with_itself() -> None:
    serve = computing(lambda job: None, padded=True)
    before = time.monotonic()
    served = serve(job(0, service_s=0.01), before - 1)
    assert before <= served.free_at == served.finish_at <= time.monotonic()


def test_natural_computing_waits_for_nothing() -> None:
    served = computing(lambda job: None, padded=False)(job(0, 1e6), time.monotonic())
    assert served.free_at == served.finish_at <= time.monotonic()


def test_c_workers_serve_in_parallel(made: Callable[..., Station], ends: Ends) -> None:
    meeting = threading.Barrier(3)

    def serve(job: Job, start_at: float) -> Served:
        meeting.wait(PATIENCE_S)
        return Served(start_at, start_at, start_at)

    station = made(serve, workers=3)
    for task in range(3):
        station.join(job(task))
    assert {ends.next()[1] for _ in range(3)} == {0, 1, 2}


@given(
    st.lists(st.floats(0.0, 10.0), max_size=12),
    st.integers(1, 4),
)
def test_the_expected_wait_is_that_of_list_scheduling(services: list[float], workers: int) -> None:
    """Compared with a station in simulated time; the workers of this one stand still."""
    gate = Gate(late(0.0))
    station = Station("test", workers, gate, Ends())
    try:
        starts = []
        for task, service_s in enumerate(services):
            station.join(job(task, service_s))
            if task < workers:
                starts.append(gate.begun.get(timeout=PATIENCE_S)[1])
        now = time.monotonic()
        ends = [start + service_s for start, service_s in zip(starts, services, strict=False)]
        free = sorted(max(now, at) for at in [now] * (workers - len(ends)) + ends)
        for service_s in services[workers:]:
            free[0] += service_s
            free.sort()
        wait_s, jobs = station.state(now)
        assert jobs == len(services)
        assert wait_s == free[0] - now
    finally:
        station.close()
        gate.open(len(services) + 1)


def test_the_wait_for_a_job_in_service_shrinks_to_nothing(
    made: Callable[..., Station], ends: Ends
) -> None:
    gate = Gate(late(0.0))
    station = made(gate)
    assert station.state(0.0) == (0.0, 0)
    station.join(job(0, service_s=8.0))
    _, start_at = gate.begun.get(timeout=PATIENCE_S)
    wait_s, jobs = station.state(start_at + 2.0)
    assert wait_s == pytest.approx(6.0, abs=1e-6)
    assert jobs == 1
    assert station.state(start_at + 9.0) == (0.0, 1)
    gate.open()
    ends.next()
    assert station.state(start_at + 9.0) == (0.0, 0)


def test_a_job_whose_service_would_begin_too_late_is_dropped(
    made: Callable[..., Station], ends: Ends
) -> None:
    gate = Gate(late(0.0))
    station = made(gate)
    station.join(job(0, service_s=5.0))
    _, start_at = gate.begun.get(timeout=PATIENCE_S)
    station.join(job(1, service_s=5.0, drop_at=start_at))  # the start will be later
    station.join(job(2, service_s=5.0))
    wait_s, jobs = station.state(start_at)
    assert wait_s == pytest.approx(10.0, abs=1e-6)
    assert jobs == 2  # the second one will be dropped
    gate.open(2)
    assert [ends.next()[:2] for _ in range(3)] == [("finished", 0), ("dropped", 1), ("finished", 2)]
    assert gate.begun.get() == (2, start_at + 5.0)


def test_a_waiting_job_expires_and_one_in_service_does_not(
    made: Callable[..., Station], ends: Ends
) -> None:
    gate = Gate(late(0.0))
    station = made(gate)
    first, second = job(0), job(1)
    station.join(first)
    gate.begun.get(timeout=PATIENCE_S)
    station.join(second)
    station.expire(first)
    station.expire(second)
    assert ends.next()[:2] == ("dropped", 1)
    assert station.state(time.monotonic())[1] == 1
    gate.open()
    assert ends.next()[:2] == ("finished", 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LostError("server1: gone"), "server1: gone"),
        (RuntimeError("no\nmatrix"), "RuntimeError: no"),
    ],
)
def test_a_service_that_fails_loses_its_job_and_the_next_one_is_served(
    made: Callable[..., Station], ends: Ends, error: Exception, reason: str
) -> None:
    def serve(job: Job, start_at: float) -> Served:
        if job.task == 0:
            raise error
        return Served(start_at, start_at, start_at)

    station = made(serve)
    station.join(job(0))
    station.join(job(1))
    kind, task, _, found = ends.next()
    assert (kind, task, found) == ("lost", 0, reason)
    assert ends.next()[:2] == ("finished", 1)


def test_every_worker_prepares_before_the_station_is_ready(made: Callable[..., Station]) -> None:
    prepared: list[str] = []
    made(
        late(0.0), workers=3, prepare=lambda: prepared.append(threading.current_thread().name)
    ).start()
    assert sorted(prepared) == ["test 0", "test 1", "test 2"]


def test_computing_has_ordinary_priority_and_waiting_has_not() -> None:
    seen: queue.Queue[bool] = queue.Queue()

    def run() -> None:
        allowed = clock.prioritise()
        serve = computing(lambda job: seen.put(clock.has_priority()), padded=False)
        serve(job(0), 0.0)
        seen.put(clock.has_priority() == allowed)
        with pytest.raises(ZeroDivisionError), clock.ordinary():
            raise ZeroDivisionError
        seen.put(clock.has_priority() == allowed)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE_S)
    assert [seen.get(timeout=PATIENCE_S) for _ in range(3)] == [False, True, True]
    assert not clock.has_priority()


def test_the_agenda_calls_in_the_order_of_times_and_not_too_early() -> None:
    agenda, called = Agenda(), queue.Queue[tuple[str, float]]()
    now = time.monotonic()
    for name, at in (("c", 0.03), ("a", 0.01), ("past", -5.0), ("b", 0.02), ("b2", 0.02)):
        agenda.at(now + at, lambda name=name: called.put((name, time.monotonic())))  # type: ignore[misc]
    found = [called.get(timeout=PATIENCE_S) for _ in range(5)]
    agenda.close()
    assert [name for name, _ in found if name != "past"] == ["a", "b", "b2", "c"]
    due = {"a": 0.01, "b": 0.02, "b2": 0.02, "c": 0.03, "past": -5.0}
    assert all(at >= now + due[name] for name, at in found)


def test_waiting_for_the_past_returns_at_once() -> None:
    assert not wait_until(time.monotonic() - 1)
    at = time.monotonic() + 0.002
    assert wait_until(at)
    assert time.monotonic() >= at
