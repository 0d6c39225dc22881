"""Traces as the testbed writes them, from a simulation whose services last a known time longer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mecsim import Scenario
from mecsim.kernels.hops import Hops
from mecsim.kernels.simpy_kernel import SimpyKernel
from mecsim.model.model import Model, resolve
from mecsim.model.workload import size_columns, slots
from mecsim.scheduler import registry
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import SchedulerPolicy
from mecsim.simulation.session import Session
from mecsim.trace import Provenance, TraceWriter

FACTS = {"nodes": "padded", "links": "pacing", "stretch": 10.0}


class SlowedKernel(SimpyKernel):
    """A kernel whose services last longer than planned, and which loses tasks at their last hop.

    Args:
        model: The scenario.
        factors: Factors on the services at resources, by name.
        lost: Numbers of the tasks that are lost as their last service begins.
        disturb: Changes services further.
    """

    def __init__(
        self,
        model: Model,
        factors: Mapping[str, float],
        lost: Collection[int],
        disturb: Callable[[Hops], None] | None,
    ) -> None:
        super().__init__(model)
        self._disturb = disturb
        self._factor = np.array([factors.get(name, 1.0) for name in model.resource_names()])
        self._lost = lost

    def submit(self, hops: Hops) -> None:
        hops.column("service_s")[:] *= self._factor[hops.column("resource")]
        if self._disturb is not None:
            self._disturb(hops)
        super().submit(hops)

    def collect(self) -> list[Hops]:
        ended = super().collect()
        for hops in ended:
            for row in range(len(hops.tasks)):
                if hops.tasks.first + row in self._lost:
                    last = hops.offset[row + 1] - 1
                    hops.column("service_s")[last] = 0.0
                    hops.column("latency_s")[last] = np.nan
        return ended


def measured_trace(
    path: Path,
    scenario: Scenario,
    scheduler: str = "greedy",
    options: Mapping[str, Any] | None = None,
    *,
    factors: Mapping[str, float] | None = None,
    lost: Collection[int] = (),
    disturb: Callable[[Hops], None] | None = None,
    seed: int = 0,
    facts: Mapping[str, Any] = FACTS,
) -> Path:
    """Write the trace of a run whose services last longer by factors, as if it was measured."""
    model = resolve(scenario, seed)
    spec = SchedulerSpec.of(model)
    made_by = Provenance(scheduler, dict(options or {}), seed, "testbed", facts)
    policy = SchedulerPolicy(registry.create(scheduler, spec, dict(options or {})), scheduler)
    kernel = SlowedKernel(model, factors or {}, lost, disturb)
    with TraceWriter(path, model, spec, made_by, size_factors=size_columns(model)) as writer:
        policy.follow(Session(model, slots(model), kernel, spec, [writer]))
    return path
