"""The epochs of many replicas, so many slots of each at a time, side by side for the compiler."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from mecsim.kernels.epochs import Epochs, Page
from mecsim.model import workload
from mecsim.model.model import Model

SLOTS: Final = 256
"""Slots of a replica that are drawn at once, at most: what Python does for a page is shared."""
ITEMS: Final = 1 << 15
"""Tasks and radio rates in a page, roughly, at most: this bounds memory."""


Feed: TypeAlias = Iterator[tuple[Page, float]]
"""The pages of a replica, each with when the first epoch after it comes, or infinity."""


def feed(model: Model) -> Feed:
    """Yield the pages of a run; none if it has no epoch."""
    items = workload.mean_tasks(model) + model.devices
    chunks = workload.chunks(model, length=max(1, min(SLOTS, int(ITEMS / items))))
    if model.scenario.decision_epoch == "per_slot":  # what comes need not be drawn
        for chunk in chunks:
            end = chunk.first_slot + len(chunk.start_s)
            more = end < model.scenario.slots
            yield Page.of(chunk, model), workload.slot_start(model, end) if more else math.inf
        return
    pages = (Page.of(chunk, model) for chunk in chunks if len(chunk.device))
    page = next(pages, None)
    while page is not None:
        following = next(pages, None)
        yield page, math.inf if following is None else float(following.epochs.time_s[0])
        page = following


class _Room(NamedTuple):
    """Rows that a page takes, or that each replica has for its page."""

    epochs: int
    tasks: int
    rates: int

    @classmethod
    def of(cls, page: Page) -> _Room:
        """Return what a page takes."""
        epochs = page.epochs
        return cls(len(epochs.time_s), len(epochs.device), len(epochs.rate_bps))


class Pages:
    """The present pages of B replicas in one, each in rows of its own; all have ended at first."""

    def __init__(self, model: Model, replicas: int) -> None:
        self._idle = Page.idle(model)
        self._feeds: list[Feed] = [iter(()) for _ in range(replicas)]
        self.epoch = np.zeros(replicas, dtype=np.int64)
        """The present epoch of every replica, as a row of :attr:`together`; shape (B,)."""
        self.end = np.zeros(replicas, dtype=np.int64)
        """Where the epochs of its page end; its present epoch if it has ended; shape (B,)."""
        self.next_s = np.full(replicas, math.inf)
        """When the epoch after those comes, or infinity; shape (B,)."""
        self.ended = np.ones(replicas, dtype=np.bool_)
        """Shape (B,)."""
        self._room = _Room(0, 0, 0)
        self.together = _empty(self._idle, replicas, self._room)
        self._turn(range(replicas))

    def start(self, feeds: Mapping[int, Feed]) -> None:
        """Begin with the first pages of some replicas."""
        for b, pages in feeds.items():
            self._feeds[b] = pages
        self._turn(feeds)

    def turn(self) -> None:
        """Go on to the next pages of the replicas that have come to the ends of theirs."""
        self._turn(np.flatnonzero((self.epoch == self.end) & ~self.ended).tolist())

    def tasks_at(self, b: int) -> int:
        """Return how many tasks the present epoch of a replica has."""
        epoch, bounds = self.epoch[b], self.together.epochs.bounds
        return int(bounds[epoch + 1] - bounds[epoch])

    def _turn(self, replicas: Iterable[int]) -> None:
        for b in replicas:
            page, self.next_s[b] = next(self._feeds[b], (None, math.inf))
            self.ended[b] = page is None
            self._write(b, page or self._idle)
            self.epoch[b] = begin = b * (self._room.epochs + 1)
            self.end[b] = begin if page is None else begin + len(page.epochs.time_s)

    def _write(self, b: int, page: Page) -> None:
        """Write a page into the rows of a replica."""
        count, tasks, rates = needed = _Room.of(page)
        if any(need > has for need, has in zip(needed, self._room, strict=True)):
            self._enlarge(needed)
        to, room, epochs = self.together, self._room, page.epochs
        first, task, rate = b * (room.epochs + 1), b * room.tasks, b * room.rates
        np.add(epochs.bounds, task, out=to.epochs.bounds[first : first + count + 1])
        np.add(epochs.rates, rate, out=to.epochs.rates[first : first + count])
        to.epochs.time_s[first : first + count] = epochs.time_s
        to.epochs.rate_bps[rate : rate + rates] = epochs.rate_bps
        for known, own in zip(to[1:], page[1:], strict=True):
            known[first : first + count] = own
        for known, own in zip(to.epochs[3:6], epochs[3:6], strict=True):  # of tasks
            known[task : task + tasks] = own

    def _enlarge(self, needed: _Room) -> None:
        """Make room for a page, and a quarter more; the pages that there are stay."""
        count, before, old = len(self._feeds), self._room, self.together
        pairs = zip(needed, before, strict=True)
        self._room = room = _Room(*(max(has, need + need // 4) for need, has in pairs))
        self.together = new = _empty(self._idle, count, room)
        for larger, rows in zip((*new.epochs, *new[1:]), (*old.epochs, *old[1:]), strict=True):
            own = rows.reshape(count, len(rows) // count, *rows.shape[1:])
            larger.reshape(count, -1, *rows.shape[1:])[:, : own.shape[1]] = own
        every = np.arange(count)
        each = room.epochs + 1
        new.epochs.bounds[:] += np.repeat(every * (room.tasks - before.tasks), each)
        new.epochs.rates[:] += np.repeat(every * (room.rates - before.rates), each)
        self.epoch += every * (room.epochs - before.epochs)
        self.end += every * (room.epochs - before.epochs)


def _empty(like: Page, count: int, room: _Room) -> Page:
    """Return rows for the pages of so many replicas: of epochs one more, as there are bounds."""
    epochs, tasks, rates = count * (room.epochs + 1), count * room.tasks, count * room.rates
    sizes = (epochs, epochs, epochs, tasks, tasks, tasks, rates)
    columns = zip(sizes, like.epochs, strict=True)
    rows = (np.zeros((size, *x.shape[1:]), x.dtype) for size, x in columns)
    known = (np.zeros((epochs, *x.shape[1:]), x.dtype) for x in like[1:])
    return Page(Epochs(*rows), *known)
