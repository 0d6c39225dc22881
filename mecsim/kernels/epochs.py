"""Decision epochs to come, as arrays for compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mecsim.kernels.tables import KernelTables
from mecsim.model import arrivals, workload
from mecsim.model.model import Model
from mecsim.model.workload import Chunk, Slot, Tasks
from mecsim.scheduler.features import ObservationTable
from mecsim.support.arrays import Floats, Ints


class EpochTable(NamedTuple):
    """E decision epochs of one run or of many, and their n tasks."""

    # A row per epoch.
    time_s: Floats
    """Shape (E,)."""
    bounds: Ints
    """The tasks of epoch e are those from ``bounds[e]`` to ``bounds[e + 1]``; shape (E + 1,)."""
    rates: Ints
    """Row of ``rate_bps``; shape (E,)."""
    associations: Ints
    """Row of ``serving_server``; shape (E,)."""
    network: Ints
    """Row of the speeds of :class:`KernelTables`; shape (E,)."""
    slot: Ints
    """Shape (E,)."""
    load: Floats
    """Expected number of tasks and their expected mean size factor; shape (E, 2)."""
    expected_size: Floats
    """Expected size factors; shape (E, 1) or (E, M)."""
    placed: Ints
    """Device of the epoch's task, or −1 where an epoch is a slot; shape (E,)."""
    in_slot: Ints
    """Number of tasks released in the slot; shape (E,)."""
    expected_in_slot: Floats
    """What a scheduler should expect it to be, a whole number; shape (E,)."""
    # A row per task.
    release_s: Floats
    """Shape (n,)."""
    class_: Ints
    """Shape (n,)."""
    device: Ints
    """Shape (n,)."""
    size: Floats
    """Size factors; shape (n, 1) or (n, M)."""
    # A row per slot, or one for all.
    rate_bps: Floats
    """Radio rate of every device; shape (1, D) or (slots, D)."""
    serving_server: Ints
    """Server of every device; shape (1, D) or (slots, D)."""

    @classmethod
    def of(cls, chunk: Chunk, decision_epoch: str = "per_slot") -> EpochTable:
        """Return the epochs of a chunk of slots: a slot each, or a task each (``per_task``).

        A slot of several classes is one epoch here: its tasks are submitted together. What is
        expected is that of the first class.
        """
        count, size = len(chunk.start_s), np.ascontiguousarray(chunk.expected_size[:, 0])
        epochs = cls(
            time_s=chunk.start_s,
            bounds=chunk.bounds,
            rates=np.arange(count) * (len(chunk.rate_bps) > 1),
            associations=np.arange(count) * (len(chunk.serving_server) > 1),
            network=np.zeros(count, dtype=np.int64),
            slot=chunk.first_slot + np.arange(count),
            load=_load(chunk.expected_tasks[:, 0], size),
            expected_size=size,
            placed=np.full(count, -1),
            in_slot=np.diff(chunk.bounds),
            expected_in_slot=np.rint(chunk.expected_tasks.sum(axis=1)),
            release_s=chunk.release_s,
            class_=chunk.class_,
            device=chunk.device,
            size=chunk.size,
            rate_bps=chunk.rate_bps,
            serving_server=chunk.serving_server,
        )
        return epochs._per_task() if decision_epoch == "per_task" else epochs

    def _per_task(self) -> EpochTable:
        count, tasks = len(self.device), np.diff(self.bounds)
        return self._replace(
            time_s=self.release_s,
            bounds=np.arange(count + 1),
            rates=np.repeat(self.rates, tasks),
            associations=np.repeat(self.associations, tasks),
            network=np.zeros(count, dtype=np.int64),
            slot=np.repeat(self.slot, tasks),
            load=_load(np.ones(count), self.size),
            expected_size=self.size,
            placed=self.device,
            in_slot=np.repeat(self.in_slot, tasks),
            expected_in_slot=np.repeat(self.expected_in_slot, tasks),
        )

    @classmethod
    def of_epoch(cls, time_s: float, slot: Slot, tasks: Tasks, task_class: int = 0) -> EpochTable:
        """Return one epoch of a slot, with those of its tasks that are of one class."""
        expected = slot.expected_size[task_class : task_class + 1]
        mine = tasks.class_ == task_class
        return cls(
            time_s=np.array([time_s]),
            bounds=np.array([0, int(mine.sum())]),
            rates=np.zeros(1, dtype=np.int64),
            associations=np.zeros(1, dtype=np.int64),
            network=np.zeros(1, dtype=np.int64),
            slot=np.array([slot.number]),
            load=_load(slot.expected_tasks[task_class : task_class + 1], expected),
            expected_size=expected,
            placed=np.full(1, -1),
            in_slot=np.array([tasks.in_slot]),
            expected_in_slot=np.rint([slot.expected_tasks.sum()]),
            release_s=tasks.release_s[mine],
            class_=tasks.class_[mine],
            device=tasks.device[mine],
            size=tasks.size[mine],
            rate_bps=slot.rate_bps[None, :],
            serving_server=slot.serving_server[None, :],
        )

    @classmethod
    def idle(cls, model: Model) -> EpochTable:
        """Return one epoch without tasks, a placeholder after the end of a run."""
        chunk = next(workload.chunks(model, length=1))
        size, none = np.ones((1, chunk.size.shape[1])), slice(0)
        return cls(
            time_s=np.zeros(1),
            bounds=np.zeros(2, dtype=np.int64),
            rates=np.zeros(1, dtype=np.int64),
            associations=np.zeros(1, dtype=np.int64),
            network=np.zeros(1, dtype=np.int64),
            slot=np.zeros(1, dtype=np.int64),
            load=_load(np.zeros(1), size),
            expected_size=size,
            placed=np.array([-1 if model.scenario.decision_epoch == "per_slot" else 0]),
            in_slot=np.zeros(1, dtype=np.int64),
            expected_in_slot=np.zeros(1),
            release_s=chunk.release_s[none],
            class_=chunk.class_[none],
            device=chunk.device[none],
            size=chunk.size[none],
            rate_bps=chunk.rate_bps[:1],
            serving_server=chunk.serving_server[:1],
        )

    def with_class(self, task_class: int) -> EpochTable:
        """Return the same epochs with all tasks of another class."""
        return self._replace(class_=np.full_like(self.class_, task_class))

    @classmethod
    def merged(cls, tables: Sequence[EpochTable]) -> EpochTable:
        """Return one epoch with the tasks of several tables of one epoch of the same slot."""
        if len(tables) == 1:
            return tables[0]
        columns = {
            name: np.concatenate([getattr(each, name) for each in tables])
            for name in ("release_s", "class_", "device", "size")
        }
        order = np.lexsort((columns["class_"], columns["release_s"]))
        return tables[-1]._replace(
            bounds=np.array([0, len(order)]),
            **{name: values[order] for name, values in columns.items()},
        )

    def tasks_at(self, epoch: int) -> int:
        """Return how many tasks an epoch has."""
        return int(self.bounds[epoch + 1] - self.bounds[epoch])

    def observed(
        self,
        rows: slice | Ints,
        model: Model,
        tables: KernelTables,
        backlog_s: Floats,
        battery_j: Floats,
    ) -> ObservationTable:
        """Return what schedulers see at some epochs, given backlogs and batteries; a row each."""
        size = self.expected_size[rows]
        blocks = np.empty((len(size), 3, model.blocks))
        work = model.cycles
        if model.measured:
            speed = tables.speed[:, : len(tables.node_type)]
            network, device = self.network[rows], self.placed[rows]
            work = model.compute.mean_over_places(speed, network, device)
        np.multiply(work, size, out=blocks[:, 0])
        blocks[:, 1] = model.parameter_bytes
        np.multiply(model.input_bits, size, out=blocks[:, 2])
        return ObservationTable(
            tasks=self.load[rows],
            blocks=blocks.reshape(len(size), -1),
            rate_bps=self.rate_bps[self.rates[rows]],
            backlog_s=backlog_s,
            battery_j=battery_j,
            serving_server=self.serving_server[self.associations[rows]],
            link_source=model.links.source.copy(),
            device=self.placed[rows].copy(),
            servers=model.servers,
            class_=np.zeros(len(size), dtype=np.int64),
            classes=len(model.classes),
        )


def next_slot_s(model: Model, chunk: Chunk) -> float:
    """Return when the slot after a chunk starts, or infinity after the last slot."""
    end = chunk.first_slot + len(chunk.start_s)
    return arrivals.slot_start(model, end) if end < model.scenario.slots else math.inf


def _load(tasks: Floats, size: Floats) -> Floats:
    load = np.empty((len(size), 2))
    load[:, 0] = tasks
    load[:, 1] = size[:, 0] if size.shape[1] == 1 else np.add.reduce(size, axis=1) / size.shape[1]
    return load
