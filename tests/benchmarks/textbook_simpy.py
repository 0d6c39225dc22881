"""The textbook SimPy program: a process a task, a ``simpy.Resource`` a queue."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import simpy

from tests.benchmarks.lean_simpy import Route


def serve(slots: Sequence[tuple[float, Sequence[Route]]], resources: int) -> float:
    """Serve the routes released at the start of each slot; return when the last one ended."""
    env = simpy.Environment()
    queues = [simpy.Resource(env) for _ in range(resources)]

    def task(route: Route) -> Generator[simpy.Event, Any, None]:
        for resource, service in zip(*route, strict=True):
            with queues[resource].request() as request:
                yield request
                yield env.timeout(service)

    def source() -> Generator[simpy.Event, Any, None]:
        for begin, routes in slots:
            yield env.timeout(begin - env.now)
            for route in routes:
                env.process(task(route))

    env.process(source())
    env.run()
    return env.now
