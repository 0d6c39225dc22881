"""Reports of tasks that have ended, for schedulers that learn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mecsim.kernels.accounting import ServiceTotals
from mecsim.kernels.hops import Hops
from mecsim.model.model import KINDS
from mecsim.model.task_status import COMPLETED, LOST
from mecsim.scheduler.ended_task import EndedTask
from mecsim.simulation.session import Epoch, Session
from mecsim.simulation.task_accounts import Accounts
from mecsim.support.arrays import Bools, Floats, Ints, read_only


@dataclass(slots=True)
class _Batch:
    """The tasks of the epochs of an instant, of which some have not been reported."""

    placements: dict[int, Ints]
    """By class of tasks."""
    waiting: Bools
    """Tasks that have not been reported; shape (n,)."""


@dataclass(slots=True)
class _Before:
    """The lost attempts at a task that is placed again."""

    part_s: Floats
    """Seconds by kind of resource."""
    energy_j: float
    late_blocks: int
    decision_s: float
    """Time from losses to the decisions that followed them."""
    lost_s: float
    """When the last of the attempts was lost."""


class EndedTasks:
    """Finds, at every epoch, the tasks of a session that have ended since the epoch before."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._unreported: dict[int, _Batch] = {}
        self._retries = session.retries
        self._held: dict[int, Hops] = {}
        """Batches released at the last epoch, of which tasks may have been lost at that instant."""
        self._before: dict[int, _Before] = {}
        self._kind = session.model.resources.kind
        # Services are added up elsewhere: what the accounts of single epochs add is not read.
        self._unread = ServiceTotals.zeros(len(session.model.resources))

    def expect(self, epoch: Epoch, placement: Ints) -> None:
        """Expect reports of the epoch's tasks, which are to be submitted."""
        if len(epoch.tasks):
            batch = self._unreported.setdefault(
                self._session.batches, _Batch({}, np.ones(len(epoch.tasks), dtype=np.bool_))
            )
            batch.placements[epoch.task_class] = placement

    def take(self) -> list[EndedTask]:
        """Return the tasks that have ended since the last call, by (finish, number)."""
        found: list[EndedTask] = []
        batches, self._held = self._held | self._session.recent_hops(), {}
        for number, hops in sorted(batches.items()):
            batch = self._unreported.get(number)
            if batch is None:
                continue
            found += self._ended(batch, hops)
            if self._retries and (hops.tasks.release_s[batch.waiting] == self._session.now).any():
                self._held[number] = hops
            if not batch.waiting.any():
                del self._unreported[number]
        return sorted(found, key=lambda task: (task.finish_s, task.number))

    def _ended(self, batch: _Batch, hops: Hops) -> Iterator[EndedTask]:
        session, now = self._session, self._session.now
        model, tables = session.model, session.tables
        accounts = Accounts(model, tables, [hops], self._unread, detailed=True)
        tasks, blocks, released = accounts.tasks, accounts.blocks, hops.tasks
        # A task that waits at a resource has a start there already: one without has failed.
        over = batch.waiting & (tasks.finish_s <= now) & (released.release_s < now)
        end_block = np.cumsum(accounts.blocks_of)
        part_s = accounts.part_s(self._kind, len(KINDS))
        for row in np.flatnonzero(over).tolist():
            batch.waiting[row] = False
            number = int(tasks.class_[row])
            began_s = float(released.release_s[row])
            before = self._earlier(accounts, row, began_s, part_s[row])
            if self._is_placed_again(accounts, row, began_s):
                self._before[int(accounts.numbers[row])] = before
                continue
            own = slice(int(end_block[row] - accounts.blocks_of[row]), int(end_block[row]))
            yield EndedTask(
                number=int(accounts.numbers[row]),
                slot=int(released.slots[row]),
                device=int(released.device[row]),
                class_number=number,
                class_name=model.classes[number].name,
                placement=batch.placements[number],
                release_s=float(released.first_s[row]),
                finish_s=float(tasks.finish_s[row]),
                delay_s=read_only(blocks.delay_s[own].copy()),
                part_s=dict(zip(KINDS, before.part_s.tolist(), strict=True))
                | ({"decision": before.decision_s} if self._retries else {}),
                energy_j=before.energy_j,
                late_blocks=before.late_blocks,
                failed=bool(tasks.status[row] != COMPLETED),
                missed_deadline=bool(tasks.missed[row]),
                attempts=int(accounts.attempts[row]),
            )

    def _is_placed_again(self, accounts: Accounts, row: int, began_s: float) -> bool:
        """Return whether an attempt that has ended is not the last one at its task."""
        tasks = accounts.tasks
        if self._retries is None or tasks.status[row] != LOST:
            return False
        times_s = began_s, float(tasks.finish_s[row])
        attempt, task_class = int(accounts.attempts[row]), int(tasks.class_[row])
        return self._retries.placed_again(attempt, task_class, *times_s)

    def _earlier(self, accounts: Accounts, row: int, began_s: float, part_s: Floats) -> _Before:
        """Return the numbers of an attempt that has ended, with those of the ones before it."""
        energy_j, late = float(accounts.tasks.energy_J[row]), int(accounts.tasks.late_blocks[row])
        lost_s = float(accounts.tasks.finish_s[row])
        known = self._before.pop(int(accounts.numbers[row]), None) if self._retries else None
        if known is None:
            return _Before(part_s, energy_j, late, 0.0, lost_s)
        return _Before(
            known.part_s + part_s,
            known.energy_j + energy_j,
            known.late_blocks + late,
            known.decision_s + (began_s - known.lost_s),
            lost_s,
        )
