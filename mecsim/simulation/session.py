"""A run as a sequence of decision epochs, on any kernel, with Python in the loop."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, cast

import numpy as np

from mecsim.errors import InputError
from mecsim.kernels.accounting import ServiceTotals
from mecsim.kernels.base import Kernel
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.hops import HopBuilder, Hops
from mecsim.kernels.reward import costs_between, exact_sum
from mecsim.kernels.rollout import Rollouts, expected_arrivals
from mecsim.kernels.tables import KernelTables
from mecsim.model.model import Model
from mecsim.model.workload import Slot, Tasks
from mecsim.scheduler.observation import (
    PAST_SLOTS,
    NetworkState,
    Observation,
)
from mecsim.scheduler.registry import NO_ROLLOUTS
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.joined_tasks import Joined, JoinedTasks
from mecsim.simulation.overload import HOP_IN_SESSION, OverloadGuard
from mecsim.simulation.placed_network import PlacedNetwork
from mecsim.simulation.recorder import TraceRecorder
from mecsim.simulation.retries import Retries
from mecsim.simulation.task_accounts import Accounts
from mecsim.simulation.totals import Totals
from mecsim.support.arrays import Floats, Ints, read_only
from mecsim.trace.schema import Sink

BATCH_HOPS: Final = 20_000
BATCH_BYTES: Final = 4 << 20
BATCH_SECONDS: Final = 0.05
"""Ended tasks are collected and accounted for, and rows are sent, after this many new hops, bytes
of observations or seconds of wall time. This bounds memory and the loss of a run that is killed;
results do not depend on it."""


class Epoch(NamedTuple):
    """A decision epoch: tasks of one class that share one placement."""

    number: int
    time_s: float
    slot: Slot
    tasks: Tasks
    """The task or, where an epoch is a slot, the tasks of all classes."""
    device: int | None
    """Device of the task, where every task is an epoch."""
    task_class: int = 0
    """The class of the tasks."""

    @property
    def key(self) -> tuple[int | None, int]:
        """Device and class: static schedulers decide equally for equal ones."""
        return self.device, self.task_class


class Session:
    """Runs a model on a kernel, epoch by epoch, and sends the rows of a trace to sinks.

    Iterate over it and call :meth:`act` once for each epoch; before that, :meth:`observe` if
    wanted::

        for epoch in session:
            session.act(epoch, placement)

    Where an epoch is a slot and tasks are of several classes, the slot has an epoch for each class
    in turn. Their tasks are submitted together, in order of release, once the last is acted on.

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
        self._hop_builder, self._overload = HopBuilder(model), OverloadGuard(model, HOP_IN_SESSION)
        self.retries = Retries(model) if len(model.retries) else None
        """Where lost tasks are placed again."""
        self._joined = JoinedTasks(model, self.totals.services) if self.retries else None
        self._classes, self._specs = len(model.classes), spec.classes
        per_slot = model.scenario.decision_epoch == "per_slot"
        self._epochs_a_batch = self._classes if per_slot else 1
        moves = model.mobility is not None
        self._recorder = TraceRecorder(sinks, self._epochs_a_batch, moves=moves) if sinks else None
        self._placements = np.zeros((self._classes, model.blocks), dtype=np.int64)
        mirrors = uses_rollouts and not isinstance(kernel, CompiledKernel)
        self._mirror = CompiledKernel(model) if mirrors else None
        self._uses_rollouts = uses_rollouts
        if uses_rollouts and len(model.retries):
            raise InputError(NO_ROLLOUTS)
        self._opened = self._collected = 0
        self.batches = 0
        """Batches of tasks submitted so far; a batch has the tasks of the epochs of an instant."""
        self._hops_in_flight = 0  # those of epochs that have ended included, until collected
        self._new_hops = 0  # submitted since ended epochs were last accounted for
        self._observed: list[weakref.ref[Observation]] = []  # at the present epoch
        self._ended: list[Hops] = []  # collected, not accounted for
        self._recent: list[Hops] = []  # collected since the last batch was submitted
        self._active: dict[int, Hops] | None = None  # see recent_hops
        self._past: tuple[Floats, ...] = ()
        self._slot: Slot
        """The present slot, with the tasks that are placed again in it."""
        self.now = 0.0
        """Time of the present epoch; infinite after the last task."""
        self._acted_s = 0.0
        self._accounted_at = time.monotonic()

    def __iter__(self) -> Iterator[Epoch]:
        """Yield the epochs in order of time; after the last one, drain the network."""
        for slot in self._slots:
            yield from self._advance(slot.start_s)
            self.remember(slot.rate_bps)
            if self._recorder:
                self._recorder.add_slot(slot, self._kernel.battery_j())
            counts = np.array([len(slot.tasks)])
            self.totals.release(slot.number, counts, slot.tasks.release_s)
            self._slot = slot if self.retries is None else self.retries.begin(slot)
            yield from self._epochs_of(self._slot)
            self._account_when_due()
        yield from self._advance(math.inf)
        self.account()
        if self._joined:
            self._add(self._joined.take(every=True))

    def _epochs_of(self, slot: Slot) -> Iterator[Epoch]:
        tasks = slot.tasks
        if self.spec.decision_epoch == "per_slot":
            for number in range(self._classes):
                yield Epoch(self._opened, slot.start_s, slot, tasks, None, number)
            return
        yield from self._epochs_again()
        columns = tasks.release_s.tolist(), tasks.device.tolist(), tasks.class_.tolist()
        for row, (release_s, device, number) in enumerate(zip(*columns, strict=True)):
            yield from self._advance(release_s)
            yield from self._epochs_again()
            yield Epoch(self._opened, release_s, slot, tasks[row : row + 1], device, number)
            self._account_when_due()

    def _epochs_again(self) -> Iterator[Epoch]:
        """Yield, with per-task decisions, an epoch for each lost task that waits for one."""
        if self.retries is None or self.spec.decision_epoch == "per_slot":
            return
        tasks = self.retries.waiting(self._slot, self.now)
        if tasks is None:
            return
        columns = tasks.device.tolist(), tasks.class_.tolist()
        for row, (device, number) in enumerate(zip(*columns, strict=True)):
            one = tasks[row : row + 1]
            yield Epoch(self._opened, self.now, self._slot, one, device, number)
            self._account_when_due()

    def remember(self, rate_bps: Floats) -> None:
        """Keep the radio rates of a slot, of shape (D,), for the observations that follow."""
        self._past = (*self._past[-(PAST_SLOTS - 1) :], rate_bps)

    def observe(self, epoch: Epoch) -> Observation:
        """Return what a scheduler may see at an epoch that has not been acted on."""
        rollouts = self._rollouts(epoch) if self._uses_rollouts else None
        observation = self._observation(epoch, rollouts)
        self._observed.append(weakref.ref(observation))
        return observation

    def _observation(self, epoch: Epoch, rollouts: Rollouts | None = None) -> Observation:
        slot, one, number = epoch.slot, epoch.device is not None, epoch.task_class
        spec = self._specs[number]
        size = epoch.tasks.size[0] if one else slot.expected_size[number]
        return Observation(
            spec=spec,
            epoch=epoch.number,
            time_s=epoch.time_s,
            slot=slot.number,
            device=epoch.device,
            tasks=1.0 if one else float(slot.expected_tasks[number]),
            block_size=read_only(size[: spec.blocks]),
            parameter_bytes=spec.parameter_bytes,
            rate_bps=slot.rate_bps,
            serving_server=slot.serving_server,
            network=self._network(epoch),
            past_rates=self._past,
            rollouts=rollouts,
        )

    def _rollouts(self, epoch: Epoch) -> Rollouts:
        compiled = self._mirror or cast("CompiledKernel", self._kernel)
        placed = self._placements.copy()
        return Rollouts(compiled.state, self.tables, self._known(epoch), placed, epoch.task_class)

    def _network(self, epoch: Epoch) -> NetworkState:
        """Return the network, with the tasks that were placed before at this instant."""
        if epoch.device is not None or epoch.task_class == 0:
            return self._kernel
        return PlacedNetwork(self._kernel, partial(self._placed_s, epoch))

    def _placed_s(self, epoch: Epoch) -> Floats:
        """Return the services by resource of what is known of the classes placed before."""
        known = self._known(epoch._replace(task_class=epoch.task_class - 1))
        columns = known.release_s, known.class_, known.device, known.size
        tasks = Tasks(epoch.slot.number, 0, *columns, epoch.tasks.in_slot)
        hops = self._hop_builder.hops(tasks, self._placements, epoch.slot)
        resources = len(self.model.resources)
        placed_s: Floats = np.zeros(resources)
        np.add.at(placed_s, hops.column("resource"), hops.column("service_s"))
        return placed_s

    def _known(self, epoch: Epoch) -> EpochTable:
        """Return what is known of an epoch's tasks, and of those placed before at this instant."""
        tables, first = [], 0 if epoch.device is None else epoch.task_class
        for number in range(first, epoch.task_class + 1):
            model, row = self.model.of_class(number), np.zeros(1, dtype=np.int64)
            for slot, tasks in self._parts(epoch):
                table = EpochTable.of_epoch(epoch.time_s, slot, tasks, number)
                tables.append(expected_arrivals(table, row, model)[0].with_class(number))
        return EpochTable.merged(tables)

    def _parts(self, epoch: Epoch) -> list[tuple[Slot, Tasks]]:
        """Return the tasks of an epoch; those that are placed again, and so known, apart."""
        if self.retries is None:
            return [(epoch.slot, epoch.tasks)]
        return self.retries.parts(epoch.slot, epoch.tasks)

    def act(self, epoch: Epoch, placement: Ints) -> None:
        """Submit the epoch's tasks with a checked placement of shape (M,); record the decision."""
        if self._recorder:
            self._recorder.add_decision(self._observation(epoch), placement)
        self._placements[epoch.task_class, : len(placement)] = placement
        self._opened += 1
        if self._opened % self._epochs_a_batch == 0:
            self._submit(epoch)

    def _submit(self, epoch: Epoch) -> None:
        """Submit the tasks of the epochs at this instant."""
        self._freeze_observations()
        tasks = epoch.tasks if self.retries is None else self.retries.numbered(epoch.tasks)
        hops = self._hop_builder.hops(tasks, self._placements, epoch.slot)
        self._new_hops += len(hops)
        self._hops_in_flight += len(hops)
        if self._hops_in_flight >= self._overload.next_check:
            self._check_overload(epoch)
        self._kernel.submit(hops)
        if self._mirror:
            self._mirror.submit(replace(hops, rows=hops.rows.copy()))  # each fills in its own
        self.batches += 1
        self._acted_s, self._recent, self._active = epoch.time_s, [], None

    def _freeze_observations(self) -> None:
        """Complete the observations of the present epoch that someone still holds."""
        for reference in self._observed:
            observation = reference()
            if observation is not None:
                observation.freeze()
        self._observed.clear()

    def _check_overload(self, epoch: Epoch) -> None:
        self._collect()
        if self._hops_in_flight < self._overload.next_check:
            return
        ended = self.totals.ended + sum(len(h.tasks) for h in self._ended)
        tasks, backlog_s = self.totals.released - ended, self._kernel.backlog_s()
        self._overload.check(self._hops_in_flight, tasks, epoch.slot.number, backlog_s)

    @property
    def submitted(self) -> bool:
        """Whether the tasks of all epochs acted on have been submitted."""
        return self._opened % self._epochs_a_batch == 0

    def rewards(self) -> list[float]:
        """Return the rewards (Eq. 14) of the epochs of the last instant, once the next has come.

        One or, where an epoch is a slot, one for each class: that of the blocks of its tasks.
        """
        if self._epochs_a_batch == 1:
            return [self._reward(None)]
        return [self._reward(number) for number in range(self._classes)]

    def _reward(self, task_class: int | None) -> float:
        last = self.batches - 1
        costs = [
            costs_between(
                self.tables,
                hops,
                -math.inf if batch == last else self._acted_s,
                self.now,
                task_class,
            )
            for batch, hops in self.recent_hops().items()
        ]
        return 0.0 - exact_sum(np.concatenate(costs)) if costs else 0.0

    def recent_hops(self) -> dict[int, Hops]:
        """Return the hops of batches in which something happened since the last act, by number.

        Read it at the next epoch, before :meth:`act`, or after the last task.
        """
        if self._active is None:
            self._collect()
            active = dict(enumerate(self._recent, start=self._collected - len(self._recent)))
            waiting = self._kernel.active().items()
            self._active = active | {self._collected + row: hops for row, hops in waiting}
        return self._active

    @property
    def epochs(self) -> int:
        """Epochs acted on so far."""
        return self._opened

    @property
    def tables(self) -> KernelTables:
        """Constants of the model."""
        return self._hop_builder.tables

    def _advance(self, until_s: float) -> Iterator[Epoch]:
        """Advance to a time, or drain the network at infinity.

        Yield the epochs of tasks that are lost and placed again until then.
        """
        while True:
            if until_s == math.inf:
                self.now = self._kernel.drain()
            else:
                self.now = self._kernel.advance(until_s)
                self._keep_up(until_s)
            if self.retries is None or self.now == math.inf:
                return
            self.retries.take(self._kernel.lost_tasks(), self.now)
            if self.now == until_s:
                return
            yield from self._epochs_again()

    def _keep_up(self, until_s: float) -> None:
        """Let the mirror advance; there are no retries where there are rollouts."""
        if self._mirror:
            self._mirror.advance(until_s)
            self._mirror.collect()
        if self._uses_rollouts:  # copies of the state are smaller without tasks that have ended
            self._collect()

    def _collect(self) -> None:
        ended = self._kernel.collect()
        self._collected += len(ended)
        if self.retries:
            self.retries.collected(len(ended))
        self._ended += ended
        self._hops_in_flight -= sum(map(len, ended))
        self._recent += ended

    def _account_when_due(self) -> None:
        due = self._new_hops >= BATCH_HOPS or (
            self._recorder is not None and self._recorder.bytes >= BATCH_BYTES
        )
        if due or time.monotonic() - self._accounted_at >= BATCH_SECONDS:
            self.account()

    def account(self) -> None:
        """Account for the epochs that have ended; send all rows that are complete."""
        self._accounted_at = time.monotonic()
        self._new_hops = 0
        if self._recorder:
            self._recorder.send()
        self._collect()
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        if self._joined:
            self._account_attempts(ended, self._joined)
            return
        detailed = self._recorder is not None
        accounts = Accounts(self.model, self.tables, ended, self.totals.services, detailed=detailed)
        self.totals.add(accounts.tasks)
        if self._recorder:
            self._recorder.send_ended(accounts, self.totals)

    def _account_attempts(self, ended: Sequence[Hops], joined: JoinedTasks) -> None:
        services = ServiceTotals.zeros(len(self.model.resources))  # joined tasks count
        accounts = Accounts(self.model, self.tables, ended, services, detailed=True)
        if self._recorder:
            self._recorder.send_rewards(accounts)
        joined.add(accounts)
        self._add(joined.take())

    def _add(self, joined: Joined | None) -> None:
        """Count tasks that have ended with their last attempt, and send their rows."""
        if joined is not None:
            self.totals.add(joined.tasks, joined.attempts)
            if self._recorder:
                self._recorder.send_tasks(joined.rows, self.totals)
