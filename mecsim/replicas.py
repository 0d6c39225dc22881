"""B independent replicas of a scenario, stepped together: what learners train on.

Each replica does what a run under its own seed does (see :mod:`mecsim.session`), epoch by epoch
and to the last bit; all of them take their turns in one compiled call.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim import workload
from mecsim.accounts import Terms
from mecsim.arrays import Floats, Ints
from mecsim.errors import PlacementError, ScenarioError
from mecsim.features import Seen, features
from mecsim.kernels.batch import Turns, stacked, take_turns, unstacked
from mecsim.kernels.branch import explore_all
from mecsim.kernels.play import Epochs
from mecsim.kernels.rings import State
from mecsim.model import Model, resolve
from mecsim.routing import Ways
from mecsim.scenario import RecordedTasks, Scenario
from mecsim.scheduler import Outcomes, SchedulerSpec, feature_names
from mecsim.workload import Chunk

RING: int = 256
"""Tasks that a replica has room for at first."""


class _Page(NamedTuple):
    """Epochs of one replica, E of them, and what is seen of each apart from the network."""

    epochs: Epochs
    tasks: Floats
    """Number of tasks and their mean size factor; shape (E, 2)."""
    blocks: Floats
    """Cycles, parameter bytes and input bits; shape (E, 3·M)."""
    device: Ints
    """Device of the epoch's task where epochs are tasks; shape (E,)."""

    @classmethod
    def of(cls, chunk: Chunk, model: Model) -> _Page:
        """Return the epochs of a chunk."""
        epochs, size = Epochs.of(chunk), chunk.expected_size
        tasks, device = chunk.expected_tasks, np.zeros(len(chunk.start_s), dtype=np.int64)
        if model.scenario.epoch == "task":
            rates = np.repeat(epochs.rates, np.diff(chunk.bounds))
            bounds = np.arange(len(chunk.device) + 1)
            epochs = epochs._replace(time_s=chunk.release_s, bounds=bounds, rates=rates)
            tasks, size, device = np.ones(len(chunk.device)), chunk.size, chunk.device
        mean = np.add.reduce(size, axis=1) / size.shape[1]
        data = np.broadcast_to(model.parameter_bytes, (len(size), model.blocks))
        blocks = np.concatenate([model.cycles * size, data, model.input_bits * size], axis=1)
        return cls(epochs, np.stack([tasks, mean], axis=1), blocks, device)

    @classmethod
    def idle(cls, model: Model) -> _Page:
        """Return one epoch without tasks, which stands for what comes after the end."""
        chunk = next(workload.chunks(model))
        size, nothing = np.ones((1, chunk.size.shape[1])), slice(0)
        epochs = Epochs(
            time_s=np.zeros(1),
            bounds=np.zeros(2, dtype=np.int64),
            rates=np.zeros(1, dtype=np.int64),
            release_s=chunk.release_s[nothing],
            device=chunk.device[nothing],
            size=chunk.size[nothing],
            rate_bps=chunk.rate_bps[:1],
        )
        work = [model.cycles * size, model.parameter_bytes[None, :], model.input_bits * size]
        blocks = np.concatenate(work, axis=1)
        return cls(epochs, np.array([[0.0, 1.0]]), blocks, np.zeros(1, dtype=np.int64))


class _Feed:
    """The epochs of one replica, a page at a time; the page after this one is known, too.

    Without a model there are none.
    """

    def __init__(self, model: Model | None = None) -> None:
        self._pages = iter(()) if model is None else _pages(model)
        self._ahead: deque[_Page | None] = deque()  # None: there is no more
        self.page = next(self._pages, None)
        self.look_ahead(1)

    def look_ahead(self, pages: int) -> None:
        """Draw pages until so many after this one are known."""
        while len(self._ahead) < pages:
            self._ahead.append(next(self._pages, None))

    @property
    def next_s(self) -> float:
        """When the first epoch after this page comes; infinity if there is none."""
        following = self._ahead[0]
        return math.inf if following is None else float(following.epochs.time_s[0])

    def turn(self) -> None:
        """Go on to the next page."""
        self.page = self._ahead.popleft()
        self.look_ahead(1)


def _pages(model: Model) -> Iterator[_Page]:
    pages = (_Page.of(chunk, model) for chunk in workload.chunks(model))
    return (page for page in pages if len(page.epochs.time_s))


class Replicas:
    """B replicas of a scenario; :meth:`reset` them before the first :meth:`step`.

    ``threads`` of them work at a time; results do not depend on it. The methods are to be called
    from one thread at a time.
    """

    def __init__(self, scenario: Scenario, replicas: int, *, threads: int = 1) -> None:
        if isinstance(scenario.arrivals, RecordedTasks):
            raise ScenarioError("arrivals.process: trace has no seeds; replicas need drawn tasks")
        for name, count in (("replicas", replicas), ("threads", threads)):
            if count < 1:
                raise ValueError(f"{name}: {count} should be at least 1")
        self.scenario, self.replicas = scenario, replicas
        model = resolve(scenario)
        self.spec = SchedulerSpec.of(model)
        self.blocks, self.places = model.blocks, model.servers + 1
        self.features = len(feature_names(self.spec))
        self._terms, self._resources = Terms.of(model), model.resources
        self._models, self._feeds = [model] * replicas, [_Feed()] * replicas
        self._state = stacked([State.of(model, RING)] * replicas)
        self._ways, self._idle = Ways.of(model), _Page.idle(model)
        self._backlog_s = np.zeros((replicas, len(model.resources)))
        bounds = np.linspace(0, replicas, min(threads, replicas) + 1).astype(int).tolist()
        self._shares = list(pairwise(bounds))
        self._pool = ThreadPoolExecutor(len(self._shares)) if len(self._shares) > 1 else None
        self._drawing: Future[None] | None = None
        self._at = np.zeros(replicas, dtype=np.int64)
        self._bind()

    def reset(self, seeds: Sequence[int], which: Sequence[int] | None = None) -> Floats:
        """Start the replicas anew, one seed each; return what is seen; shape (B, features).

        ``which`` names those to be started, all by default. Raises ``ScenarioError``.
        """
        rows = list(range(self.replicas)) if which is None else list(which)
        if len(rows) != len(seeds):
            raise ValueError(f"{len(seeds)} seeds for {len(rows)} replicas")
        if len(set(rows)) < len(rows) or not set(rows) <= set(range(self.replicas)):
            allowed = f"different ones of 0 to {self.replicas - 1}"
            raise ValueError(f"which: {rows}; allowed: {allowed}")
        self._await_drawing()
        states = unstacked(self._state)
        models = [resolve(self.scenario, seed) for seed in seeds]
        feeds = [_Feed(model) for model in models]
        for model, feed in zip(models, feeds, strict=True):
            if feed.page is None:
                problem = "has no decision epoch: no task is released; replicas need at least one"
                raise ScenarioError(f"arrivals: under seed {model.seed} a run {problem}")
        for row, model, feed in zip(rows, models, feeds, strict=True):
            self._models[row], self._feeds[row] = model, feed
            states[row] = State.of(model, RING)
            self._at[row] = 0
        self._state = stacked(states)
        self._ways = Ways.of(self._models[0])._replace(
            speed=np.stack([model.speed for model in self._models]),
            access=np.stack([model.access for model in self._models]),
        )
        self._backlog_s[rows] = 0.0
        self._bind()
        return self._observe()

    def step(self, placements: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Act on the present epoch of every replica and go on to its next one.

        ``placements`` has the shape (B, M). Returns what is seen then, shape (B, features), the
        rewards of the epochs acted on (Eq. 14), shape (B,), and which replicas have come to the
        end: all tasks have ended, and they wait for a reset. Raises ``PlacementError``.
        """
        seen, rewards, ended = self.roll(np.asarray(placements)[None])
        return seen, rewards[0], ended

    def roll(self, placements: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Act on K epochs, one after the other, as :meth:`step` does on one; shape (K, B, M).

        Returns what is seen in the end, the rewards of shape (K, B), 0 after the end of a replica,
        and which have come to the end.
        """
        places = self._checked(placements)
        rewards = np.zeros(places.shape[:2])
        done = np.zeros(self.replicas, dtype=np.int64)
        needed = np.zeros(self.replicas, dtype=np.int64)
        while (going := (done < len(places)) & ~self.ended).any():
            end = self._first + np.where(self.ended, 0, self._count)
            epoch = self._first + np.where(self.ended, 0, self._at)
            turns = Turns(epoch, end, self._next_s, done, needed, places, rewards, self._backlog_s)
            self._take_turns(turns)
            self._at = np.where(going, epoch - self._first, self._at)
            if needed.any():
                self._make_room(needed)
            self._turn_pages(going & (epoch == end))
        return self._observe(), rewards, self.ended.copy()

    def what_if(self, placements: Ints) -> Outcomes:
        """Simulate what C placements of each present epoch would lead to; shape (B, C, M).

        Every one is run from the network as it is until all tasks have ended; the replicas stay
        where they are. Outcomes have the shape (B, C); those of a replica at its end mean nothing.
        Raises ``PlacementError``.
        """
        places = self._checked(np.moveaxis(np.asarray(placements), 1, 0))
        places = np.ascontiguousarray(np.moveaxis(places, 0, 1))
        shape, row = places.shape[:2], self._first + np.where(self.ended, 0, self._at)
        out = Outcomes(np.empty(shape), np.empty(shape, dtype=np.int64))
        needed = np.ones(self.replicas, dtype=np.int64)
        while needed.any():
            scratch = [unstacked(self._state)[0].copy() for _ in self._shares]
            works = zip(self._shares, scratch, strict=True)
            ways, terms, epochs = self._ways, self._terms, self._page.epochs
            jobs = [
                (*share, self._state, s, ways, terms, epochs, row, places, needed, out)
                for share, s in works
            ]
            others = (
                [self._pool.submit(explore_all, *job) for job in jobs[1:]] if self._pool else []
            )
            explore_all(*jobs[0])
            wait(others)
            if needed.any():
                self._make_room(needed)
        return out

    def _turn_pages(self, which: NDArray[np.bool_]) -> None:
        if which.any():
            self._await_drawing()
        for row in np.flatnonzero(which):
            self._feeds[row].turn()
            self._at[row] = 0
        if which.any():
            self._bind()

    def _make_room(self, needed: Ints) -> None:
        """Double the rings that were too small for the tasks of an epoch or for their hops."""
        states = zip(unstacked(self._state), needed.tolist(), strict=True)
        self._state = stacked([s.with_room(self._most_tasks, hops) for s, hops in states])

    @property
    def time_s(self) -> Floats:
        """When the present epoch of every replica comes; infinity at its end; shape (B,)."""
        row = self._first + self._at
        return np.where(self.ended, math.inf, self._page.epochs.time_s[row])

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def _take_turns(self, turns: Turns) -> None:
        """Let the threads work, this one included."""

        def work(share: tuple[int, int]) -> None:
            states, epochs = self._state, self._page.epochs
            take_turns(*share, states, self._ways, self._terms, epochs, turns)

        if self._pool is None:
            work(self._shares[0])
            return
        others = [self._pool.submit(work, share) for share in self._shares[1:]]
        if self._drawing is None:  # meanwhile, as the work is free of the GIL
            self._drawing = self._pool.submit(self._look_ahead)
        try:
            work(self._shares[0])
        finally:  # nobody writes any more when Ctrl-C is told
            wait(others)

    def _await_drawing(self) -> None:
        if self._drawing is not None:
            self._drawing.result()
            self._drawing = None

    def _look_ahead(self) -> None:
        for feed in self._feeds:
            feed.look_ahead(2)

    def _bind(self) -> None:
        """Put the pages of all replicas into one."""
        self.ended = np.array([feed.page is None for feed in self._feeds])
        pages = [feed.page or self._idle for feed in self._feeds]
        epochs = [page.epochs for page in pages]
        self._count = np.array([len(each.time_s) for each in epochs])
        self._first = np.cumsum(self._count) - self._count
        tasks = np.cumsum([0] + [len(each.device) for each in epochs])
        rates = np.cumsum([0] + [len(each.rate_bps) for each in epochs])
        self._next_s = np.array([feed.next_s for feed in self._feeds])
        joined = zip(epochs, tasks.tolist(), rates.tolist(), strict=False)
        bounds, rows = zip(*((e.bounds[:-1] + t, e.rates + r) for e, t, r in joined), strict=True)
        self._most_tasks = max(int(np.diff(each.bounds).max()) for each in epochs)
        together = Epochs(
            time_s=np.concatenate([each.time_s for each in epochs]),
            bounds=np.concatenate([*bounds, tasks[-1:]]),
            rates=np.concatenate(rows),
            release_s=np.concatenate([each.release_s for each in epochs]),
            device=np.concatenate([each.device for each in epochs]),
            size=np.concatenate([each.size for each in epochs]),
            rate_bps=np.concatenate([each.rate_bps for each in epochs]),
        )
        seen = (np.concatenate(columns) for columns in zip(*(p[1:] for p in pages), strict=True))
        self._page = _Page(together, *seen)

    def _observe(self) -> Floats:
        """Return what is seen at the present epochs; of a replica at its end, an idle network."""
        page, parts, backlog_s = self._page, self._resources, self._backlog_s
        row = self._first + self._at
        return features(
            Seen(
                tasks=page.tasks[row],
                blocks=page.blocks[row],
                rate_bps=page.epochs.rate_bps[page.epochs.rates[row]],
                server_backlog_s=backlog_s[:, : parts.device],
                device_backlog_s=backlog_s[:, parts.device : parts.uplink],
                uplink_backlog_s=backlog_s[:, parts.uplink : parts.downlink],
                downlink_backlog_s=backlog_s[:, parts.downlink : parts.link],
                link_backlog_s=backlog_s[:, parts.link :],
                battery_j=self._state.battery_j,
                access=self._ways.access,
                link_source=self.spec.links.source,
                device=page.device[row] if self.spec.epoch == "task" else None,
            )
        )

    def _checked(self, placements: Ints) -> Ints:
        places = np.asarray(placements)
        if places.dtype.kind not in "iu":
            raise PlacementError(f"placements hold {places.dtype}; allowed: integers")
        if places.shape[1:] != (self.replicas, self.blocks):
            shape = f"({self.replicas}, {self.blocks}), one place a block of every replica"
            found = places.shape[1:]
            raise PlacementError(f"placements have the shape {found}; allowed: {shape}")
        if places.min(initial=0) < 0 or places.max(initial=0) >= self.places:
            wrong = np.argwhere((places < 0) | (places >= self.places))[0]
            _, replica, block = wrong.tolist()
            raise PlacementError(
                f"placements: replica {replica} puts block {block} at {places[tuple(wrong)]}; "
                f"allowed: 0 (the device) to {self.places - 1}"
            )
        return np.array(places, dtype=np.int64, order="C")  # of one layout, for the compiler
