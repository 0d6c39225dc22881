"""A run as a sequence of decision epochs, on any kernel, with Python in the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, cast

import numpy as np

from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.hops import HopBuilder, Hops
from mecsim.kernels.reward import costs_between, exact_sum
from mecsim.kernels.rollout import Rollouts, expected_arrivals
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.scheduler.observation import Observation
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.overload import HOP_IN_SESSION, OverloadGuard
from mecsim.simulation.recorder import TraceRecorder
from mecsim.simulation.task_accounts import Accounts
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.trace.schema import Sink

BATCH_HOPS: Final = 20_000
BATCH_BYTES: Final = 4 << 20
BATCH_SECONDS: Final = 0.05
"""Ended tasks are accounted for, and rows are sent, in batches of this many hops or bytes of
observations, or after this much wall time. This bounds memory and the loss of a run that is
killed; results do not depend on it."""


class Epoch(NamedTuple):
    """A decision epoch: tasks that share one placement."""

    number: int
    time_s: float
    slot: Slot
    tasks: Tasks
    device: int | None
    """Device of the task, where every task is an epoch."""


class Session:
    """Runs a model on a kernel, epoch by epoch, and sends the rows of a trace to sinks.

    Iterate over it and call :meth:`act` once for each epoch; before that, :meth:`observe` if
    wanted::

        for epoch in session:
            session.act(epoch, placement)

    Args:
        model: The resolved scenario.
        slots: Its slots, in order.
        kernel: A new kernel of the model.
        spec: The description that observations carry.
        sinks: Where rows of the trace go.
        uses_rollouts: Whether observations offer ``what_if``. Then another kernel than the
            compiled one is mirrored by a compiled one, from whose state rollouts start.
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
        self._slots, self._kernel = slots, kernel
        self._recorder = TraceRecorder(sinks) if sinks else None
        self._hop_builder, self._overload = HopBuilder(model), OverloadGuard(model, HOP_IN_SESSION)
        mirrors = uses_rollouts and not isinstance(kernel, CompiledKernel)
        self._mirror = CompiledKernel(model) if mirrors else None
        self._uses_rollouts = uses_rollouts
        self._unlimited = read_only(np.full(model.devices, np.inf))
        self._opened = self._collected = self._ended_hops = self._hops_in_flight = 0
        self._seen: Observation | None = None  # at the present epoch, without rollouts
        self._seen_at: Epoch | None = None
        self._ended: list[Hops] = []  # collected, not accounted for
        self._recent: list[Hops] = []  # collected since the last act
        self._acted_s = self._now = 0.0
        self._accounted_at = time.monotonic()

    def __iter__(self) -> Iterator[Epoch]:
        """Yield the epochs in order of time; after the last one, drain the network."""
        for slot in self._slots:
            self._advance(slot.start_s)
            if self._recorder:
                self._recorder.add_slot(slot, self._battery())
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
            self._account_when_due()

    def observe(self, epoch: Epoch) -> Observation:
        """Return what a scheduler may see at an epoch."""
        seen = self._see(epoch)
        if not self._uses_rollouts:
            return seen
        compiled = self._mirror or cast("CompiledKernel", self._kernel)
        table = EpochTable.of_epoch(epoch.time_s, epoch.slot, epoch.tasks)
        expected, _ = expected_arrivals(table, np.zeros(1, dtype=np.int64), self.model)
        rollouts = Rollouts(compiled.state, self._hop_builder.tables, expected)
        return replace(seen, rollouts=rollouts)

    def _see(self, epoch: Epoch) -> Observation:
        if self._seen is None or self._seen_at is not epoch:
            model, slot, one = self.model, epoch.slot, epoch.device is not None
            size = epoch.tasks.size[0] if one else slot.expected_size
            self._seen_at = epoch
            self._seen = Observation(
                spec=self.spec,
                epoch=epoch.number,
                time_s=epoch.time_s,
                slot=slot.number,
                device=epoch.device,
                tasks=1.0 if one else slot.expected_tasks,
                size_factor=float(np.add.reduce(size)) / len(size),
                cycles=read_only(model.cycles * size),
                parameter_bytes=model.parameter_bytes,
                input_bits=read_only(model.input_bits * size),
                result_bits=float(model.result_bits * size[-1]),
                rate_bps=slot.rate_bps,
                backlog_s=read_only(self._kernel.backlog_s()),
                battery_j=self._battery(),
            )
        return self._seen

    def act(self, epoch: Epoch, placement: Ints) -> None:
        """Submit the epoch's tasks with a checked placement of shape (M,); record the decision."""
        if self._recorder:
            self._recorder.add_decision(self._see(epoch), placement)
        hops = self._hop_builder.hops(epoch.tasks, placement, epoch.slot.rate_bps)
        self._hops_in_flight += len(hops)
        if self._hops_in_flight >= self._overload.next_check:
            self._check_overload(epoch)
        self._kernel.submit(hops)
        if self._mirror:
            self._mirror.submit(replace(hops, rows=hops.rows.copy()))  # each fills in its own
        self._opened += 1
        self._acted_s, self._recent, self._seen = epoch.time_s, [], None

    def _check_overload(self, epoch: Epoch) -> None:
        ended = self.totals.completed + self.totals.failed + sum(len(h.tasks) for h in self._ended)
        tasks, backlog_s = self.totals.released - ended, self._kernel.backlog_s()
        self._overload.check(self._hops_in_flight, tasks, epoch.slot.number, backlog_s)

    def reward(self) -> float:
        """Return the reward (Eq. 14) of the epoch acted on last, once the next one has come."""
        active = dict(enumerate(self._recent, start=self._collected - len(self._recent)))
        active |= {self._collected + row: hops for row, hops in self._kernel.active().items()}
        tables, last = self._hop_builder.tables, self._opened - 1
        costs = [
            costs_between(tables, hops, -math.inf if epoch == last else self._acted_s, self._now)
            for epoch, hops in active.items()
        ]
        return 0.0 - exact_sum(np.concatenate(costs)) if costs else 0.0

    @property
    def epochs(self) -> int:
        """Epochs acted on so far."""
        return self._opened

    def _battery(self) -> Floats:
        limited = self.model.battery_j < math.inf
        return read_only(self._kernel.battery_j()) if limited else self._unlimited

    def _advance(self, until_s: float) -> None:
        self._kernel.advance(until_s)
        if self._mirror:
            self._mirror.advance(until_s)
            self._mirror.collect()
        self._now = until_s
        self._collect()

    def _collect(self) -> None:
        ended = self._kernel.collect()
        self._collected += len(ended)
        self._ended += ended
        hops = sum(map(len, ended))
        self._ended_hops += hops
        self._hops_in_flight -= hops
        self._recent += ended

    def _account_when_due(self) -> None:
        due = self._ended_hops >= BATCH_HOPS or (
            self._recorder is not None and self._recorder.bytes >= BATCH_BYTES
        )
        if due or time.monotonic() - self._accounted_at >= BATCH_SECONDS:
            self.account()

    def account(self) -> None:
        """Account for the epochs that have ended; send all rows that are complete."""
        self._accounted_at = time.monotonic()
        if self._recorder:
            self._recorder.send()
        if not self._ended:
            return
        ended, self._ended, self._ended_hops = self._ended, [], 0
        tables, services = self._hop_builder.tables, self.totals.services
        detailed = self._recorder is not None
        accounts = Accounts(self.model, tables, ended, services, detailed=detailed)
        self.totals.add(accounts.tasks)
        if self._recorder:
            self._recorder.send_ended(accounts, self.totals)
