"""Another scenario in place of the one of a trace, for the tasks and decisions of the trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from mecsim.errors import ScenarioError, TraceError
from mecsim.model.model import Model, resolve, self_contained, with_slot_rates
from mecsim.scenario.schema import Scenario
from mecsim.trace import TraceFile
from mecsim.trace.recorded_workload import recorded_rates


def check_complete(trace: TraceFile) -> None:
    """Raise ``TraceError`` for the trace of a run that was cut short."""
    if not trace.complete:
        raise TraceError(
            f"{trace.path}: is the trace of a run that was cut short; allowed: complete"
        )


def model_for(trace: TraceFile, scenario: Scenario | None = None) -> Model:
    """Resolve the scenario of a trace, or another one that takes the same tasks and decisions.

    Args:
        trace: An open trace; its seed is used.
        scenario: Another scenario than that of the trace. It may differ in service times, rates,
            overheads and links, but not in slots, epochs, nodes, classes and blocks.

    Raises:
        ScenarioError: The scenario is invalid, or the tasks and decisions do not fit it.
    """
    recorded = resolve(trace.scenario, trace.made_by.seed)
    if scenario is None:
        return _with_rates(recorded, trace)
    with scenario.locating():
        other = resolve(self_contained(scenario), trace.made_by.seed)
        pairs = zip(_kept(other), _kept(recorded), strict=True)
        for (key, here), (_, there) in pairs:
            if here != there:
                raise ScenarioError(
                    f"{key}: {here} here, {there} in {trace.path}; allowed: the same, because "
                    "recorded tasks and decisions are used"
                )
        return _with_rates(other, trace)


def _with_rates(model: Model, trace: TraceFile) -> Model:
    """Return a model in which the recorded radio rates hold for transfers under way, too."""
    if model.slot_rates is None:
        return model
    return with_slot_rates(model, np.stack(list(recorded_rates(model, trace))))


def _kept(model: Model) -> Iterator[tuple[str, str]]:
    """Yield the keys and values that recorded tasks and decisions depend on."""
    scenario = model.scenario
    yield "slots", str(scenario.slots)
    yield "slot_length", f"{scenario.slot_length:g} s"
    yield "decision_epoch", scenario.decision_epoch
    yield "edge_servers", str(model.servers)
    yield "devices", str(model.devices)
    yield "edge_servers", _named(model.server_names())
    yield "devices", _named(model.device_names())
    yield "tasks", f"{len(model.classes)} in number"
    yield "dnn", f"{[each.blocks for each in model.classes]} blocks"
    yield "mobility", "not used" if model.mobility is None else "used"


def _named(nodes: list[str]) -> str:
    """Return how many nodes there are of each name without its number.

    >>> _named(["rack.1", "rack.2", "cloud"])
    '2 × rack., 1 × cloud'
    """
    counts = Counter(name.rstrip("0123456789") for name in nodes)
    return ", ".join(f"{count} × {name}" for name, count in counts.items())
