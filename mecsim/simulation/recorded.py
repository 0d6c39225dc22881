"""The summary of a run, from the rows of its trace: nothing is simulated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import TraceError
from mecsim.kernels.accounting import TaskTable
from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.model.task_status import COMPLETED
from mecsim.simulation.joined_tasks import sums
from mecsim.simulation.metrics import RunSummary
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Floats, Ints
from mecsim.trace import TraceFile
from mecsim.trace.values import PIECE_ROWS, check_values, pieces


def task_count(trace: TraceFile, model: Model) -> int:
    """Return the number of tasks that have all their rows; fewer than recorded after a crash."""
    return int(np.searchsorted(_block_rows(trace, model), trace.length("blocks"), "right")) - 1


def _block_rows(trace: TraceFile, model: Model) -> Ints:
    """Return the row of the first block of every task, and the end; shape (tasks + 1,)."""
    tasks = trace.length("tasks")
    if len(model.classes) == 1 and not len(model.retries):
        return model.blocks * np.arange(tasks + 1)
    blocks_of = np.diff(model.first_block)[class_column(trace, "tasks", 0, tasks)]
    return np.cumsum([0, *(blocks_of * attempts_column(trace, 0, tasks)).tolist()])


def attempts_column(trace: TraceFile, begin: int, end: int) -> Ints:
    """Return how often some tasks of a trace were placed; shape (n,)."""
    if "attempts" not in trace.columns["tasks"]:
        return np.ones(end - begin, dtype=np.int64)
    return trace.read("tasks", "attempts", begin, end).astype(np.int64)


def class_column(trace: TraceFile, group: str, begin: int, end: int) -> NDArray[np.int32]:
    """Return the class of some tasks or decisions of a trace. Raises ``TraceError``."""
    if "class" not in trace.columns[group]:
        return np.zeros(end - begin, dtype=np.int32)
    found: NDArray[np.int32] = trace.read(group, "class", begin, end)
    classes = len(trace.scenario.classes)
    if len(found) and not 0 <= found.min() <= found.max() < classes:
        raise TraceError(
            f"{trace.path}: column /{group}/class holds others than 0 to {classes - 1}"
        )
    return found


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
    check_values(trace, len(model.resources))
    released = trace.read("slots", "released")[: model.scenario.slots]
    if not trace.complete:
        slots = model.scenario.model_copy(update={"slots": max(len(released), 1)})
        model = replace(model, scenario=slots)
    totals = Totals(model)
    totals.release(0, released, _release_s(trace, released, task_count(trace, model)))
    rows = _block_rows(trace, model)
    for begin, end in pieces(task_count(trace, model), PIECE_ROWS // model.blocks + 1):
        tasks = _tasks(trace, model, released, rows[begin : end + 1], begin)
        totals.add(tasks, attempts_column(trace, begin, end) if len(model.retries) else None)
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


def _tasks(trace: TraceFile, model: Model, released: Ints, rows: Ints, begin: int) -> TaskTable:
    """Return tasks from ``begin`` on, whose blocks are in ``rows``."""
    end = begin + len(rows) - 1
    columns = {
        name: trace.read("tasks", name, begin, end)
        for name in TaskTable._fields
        if name in trace.columns["tasks"]
    }
    slot = trace.read("tasks", "slot", begin, end)
    averages = model.scenario.reward.aggregation == "mean"
    weight = np.array([equations.reward_weight(float(n), averages) for n in released.tolist()])
    class_ = class_column(trace, "tasks", begin, end)
    attempts = attempts_column(trace, begin, end)
    first = np.cumsum(attempts) - attempts
    each = (np.repeat(values, attempts) for values in (class_, weight[slot]))
    blocks_of = np.repeat(np.diff(rows) // attempts, attempts)
    cost = _costs(trace, model, np.append(rows[0], rows[0] + np.cumsum(blocks_of)), *each)
    cost = sums(cost, first)
    deadline_s = np.array([each.deadline_s for each in model.classes])[class_]
    finish_s, release_s = columns["finish_s"], trace.read("tasks", "release_s", begin, end)
    late = equations.penalty(finish_s - release_s, deadline_s, finish_s) > 0
    missed = (deadline_s < math.inf) & (late | (columns["status"] != COMPLETED))
    return TaskTable(**columns, class_=class_, cost=cost, missed=missed.astype(np.int8))


def _costs(
    trace: TraceFile, model: Model, rows: Ints, class_: NDArray[np.int32], weight: Floats
) -> Floats:
    """Return the cost of each attempt (Eq. 14), summed in the order of its blocks."""
    first, end = int(rows[0]), int(rows[-1])
    delay_s, finish_s = (trace.read("blocks", name, first, end) for name in ("delay_s", "finish_s"))
    begin, blocks = rows[:-1] - first, np.diff(rows)
    cost = np.zeros(len(begin))
    for block in range(model.blocks):
        mine = block < blocks
        at, of_class = begin[mine] + block, model.first_block[class_[mine]]
        delay, finish = delay_s[at], finish_s[at]
        late = equations.penalty(delay, model.tolerated_s[of_class + block], finish)
        price = weight[mine] * equations.cost(delay, late, model.scenario.reward.beta)
        cost[mine] += np.where(np.isnan(delay), 0.0, price)
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
