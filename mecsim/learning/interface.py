"""The face of schedulers that learn: what they are told, what they may use, what they leave.

A learner is a scheduler whose decisions come from a policy file. Its class also says how such a
policy is trained; :mod:`mecsim.learning.training` calls that, and keeps the records.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import numpy as np

from mecsim.errors import PolicyError, ScenarioError
from mecsim.errors import SchedulerError as SchedulerError  # learners take these from here
from mecsim.errors import TrainingError as TrainingError
from mecsim.learning.policy_file import SUFFIX, PolicyHeader, read_header, read_policy
from mecsim.learning.policy_file import Arrays as Arrays
from mecsim.model.model import resolve
from mecsim.model.workload import mean_rate
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.registry import check_options
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replicas import Replicas as Replicas
from mecsim.support.arrays import Floats

_log = logging.getLogger(__name__)

UNTRAINED: Final = "untrained"
"""As a policy's path: the parameters that training begins with."""
FOLDERS: Final = (Path("results", "policies"), Path("results", "training"))
"""Where the policy for a scenario is looked for, below the working folder."""

VALIDATION_SEEDS: Final = 900_000
"""The first of the seeds under which policies are evaluated during training."""
TRAINING_SEEDS: Final = 1_000_000
"""All seeds of training are at least so large: comparisons use smaller ones."""
TRIALS: Final = 1000
"""Seeds that are tried for one under which there are tasks."""


@dataclass(frozen=True)
class Task:
    """What is to be learned."""

    scenario: Scenario
    settings: Any
    """The learner's own, see :attr:`Learner.settings`."""
    seed: int
    episodes: int
    """How much may be simulated: so many runs of the scenario, or as many slots in other pieces."""
    workers: int
    serial: bool
    """Whether all is done in this process, in a fixed order: the same policy from the same seed."""
    engine: str = "local"
    """Where workers are: in processes of this machine, or on the Ray cluster (``ray``) to which
    this process is connected."""

    @cached_property
    def epochs(self) -> int:
        """Decision epochs of a run; where epochs are tasks, as many as are expected."""
        if self.scenario.decision_epoch == "per_slot":
            return self.scenario.slots
        return max(1, round(mean_rate(resolve(self.scenario)) * self.scenario.slots))

    @cached_property
    def spec(self) -> SchedulerSpec:
        """What schedulers know of the scenario."""
        return SchedulerSpec.of(resolve(self.scenario))

    def replicas(self, count: int) -> Replicas:
        """Return environments."""
        return Replicas(self.scenario, count)

    def begin(self, replicas: Replicas, seeds: Sequence[int]) -> Floats:
        """Start replicas anew; return what is seen; shape (B, features).

        A seed under which no task is released, where epochs are tasks, gives way to the next one.
        Raises ``ScenarioError`` if tasks are too rare for that.
        """
        try:
            return replicas.reset(seeds)
        except ScenarioError:
            trial = self.replicas(1)
            return replicas.reset([_with_tasks(trial, seed) for seed in seeds])

    def training_seeds(self, number: int, count: int) -> list[int]:
        """Return seeds for the environments of a round."""
        drawn = np.random.SeedSequence([self.seed, number]).generate_state(count, np.uint32)
        return [TRAINING_SEEDS + int(seed) for seed in drawn]

    def validation_seeds(self, count: int) -> list[int]:
        """Return seeds that training never uses."""
        return list(range(VALIDATION_SEEDS, VALIDATION_SEEDS + count))

    def rng(self, *which: int) -> np.random.Generator:
        """Return random numbers for some part of the training."""
        return np.random.default_rng([self.seed, 1, *which])


def _with_tasks(trial: Replicas, first: int) -> int:
    """Return the first seed under which there are tasks. Raises ``ScenarioError``."""
    for seed in range(first, first + TRIALS):
        with suppress(ScenarioError):
            trial.reset([seed])
            return seed
    trial.reset([first + TRIALS])
    return first + TRIALS


class Checkpoint(NamedTuple):
    """What a training that was cut short goes on from."""

    arrays: Arrays
    state: dict[str, Any]


class Diary(Protocol):
    """What a training tells, and where it leaves what it may go on from."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Where an earlier attempt at this training stopped."""

    def note(self, share: float, measures: Mapping[str, float]) -> None:
        """Note what was measured when a share of the training was done."""

    def keep(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Offer a checkpoint; it is written now and then."""

    def warn(self, message: str) -> None:
        """Tell the user something that he should know."""


class Trained(NamedTuple):
    """What a training leaves."""

    arrays: Arrays
    validation_reward: float
    """Of the best policy: the mean reward under the seeds of validation."""


class Learner(Scheduler):
    """A scheduler that decides by a trained policy.

    ``policy`` is a policy file; by default the one for this scenario is looked for in
    ``results/policies`` and ``results/training``.
    """

    name: ClassVar[str]
    """As registered."""
    settings: ClassVar[type]
    """A dataclass of training options, all with defaults."""

    def __init__(self, spec: SchedulerSpec, *, policy: str = "") -> None:
        super().__init__(spec)
        if policy == UNTRAINED:
            self.load(self.settings(), self.untrained(spec, self.settings()))
            return
        path = Path(policy) if policy else find(self.name, spec)
        found = read_policy(path)
        _check_fits(path, found.header, self.name, spec)
        settings = self._settings_in(path, found.header)
        shapes = [layout_of(each) for each in (found.arrays, self.untrained(spec, settings))]
        if shapes[0] != shapes[1]:
            raise PolicyError(f"policy {path}: its arrays are not those that its header says")
        try:
            self.load(settings, found.arrays)
        except SchedulerError as error:
            raise PolicyError(f"policy {path}: {error}") from error

    def _settings_in(self, path: Path, header: PolicyHeader) -> Any:
        try:
            return self.settings(**check_options(self.name, self.settings, header.settings))
        except SchedulerError as error:
            raise PolicyError(f"policy {path}: its settings: {error}") from error

    @classmethod
    @abstractmethod
    def untrained(cls, spec: SchedulerSpec, settings: Any) -> Arrays:
        """Return a policy as it is before training."""

    @abstractmethod
    def load(self, settings: Any, arrays: Arrays) -> None:
        """Decide by these arrays from now on."""

    @classmethod
    @abstractmethod
    def train(cls, task: Task, diary: Diary) -> Trained:
        """Train a policy. Raises ``TrainingError``."""


def layout_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of arrays."""
    return {name: array.shape for name, array in arrays.items()}


def find(scheduler: str, spec: SchedulerSpec) -> Path:
    """Return the file of the policy that was trained on a scenario. Raises ``PolicyError``."""
    for path in _candidates():
        try:
            header = read_header(path)
        except PolicyError:
            continue  # none of ours, or of another version
        if header.scheduler == scheduler and header.scenario_sha256 == spec.scenario_sha256:
            return path
    raise PolicyError(
        f"scheduler {scheduler!r}: there is no policy for this scenario; train one with "
        f"`mecsim train SCENARIO --scheduler {scheduler}` (with the same --set), or name one with "
        "--option policy=FILE"
    )


def _candidates() -> list[Path]:
    shipped = Path(__file__).resolve().parents[2] / FOLDERS[0]
    places = dict.fromkeys(folder.resolve() for folder in (*FOLDERS, shipped))
    return [path for folder in places for path in sorted(folder.glob(f"*{SUFFIX}"))]


def _check_fits(path: Path, header: PolicyHeader, scheduler: str, spec: SchedulerSpec) -> None:
    """Raise ``PolicyError`` if a policy is not for such a scenario; warn if it is for another."""
    theirs = (header.scheduler, header.blocks, header.servers, header.decision_epoch)
    ours = (scheduler, spec.blocks, spec.servers, spec.decision_epoch)
    what = ("scheduler", "blocks", "edge_servers", "decision_epoch")
    for name, trained, here in zip(what, theirs, ours, strict=True):
        if trained != here:
            problem = f"is for {name}: {trained}, here it is {here}"
            raise PolicyError(f"policy {path}: {problem}; allowed: a policy of the same shape")
    if header.features != feature_names(spec):
        raise PolicyError(f"policy {path}: decides by other features; train it again")
    if header.scenario_sha256 != spec.scenario_sha256:
        _log.warning("policy %s was trained on another scenario (%s)", path, header.scenario)
