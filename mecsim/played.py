"""Runs under decisions that do not change, with their traces: many slots in one compiled call.

What goes to the sinks is, row by row, what a :class:`mecsim.session.Session` sends; it takes a
third of the Python, which the thread that writes the trace would have to wait for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from mecsim.accounts import Accounts, RewardBook, TaskColumns
from mecsim.arrays import Floats, Ints
from mecsim.features import Seen, features
from mecsim.kernels.events import run
from mecsim.kernels.play import Ended, Epochs, hand_over, play_noted
from mecsim.kernels.rings import END_HOP, END_TASK, FIRST_HOP, FIRST_TASK, State
from mecsim.metrics import Totals
from mecsim.model import Model
from mecsim.pages import Page
from mecsim.routing import Hops, Ways
from mecsim.session import account_rows
from mecsim.trace import Rows, Sink
from mecsim.workload import Chunk, Tasks

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
    """Like :class:`mecsim.kernels.play.Player`, but sends the rows of a trace to sinks.

    For scenarios in which an epoch is a slot.
    """

    def __init__(self, model: Model, totals: Totals, sinks: Sequence[Sink]) -> None:
        self._model, self._totals, self._sinks = model, totals, sinks
        self._state, self._ways = State.of(model, RING), Ways.of(model)
        self._rewards, self._tasks = RewardBook.empty(), deque[Tasks]()
        self._most_hops = 0  # for which there was room so far
        self._access, self._source = model.access.copy(), model.links.source.copy()

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
                access=np.tile(self._access, (count, 1)),
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
