"""B independent replicas of a scenario, stepped together: what learners train on.

Each replica does what a run under its own seed does (see :mod:`mecsim.session`), epoch by epoch
and to the last bit; all of them take their turns in one compiled call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim import workload
from mecsim.accounts import Terms
from mecsim.arrays import Floats, Ints
from mecsim.errors import PlacementError, ScenarioError
from mecsim.features import Seen, features
from mecsim.kernels.batch import Turn, stacked, take_turns, unstacked
from mecsim.kernels.play import Epochs
from mecsim.kernels.rings import State
from mecsim.model import Model, resolve
from mecsim.routing import Ways
from mecsim.scenario import RecordedTasks, Scenario
from mecsim.scheduler import SchedulerSpec, check_placements, feature_names
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
    """The epochs of one replica, a page at a time; the next page is known in advance.

    Without a model there are none.
    """

    def __init__(self, model: Model | None = None) -> None:
        self._pages = iter(()) if model is None else self._all(model)
        self.page, self._next = next(self._pages, None), next(self._pages, None)

    @staticmethod
    def _all(model: Model) -> Iterator[_Page]:
        pages = (_Page.of(chunk, model) for chunk in workload.chunks(model))
        return (page for page in pages if len(page.epochs.time_s))

    @property
    def next_s(self) -> float:
        """When the first epoch after this page comes; infinity if there is none."""
        return math.inf if self._next is None else float(self._next.epochs.time_s[0])

    def turn(self) -> None:
        """Go on to the next page."""
        self.page, self._next = self._next, next(self._pages, None)


class Replicas:
    """B replicas of a scenario; :meth:`reset` them before the first :meth:`step`.

    ``threads`` of them work at a time; results do not depend on it.
    """

    def __init__(self, scenario: Scenario, replicas: int, *, threads: int = 1) -> None:
        if isinstance(scenario.arrivals, RecordedTasks):
            raise ScenarioError("arrivals.process: trace has no seeds; replicas need drawn tasks")
        if replicas < 1:
            raise ValueError(f"replicas: {replicas}; allowed: at least 1")
        self.scenario, self.replicas = scenario, replicas
        model = resolve(scenario)
        self.spec = SchedulerSpec.of(model)
        self.blocks, self.places = model.blocks, model.servers + 1
        self.features = len(feature_names(self.spec))
        self._terms, self._resources = Terms.of(model), model.resources
        self._models, self._feeds = [model] * replicas, [_Feed()] * replicas
        self._state = stacked([State.of(model, RING)] * replicas)
        self._ways, self._idle = self._ways_of_all(), _Page.idle(model)
        self._turn = Turn.of(replicas, model.blocks, len(model.resources))
        bounds = np.linspace(0, replicas, min(threads, replicas) + 1).astype(int).tolist()
        self._shares = list(pairwise(bounds))
        self._pool = ThreadPoolExecutor(len(self._shares)) if len(self._shares) > 1 else None
        self._at = np.zeros(replicas, dtype=np.int64)
        self._bind()

    def reset(self, seeds: Sequence[int], which: Sequence[int] | None = None) -> Floats:
        """Start the replicas anew, one seed each; return what is seen; shape (B, features).

        ``which`` names those to be started, all by default. Raises ``ScenarioError``.
        """
        rows = list(range(self.replicas)) if which is None else list(which)
        if len(rows) != len(seeds):
            raise ValueError(f"{len(seeds)} seeds for {len(rows)} replicas")
        states, models = unstacked(self._state), [resolve(self.scenario, seed) for seed in seeds]
        for row, model in zip(rows, models, strict=True):
            self._models[row], self._feeds[row] = model, _Feed(model)
            states[row] = State.of(model, RING)
            self._at[row] = 0
        self._state = stacked(states)
        self._ways = self._ways_of_all()
        self._turn.backlog_s[rows] = 0.0
        self._bind()
        return self._observe()

    def step(self, placements: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Act on the present epoch of every replica and go on to its next one.

        ``placements`` has the shape (B, M). Returns what is seen then, shape (B, features), the
        rewards of the epochs acted on (Eq. 14), shape (B,), and which replicas have come to the
        end: all tasks have ended, and they wait for a reset. Raises ``PlacementError``.
        """
        turn, at = self._turn, self._at
        turn.placement[:] = self._checked(placements)
        turn.epoch[:] = self._first + at
        turn.pending[:] = ~self.ended
        turn.reward[:] = 0.0
        last = at + 1 >= self._count
        following = np.minimum(turn.epoch + 1, len(self._page.epochs.time_s) - 1)
        turn.until_s[:] = np.where(last, self._next_s, self._page.epochs.time_s[following])
        while True:
            self._take_turns()
            if not turn.pending.any():
                break
            self._state = stacked(
                [
                    state.with_room(self._most_tasks, int(turn.needed[b]))
                    for b, state in enumerate(unstacked(self._state))
                ]
            )
        at += ~self.ended
        turned = np.flatnonzero(last & ~self.ended)
        for row in turned:
            self._feeds[row].turn()
            at[row] = 0
        if len(turned):
            self._bind()
        return self._observe(), turn.reward.copy(), self.ended.copy()

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def _take_turns(self) -> None:
        def work(share: tuple[int, int]) -> None:
            states, epochs = self._state, self._page.epochs
            take_turns(*share, states, self._ways, self._terms, epochs, self._turn)

        if self._pool is None:
            work((0, self.replicas))
        else:
            list(self._pool.map(work, self._shares))

    def _ways_of_all(self) -> Ways:
        return Ways.of(self._models[0])._replace(
            speed=np.stack([model.speed for model in self._models]),
            access=np.stack([model.access for model in self._models]),
        )

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
        page, parts, backlog_s = self._page, self._resources, self._turn.backlog_s
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
        places = check_placements(placements, self.spec, "replicas: placement")
        if len(places) != self.replicas:
            raise PlacementError(f"{len(places)} placements for {self.replicas} replicas")
        return places
