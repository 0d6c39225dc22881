"""The leanest SimPy program that serves given hops: what the SimPy kernel is measured against.

One event a hop, one event object a task, nothing recorded, no policy, no model: only SimPy's loop,
the time at which each resource is next free, and the sum of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappush
from typing import Any

import simpy
from simpy.events import EventPriority

Route = tuple[list[int], list[float]]
"""Resources that a task crosses, and how long it is served at each."""

_NORMAL = EventPriority(1)


class _Job(simpy.Event):
    def __init__(self, env: simpy.Environment, route: Route, callbacks: list[Any]) -> None:
        self.env, self.callbacks, self._ok, self._value = env, callbacks, True, None
        self.resources, self.services = route
        self.hop, self.hops = 0, len(self.resources)


def serve(slots: Sequence[tuple[float, Sequence[Route]]], resources: int) -> float:
    """Serve the routes released at the start of each slot; return when the last one ended."""
    env = simpy.Environment()
    free = [0.0] * resources
    queue = env._queue
    callbacks: list[Callable[[Any], None]] = []

    def arrive(job: _Job) -> None:
        hop = job.hop
        if hop == job.hops:
            return
        resource = job.resources[hop]
        start, now = free[resource], env._now
        if start < now:
            start = now
        finish = free[resource] = start + job.services[hop]
        job.hop = hop + 1
        job.callbacks = callbacks
        heappush(queue, (finish, _NORMAL, id(job), job))

    def release(slot: simpy.Event) -> None:
        routes: Sequence[Route] = slot._value
        for route in routes:
            arrive(_Job(env, route, callbacks))

    callbacks.append(arrive)
    for begin, routes in slots:
        slot = env.timeout(begin, routes)
        slot.callbacks = [release]
    env.run()
    return env.now
