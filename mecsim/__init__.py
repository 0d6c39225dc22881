"""mecsim: a discrete-event simulator of edge networks that run distributed DNN inference."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mecsim.errors import MecsimError
    from mecsim.scenario.loading import load
    from mecsim.scenario.schema import Scenario
    from mecsim.scheduler.base import Scheduler
    from mecsim.scheduler.custom_features import CustomFeatures, ObservationBatch
    from mecsim.scheduler.ended_task import EndedTask
    from mecsim.scheduler.observation import Observation
    from mecsim.scheduler.spec import Placement, SchedulerSpec
    from mecsim.simulation.result import RunResult
    from mecsim.simulation.run import run
    from mecsim.support.arrays import Floats, Ints
    from mecsim.testbed.prediction import Prediction, predict

__all__ = [
    "CustomFeatures",
    "EndedTask",
    "Floats",
    "Ints",
    "MecsimError",
    "Observation",
    "ObservationBatch",
    "Placement",
    "Prediction",
    "RunResult",
    "Scenario",
    "Scheduler",
    "SchedulerSpec",
    "load",
    "predict",
    "run",
]

_HOME = {
    "CustomFeatures": "scheduler",
    "EndedTask": "scheduler",
    "Floats": "support.arrays",
    "Ints": "support.arrays",
    "MecsimError": "errors",
    "Observation": "scheduler",
    "ObservationBatch": "scheduler",
    "Placement": "scheduler",
    "Prediction": "testbed.prediction",
    "RunResult": "simulation.result",
    "Scenario": "scenario",
    "Scheduler": "scheduler",
    "SchedulerSpec": "scheduler",
    "load": "scenario",
    "predict": "testbed.prediction",
    "run": "simulation.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``mecsim --help`` is quick."""
    if name == "__version__":
        return version("mecsim")
    if name not in _HOME:
        raise AttributeError(f"module 'mecsim' has no attribute {name!r}")
    return getattr(import_module(f"mecsim.{_HOME[name]}"), name)
