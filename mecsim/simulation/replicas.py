"""B independent replicas of a scenario, stepped together: learners train on them.

Each replica gives, epoch by epoch and bit for bit, the results of a run under its own seed (see
:mod:`mecsim.simulation.session`). One compiled call steps all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import ScenarioError
from mecsim.kernels.accounting import RunLog
from mecsim.kernels.advance import BatchStep, add_services, advance
from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.hops import HOP
from mecsim.kernels.rollout import empty_outcomes, expected_arrivals, rollout
from mecsim.kernels.state import State, restart, stacked, unstacked, with_calendars
from mecsim.kernels.tables import KernelTables
from mecsim.model.model import Model, reseeded, resolve
from mecsim.scenario.schema import RecordedTasks, Scenario
from mecsim.scheduler.custom_features import AddedFeatures, CustomFeatures, ObservationBatch
from mecsim.scheduler.observation import Outcomes, feature_names
from mecsim.scheduler.placement_checks import check_placements
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.epoch_buffer import EpochBuffer, EpochSource
from mecsim.simulation.overload import HOP_IN_STATE, OverloadGuard
from mecsim.simulation.slot_turns import SlotTurns
from mecsim.support.arrays import Floats, Ints

RING: int = 256
"""Initial room of a replica, in tasks."""
SEED_TRIALS: Final = 1000
"""Number of seeds without tasks to skip before giving up."""


class Replicas:
    """B replicas of a scenario; :meth:`reset` them before the first :meth:`step`.

    Where an epoch is a slot and tasks are of several classes, each slot has an epoch for each class
    in turn, as in a run. Their tasks are submitted together, with the last of them, whose reward is
    that of the slot; those of the others are 0. Placements have a place for each of the M blocks
    that a class has at most; those beyond the blocks of a class are checked and not used.

    Call the methods from one thread at a time. Replicas can be copied (``copy.deepcopy``) and
    pickled at any time; a copy steps exactly like the original.

    Args:
        scenario: The scenario; its arrivals must be drawn, not recorded.
        replicas: B.
        threads: Number of threads that step them; results do not depend on it.
        features: Features that observations have in addition, the last ones: a class, or
            ``path/file.py:Class``.

    Attributes:
        seeds: The seed of each replica's run; shape (B,).
        blocks: M, the number of blocks, or the largest of a class.
        epochs_a_slot: Epochs of a slot where an epoch is a slot: one for each class; else 1.
        feature_names: Names of the features of an observation.

    Raises:
        ScenarioError: The scenario has recorded arrivals, or retries.
        SchedulerError: The features cannot be loaded.
        ValueError: A number is below 1.

    Example:
        >>> from mecsim import load
        >>> replicas = Replicas(load("scenarios/vgg16_4es.yaml", ["slots=2"]), replicas=3)
        >>> replicas.reset(seeds=[0, 1, 2]).shape  # features of the first observations
        (3, 45)
        >>> everything_on_device = np.zeros((3, replicas.blocks), dtype=int)
        >>> observations, rewards, ended = replicas.step(everything_on_device)
        >>> rewards.shape, ended.tolist()
        ((3,), [False, False, False])
    """

    def __init__(
        self,
        scenario: Scenario,
        replicas: int,
        *,
        threads: int = 1,
        features: str | type[CustomFeatures] | None = None,
    ) -> None:
        if any(isinstance(each.arrivals, RecordedTasks) for each in scenario.classes):
            raise ScenarioError("arrivals.process: trace has no seeds; replicas need drawn tasks")
        for number, each in enumerate(scenario.classes):
            if each.retries:
                problem = "trainings and environments do not place lost tasks again; allowed: 0"
                with scenario.locating(), scenario.in_class(number):
                    raise ScenarioError(f"retries: {each.retries}, but {problem}")
        for name, count in (("replicas", replicas), ("threads", threads)):
            if count < 1:
                raise ValueError(f"{name}: {count} should be at least 1")
        self.scenario, self.replicas, self._threads = scenario, replicas, threads
        self.seeds = np.zeros(replicas, dtype=np.uint64)
        self._model = model = resolve(scenario)
        self.spec = SchedulerSpec.of(model)
        self.blocks, self.places = model.blocks, model.servers + 1
        self._classes = len(model.classes)
        self.epochs_a_slot = self._classes if scenario.decision_epoch == "per_slot" else 1
        self._turns = SlotTurns(replicas, self._classes, self.blocks)
        self._added_from = features
        self._added = AddedFeatures(features, self.spec) if features else None
        self.feature_names = feature_names(self.spec)
        self.feature_names += self._added.names if self._added else ()
        self.features = len(self.feature_names)
        self._epochs = np.zeros(replicas, dtype=np.int64)
        self._state = stacked([State.of(model, RING)] * replicas)
        self._buffer = EpochBuffer(model, replicas)
        self._tables = KernelTables.of(model, networks=replicas)
        self._overload = OverloadGuard(model, HOP_IN_STATE * replicas)
        self._log = RunLog.empty()
        self._backlog_s = np.zeros((replicas, len(model.resources)))
        self._committed_s = np.zeros_like(self._backlog_s[: replicas if self._classes > 1 else 0])
        bounds = np.linspace(0, replicas, min(threads, replicas) + 1).astype(int).tolist()
        self._shares = list(pairwise(bounds))
        self._pool = ThreadPoolExecutor(len(self._shares)) if len(self._shares) > 1 else None

    def reset(self, seeds: Sequence[int], which: Sequence[int] | None = None) -> Floats:
        """Start new runs.

        With per-task decisions, a seed under which no task is released is replaced by the next one
        under which one is; :attr:`seeds` holds the seeds in use.

        Args:
            seeds: One seed for each replica that starts.
            which: The replicas that start; all by default.

        Returns:
            The observations of all replicas as vectors; shape (B, features).

        Raises:
            ScenarioError: A seed is out of range, or no task is released under it and the seeds
                after it.
            ValueError: ``seeds`` and ``which`` do not fit together.
        """
        rows = list(range(self.replicas)) if which is None else list(which)
        if len(rows) != len(seeds):
            raise ValueError(f"{len(seeds)} seeds for {len(rows)} replicas")
        if len(set(rows)) < len(rows) or not set(rows) <= set(range(self.replicas)):
            allowed = f"different ones of 0 to {self.replicas - 1}"
            raise ValueError(f"which: {rows}; allowed: {allowed}")
        sources = [_first_with_epochs(self._model, seed) for seed in seeds]
        restart(self._state, rows, self._model.battery_j)
        self._backlog_s[rows] = 0.0
        if len(self._committed_s):
            self._committed_s[rows] = 0.0
        self._epochs[rows] = 0
        self._turns.restart(rows)
        self._buffer.start(dict(zip(rows, sources, strict=True)))
        self._use_models()
        return self._observe()

    def _use_models(self) -> None:
        """Take over what each replica's seed has drawn once for its run."""
        for row, model in self._buffer.models():
            self.seeds[row] = model.seed
            self._tables.speed[row] = model.speed
            self._tables.joules_per_work[row] = model.compute.joules_per_work
            self._state = with_calendars(self._state, row, model.calendars)

    def __getstate__(self) -> dict[str, Any]:
        """Return a position in the runs; all else follows from the scenario and the seeds."""
        return {
            "arguments": (self.scenario, self.replicas, self._threads, self._added_from),
            "state": self._state,
            "backlog_s": self._backlog_s,
            "committed_s": self._committed_s,
            "turns": self._turns,
            "epochs": self._epochs,
            "buffer": self._buffer.position(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        scenario, replicas, threads, features = state["arguments"]
        made = Replicas(scenario, replicas, threads=threads, features=features)
        vars(self).update(vars(made))
        self._state, self._backlog_s = state["state"], state["backlog_s"]
        self._committed_s, self._turns = state["committed_s"], state["turns"]
        self._epochs = state["epochs"]
        self._buffer.resume(state["buffer"], self._model)
        self._use_models()

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Whether each replica's run has ended; shape (B,)."""
        return self._buffer.ended

    def step(self, placements: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Act on the present epoch of every replica and advance to its next one.

        Args:
            placements: Place of every block, for each replica; shape (B, M).

        Returns:
            The observations of the next epochs as vectors, shape (B, features); the rewards of
            the epochs acted on (Eq. 14), shape (B,); and whether each replica's run has ended:
            its tasks have ended too, and it waits for a reset; shape (B,).

        Raises:
            PlacementError: A placement is invalid.
        """
        seen, rewards, ended = self._roll(self._checked(placements, replica=self.replicas)[None])
        return seen, rewards[0], ended

    def roll(self, placements: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Act on K epochs, one after the other; see :meth:`step`.

        Args:
            placements: Shape (K, B, M).

        Returns:
            The last observations, shape (B, features); the rewards, 0 after the end of a run,
            shape (K, B); and whether each replica's run has ended, shape (B,).
        """
        return self._roll(self._checked(placements, step=None, replica=self.replicas))

    def _roll(self, places: Ints) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        if self.epochs_a_slot > 1:
            actions = self._turns.take(places)
            rewards = actions.rewards(self._act(actions.placements, actions.left_out))
            self._turns.restart(self._buffer.ended)
        else:
            each = np.repeat(places.transpose(1, 0, 2)[:, :, None], self._classes, axis=2)
            none_left_out = np.zeros(self.replicas, dtype=np.int64)
            rewards = np.ascontiguousarray(self._act(each, none_left_out).T)
        self._epochs += len(places)
        return self._observe(), rewards, self._buffer.ended.copy()

    def _act(self, placements: Ints, done: Ints) -> Floats:
        """Submit the tasks of K epochs of the buffer; return their rewards, shape (B, K).

        Args:
            placements: Shape (B, K, C, M).
            done: How many of the K each replica leaves out; shape (B,); changed.
        """
        count, of_steps = placements.shape[:2]
        each = np.ascontiguousarray(placements.reshape(count * of_steps, *placements.shape[2:]))
        log = self._log._replace(rewards=np.zeros(len(each)))
        needed, buffer = np.zeros(count, dtype=np.int64), self._buffer
        while ((done < of_steps) & ~buffer.ended).any():
            epochs = buffer.epoch, buffer.end, buffer.next_s
            step = BatchStep(*epochs, done, needed, self._backlog_s, self._committed_s)
            self._advance(of_steps, each, step, log)
            if needed.any():
                self._make_room(needed)
            buffer.refill()
        return log.rewards.reshape(count, of_steps)

    def upcoming(self) -> Floats:
        """Return observations of the next epochs as if nothing waited or were used until then.

        They are those of the present epoch and of the ones after it, as far as all replicas that
        have not ended have drawn theirs. Tasks and rates are exact; backlogs and committed work
        are 0, and batteries are those of now.

        Returns:
            Shape (K, B, features), K at least 1 unless all replicas have ended. Rows of replicas
            that have ended have no meaning.

        Raises:
            ValueError: There are custom features, which may depend on what waits.
        """
        if self._added is not None:
            raise ValueError("upcoming: custom features may depend on the queues of that time")
        buffer, alive = self._buffer, ~self._buffer.ended
        if not alive.any():
            return np.zeros((0, self.replicas, self.features))
        drawn = (buffer.end - buffer.epoch) * self.epochs_a_slot - self._turns.number
        steps = np.arange(drawn[alive].min())[:, None] + self._turns.number
        later = steps // self.epochs_a_slot
        rows = np.where(alive, buffer.epoch + later, buffer.epoch).ravel()
        idle_s = np.zeros((len(rows), self._backlog_s.shape[1]))
        battery_j = np.tile(self._state.battery_j, (len(steps), 1))
        class_ = self._class_at(rows, (steps % self.epochs_a_slot).ravel())
        seen = buffer.table.observed(rows, self._model, self._tables, idle_s, battery_j, class_)
        return seen.features().reshape(len(steps), self.replicas, self.features)

    def what_if(self, placements: Ints) -> Outcomes:
        """Simulate C placements of each present epoch until all tasks have ended.

        The replicas stay as they are. Tasks that a scheduler cannot know yet are replaced by the
        expected ones, as in :meth:`mecsim.scheduler.Observation.what_if`.

        Args:
            placements: Shape (B, C, M).

        Returns:
            The outcomes, shape (B, C). Those of a replica at its end have no meaning.

        Raises:
            PlacementError: A placement is invalid.
        """
        places = self._checked(placements, replica=self.replicas, placement=None)
        if self.epochs_a_slot > 1:
            places = self._turns.with_placed(places)
        else:
            places = np.ascontiguousarray(np.repeat(places[:, :, None], self._classes, axis=2))
        out, needed = empty_outcomes(*places.shape[:2]), np.ones(self.replicas, dtype=np.int64)
        epochs, row = self._known()

        def work(share: tuple[int, int]) -> None:
            states, tables = self._state, self._tables
            scratch = unstacked(states)[0].copy()
            rollout(*share, states, scratch, tables, epochs, row, places, needed, out)

        while needed.any():
            self._in_threads(work)
            if needed.any():
                self._make_room(needed, [epochs.tasks_at(at) for at in row.tolist()])
        return out

    def _known(self) -> tuple[EpochTable, Ints]:
        """Return what is known of the tasks to place, and of those placed before at this instant.

        Returns:
            A table, and the row of each replica in it.
        """
        table, rows, model = self._buffer.table, self._buffer.epoch, self._model
        if self.epochs_a_slot == 1:
            return expected_arrivals(table, rows, model)
        return self._turns.known(table, rows, model), np.arange(self.replicas)

    def _make_room(self, needed: Ints, tasks: Sequence[int] | None = None) -> None:
        """Enlarge the buffers that are too small for an epoch's tasks or for their hops."""
        states = unstacked(self._state)
        for row in np.flatnonzero(needed).tolist():
            count = self._buffer.tasks_at(row) if tasks is None else tasks[row]
            more = count, int(needed[row])
            slot = int(self._buffer.table.slot[self._buffer.epoch[row]])
            self._overload.check_state(states[row], more, slot, float(self.time_s[row]))
            states[row] = states[row].with_room(*more)
        self._state = stacked(states)

    @property
    def time_s(self) -> Floats:
        """Time of every replica's present epoch, infinity at its end; shape (B,)."""
        begun_s = self._buffer.table.time_s[self._buffer.epoch]
        return np.where(self.ended, math.inf, begun_s)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _advance(self, count: int, placements: Ints, step: BatchStep, log: RunLog) -> None:
        def work(share: tuple[int, int]) -> None:
            tables, epochs = self._tables, self._buffer.table
            advance(*share, self._state, tables, epochs, count, placements, step, log)

        self._in_threads(work)

    def _in_threads(self, work: Callable[[tuple[int, int]], None]) -> None:
        """Do the work of all shares, one of them in this thread."""
        if self._pool is None:
            work(self._shares[0])
            return
        others = [self._pool.submit(work, share) for share in self._shares[1:]]
        try:
            work(self._shares[0])
        finally:  # on Ctrl-C too: no thread may still write afterwards
            wait(others)

    def _observe(self) -> Floats:
        """Return the observations of the present epochs; of an idle network after the end."""
        table, rows = self._buffer.table, self._buffer.epoch
        battery_j, class_ = self._state.battery_j, self._class_at(rows, self._turns.number)
        seen = table.observed(
            rows,
            self._model,
            self._tables,
            self._backlog_s,
            battery_j,
            class_,
            None if class_ is None else self._committed_s + self._placed_s(),
        )
        found = seen.features()
        if self._added is None:
            return found
        added = np.zeros((self.replicas, len(self._added.names)))
        alive = np.flatnonzero(~self.ended)
        if alive.size:
            batch = ObservationBatch(self.spec, self._epochs, self.time_s, seen)
            added[alive] = self._added(batch if len(alive) == len(added) else batch.rows(alive))
        return np.concatenate([found, added], axis=1)

    def _placed_s(self) -> Floats | float:
        """Return the services of tasks that were placed at this instant, and not yet submitted.

        Shape (B, R), or 0 if there are none.
        """
        if not self._turns.number.any():
            return 0.0
        epochs = self._turns.known(self._buffer.table, self._buffer.epoch, self._model, before=True)
        placed_s, needed = np.zeros_like(self._backlog_s), 1
        while needed:
            rows = np.empty(needed, dtype=HOP)
            states, tables, placed = self._state, self._tables, self._turns.placed
            needed = add_services(states, tables, epochs, placed, rows, placed_s)
        return placed_s

    def _class_at(self, rows: Ints, turn: Ints) -> Ints | None:
        """Return the class of some epochs, given that of slots; None if there is only one."""
        if self._classes == 1:
            return None
        return turn.copy() if self.epochs_a_slot > 1 else self._buffer.table.class_at(rows)

    def _checked(self, placements: Ints, **axes: int | None) -> Ints:
        return check_placements(placements, self.spec, "the array of placements", **axes)


def _first_with_epochs(model: Model, first: int) -> EpochSource:
    """Return the run of the first seed, from ``first`` on, with an epoch."""
    for seed in range(first, first + SEED_TRIALS + 1):
        source = EpochSource(reseeded(model, seed))
        if not source.empty():
            return source
    problem = f"no task is released under seeds {first} to {first + SEED_TRIALS}"
    raise ScenarioError(f"arrivals: {problem}; replicas need at least one decision epoch")
