"""B independent replicas of a scenario, stepped together: what learners train on.

Each replica does what a run under its own seed does (see :mod:`mecsim.simulation.session`), epoch by epoch
and to the last bit; all of them take their turns in one compiled call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import PlacementError, ScenarioError
from mecsim.kernels.accounting import Terms
from mecsim.kernels.advance import Turns, restart, stacked, take_turns, unstacked
from mecsim.kernels.hops import Ways
from mecsim.kernels.rollout import explore_all
from mecsim.kernels.state import State
from mecsim.model.model import Model, reseeded, resolve
from mecsim.scenario.schema import RecordedTasks, Scenario
from mecsim.scheduler.features import Seen, features
from mecsim.scheduler.observation import Outcomes, feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.epoch_buffer import Feed, Pages, feed
from mecsim.support.arrays import Floats, Ints

RING: int = 256
"""Tasks that a replica has room for at first."""


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
        self._model = model = resolve(scenario)
        self.spec = SchedulerSpec.of(model)
        self.blocks, self.places = model.blocks, model.servers + 1
        self.features = len(feature_names(self.spec))
        self._terms, self._link_source = Terms.of(model), model.links.source.copy()
        self._state, self._pages = (
            stacked([State.of(model, RING)] * replicas),
            Pages(model, replicas),
        )
        self._ways = Ways.of(model)._replace(
            speed=np.tile(model.speed, (replicas, 1)),
            serving_server=np.tile(model.serving_server, (replicas, 1)),
        )
        self._backlog_s = np.zeros((replicas, len(model.resources)))
        bounds = np.linspace(0, replicas, min(threads, replicas) + 1).astype(int).tolist()
        self._shares = list(pairwise(bounds))
        self._pool = ThreadPoolExecutor(len(self._shares)) if len(self._shares) > 1 else None

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
        models = [reseeded(self._model, seed) for seed in seeds]
        feeds = {row: _begun(model) for row, model in zip(rows, models, strict=True)}
        restart(self._state, rows, self._model.battery_j)
        for row, model in zip(rows, models, strict=True):
            self._ways.speed[row], self._ways.serving_server[row] = (
                model.speed,
                model.serving_server,
            )
        self._backlog_s[rows] = 0.0
        self._pages.start(feeds)
        return self._observe()

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Which replicas have come to the end; shape (B,)."""
        return self._pages.ended

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
        pages, ended = self._pages, self._pages.ended
        while ((done < len(places)) & ~ended).any():
            epochs = pages.epoch, pages.end, pages.next_s
            self._take_turns(Turns(*epochs, done, needed, places, rewards, self._backlog_s))
            if needed.any():
                self._make_room(needed)
            pages.turn()
        return self._observe(), rewards, ended.copy()

    def what_if(self, placements: Ints) -> Outcomes:
        """Simulate what C placements of each present epoch would lead to; shape (B, C, M).

        Every one is run from the network as it is until all tasks have ended; the replicas stay
        where they are. Outcomes have the shape (B, C); those of a replica at its end mean nothing.
        Raises ``PlacementError``.
        """
        places = self._checked(np.moveaxis(np.asarray(placements), 1, 0))
        places = np.ascontiguousarray(np.moveaxis(places, 0, 1))
        out = Outcomes(np.empty(places.shape[:2]), np.empty(places.shape[:2], dtype=np.int64))
        needed = np.ones(self.replicas, dtype=np.int64)

        def work(share: tuple[int, int]) -> None:
            states, epochs, row = self._state, self._pages.together.epochs, self._pages.epoch
            begin, end, scratch = *share, unstacked(states)[0].copy()
            ways, terms = self._ways, self._terms
            explore_all(begin, end, states, scratch, ways, terms, epochs, row, places, needed, out)

        while needed.any():
            self._in_threads(work)
            if needed.any():
                self._make_room(needed)
        return out

    def _make_room(self, needed: Ints) -> None:
        """Double the rings that were too small for the tasks of an epoch or for their hops."""
        states = unstacked(self._state)
        for row in np.flatnonzero(needed).tolist():
            states[row] = states[row].with_room(self._pages.tasks_at(row), int(needed[row]))
        self._state = stacked(states)

    @property
    def time_s(self) -> Floats:
        """When the present epoch of every replica comes; infinity at its end; shape (B,)."""
        begun_s = self._pages.together.epochs.time_s[self._pages.epoch]
        return np.where(self.ended, math.inf, begun_s)

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def _take_turns(self, turns: Turns) -> None:
        """Let the threads work, this one included."""

        def work(share: tuple[int, int]) -> None:
            states, epochs = self._state, self._pages.together.epochs
            take_turns(*share, states, self._ways, self._terms, epochs, turns)

        self._in_threads(work)

    def _in_threads(self, work: Callable[[tuple[int, int]], None]) -> None:
        if self._pool is None:
            work(self._shares[0])
            return
        others = [self._pool.submit(work, share) for share in self._shares[1:]]
        try:
            work(self._shares[0])
        finally:  # nobody writes any more when Ctrl-C is told
            wait(others)

    def _observe(self) -> Floats:
        """Return what is seen at the present epochs; of a replica at its end, an idle network."""
        page, row, model = self._pages.together, self._pages.epoch, self._model
        return features(
            Seen(
                tasks=page.tasks[row],
                blocks=page.blocks(model, row),
                rate_bps=page.epochs.rate_bps[page.epochs.rates[row]],
                backlog_s=self._backlog_s,
                battery_j=self._state.battery_j,
                serving_server=self._ways.serving_server,
                link_source=self._link_source,
                device=page.device[row]
                if self.spec.decision_epoch == "per_task"
                else np.full(len(row), -1),
                servers=model.servers,
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


def _begun(model: Model) -> Feed:
    """Return the pages of a run, which has at least one. Raises ``ScenarioError``."""
    pages = feed(model)
    for first in pages:
        return chain([first], pages)
    problem = "has no decision epoch: no task is released; replicas need at least one"
    raise ScenarioError(f"arrivals: under seed {model.seed} a run {problem}")
