"""The conformance check of a scheduler, on small scenarios of every shape."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from mecsim.errors import SchedulerError
from mecsim.scenario.schema import Scenario
from mecsim.scheduler import registry
from mecsim.scheduler.base import Scheduler
from mecsim.simulation.run import run as run_scenario
from mecsim.trace.schema import MemoryTrace

_SMALL: Final[dict[str, Any]] = {"slots": 5, "devices": 3, "dnn": {"blocks": 3}}
SHAPES: Final[Mapping[str, dict[str, Any]]] = {
    "slot epochs": {"arrivals": {"process": "slotted", "rate": 4.0}},
    "task epochs": {"decision_epoch": "per_task", "arrivals": {"process": "poisson", "rate": 4.0}},
    "no tasks": {"arrivals": {"process": "slotted", "rate": 0.0}},
    "one server": {"edge_servers": 1, "arrivals": {"process": "slotted", "rate": 4.0}},
    "more servers than blocks": {"edge_servers": 7},
    "fading and bursts": {
        "radio": {"fading": "rayleigh"},
        "arrivals": {"process": "mmpp", "rates": [1.0, 9.0], "mean_dwell": [2.0, 2.0]},
    },
    "small batteries": {"device": {"battery": 0.05}},
}
"""Changes that make each shape of scenario; messages contain the names."""
_EPOCHS_OF_SHAPE: Final = {"slot epochs": "per_slot", "task epochs": "per_task"}


def check_scheduler(name: str, options: Mapping[str, Any] | None = None) -> list[str]:
    """Run a scheduler on every shape of scenario.

    Checks that it can be created from a spec and its options, returns placements in {0, …, N}^M,
    does not change its observation (arrays are read-only), uses only its own random stream, and
    decides the same under the same seed. Shapes get the number of blocks that a ``placement``
    option has, and the decision epochs that the scheduler is for. A scheduler that needs a policy
    decides by its untrained one unless the options name another.

    Args:
        name: An installed name, ``package.module:Class`` or ``path/file.py:Class``.
        options: Options of the scheduler.

    Returns:
        The names of the shapes that it passed: all of them, or all but the one with the other
        decision epochs.

    Raises:
        SchedulerError: The scheduler failed; the message names the shape and the problem.
    """
    name, policy = registry.split_policy(name, options)
    maker = registry.load(name)
    epochs = registry.decision_epochs(name, maker)
    given: dict[str, Any] = {**maker.conformance_options, **policy}
    passed = []
    for shape, scenario in _scenarios(given, epochs):
        try:
            _check(name, given, scenario)
        except SchedulerError as error:
            remedy = _remedy(name, given, epochs) if shape == "slot epochs" else ""
            raise SchedulerError(f"{error} (on a scenario with {shape}){remedy}") from error
        passed.append(shape)
    return passed


def _remedy(name: str, options: Mapping[str, Any], epochs: Sequence[str]) -> str:
    """Return what helps a scheduler that fails with slot epochs and passes with task epochs."""
    tasks = next((each for shape, each in _scenarios(options, epochs) if shape == "task epochs"))
    try:
        _check(name, options, tasks)
    except SchedulerError:
        return ""
    return '. Try, if it is for decisions per task only: decision_epochs = ("per_task",)'


def _scenarios(options: Mapping[str, Any], epochs: Sequence[str]) -> Iterator[tuple[str, Scenario]]:
    """Yield the shapes; those whose point is another kind of decision epoch are left out."""
    for shape, changes in SHAPES.items():
        if _EPOCHS_OF_SHAPE.get(shape, epochs[0]) not in epochs:
            continue
        values = _SMALL | changes
        if "per_slot" not in epochs:
            values = values | {"decision_epoch": "per_task"}
        placement = options.get("placement")
        if isinstance(placement, list):  # a fixed placement determines the number of blocks
            values = values | {"dnn": {"blocks": len(placement)}}
        yield shape, Scenario.model_validate(values)


def _check(name: str, options: Mapping[str, Any], scenario: Scenario) -> None:
    before = _global_state()
    first, second = (_decisions(name, options, scenario) for _ in range(2))
    if not np.array_equal(first, second):
        raise SchedulerError(
            f"scheduler {name!r}: decides differently when run twice under one seed; "
            "expected random numbers from spec.rng only"
        )
    maker = registry.load(name)
    if maker.static and not np.array_equal(
        first, _decisions_when_not_static(maker, name, options, scenario)
    ):
        raise SchedulerError(
            f"scheduler {name!r}: has static = True, but its decisions change during a run"
        )
    if _global_state() != before:
        raise SchedulerError(
            f"scheduler {name!r}: uses a global random generator; expected spec.rng only"
        )


def _decisions(name: str, options: Mapping[str, Any], scenario: Scenario) -> np.ndarray[Any, Any]:
    trace = MemoryTrace()
    run_scenario(scenario, name, options, seed=1, memory=trace)
    return trace["decisions/placement"] if "decisions/placement" in trace.paths() else np.empty(0)


def _decisions_when_not_static(
    maker: type[Scheduler], name: str, options: Mapping[str, Any], scenario: Scenario
) -> np.ndarray[Any, Any]:
    """Return the decisions of a static scheduler that is nevertheless called at every epoch."""
    maker.static = False
    try:
        return _decisions(name, options, scenario)
    finally:
        maker.static = True


def _global_state() -> tuple[object, str]:
    state = np.random.get_state()  # noqa: NPY002 - to detect its use
    return random.getstate(), repr(state)
