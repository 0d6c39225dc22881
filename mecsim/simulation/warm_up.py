"""Compile all that the common commands need: ``python -m mecsim.simulation.warm_up``.

Runs a scenario of two slots in every way that needs separate compiled code, so that no later
command waits for the compiler. Takes about a second where everything is compiled already.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import numpy as np

from mecsim.model import resolve, workload
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import Placement
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.run import run
from mecsim.support.arrays import Ints
from mecsim.trace.schema import MemoryTrace

_SCENARIO: Final = {
    "slots": 2,
    "devices": 2,
    "edge_servers": 2,
    "dnn": {
        "model": {
            "flops": [1e9, 1e9],
            "parameter_bytes": [4, 4],
            "input_bits": [1e6, 1e6],
            "output_bits": 8,
        }
    },
    "arrivals": {"process": "slotted", "rate": 2},
    "size_factor": {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "slot"},
}


class RewardReader(Scheduler):
    """Computes everything at the devices and asks for rewards, as a learning scheduler does."""

    def decide(self, observation: Observation) -> Placement:
        """Return a placement at the device."""
        return [0] * self.spec.blocks

    def epoch_ended(self, observation: Observation, placement: Ints, reward: float) -> None:
        """Do nothing with the reward."""


_SCHEDULERS: Final[dict[str, dict[str, Any]]] = {
    "greedy": {},
    "fixed": {"placement": [0, 1]},
    "lookahead": {"budget": 2},
    f"mecsim.simulation.warm_up:{RewardReader.__name__}": {},
}


_DRAWS: Final[tuple[dict[str, Any], ...]] = (
    {
        "arrivals": {"process": "poisson", "rate": 2},
        "size_factor": {"distribution": "exponential", "per": "task"},
        "radio": {"fading": "rayleigh"},
    },
    {
        "arrivals": {"process": "mmpp", "rates": [1, 3], "mean_dwell": [1, 1]},
        "size_factor": {"distribution": "lognormal", "sigma": 0.5, "per": "block"},
        "radio": {"rate": {"uniform": [1e6, 2e6]}},
        "edge_server": {"capacity": {"uniform": [1e9, 2e9]}},
    },
    {
        "arrivals": {"process": "deterministic", "rate": 2},
        "size_factor": {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "task"},
    },
)
"""Distributions that runs draw from: each has its own compiled code."""


def warm_up() -> None:
    """Compile, or load, the code of draws, of runs on both kernels, of rollouts, of trainings."""
    for laws in _DRAWS:
        for slot in workload.slots(resolve(Scenario.model_validate(_SCENARIO | laws))):
            del slot
    for decision_epoch in ("per_slot", "per_task"):
        scenario = Scenario.model_validate(_SCENARIO | {"decision_epoch": decision_epoch})
        for kernel, traced, (scheduler, options) in product(
            KERNELS, (False, True), _SCHEDULERS.items()
        ):
            memory = MemoryTrace() if traced else None
            run(scenario, scheduler, options, kernel=kernel, memory=memory)
        replicas = Replicas(scenario, 2)
        replicas.reset([0, 1])
        replicas.what_if(np.zeros((2, 1, replicas.blocks), dtype=np.int64))
        replicas.step(np.zeros((2, replicas.blocks), dtype=np.int64))
        replicas.close()


if __name__ == "__main__":
    warm_up()
