"""Runs under decisions that do not change, with their traces: many slots in one compiled call.

What goes to the sinks is, row by row, what a :class:`mecsim.simulation.session.Session` sends; it takes a
third of the Python, which the thread that writes the trace would have to wait for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from mecsim.kernels.accounting import BlockColumns, Services, TaskColumns, Terms
from mecsim.kernels.advance import Ended, account_ended, hand_over, play_epochs, play_noted
from mecsim.kernels.base import IdleKernel
from mecsim.kernels.epochs import Epochs, Page
from mecsim.kernels.event_loop import run
from mecsim.kernels.hops import Hops, Ways
from mecsim.kernels.state import END_HOP, END_TASK, FIRST_HOP, FIRST_TASK, State
from mecsim.model import workload
from mecsim.model.model import Model
from mecsim.model.workload import Chunk, Tasks
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.features import Seen, features
from mecsim.scheduler.placements import check_placement
from mecsim.simulation.drive import Progress, scheduler_errors
from mecsim.simulation.session import Epoch, Session, account_rows
from mecsim.simulation.task_accounts import Accounts, RewardBook
from mecsim.simulation.totals import Totals
from mecsim.support import signals
from mecsim.support.arrays import Floats, Ints
from mecsim.trace.schema import Rows, Sink

TASKS: Final = 2000
"""Tasks that are played at once, roughly: this bounds memory and what a killed run loses."""
RING: Final = 4096
"""Tasks that there is room for at first."""
NUMBERS: Final = 1 << 18
"""Backlogs that are noted at once, at most."""


def slots_at_once(model: Model, tasks_a_slot: float, most: int) -> int:
    """Return how many slots to play at once, where each is an epoch."""
    few = min(TASKS / max(tasks_a_slot, 1.0), NUMBERS / len(model.resources), most)
    return max(1, int(few))


class TracedPlayer:
    """Like :class:`mecsim.simulation.static_run.Player`, but sends the rows of a trace to sinks.

    For scenarios in which an epoch is a slot.
    """

    def __init__(self, model: Model, totals: Totals, sinks: Sequence[Sink]) -> None:
        self._model, self._totals, self._sinks = model, totals, sinks
        self._state, self._ways = State.of(model, RING), Ways.of(model)
        self._rewards, self._tasks = RewardBook.empty(), deque[Tasks]()
        self._most_hops = 0  # for which there was room so far
        self._access, self._source = model.serving_server.copy(), model.links.source.copy()

    def play(self, chunk: Chunk, placements: Ints) -> TaskColumns:
        """Play the slots of a chunk; return the tasks that have ended, in order.

        ``placements`` has one row for all tasks; shape (1, M).
        """
        epochs, count = Epochs.of(chunk), len(chunk.start_s)
        backlog_s = np.empty((count, len(self._model.resources)))
        battery_j = np.full((count, self._model.devices), math.inf)
        ended = self._play(epochs, placements, backlog_s, battery_j)
        bounds = chunk.bounds.tolist()
        for k in range(count):
            self._tasks.append(chunk.tasks(chunk.first_slot + k, bounds[k], bounds[k + 1]))
            self._rewards.open(float(chunk.start_s[k]))
        rate_bps = chunk.rate_bps[epochs.rates]
        seen = self._features(Page.of(chunk, self._model), rate_bps, backlog_s, battery_j)
        self._send(
            {
                "decisions": {
                    "time_s": chunk.start_s,
                    "slot": chunk.first_slot + np.arange(count),
                    "placement": np.tile(placements.astype(np.int32), (count, 1)),
                    "observation": seen,
                },
                "slots": {
                    "time_s": chunk.start_s,
                    "released": np.diff(chunk.bounds),
                    "rate_bps": rate_bps,
                    "energy_remaining_J": battery_j,
                },
            }
        )
        return self._account(ended)

    def drain(self) -> TaskColumns:
        """Let what is left run to its end; return the tasks."""
        run(self._state, math.inf)
        ended = self._ended(0)
        hand_over(self._state, ended)
        return self._account(ended)

    def _ended(self, more: int) -> Ended:
        """Return room for all that is in flight and for so many tasks more."""
        marks = self._state.marks
        flying, hops = marks[END_TASK] - marks[FIRST_TASK], marks[END_HOP] - marks[FIRST_HOP]
        expected = int(hops) + 2 * more * self._model.blocks
        return Ended.empty(int(flying) + more, max(expected, self._most_hops))

    def _play(
        self, epochs: Epochs, placements: Ints, backlog_s: Floats, battery_j: Floats
    ) -> Ended:
        ended, epoch = self._ended(len(epochs.device)), 0
        while epoch < len(epochs.time_s):
            epoch, needed = play_noted(
                self._state, self._ways, epochs, epoch, placements, backlog_s, battery_j, ended
            )
            if needed > 0:
                more = int(epochs.bounds[epoch + 1] - epochs.bounds[epoch])
                self._state = self._state.with_room(more, needed)
            elif needed < 0:
                ended = ended.with_room(-needed)
                self._most_hops = len(ended.rows)
        return ended

    def _features(
        self, page: Page, rate_bps: Floats, backlog_s: Floats, battery_j: Floats
    ) -> Floats:
        model, count = self._model, len(rate_bps)
        return features(
            Seen(
                tasks=page.tasks,
                blocks=page.blocks(model, slice(None)),
                rate_bps=rate_bps,
                backlog_s=backlog_s,
                battery_j=battery_j,
                serving_server=np.tile(self._access, (count, 1)),
                link_source=self._source,
                device=np.full(count, -1),
                servers=model.servers,
            )
        )

    def _account(self, ended: Ended) -> TaskColumns:
        """Send what there is to be told of tasks that have ended; return it."""
        tables, at = [], 0
        batches, tasks = ended.filled[2], ended.offset.tolist()
        for _ in range(batches):
            some = self._tasks.popleft()
            until, first = at + len(some), tasks[at]
            own = ended.offset[at : until + 1] - first
            tables.append(Hops(some, own, ended.rows[first : tasks[until]]))
            at = until
        if not tables:
            return TaskColumns.empty(0)
        accounts = Accounts(self._model, tables, self._totals.services, detailed=True)
        self._send(account_rows(accounts, self._rewards, self._totals))
        return accounts.tasks

    def _send(self, rows: dict[str, Rows]) -> None:
        for sink in self._sinks:
            for group, columns in rows.items():
                sink.append(group, columns)


class Player:
    """Plays a run under given placements on the compiled kernel, chunk by chunk."""

    def __init__(self, model: Model, services: Services, size: int = 4096) -> None:
        self._state, self._services = State.of(model, size), services
        self._ways, self._terms = Ways.of(model), Terms.of(model)
        self._blocks = BlockColumns.empty(0)

    def play(self, chunk: Chunk, placements: Ints) -> TaskColumns:
        """Play the slots of a chunk; return the tasks that have ended, in order.

        ``placements`` has one row for all tasks or one for each device; shape (1, M) or (D, M).
        """
        epochs, marks = Epochs.of(chunk), self._state.marks
        tasks = TaskColumns.empty(int(marks[END_TASK] - marks[FIRST_TASK]) + len(chunk.device))
        epoch = done = 0
        while epoch < len(epochs.time_s):
            epoch, needed, done = play_epochs(
                self._state,
                self._ways,
                self._terms,
                epochs,
                epoch,
                placements,
                done,
                tasks,
                self._blocks,
                self._services,
            )
            if needed:
                more = int(epochs.bounds[epoch + 1] - epochs.bounds[epoch])
                self._state = self._state.with_room(more, needed)
        return tasks.first(done)

    def drain(self) -> TaskColumns:
        """Let what is left run to its end; return the tasks."""
        run(self._state, math.inf)
        marks = self._state.marks
        tasks = TaskColumns.empty(int(marks[END_TASK] - marks[FIRST_TASK]))
        account_ended(self._state, self._terms, 0, tasks, self._blocks, self._services)
        return tasks


def run_static(
    model: Model,
    chunks: Iterator[workload.Chunk],
    scheduler: Scheduler,
    name: str,
    progress: Progress | None,
    sinks: Sequence[Sink],
) -> Totals:
    """Let a scheduler decide the first epoch, and put all tasks where it says."""
    totals, done = Totals(model), 0
    traced = TracedPlayer(model, totals, sinks) if sinks else None
    player = traced or Player(model, totals.services)
    placements = _Constant(model, scheduler, name)
    with signals.between_steps() as check:
        for chunk in chunks:
            totals.released += len(chunk.device)
            totals.add(player.play(chunk, placements.of(chunk)))
            done += len(chunk.start_s)
            check()
            if progress is not None:
                progress(done, model.scenario.slots)
    totals.add(player.drain())
    with scheduler_errors(name, done):
        scheduler.run_ended()
    return totals


class _Constant:
    """The decisions of a scheduler to which nothing matters that changes during a run."""

    def __init__(self, model: Model, scheduler: Scheduler, name: str) -> None:
        self._scheduler, self._name = scheduler, name
        self._session = Session(model, [], IdleKernel(model), scheduler.spec)
        devices = model.devices if scheduler.spec.decision_epoch == "per_task" else 1
        self._placements = np.zeros((devices, model.blocks), dtype=np.int64)
        self._asked = np.zeros(devices, dtype=np.bool_)

    def of(self, chunk: workload.Chunk) -> Ints:
        """Return the placements of all devices that have tasks in a chunk, or one for all."""
        if self._asked.all():
            return self._placements
        slot = next(chunk.slots())
        if self._scheduler.spec.decision_epoch == "per_slot":
            self._ask(Epoch(0, slot.start_s, slot, slot.tasks, None))
            return self._placements
        _, rows = np.unique(chunk.device, return_index=True)
        for row in np.sort(rows).tolist():  # in order of their first tasks, as in any run
            device = int(chunk.device[row])
            if not self._asked[device]:
                task = chunk.tasks(slot.number, row, row + 1)
                self._ask(Epoch(row, float(task.release_s[0]), slot, task, device))
        return self._placements

    def _ask(self, epoch: Epoch) -> None:
        spec, row = self._scheduler.spec, epoch.device or 0
        with scheduler_errors(self._name, epoch.number):
            answer = self._scheduler.decide(self._session.observe(epoch))
            placement = check_placement(answer, spec, self._name, epoch.number, epoch.device)
        self._placements[row], self._asked[row] = placement, True
