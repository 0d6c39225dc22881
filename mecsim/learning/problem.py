"""The input of a training: the request of a user, and the problem that a learner has to solve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from mecsim.errors import InputError
from mecsim.learning.policy_file import SUFFIX
from mecsim.model.model import resolve
from mecsim.model.workload import mean_rate
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replicas import Replicas

VALIDATION_SEEDS: Final = 900_000
"""First of the seeds on which policies are evaluated during training."""
TRAINING_SEEDS: Final = 1_000_000
"""Smallest seed of training; comparisons use smaller ones."""
MAX_WORKERS: Final = 16


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A training as a user asks for it.

    Attributes:
        scenario: The scenario to train on.
        scheduler: The name of a learning scheduler.
        out: The policy file to write.
        episodes: The amount to simulate, in runs of the scenario.
        seed: The seed of the training.
        options: Training options, see ``mecsim train --settings``.
        preset: The preset whose values options that are not given have; None for the defaults.
        workers: The number of parallel workers, 1 to 16.
        serial: Train in this process and in a fixed order; the same seed then gives the same
            policy to the last bit. ``workers`` is ignored.
        engine: ``local`` (processes of this machine) or ``ray`` (the Ray cluster to which this
            process is connected).
        scenario_name: The scenario's name in the policy file.
    """

    scenario: Scenario
    scheduler: str
    out: Path
    episodes: int
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    workers: int = 1
    serial: bool = False
    engine: str = "local"
    scenario_name: str = "scenario"

    def check(self) -> None:
        """Check numbers and the file name.

        Raises:
            InputError: If one is not allowed.
        """
        if self.episodes < 1:
            raise InputError(f"episodes: {self.episodes}; allowed: at least 1")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed}; allowed: at least 0")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InputError(f"workers: {self.workers}; allowed: 1 to {MAX_WORKERS}")
        if self.out.suffix != SUFFIX:
            raise InputError(f"{self.out}: allowed: a name that ends in {SUFFIX}")
        if self.out.is_dir():
            raise InputError(f"{self.out}: is a folder; allowed: a file name")


@dataclass(frozen=True)
class TrainingProblem:
    """The problem that a learner has to solve, with environments that simulate it.

    Attributes:
        scenario: The scenario to train on, complete in itself.
        settings: The training options, an instance of :attr:`Learner.settings`.
        seed: The seed of the training.
        episodes: The amount to simulate, in runs of the scenario.
        workers: The number of parallel workers.
        serial: Train in this process and in a fixed order.
        engine: Where workers run: ``local`` or ``ray``.
        prolonged: The lengths that the training had before it was prolonged, in episodes.
    """

    scenario: Scenario
    settings: Any
    seed: int
    episodes: int
    workers: int
    serial: bool
    engine: str = "local"
    prolonged: tuple[int, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the training, in episodes: the first one, and each prolonged one.

        Schedules, such as that of exploration, follow the first; they stay at their last values.
        """
        return (*self.prolonged, self.episodes)

    @cached_property
    def epochs(self) -> int:
        """Decision epochs of a run; their expected number with per-task decisions."""
        slots = self._episode.slots
        if self.scenario.decision_epoch == "per_slot":
            return slots * len(self.scenario.classes)
        return max(1, round(mean_rate(resolve(self.scenario)) * slots))

    @cached_property
    def _episode(self) -> Scenario:
        """The scenario with the slots of an episode."""
        slots = getattr(self.settings, "episode_slots", 0)
        return self.scenario.model_copy(update={"slots": slots}) if slots else self.scenario

    @property
    def episodes_a_run(self) -> float:
        """Episodes that have as many slots as a run; reported rewards are those of a run."""
        return self.scenario.slots / self._episode.slots

    @cached_property
    def spec(self) -> SchedulerSpec:
        """The part of the scenario that schedulers know."""
        return SchedulerSpec.of(resolve(self.scenario))

    def make_envs(self, count: int) -> Replicas:
        """Return ``count`` environments, which must be reset before their first step.

        Their observations have the features of the option ``features`` in addition, the last ones.
        """
        return Replicas(self._episode, count, features=self.features)

    @property
    def features(self) -> str | None:
        """Where the features come from that observations have in addition, if they have some."""
        return getattr(self.settings, "features", None) or None

    def training_seeds(self, iteration: int, count: int) -> list[int]:
        """Return the seeds of the environments of an iteration.

        Args:
            iteration: Number of the iteration, from 0.
            count: Number of environments.
        """
        offsets = np.random.SeedSequence([self.seed, iteration]).generate_state(count, np.uint32)
        return [TRAINING_SEEDS + int(offset) for offset in offsets]

    def validation_seeds(self, count: int) -> list[int]:
        """Return seeds that training never uses."""
        return list(range(VALIDATION_SEEDS, VALIDATION_SEEDS + count))

    def rng(self, *key: int) -> np.random.Generator:
        """Return the random generator of one part of the training, named by ``key``."""
        return np.random.default_rng([self.seed, 1, *key])
