"""Reports of tasks that have ended, for schedulers that learn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mecsim.kernels.accounting import ServiceTotals
from mecsim.kernels.hops import Hops
from mecsim.model.model import KINDS
from mecsim.model.task_status import COMPLETED
from mecsim.scheduler.ended_task import EndedTask
from mecsim.simulation.session import Epoch, Session
from mecsim.simulation.task_accounts import Accounts
from mecsim.support.arrays import Bools, Ints, read_only


@dataclass(slots=True)
class _Batch:
    """The tasks of the epochs of an instant, of which some have not been reported."""

    placements: dict[int, Ints]
    """By class of tasks."""
    waiting: Bools
    """Tasks that have not been reported; shape (n,)."""


class EndedTasks:
    """Finds, at every epoch, the tasks of a session that have ended since the epoch before."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._unreported: dict[int, _Batch] = {}
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
        for number, hops in self._session.recent_hops().items():
            batch = self._unreported.get(number)
            if batch is None:
                continue
            found += self._ended(batch, hops)
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
            own = slice(int(end_block[row] - accounts.blocks_of[row]), int(end_block[row]))
            yield EndedTask(
                number=released.first + row,
                slot=released.slot,
                device=int(released.device[row]),
                class_number=number,
                class_name=model.classes[number].name,
                placement=batch.placements[number],
                release_s=float(released.release_s[row]),
                finish_s=float(tasks.finish_s[row]),
                delay_s=read_only(blocks.delay_s[own].copy()),
                part_s=dict(zip(KINDS, part_s[row].tolist(), strict=True)),
                energy_j=float(tasks.energy_J[row]),
                late_blocks=int(tasks.late_blocks[row]),
                failed=bool(tasks.status[row] != COMPLETED),
                missed_deadline=bool(tasks.missed[row]),
            )
