"""The summary of a run, from the rows of its trace: nothing is simulated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from mecsim.kernels.accounting import TaskTable
from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.simulation.metrics import RunSummary
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Floats, Ints
from mecsim.trace import TraceFile

PIECE_ROWS: Final = 1 << 17
"""Rows that are read at once."""


def pieces(rows: int, size: int = PIECE_ROWS) -> Iterator[tuple[int, int]]:
    """Yield begin and end of consecutive pieces of a column.

    >>> list(pieces(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for begin in range(0, rows, size):
        yield begin, min(begin + size, rows)


def task_count(trace: TraceFile, model: Model) -> int:
    """Return the number of tasks that have all their rows; fewer than recorded after a crash."""
    return min(trace.length("tasks"), trace.length("blocks") // model.blocks)


def recorded_summary(trace: TraceFile, model: Model) -> RunSummary:
    """Return the numbers of a recorded run, equal to those that the run itself printed.

    In the trace of a run that was cut short, only tasks that ended count, the run ends with its
    last recorded slot, and whether it is overloaded is unknown. A trace has no wall-clock time: it
    is NaN.

    Args:
        trace: An open trace.
        model: Its scenario, resolved under its seed.

    Raises:
        TraceError: The data are damaged.
    """
    released = trace.read("slots", "released")[: model.scenario.slots]
    if not trace.complete:
        slots = model.scenario.model_copy(update={"slots": max(len(released), 1)})
        model = replace(model, scenario=slots)
    totals = Totals(model)
    totals.release(0, released, _release_s(trace, released, task_count(trace, model)))
    for begin, end in pieces(task_count(trace, model), PIECE_ROWS // model.blocks + 1):
        totals.add(_tasks(trace, model, released, begin, end))
    _add_services(trace, totals)
    label = trace.scenario_label
    summary = totals.summary(label, trace.made_by, wall_s=math.nan, trace=trace.path)
    return summary if trace.complete else summary.model_copy(update={"overloaded": None})


def _release_s(trace: TraceFile, released: Ints, tasks: int) -> Floats:
    """Return when all tasks were released; for tasks without rows, when their slot began."""
    slot_s = trace.read("slots", "time_s")[: len(released)]
    release_s = np.repeat(slot_s, released)
    recorded: Floats = trace.read("tasks", "release_s", 0, min(tasks, len(release_s)))
    release_s[: len(recorded)] = recorded
    return release_s


def _tasks(trace: TraceFile, model: Model, released: Ints, begin: int, end: int) -> TaskTable:
    columns = {
        name: trace.read("tasks", name, begin, end) for name in TaskTable._fields if name != "cost"
    }
    slot = trace.read("tasks", "slot", begin, end)
    averages = model.scenario.reward.aggregation == "mean"
    weight = np.array([equations.reward_weight(float(n), averages) for n in released.tolist()])
    cost = _costs(trace, model, begin, end, weight[slot])
    return TaskTable(**columns, cost=cost)


def _costs(trace: TraceFile, model: Model, begin: int, end: int, weight: Floats) -> Floats:
    """Return the cost of each task (Eq. 14), summed in the order of its blocks."""
    count = model.blocks
    delay_s, finish_s = (
        trace.read("blocks", name, begin * count, end * count).reshape(-1, count)
        for name in ("delay_s", "finish_s")
    )
    cost = np.zeros(end - begin)
    for block in range(count):
        delay, finish = delay_s[:, block], finish_s[:, block]
        late = equations.penalty(delay, model.tolerated_s[block], finish)
        price = weight * equations.cost(delay, late, model.scenario.reward.beta)
        cost += np.where(np.isnan(delay), 0.0, price)
    return cost


def _add_services(trace: TraceFile, totals: Totals) -> None:
    """Add the services: one after the other, so that sums have the bits of those of the run."""
    busy_s, wait_s, served = totals.services
    for begin, end in pieces(trace.length("hops")):
        resource, enqueue_s, start_s, finish_s = (
            trace.read("hops", name, begin, end)
            for name in ("resource", "enqueue_s", "start_s", "finish_s")
        )
        np.add.at(wait_s, resource, start_s - enqueue_s)
        np.add.at(busy_s, resource, finish_s - start_s)
        np.add.at(served, resource, 1)
    if trace.complete:  # finish − start has been rounded
        busy_s[:] = trace.read("resources", "busy_s")
