"""Buffers the next slots of many replicas in one set of arrays for compiled code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from mecsim.kernels.epochs import EpochTable, next_slot_s
from mecsim.model import workload
from mecsim.model.model import Model, reseeded
from mecsim.support.arrays import Ints

SLOTS: Final = 256
"""Most slots of a replica that are drawn at once: they share the work of Python per table."""
ITEMS: Final = 1 << 15
"""Most tasks and radio rates in a replica's table, roughly: this bounds memory."""
OF_EPOCHS: Final = EpochTable._fields[:11]
OF_TASKS: Final = EpochTable._fields[11:15]

_Table: TypeAlias = tuple[EpochTable | None, float]
"""A table of epochs, None after the last one, and the time of the epoch after it, or infinity."""


class EpochSource:
    """The epochs of a run, a table at a time.

    Args:
        model: The resolved scenario.
        taken: The number of leading tables to skip: draws depend only on seed and slot, so a
            position in a run is that number.
    """

    def __init__(self, model: Model, taken: int = 0) -> None:
        self.model, self.taken = model, taken
        self._tables: Iterator[_Table] = islice(epoch_tables(model), taken, None)
        self._peeked: _Table | None = None

    def empty(self) -> bool:
        """Return whether no table is left."""
        if self._peeked is None:
            self._peeked = next(self._tables, (None, math.inf))
        return self._peeked[0] is None

    def take(self) -> _Table:
        """Return the next table, and the time of the epoch after it."""
        table, self._peeked = self._peeked or next(self._tables, (None, math.inf)), None
        self.taken += 1
        return table


def epoch_tables(model: Model) -> Iterator[tuple[EpochTable, float]]:
    """Yield the epochs of a run; none if it has no epoch."""
    items = workload.mean_tasks(model) + model.devices
    chunks = workload.chunks(model, length=max(1, min(SLOTS, int(ITEMS / items))))
    several = [each.blocks for each in model.classes] if len(model.classes) > 1 else []
    if model.scenario.decision_epoch == "per_slot":  # the next slot's start is known
        for chunk in chunks:
            yield EpochTable.of(chunk, blocks=several), next_slot_s(model, chunk)
        return
    tables = (EpochTable.of(chunk, "per_task", several) for chunk in chunks if len(chunk.device))
    table = next(tables, None)
    while table is not None:
        following = next(tables, None)
        yield table, math.inf if following is None else float(following.time_s[0])
        table = following


class _Sizes(NamedTuple):
    """Rows of a table, or rows that each replica has in the buffer."""

    epochs: int
    tasks: int
    rates: int
    associations: int

    @classmethod
    def of(cls, table: EpochTable) -> _Sizes:
        radio = len(table.rate_bps), len(table.serving_server)
        return cls(len(table.time_s), len(table.device), *radio)


class EpochBuffer:
    """The present tables of B replicas as one, each in its own rows; at first all have ended."""

    def __init__(self, model: Model, replicas: int) -> None:
        self._idle = EpochTable.idle(model)
        self._sources: list[EpochSource | None] = [None] * replicas
        self.epoch: Ints = np.zeros(replicas, dtype=np.int64)
        """Row of each replica's present epoch in :attr:`table`; shape (B,)."""
        self.end: Ints = np.zeros(replicas, dtype=np.int64)
        """Row after its last epoch there; its present epoch if it has ended; shape (B,)."""
        self.next_s = np.full(replicas, math.inf)
        """Time of the epoch after those, or infinity; shape (B,)."""
        self.ended = np.ones(replicas, dtype=np.bool_)
        """Whether a replica has no further epoch; shape (B,)."""
        self._sizes = _Sizes(0, 0, 0, 0)
        self.table = _empty(self._idle, replicas, self._sizes)
        self._refill(range(replicas))

    def position(self) -> dict[str, Any]:
        """Return the position of every replica in its run, in plain data and arrays."""
        state = {n: x for n, x in vars(self).items() if n not in ("_idle", "_sources")}
        runs = [source and (source.model.seed, source.taken) for source in self._sources]
        return {"state": state, "runs": runs}

    def resume(self, position: dict[str, Any], model: Model) -> None:
        """Return to a position; ``model`` is the scenario under any seed."""
        vars(self).update(position["state"])
        runs = position["runs"]
        self._sources = [run and EpochSource(reseeded(model, run[0]), run[1]) for run in runs]

    def models(self) -> Iterator[tuple[int, Model]]:
        """Yield every replica that has been started, with the model of its run."""
        for b, source in enumerate(self._sources):
            if source is not None:
                yield b, source.model

    def start(self, sources: Mapping[int, EpochSource]) -> None:
        """Begin new runs of some replicas."""
        for b, source in sources.items():
            self._sources[b] = source
        self._refill(sources)

    def refill(self) -> None:
        """Load the next epochs of the replicas that have used up theirs."""
        self._refill(np.flatnonzero((self.epoch == self.end) & ~self.ended).tolist())

    def tasks_at(self, b: int) -> int:
        """Return how many tasks the present epoch of a replica has."""
        return self.table.tasks_at(int(self.epoch[b]))

    def _refill(self, replicas: Iterable[int]) -> None:
        for b in replicas:
            source = self._sources[b]
            table, self.next_s[b] = (None, math.inf) if source is None else source.take()
            self.ended[b] = table is None
            self._write(b, table or self._idle)
            self.epoch[b] = begin = b * (self._sizes.epochs + 1)
            self.end[b] = begin if table is None else begin + len(table.time_s)

    def _write(self, b: int, table: EpochTable) -> None:
        """Write a table into the rows of a replica."""
        count, tasks, rates, associations = needed = _Sizes.of(table)
        if any(need > has for need, has in zip(needed, self._sizes, strict=True)):
            self._enlarge(needed)
        to, sizes = self.table, self._sizes
        first, task = b * (sizes.epochs + 1), b * sizes.tasks
        rate, association = b * sizes.rates, b * sizes.associations
        for name in OF_EPOCHS:
            if name != "bounds":
                getattr(to, name)[first : first + count] = getattr(table, name)
        for name in OF_TASKS:
            getattr(to, name)[task : task + tasks] = getattr(table, name)
        to.rate_bps[rate : rate + rates] = table.rate_bps
        to.serving_server[association : association + associations] = table.serving_server
        np.add(table.bounds, task, out=to.bounds[first : first + count + 1])
        to.rates[first : first + count] += rate
        to.associations[first : first + count] += association
        to.network[first : first + count] = b

    def _enlarge(self, needed: _Sizes) -> None:
        """Make room for a table, and a quarter more; present tables are kept."""
        count, before, old = len(self._sources), self._sizes, self.table
        pairs = zip(needed, before, strict=True)
        self._sizes = sizes = _Sizes(*(max(has, need + need // 4) for need, has in pairs))
        self.table = new = _empty(self._idle, count, sizes)
        for larger, rows in zip(new, old, strict=True):
            own = rows.reshape(count, len(rows) // count, *rows.shape[1:])
            larger.reshape(count, -1, *rows.shape[1:])[:, : own.shape[1]] = own
        every = np.arange(count)
        each = sizes.epochs + 1
        new.bounds[:] += np.repeat(every * (sizes.tasks - before.tasks), each)
        new.rates[:] += np.repeat(every * (sizes.rates - before.rates), each)
        more = sizes.associations - before.associations
        new.associations[:] += np.repeat(every * more, each)
        self.epoch += every * (sizes.epochs - before.epochs)
        self.end += every * (sizes.epochs - before.epochs)


def _empty(like: EpochTable, count: int, sizes: _Sizes) -> EpochTable:
    """Return rows for the tables of ``count`` replicas; one epoch more each, as bounds need it."""
    epochs = dict.fromkeys(OF_EPOCHS, count * (sizes.epochs + 1))
    rows = epochs | dict.fromkeys(OF_TASKS, count * sizes.tasks)
    rows["rate_bps"] = count * sizes.rates
    rows["serving_server"] = count * sizes.associations
    columns = like._asdict().items()
    return EpochTable(**{n: np.zeros((rows[n], *x.shape[1:]), x.dtype) for n, x in columns})
