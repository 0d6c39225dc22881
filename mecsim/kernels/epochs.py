"""Decision epochs to come, as arrays for compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from mecsim.kernels.tables import KernelTables
from mecsim.model import arrivals, workload
from mecsim.model.model import Model
from mecsim.model.workload import Chunk, Slot, Tasks
from mecsim.scheduler.features import ObservationTable
from mecsim.support.arrays import Bools, Floats, Ints


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
    """Expected number of tasks and their expected mean size factor, of each class in turn where an
    epoch is a slot; shape (E, 2·C) or, where it is a task, (E, 2)."""
    expected_size: Floats
    """Expected size factors, 1 or M of each class in turn where an epoch is a slot; shape
    (E, C·1 or C·M) or, where it is a task, (E, 1 or M)."""
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
    def of(
        cls, chunk: Chunk, decision_epoch: str = "per_slot", blocks: Sequence[int] = ()
    ) -> EpochTable:
        """Return the epochs of a chunk of slots: a slot each, or a task each (``per_task``).

        A slot of several classes is one epoch here: its tasks are submitted together.

        Args:
            chunk: The slots.
            decision_epoch: What an epoch is.
            blocks: Blocks of each class, where there are several; shape (C,).
        """
        count = len(chunk.start_s)
        epochs = cls(
            time_s=chunk.start_s,
            bounds=chunk.bounds,
            rates=np.arange(count) * (len(chunk.rate_bps) > 1),
            associations=np.arange(count) * (len(chunk.serving_server) > 1),
            network=np.zeros(count, dtype=np.int64),
            slot=chunk.first_slot + np.arange(count),
            load=_loads(chunk, blocks),
            expected_size=chunk.expected_size.reshape(count, -1),
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
        return epochs._per_task(blocks) if decision_epoch == "per_task" else epochs

    def _per_task(self, blocks: Sequence[int]) -> EpochTable:
        count, tasks = len(self.device), np.diff(self.bounds)
        of_task = np.array(blocks)[self.class_] if blocks else None
        return self._replace(
            time_s=self.release_s,
            bounds=np.arange(count + 1),
            rates=np.repeat(self.rates, tasks),
            associations=np.repeat(self.associations, tasks),
            network=np.zeros(count, dtype=np.int64),
            slot=np.repeat(self.slot, tasks),
            load=_load(np.ones(count), self.size, of_task),
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
        per_slot = model.scenario.decision_epoch == "per_slot"
        classes = len(model.classes) if per_slot else 1
        size, none = np.ones((1, chunk.size.shape[1])), slice(0)
        return cls(
            time_s=np.zeros(1),
            bounds=np.zeros(2, dtype=np.int64),
            rates=np.zeros(1, dtype=np.int64),
            associations=np.zeros(1, dtype=np.int64),
            network=np.zeros(1, dtype=np.int64),
            slot=np.zeros(1, dtype=np.int64),
            load=np.tile(_load(np.zeros(1), size), classes),
            expected_size=np.tile(size, classes),
            placed=np.array([-1 if per_slot else 0]),
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

    def of_class(self, rows: Ints, task_class: int, wanted: Bools) -> EpochTable:
        """Return some slots with their tasks of one class; those that are not wanted without any.

        Args:
            rows: The slots; shape (E,).
            task_class: The class.
            wanted: Which slots are wanted; shape (E,).
        """
        every = [np.arange(self.bounds[row], self.bounds[row + 1]) for row in rows.tolist()]
        mine = [
            tasks[(self.class_[tasks] == task_class) & of_slot]
            for tasks, of_slot in zip(every, wanted, strict=True)
        ]
        tasks, columns, width = np.concatenate(mine), 2 * task_class, self.size.shape[1]
        size = self.expected_size[:, task_class * width : (task_class + 1) * width][rows]
        epochs = {name: getattr(self, name)[rows] for name in OF_SLOTS}
        return self._replace(
            **epochs,
            bounds=np.cumsum([0, *map(len, mine)]),
            load=self.load[rows, columns : columns + 2] * wanted[:, None],
            expected_size=np.ascontiguousarray(size),
            release_s=self.release_s[tasks],
            class_=self.class_[tasks],
            device=self.device[tasks],
            size=self.size[tasks],
        )

    @classmethod
    def merged(cls, tables: Sequence[EpochTable]) -> EpochTable:
        """Return the epochs of several tables of the same slots, each with the tasks of all."""
        if len(tables) == 1:
            return tables[0]
        columns = {
            name: np.concatenate([getattr(each, name) for each in tables])
            for name in ("release_s", "class_", "device", "size")
        }
        counts = [np.diff(each.bounds) for each in tables]
        epoch = np.concatenate([np.repeat(np.arange(len(each)), each) for each in counts])
        order = np.lexsort((columns["class_"], columns["release_s"], epoch))
        return tables[-1]._replace(
            bounds=np.concatenate([[0], np.cumsum(np.sum(counts, axis=0))]),
            **{name: values[order] for name, values in columns.items()},
        )

    def class_at(self, rows: Ints) -> Ints:
        """Return the class of the task of some epochs that are a task each; 0 without a task."""
        begin, empty = self.bounds[rows], self.bounds[rows] == self.bounds[rows + 1]
        if empty.all():
            return np.zeros(len(rows), dtype=np.int64)
        found: Ints = np.where(empty, 0, self.class_[np.where(empty, 0, begin)])
        return found

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
        class_: Ints | None = None,
        committed_s: Floats | None = None,
    ) -> ObservationTable:
        """Return what schedulers see at some epochs, given backlogs and batteries; a row each.

        Args:
            rows: The epochs; shape (E,).
            model: The scenario.
            tables: Its constants.
            backlog_s: Shape (E, R).
            battery_j: Shape (E, D).
            class_: The class of the tasks to place, if there are several; shape (E,).
            committed_s: Then also the services of tasks that were placed before at the instant, by
                resource; shape (E, R); none by default.
        """
        load, size = self.load[rows], self.expected_size[rows]
        blocks, cpus = np.zeros((len(size), 3, model.blocks)), 0
        placed = self.network[rows], self.placed[rows]
        if class_ is None:
            class_ = np.zeros(len(size), dtype=np.int64)
            _fill_blocks(blocks, size, model, tables, *placed)
        else:
            cpus = model.resources.uplink
            load, size = (self._of_own_class(each, class_) for each in (load, size))
            for number in range(len(model.classes)):
                mine, view = np.flatnonzero(class_ == number), model.of_class(number)
                own = np.empty((len(mine), 3, view.blocks))
                _fill_blocks(own, size[mine], view, tables, *(each[mine] for each in placed))
                blocks[mine, :, : view.blocks] = own
        if committed_s is None:
            committed_s = np.zeros((len(size), cpus))
        return ObservationTable(
            tasks=load,
            blocks=blocks.reshape(len(size), -1),
            rate_bps=self.rate_bps[self.rates[rows]],
            backlog_s=backlog_s,
            battery_j=battery_j,
            serving_server=self.serving_server[self.associations[rows]],
            link_source=model.links.source.copy(),
            device=self.placed[rows].copy(),
            servers=model.servers,
            class_=class_,
            classes=len(model.classes),
            committed_s=committed_s[:, :cpus] / model.capacity[:cpus],
        )

    def _of_own_class(self, columns: Floats, class_: Ints) -> Floats:
        """Return what is expected of the class of each epoch, from columns of all classes."""
        if self.load.shape[1] == 2:  # an epoch is a task
            return columns
        classes = self.load.shape[1] // 2
        by_class = columns.reshape(len(columns), classes, -1)
        return np.ascontiguousarray(by_class[np.arange(len(columns)), class_])


OF_SLOTS: Final = (
    *("time_s", "rates", "associations", "network", "slot", "placed", "in_slot"),
    "expected_in_slot",
)
"""The columns of slots that are the same for all classes."""


def _fill_blocks(
    blocks: Floats, size: Floats, model: Model, tables: KernelTables, network: Ints, device: Ints
) -> None:
    """Fill in work, parameters and input of all blocks of a class; shape (E, 3, M)."""
    work = model.cycles
    if not model.shows_cycles:
        speed = tables.speed[:, : len(tables.node_type)]
        work = model.compute.mean_over_places(speed, network, device)
    size = size[:, : model.blocks]
    np.multiply(work, size, out=blocks[:, 0])
    blocks[:, 1] = model.parameter_bytes
    np.multiply(model.input_bits, size, out=blocks[:, 2])


def next_slot_s(model: Model, chunk: Chunk) -> float:
    """Return when the slot after a chunk starts, or infinity after the last slot."""
    end = chunk.first_slot + len(chunk.start_s)
    return arrivals.slot_start(model, end) if end < model.scenario.slots else math.inf


def _loads(chunk: Chunk, blocks: Sequence[int]) -> Floats:
    """Return the expected load of every slot, class after class; shape (K, 2·C)."""
    count = len(chunk.start_s)
    return np.concatenate(
        [
            _load(tasks, size, np.full(count, blocks[number]) if blocks else None)
            for number, (tasks, size) in enumerate(
                zip(chunk.expected_tasks.T, chunk.expected_size.transpose(1, 0, 2), strict=True)
            )
        ],
        axis=1,
    )


def _load(tasks: Floats, size: Floats, blocks: Ints | None = None) -> Floats:
    """Return numbers of tasks and mean size factors, of the first ``blocks`` where given."""
    load = np.empty((len(size), 2))
    load[:, 0] = tasks
    columns = size.shape[1]
    if columns == 1:
        load[:, 1] = size[:, 0]
    elif blocks is None:
        load[:, 1] = np.add.reduce(size, axis=1) / columns
    else:
        for count in np.unique(blocks).tolist():
            mine = blocks == count
            load[mine, 1] = np.add.reduce(size[mine, :count], axis=1) / count
    return load
