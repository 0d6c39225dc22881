"""A run as a sequence of decision epochs: observe, act, and in the end the rows of its trace."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mecsim.kernels.accounting import Terms, costs_between, exact_sum
from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.hops import Hops, Router
from mecsim.kernels.rollout import Explorer, supposed
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.recorder import Logbook, Sight
from mecsim.simulation.task_accounts import Accounts, RewardBook
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.trace.schema import Rows, Sink

BATCH_HOPS = 20_000
BATCH_SECONDS = 0.5
"""Ended tasks are accounted for in batches of so many hops, or after so much wall time: this bounds
memory and what a killed run loses, and changes no result."""


class Epoch(NamedTuple):
    """A decision epoch: the tasks that one placement is for."""

    number: int
    time_s: float
    slot: Slot
    tasks: Tasks
    device: int | None


class Session:
    """Runs a model on a kernel, epoch by epoch, and sends the rows of the trace to sinks.

    Iterate over it and call :meth:`act` once for each epoch; :meth:`observe` before, if wanted::

        for epoch in session:
            session.act(epoch, placement)
    """

    def __init__(
        self,
        model: Model,
        slots: Iterable[Slot],
        kernel: Kernel,
        spec: SchedulerSpec,
        sinks: Sequence[Sink] = (),
        *,
        uses_rollouts: bool = False,
    ) -> None:
        self.model, self.spec, self.totals = model, spec, Totals(model)
        self._slots, self._kernel, self._sinks = slots, kernel, sinks
        self._router, self._terms = Router(model), Terms.of(model)
        self._explores = uses_rollouts
        self._unlimited = read_only(np.full(model.devices, np.inf))
        self._opened = self._collected = self._ended_hops = 0
        self._rewards, self._logbook = RewardBook.empty(), Logbook(model, sinks)
        self._seen: Sight | None = None  # at the present epoch
        self._seen_at: Epoch | None = None
        self._ended: list[Hops] = []  # collected, not accounted for
        self._recent: list[Hops] = []  # collected since the last act
        self._acted_s = self._now = 0.0
        self._accounted_at = time.monotonic()

    def __iter__(self) -> Iterator[Epoch]:
        """Yield the epochs in order of time; after the last one, drain the network."""
        for slot in self._slots:
            self._advance(slot.start_s)
            if self._sinks:
                self._logbook.note_slot(slot, self._battery())
                self._logbook.send_when_due()
            self.totals.released += len(slot.tasks)
            yield from self._epochs_of(slot)
            self._account_when_due()
        self._kernel.drain()
        self._now = math.inf
        self._collect()
        self.account()

    def _epochs_of(self, slot: Slot) -> Iterator[Epoch]:
        if self.spec.decision_epoch == "per_slot":
            yield Epoch(self._opened, slot.start_s, slot, slot.tasks, None)
            return
        for row in range(len(slot.tasks)):
            task = slot.tasks[row : row + 1]
            release = float(task.release_s[0])
            self._advance(release)
            yield Epoch(self._opened, release, slot, task, int(task.device[0]))

    def observe(self, epoch: Epoch) -> Observation:
        """Return what a scheduler may see at an epoch."""
        model, parts, seen = self.model, self.model.resources, self._see(epoch)
        backlog_s = seen.backlog_s
        size = epoch.tasks.size[0] if epoch.device is not None else epoch.slot.expected_size
        return Observation(
            spec=self.spec,
            epoch=epoch.number,
            time_s=epoch.time_s,
            slot=epoch.slot.number,
            device=epoch.device,
            tasks=seen.tasks,
            size_factor=seen.size_factor,
            cycles=seen.cycles,
            parameter_bytes=model.parameter_bytes,
            input_bits=seen.input_bits,
            result_bits=float(model.result_bits * size[-1]),
            rate_bps=seen.rate_bps,
            server_backlog_s=backlog_s[: parts.device],
            device_backlog_s=backlog_s[parts.device : parts.uplink],
            uplink_backlog_s=backlog_s[parts.uplink : parts.downlink],
            downlink_backlog_s=backlog_s[parts.downlink : parts.link],
            link_backlog_s=backlog_s[parts.link :],
            battery_j=seen.battery_j,
            explorer=self._explorer(epoch) if self._explores else None,
        )

    def _see(self, epoch: Epoch) -> Sight:
        if self._seen is None or self._seen_at is not epoch:
            self._seen_at = epoch
            model, slot, one = self.model, epoch.slot, epoch.device is not None
            size = epoch.tasks.size[0] if one else slot.expected_size
            self._seen = Sight(
                device=epoch.device,
                tasks=1.0 if one else slot.expected_tasks,
                size_factor=float(np.add.reduce(size)) / len(size),
                cycles=read_only(model.cycles * size),
                input_bits=read_only(model.input_bits * size),
                rate_bps=slot.rate_bps,
                backlog_s=read_only(self._kernel.backlog_s()),
                battery_j=self._battery(),
            )
        return self._seen

    def _explorer(self, epoch: Epoch) -> Explorer:
        """Return what simulates placements from here on, with a copy of the network's state."""
        kernel = self._kernel
        shadow = kernel.shadow if isinstance(kernel, ShadowedKernel) else kernel
        if not isinstance(shadow, CompiledKernel):
            raise TypeError(
                "uses_rollouts: needs the compiled kernel, or another one with its shadow"
            )
        epochs = supposed(self.model, epoch.slot, epoch.tasks, epoch.time_s)
        return Explorer(shadow.state, self._router.ways, self._terms, epochs, epoch.time_s)

    def act(self, epoch: Epoch, placement: Ints) -> None:
        """Submit the epoch's tasks with a checked placement of shape (M,); record the decision."""
        if self._sinks:
            slot = epoch.slot.number
            self._logbook.note_decision(epoch.time_s, slot, placement, self._see(epoch))
            self._rewards.open(epoch.time_s)
        self._kernel.submit(self._router.hops(epoch.tasks, placement, epoch.slot.rate_bps))
        self._opened += 1
        self._acted_s, self._recent, self._seen = epoch.time_s, [], None

    def reward(self) -> float:
        """Return the reward (Eq. 14) of the epoch acted on last, once the next one has come."""
        active = dict(enumerate(self._recent, start=self._collected - len(self._recent)))
        active |= {self._collected + row: hops for row, hops in self._kernel.active().items()}
        costs = [
            costs_between(self._terms, hops, self._begun_s(epoch), self._now)
            for epoch, hops in active.items()
        ]
        return 0.0 - exact_sum(np.concatenate(costs)) if costs else 0.0

    def _begun_s(self, epoch: int) -> float:
        """Return after what time blocks of an epoch's tasks count for the epoch acted on last."""
        return -math.inf if epoch == self._opened - 1 else self._acted_s

    @property
    def epochs(self) -> int:
        """Epochs acted on so far."""
        return self._opened

    def _battery(self) -> Floats:
        limited = self.model.battery_j < math.inf
        return read_only(self._kernel.battery_j()) if limited else self._unlimited

    def _advance(self, until_s: float) -> None:
        self._kernel.advance(until_s)
        self._now = until_s
        self._collect()

    def _account_when_due(self) -> None:
        if self._ended_hops >= BATCH_HOPS or time.monotonic() - self._accounted_at >= BATCH_SECONDS:
            self.account()

    def _collect(self) -> None:
        ended = self._kernel.collect()
        self._collected += len(ended)
        self._ended += ended
        self._ended_hops += sum(map(len, ended))
        self._recent += ended

    def account(self) -> None:
        """Turn all that is known into rows: of slots, decisions, and epochs that have ended."""
        self._logbook.send()
        if not self._ended:
            return
        self._accounted_at = time.monotonic()
        ended, self._ended, self._ended_hops = self._ended, [], 0
        accounts = Accounts(self.model, ended, self.totals.services, detailed=bool(self._sinks))
        self.totals.add(accounts.tasks)
        if self._sinks:
            rows = account_rows(accounts, self._rewards, self.totals)
            for sink in self._sinks:
                for group, columns in rows.items():
                    sink.append(group, columns)


def account_rows(accounts: Accounts, rewards: RewardBook, totals: Totals) -> dict[str, Rows]:
    """Book what the next epochs cost; return all rows about them and their tasks, by group."""
    rewards.book(accounts)
    return {
        "tasks": accounts.task_rows(),
        "blocks": accounts.block_rows(),
        "hops": accounts.hop_rows(),
        "decisions": {"reward": np.array(rewards.settle(len(accounts.tasks_of)))},
        "resources": totals.resource_rows(),
    }


class ShadowedKernel:
    """Another kernel, beside which a compiled one does the same."""

    def __init__(self, kernel: Kernel, model: Model) -> None:
        self._kernel, self.shadow = kernel, CompiledKernel(model)

    def submit(self, hops: Hops) -> None:
        self._kernel.submit(hops)
        self.shadow.submit(replace(hops, rows=hops.rows.copy()))  # each fills in its own

    def advance(self, until_s: float) -> None:
        self._kernel.advance(until_s)
        self.shadow.advance(until_s)

    def drain(self) -> None:
        self._kernel.drain()

    def backlog_s(self) -> Floats:
        return self._kernel.backlog_s()

    def battery_j(self) -> Floats:
        return self._kernel.battery_j()

    def active(self) -> dict[int, Hops]:
        return self._kernel.active()

    def collect(self) -> list[Hops]:
        self.shadow.collect()
        return self._kernel.collect()
