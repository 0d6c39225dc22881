"""Runs of static schedulers, with or without a trace: many slots in one compiled call.

The rows of a trace equal those of a :class:`mecsim.simulation.session.Session`. A static run needs
a third of its Python time, so the thread that writes the trace waits less.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from mecsim.errors import MecsimError
from mecsim.kernels.accounting import BATCHES, TASKS, RunLog, TaskTable
from mecsim.kernels.advance import BatchStep, advance
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.epochs import EpochTable, next_slot_s
from mecsim.kernels.hops import HOP, Hops
from mecsim.kernels.state import END_HOP, END_TASK, FIRST_HOP, FIRST_TASK, State, stacked, unstacked
from mecsim.kernels.tables import KernelTables
from mecsim.model.arrivals import CHUNK
from mecsim.model.model import Model
from mecsim.model.workload import Chunk, Tasks
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.errors import scheduler_errors
from mecsim.scheduler.observation import PAST_SLOTS
from mecsim.scheduler.placement_checks import check_placement
from mecsim.simulation.overload import HOP_IN_STATE, OverloadGuard
from mecsim.simulation.recorder import TraceRecorder
from mecsim.simulation.session import Epoch, Session
from mecsim.simulation.task_accounts import Accounts
from mecsim.simulation.totals import Totals
from mecsim.trace.schema import Sink

TASKS_AT_ONCE: Final = 2000
"""Tasks that are run at once with a trace, roughly: bounds memory and the loss of a killed run."""
BUFFER: Final = 4096
"""Initial room, in tasks."""
NUMBERS: Final = 1 << 18
"""Most backlogs that are recorded at once."""
UNTRACED_SLOTS: Final = 4 * CHUNK
"""Most slots that are run at once without a trace."""
UNTRACED_TASKS: Final = 1 << 14
"""Tasks that are run at once without a trace, roughly."""


def slots_at_once(model: Model, tasks_a_slot: float, *, traced: bool) -> int:
    """Return how many slots to run at once."""
    tasks = max(tasks_a_slot, 1.0)
    if traced:  # each slot is an epoch
        return max(1, int(min(TASKS_AT_ONCE / tasks, NUMBERS / len(model.resources), CHUNK)))
    return min(UNTRACED_SLOTS, max(CHUNK, int(UNTRACED_TASKS / tasks)))


class StaticRun:
    """Runs chunks of slots under the placements of a static scheduler, on the compiled kernel.

    Args:
        model: The resolved scenario. With sinks, its epochs must be slots of tasks of one class.
        scheduler: Is asked once for each class of tasks or, where epochs are tasks, once for each
            device and class; and again when a device has changed its server.
        name: Its name, for error messages.
        sinks: Where rows of the trace go.
    """

    def __init__(
        self, model: Model, scheduler: Scheduler, name: str, sinks: Sequence[Sink] = ()
    ) -> None:
        self.totals = Totals(model)
        self._model, self._scheduler, self._name = model, scheduler, name
        self._states = stacked([State.of(model, BUFFER)])
        self._tables, self._overload = KernelTables.of(model), OverloadGuard(model, HOP_IN_STATE)
        self._backlog_s = np.empty((1, len(model.resources)))
        self._nothing = RunLog.empty()._replace(services=self.totals.services)
        self._recorder = TraceRecorder(sinks) if sinks else None
        self._in_flight = deque[Tasks]()
        """Tasks of each epoch that has not ended, where there is a trace."""
        self._most_hops = 1
        self._idle = Session(model, [], CompiledKernel(model, size=1), scheduler.spec)
        devices = model.devices if scheduler.spec.decision_epoch == "per_task" else 1
        self._classes = len(model.classes)
        rows = devices * self._classes  # as build_hops numbers them
        self._placements = np.zeros((1, rows, model.blocks), dtype=np.int64)
        self._asked = np.zeros(rows, dtype=np.bool_)
        self._serving_server = model.serving_server

    def play(self, chunk: Chunk) -> None:
        """Run the slots of a chunk; after the last one, drain the network."""
        for part in (chunk,) if self._model.mobility is None else chunk.steady():
            self._play(part)

    def _play(self, chunk: Chunk) -> None:
        rates = np.broadcast_to(chunk.rate_bps, (len(chunk.start_s), self._model.devices))
        self._idle.remember(rates[0])
        self._ask(chunk)
        for row in rates[max(1, len(rates) - PAST_SLOTS) :]:
            self._idle.remember(row)
        self.totals.release(chunk.first_slot, np.diff(chunk.bounds), chunk.release_s)
        epochs = EpochTable.of(chunk)
        log = self._advance(epochs, next_slot_s(self._model, chunk))
        if self._recorder is None:
            self.totals.add(log.tasks.first(int(log.filled[TASKS])))
            return
        bounds = chunk.bounds.tolist()
        for k, start_s in enumerate(chunk.start_s.tolist()):
            self._in_flight.append(chunk.tasks(chunk.first_slot + k, bounds[k], bounds[k + 1]))
            self._recorder.rewards.open(start_s)
        self._record(self._recorder, epochs, log)

    def _advance(self, epochs: EpochTable, next_s: float) -> RunLog:
        """Run all epochs of a table, with as much room as they need."""
        log, count = self._log(epochs), len(epochs.time_s)
        (epoch, done, needed), end = np.zeros((3, 1), dtype=np.int64), np.array([count])
        next_of, none = np.array([next_s]), self._backlog_s[:0]
        step = BatchStep(epoch, end, next_of, done, needed, self._backlog_s, none)
        while True:
            states, tables = self._states, self._tables
            advance(0, 1, states, tables, epochs, count, self._placements, step, log)
            if needed[0] > 0:
                at, more = int(epoch[0]), (epochs.tasks_at(int(epoch[0])), int(needed[0]))
                slot, now_s = int(epochs.slot[at]), float(epochs.time_s[at])
                self._overload.check_state(self._state, more, slot, now_s)
                self._states = stacked([self._state.with_room(*more)])
            elif needed[0] < 0:
                log = log.with_more_hops(int(-needed[0]))
                self._most_hops = len(log.hops)
            else:
                return log

    @property
    def _state(self) -> State:
        return unstacked(self._states)[0]

    def _log(self, epochs: EpochTable) -> RunLog:
        """Return a log with room for the tasks in flight and those of some epochs."""
        model, counters = self._model, self._states.counters[0]
        self._nothing.filled[:] = 0
        log = self._nothing
        tasks = int(counters[END_TASK] - counters[FIRST_TASK]) + len(epochs.device)
        if self._recorder is None:
            return log._replace(tasks=TaskTable.empty(tasks))
        hops = int(counters[END_HOP] - counters[FIRST_HOP]) + 2 * len(epochs.device) * model.blocks
        count = len(epochs.time_s)
        return log._replace(
            backlog_s=np.empty((count, len(model.resources))),
            battery_j=np.full((count, model.devices), math.inf),
            hops=np.empty(max(hops, self._most_hops), dtype=HOP),
            offset=np.zeros(tasks + 1, dtype=np.int64),
        )

    def _record(self, recorder: TraceRecorder, epochs: EpochTable, log: RunLog) -> None:
        """Send the rows of all epochs, and of the tasks that have ended."""
        rates, count = epochs.rate_bps[epochs.rates], len(epochs.time_s)
        servers = {}
        if self._model.mobility is not None:
            rows = epochs.serving_server[epochs.associations]
            servers["serving_server"] = rows.astype(np.int32)
        seen = epochs.observed(slice(None), self._model, self._tables, log.backlog_s, log.battery_j)
        placements = np.tile(self._placements[0].astype(np.int32), (count, 1))
        recorder.append(
            {
                "decisions": {
                    "time_s": epochs.time_s,
                    "slot": epochs.slot,
                    "placement": placements,
                    "observation": seen.features(),
                },
                "slots": {
                    "time_s": epochs.time_s,
                    "released": np.diff(epochs.bounds),
                    "rate_bps": rates,
                    "energy_remaining_J": log.battery_j,
                    **servers,
                },
            }
        )
        ended = self._ended(log)
        if ended:
            services = self.totals.services
            accounts = Accounts(self._model, self._tables, ended, services, detailed=True)
            self.totals.add(accounts.tasks)
            recorder.send_ended(accounts, self.totals)

    def _ended(self, log: RunLog) -> list[Hops]:
        """Return the hops of the epochs that have ended, a table each."""
        tables, at, first_hops = list[Hops](), 0, log.offset.tolist()
        for _ in range(log.filled[BATCHES]):
            tasks = self._in_flight.popleft()
            until, first = at + len(tasks), first_hops[at]
            rows = log.hops[first : first_hops[until]]
            tables.append(Hops(tasks, log.offset[at : until + 1] - first, rows))
            at = until
        return tables

    def _ask(self, chunk: Chunk) -> None:
        """Ask the scheduler for the placements that a chunk needs and that are not known.

        It is asked again when a device has changed its server.
        """
        if not np.array_equal(chunk.serving_server[0], self._serving_server):
            self._serving_server = chunk.serving_server[0]
            self._asked[:] = False
        if self._asked.all():
            return
        slot = next(chunk.slots())
        if self._scheduler.spec.decision_epoch == "per_slot":
            for number in range(self._classes):
                self._decide(Epoch(number, slot.start_s, slot, slot.tasks, None, number))
            return
        _, rows = np.unique(chunk.device * self._classes + chunk.class_, return_index=True)
        for row in np.sort(rows).tolist():  # in order of their first tasks, as in any run
            device, number = int(chunk.device[row]), int(chunk.class_[row])
            if not self._asked[device * self._classes + number]:
                task = chunk.tasks(slot.number, row, row + 1)
                self._decide(Epoch(row, float(task.release_s[0]), slot, task, device, number))

    def _decide(self, epoch: Epoch) -> None:
        row = (epoch.device or 0) * self._classes + epoch.task_class
        observation = self._idle.observe(epoch)
        problem = f"scheduler {self._name!r}, epoch {epoch.number}: raised"
        with scheduler_errors(problem, MecsimError, type(self._scheduler).__module__):
            answer = self._scheduler.decide(observation)
            placement = check_placement(
                answer, observation.spec, self._name, epoch.number, epoch.device
            )
        self._placements[0, row, : len(placement)], self._asked[row] = placement, True
