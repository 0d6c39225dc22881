"""The reference simulators agree with each other, with closed forms and with work by hand."""

import heapq
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim.support.intervals import mean_interval
from mecsim.verification.queueing import (
    fifo_starts,
    little_number,
    mmc_sojourn,
    mxm1_wait,
    tandem_sojourn,
)
from tests.helpers.examples import examples
from tests.helpers.reference_programs import Route, Served, ciw_tandem, event_driven, textbook_simpy

Inputs = tuple[list[float], list[Route], list[int]]


def finishes(history: list[list[Served]]) -> list[list[float]]:
    return [[hop.finish for hop in hops] for hops in history]


def tie_free(seed: int, tasks: int, resources: int) -> Inputs:
    """Random routes, some empty and some back to where they were, with continuous times."""
    rng = np.random.default_rng(seed)

    def hop() -> tuple[int, float, float]:
        latency = rng.exponential() if rng.random() < 0.5 else 0.0
        return int(rng.integers(resources)), float(rng.exponential()), float(latency)

    routes: list[Route] = [[hop() for _ in range(rng.integers(5))] for _ in range(tasks)]
    release = rng.uniform(0.0, tasks / resources, tasks).tolist()
    return release, routes, rng.integers(1, 4, resources).tolist()


hops = st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 2))
tie_rich = st.tuples(
    st.lists(st.tuples(st.integers(0, 3), st.lists(hops, max_size=4)), max_size=12),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
).map(lambda drawn: ([r for r, _ in drawn[0]], [route for _, route in drawn[0]], drawn[1]))


def by_free_times(
    release: Sequence[float], routes: Sequence[Route], capacities: Sequence[int]
) -> list[list[Served]]:
    """The same order of events in the other idiom: the time at which each server is next free."""
    free = [[0.0] * capacity for capacity in capacities]
    history: list[list[Served]] = [[] for _ in routes]
    events = [(time, 2, task, True) for task, time in enumerate(release) if routes[task]]
    heapq.heapify(events)
    while events:
        now, _, task, enters = heapq.heappop(events)
        if not enters:  # a service has ended
            if len(history[task]) == len(routes[task]):
                continue
            if latency := routes[task][len(history[task]) - 1][2]:
                heapq.heappush(events, (now + latency, 0, task, True))
                continue
        resource, service, _ = routes[task][len(history[task])]
        start = max(now, free[resource][0])
        heapq.heapreplace(free[resource], start + service)
        history[task].append(Served(now, start, start + service))
        heapq.heappush(events, (start + service, 0, task, False))
    return history


# ------------------------------------------------------------------ they agree with each other


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 5))
@settings(max_examples=examples(100), deadline=None)
def test_simpy_and_the_event_driven_program_agree_to_the_last_bit(
    seed: int, tasks: int, resources: int
) -> None:
    inputs = tie_free(seed, tasks, resources)
    assert textbook_simpy(*inputs) == finishes(event_driven(*inputs))


def test_simpy_and_the_event_driven_program_agree_on_a_long_run() -> None:
    inputs = tie_free(seed=7, tasks=2000, resources=4)
    assert textbook_simpy(*inputs) == finishes(event_driven(*inputs))


def test_the_comparison_with_simpy_sees_a_difference_in_the_last_bit() -> None:
    route: Route = [(0, 0.5, 0.0), (1, 0.25, 0.0)]
    later = np.nextafter(1.0, 2.0).item()
    assert textbook_simpy([1.0], [route], [1, 1]) == finishes(event_driven([1.0], [route], [1, 1]))
    assert textbook_simpy([later], [route], [1, 1]) != finishes(
        event_driven([1.0], [route], [1, 1])
    )


def test_simpy_breaks_ties_by_insertion_and_so_is_no_oracle_for_them() -> None:
    """Tasks 0 and 1 reach resource 2 at 3 s; the service of task 1 there began first."""
    release, routes = [2.0, 0.0], [[(0, 1.0, 0.0), (2, 1.0, 0.0)], [(1, 3.0, 0.0), (2, 1.0, 0.0)]]
    assert finishes(event_driven(release, routes, [1, 1, 1])) == [[3.0, 4.0], [3.0, 5.0]]
    assert textbook_simpy(release, routes, [1, 1, 1]) == [[3.0, 5.0], [3.0, 4.0]]


@given(tie_rich)
@settings(max_examples=examples(300), deadline=None)
def test_two_idioms_agree_where_ties_are_the_rule(inputs: Inputs) -> None:
    assert event_driven(*inputs) == by_free_times(*inputs)


@given(tie_rich)
@settings(max_examples=examples(100), deadline=None)
def test_every_hop_keeps_the_laws_of_a_queue(inputs: Inputs) -> None:
    release, routes, capacities = inputs
    history = event_driven(*inputs)
    at: list[list[Served]] = [[] for _ in capacities]
    for released, route, served in zip(release, routes, history, strict=True):
        able = released
        assert len(served) == len(route)
        for (resource, service, latency), hop in zip(route, served, strict=True):
            assert hop.enqueue == able
            assert hop.start >= hop.enqueue
            assert hop.finish == hop.start + service
            able = hop.finish + latency
            at[resource].append(hop)
    for capacity, visits in zip(capacities, at, strict=True):
        visits.sort()  # by enqueue, then by start
        assert [v.start for v in visits] == sorted(v.start for v in visits)  # first in, first out
        for now in {v.enqueue for v in visits}:
            busy = sum(v.start <= now < v.finish for v in visits)
            waiting = sum(v.enqueue <= now < v.start for v in visits)
            assert busy <= capacity
            assert busy == capacity or not waiting  # no server idles while a task waits


# ------------------------------------------------------------------ ties, worked by hand


def test_tasks_released_together_are_served_by_number() -> None:
    history = event_driven([5.0, 5.0, 5.0], [[(0, 2.0, 0.0)]] * 3, [1])
    assert history == [[(5.0, 5.0, 7.0)], [(5.0, 7.0, 9.0)], [(5.0, 9.0, 11.0)]]


def test_a_completion_goes_before_a_release_whatever_the_numbers() -> None:
    """At 1 s task 1 comes to resource 1 from resource 0, and task 0 is released there."""
    history = event_driven([1.0, 0.0], [[(1, 1.0, 0.0)], [(0, 1.0, 0.0), (1, 1.0, 0.0)]], [1, 1])
    assert history == [[(1.0, 2.0, 3.0)], [(0.0, 0.0, 1.0), (1.0, 1.0, 2.0)]]


def test_the_end_of_a_latency_goes_before_a_release() -> None:
    history = event_driven([2.0, 0.0], [[(1, 1.0, 0.0)], [(0, 1.0, 1.0), (1, 1.0, 0.0)]], [1, 1])
    assert history == [[(2.0, 3.0, 4.0)], [(0.0, 0.0, 1.0), (2.0, 2.0, 3.0)]]


def test_the_end_of_a_latency_and_a_completion_go_by_task_number() -> None:
    """Both reach resource 2 at 2 s, task 0 from a latency; then the same with numbers swapped."""
    late: Route = [(0, 1.0, 1.0), (2, 1.0, 0.0)]
    direct: Route = [(1, 2.0, 0.0), (2, 1.0, 0.0)]
    assert finishes(event_driven([0.0, 0.0], [late, direct], [1, 1, 1])) == [[1, 3], [2, 4]]
    assert finishes(event_driven([0.0, 0.0], [direct, late], [1, 1, 1])) == [[2, 3], [1, 4]]


def test_who_stays_at_a_resource_queues_behind_those_who_wait() -> None:
    history = event_driven([0.0, 1.0], [[(0, 2.0, 0.0), (0, 2.0, 0.0)], [(0, 3.0, 0.0)]], [1])
    assert history == [[(0.0, 0.0, 2.0), (2.0, 5.0, 7.0)], [(1.0, 2.0, 5.0)]]


def test_who_stays_at_a_resource_goes_before_a_release_at_that_instant() -> None:
    history = event_driven([0.0, 2.0], [[(0, 2.0, 0.0), (0, 2.0, 0.0)], [(0, 3.0, 0.0)]], [1])
    assert history == [[(0.0, 0.0, 2.0), (2.0, 2.0, 4.0)], [(2.0, 4.0, 7.0)]]


def test_a_latency_does_not_hold_the_server() -> None:
    history = event_driven([0.0, 0.0], [[(0, 1.0, 5.0), (1, 1.0, 9.0)], [(0, 1.0, 0.0)]], [1, 1])
    assert history == [[(0.0, 0.0, 1.0), (6.0, 6.0, 7.0)], [(0.0, 1.0, 2.0)]]


def test_two_servers_share_one_queue() -> None:
    routes: list[Route] = [[(0, 4.0, 0.0)], [(0, 2.0, 0.0)], [(0, 1.0, 0.0)], [(0, 1.0, 0.0)]]
    history = event_driven([0.0] * 4, routes, [2])
    assert [hop.start for (hop,) in history] == [0.0, 0.0, 2.0, 3.0]
    assert [hop.finish for (hop,) in history] == [4.0, 2.0, 3.0, 4.0]


def test_times_are_single_additions() -> None:
    history = event_driven([0.1, 0.1], [[(0, 0.2, 0.3), (1, 0.0, 0.0)], [(0, 0.7, 0.0)]], [1, 1])
    first = 0.1 + 0.2
    assert history[0] == [(0.1, 0.1, first), (first + 0.3, first + 0.3, first + 0.3)]
    assert history[1] == [(0.1, first, first + 0.7)]


def test_a_service_of_no_length_is_refused_only_if_it_waited() -> None:
    nothing: Route = [(0, 0.0, 0.0)]
    assert event_driven([1.0, 1.0], [nothing, nothing], [1]) == [[(1, 1, 1)], [(1, 1, 1)]]
    with pytest.raises(ValueError, match="task 1 waited at resource 0"):
        event_driven([0.0, 0.0], [[(0, 1.0, 0.0)], nothing], [1])


def test_a_task_without_hops_ends_at_once() -> None:
    assert event_driven([3.0], [[]], [1]) == [[]]
    assert textbook_simpy([3.0], [[]], [1]) == [[]]


# ------------------------------------------------------------------ they agree with closed forms


def open_network(
    seed: int, rates: Sequence[float], batch: int = 1, latency: float = 0.0, n: int = 6000
) -> tuple[list[float], list[Route]]:
    """Poisson arrivals of 1 batch/s that cross stations of the given service rates in a row."""
    rng = np.random.default_rng(seed)
    release = np.repeat(np.cumsum(rng.exponential(1.0, n // batch)), batch).tolist()
    services = (rng.exponential(1 / rate, len(release)).tolist() for rate in rates)
    routes: list[Route] = [
        [(at, service, latency) for at, service in enumerate(row)]
        for row in zip(*services, strict=True)
    ]
    return release, routes


def mean_sojourn(history: list[list[Served]]) -> float:
    return float(np.mean([task[-1].finish - task[0].enqueue for task in history[500:]]))


def test_one_server_gives_the_bits_of_the_sequential_recursion() -> None:
    release, routes = open_network(seed=1, rates=[1.25])
    starts = [task[0].start for task in event_driven(release, routes, [1])]
    assert starts == fifo_starts(release, [route[0][1] for route in routes]).tolist()


@pytest.mark.statistical
def test_event_driven_reaches_the_means_of_theory() -> None:
    two_servers = [event_driven(*open_network(s, [0.8]), [2]) for s in range(8)]
    interval = mean_interval([mean_sojourn(run) for run in two_servers], 0.99)
    assert interval.contains(mmc_sojourn(1.0, 0.8, 2))
    assert not interval.contains(mmc_sojourn(1.0, 1.6, 1))

    tandem = [event_driven(*open_network(s, [0.8, 2.0], latency=0.5), [2, 1]) for s in range(8)]
    interval = mean_interval([mean_sojourn(run) for run in tandem], 0.99)
    assert interval.contains(tandem_sojourn(1.0, [0.8, 2.0], [2, 1]) + 0.5)
    assert not interval.contains(tandem_sojourn(1.0, [0.8, 2.0], [2, 1]))

    batches = [event_driven(*open_network(s, [6.0], batch=3), [1]) for s in range(8)]
    waits = [np.mean([hop.start - hop.enqueue for (hop,) in run]).item() for run in batches]
    assert mean_interval(waits, 0.99).contains(mxm1_wait(1.0, 3.0, 9.0, 6.0))
    assert not mean_interval(waits, 0.99).contains(mxm1_wait(3.0, 1.0, 1.0, 6.0))


def test_littles_law_at_a_station() -> None:
    run = event_driven(*open_network(seed=2, rates=[1.25]), [1])
    enqueue, _, finish = (np.array(column) for column in zip(*(hop for (hop,) in run), strict=True))
    horizon = float(finish.max())
    rate, sojourn = len(run) / horizon, float((finish - enqueue).mean())
    assert little_number(enqueue, finish, horizon) == pytest.approx(rate * sojourn, rel=1e-12)


@pytest.mark.slow
@pytest.mark.statistical
def test_ciw_reaches_the_mean_of_a_tandem() -> None:
    runs = [ciw_tandem(1.0, [0.8, 2.0], [2, 1], 3000.0, 300.0, seed) for seed in range(8)]
    interval = mean_interval(runs, 0.99)
    assert interval.contains(tandem_sojourn(1.0, [0.8, 2.0], [2, 1]))
    assert not interval.contains(tandem_sojourn(1.0, [1.6, 2.0], [1, 1]))


def test_ciw_is_reproducible_and_leaves_the_global_generator_alone() -> None:
    state = random.getstate()
    first = ciw_tandem(1.0, [2.0], [1], 100.0, 10.0, seed=3)
    assert ciw_tandem(1.0, [2.0], [1], 100.0, 10.0, seed=3) == first
    assert ciw_tandem(1.0, [2.0], [1], 100.0, 10.0, seed=4) != first
    assert random.getstate() == state


def test_ciw_refuses_a_mean_that_leaves_out_the_late() -> None:
    with pytest.raises(RuntimeError, match="a customer of"):
        ciw_tandem(2.0, [1.0], [1], 200.0, 0.0, seed=1)
