"""Three independent simulators to compare mecsim against; they know nothing of it.

In all of them a task crosses the hops of its route in turn. A hop is (resource, service seconds,
latency seconds): the task joins the resource's FIFO queue at the tail, is served, and arrives at
its next hop ``latency`` after the service has ended. The resource is free again at that end.
"""

import heapq
import random
from collections import deque
from collections.abc import Generator, Sequence
from typing import NamedTuple

import pytest
import simpy

Hop = tuple[int, float, float]
Route = Sequence[Hop]


class Served(NamedTuple):
    """What one hop of one task went through, in seconds."""

    enqueue: float
    start: float
    finish: float


def event_driven(
    release: Sequence[float], routes: Sequence[Route], capacities: Sequence[int]
) -> list[list[Served]]:
    """Every hop of every task, exact also where many things happen at one instant.

    ``release[i]`` [s] and ``routes[i]`` belong to task i, ``capacities[r]`` is the number of
    servers of resource r. Events are handled by (time, rank, task number): the end of a service,
    or of the latency after it, has rank 0 and a release rank 2. A task enters a queue at the event
    that makes it able to. A task has one pending event at most, so no two events compare equal.

    A server is either idle or not and a queue is a list of tasks; nothing is known in advance.
    Hence the one thing that this order leaves open, a service of no length that had to wait (its
    end belongs to an instant that is half over), is refused with ValueError.
    """
    queues = _Queues(routes, capacities)
    for task, route in enumerate(routes):
        if route:
            queues.plan(release[task], RELEASE, task, "arrive")
    while queues.events:
        now, _, task, what = heapq.heappop(queues.events)
        if what == "arrive":
            queues.arrive(task, now)
        else:
            queues.depart(task, now)
    return queues.history


COMPLETION, RELEASE = 0, 2  # ranks of events


class _Queues:
    def __init__(self, routes: Sequence[Route], capacities: Sequence[int]) -> None:
        self.idle = list(capacities)
        self.waiting: list[deque[int]] = [deque() for _ in capacities]
        self.hops = [deque(route) for route in routes]  # still to do; the first is under way
        self.enqueued_at = [0.0] * len(routes)
        self.history: list[list[Served]] = [[] for _ in routes]
        self.events: list[tuple[float, int, int, str]] = []

    def plan(self, time: float, rank: int, task: int, what: str) -> None:
        heapq.heappush(self.events, (time, rank, task, what))

    def arrive(self, task: int, now: float) -> None:
        resource = self.hops[task][0][0]
        self.enqueued_at[task] = now
        if self.idle[resource] > 0:
            self.start(task, now)
        else:
            self.waiting[resource].append(task)

    def start(self, task: int, now: float) -> None:
        resource, service, _ = self.hops[task][0]
        self.idle[resource] -= 1
        finish = now + service
        self.history[task].append(Served(self.enqueued_at[task], now, finish))
        self.plan(finish, COMPLETION, task, "depart")

    def depart(self, task: int, now: float) -> None:
        resource, _, latency = self.hops[task].popleft()
        self.idle[resource] += 1
        if self.waiting[resource]:
            self.start_next(resource, now)
        if self.hops[task] and latency > 0:
            self.plan(now + latency, COMPLETION, task, "arrive")
        elif self.hops[task]:
            self.arrive(task, now)

    def start_next(self, resource: int, now: float) -> None:
        task = self.waiting[resource].popleft()
        self.start(task, now)
        if self.history[task][-1].finish <= now:
            raise ValueError(
                f"task {task} waited at resource {resource} for a service of no length"
            )


def textbook_simpy(
    release: Sequence[float], routes: Sequence[Route], capacities: Sequence[int]
) -> list[list[float]]:
    """Finish of service [s] of every hop of every task: one SimPy process a task.

    The arguments of :func:`event_driven`, with ``release`` ≥ 0. What happens at one instant is in
    SimPy's order of insertion, so compare only where no two tasks meet at the same time.
    """
    env = simpy.Environment()
    resources = [simpy.Resource(env, capacity) for capacity in capacities]
    finishes: list[list[float]] = [[] for _ in routes]

    def task(number: int) -> Generator[simpy.Event, object, None]:
        yield env.timeout(release[number])
        for resource, service, latency in routes[number]:
            with resources[resource].request() as request:
                yield request
                yield env.timeout(service)
            finishes[number].append(env.now)
            yield env.timeout(latency)

    for number in range(len(routes)):
        env.process(task(number))
    env.run()
    return finishes


def ciw_tandem(
    arrival_rate: float,
    service_rates: Sequence[float],
    servers: Sequence[int],
    horizon: float,
    warmup: float,
    seed: int,
) -> float:
    """Mean sojourn [s] in a row of M/M/c stations, simulated by Ciw.

    Rates are in jobs/s, those of service of one server. Counts the customers who enter in
    [``warmup``, ``horizon``] s. A tenth of the horizon more is simulated so that all of them leave,
    else RuntimeError: to leave out the late ones would make the mean too small. Ciw draws from
    Python's global generator, whose state is put back afterwards.
    """
    ciw = pytest.importorskip("ciw")
    last = len(service_rates)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(arrival_rate)] + [None] * (last - 1),
        service_distributions=[ciw.dists.Exponential(rate) for rate in service_rates],
        number_of_servers=list(servers),
        routing=[[float(to == at + 1) for to in range(last)] for at in range(last)],
    )
    state = random.getstate()
    try:
        ciw.seed(seed)
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_time(1.1 * horizon)
    finally:
        random.setstate(state)
    sojourns = []
    for customer in simulation.get_all_individuals():  # those with a record: one service done
        visits = customer.data_records
        if len(visits) == last and warmup <= visits[0].arrival_date <= horizon:
            sojourns.append(visits[-1].exit_date - visits[0].arrival_date)
    for customer in (c for node in simulation.transitive_nodes for c in node.all_individuals):
        entered = (customer.data_records or [customer])[0].arrival_date
        if entered <= horizon:
            raise RuntimeError(f"a customer of {entered:.6g} s is there at {1.1 * horizon:.6g} s")
    return float(sum(sojourns) / len(sojourns))
