"""Interface of learning schedulers: their base class, logger and result.

A learner is a scheduler that decides by a trained policy. Its class also trains such policies;
:mod:`mecsim.learning.training` calls that and keeps the records.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Protocol

import numpy as np

from mecsim.errors import NoPolicyError, PolicyError, SchedulerError, TrainingError
from mecsim.learning.policy_file import SUFFIX, Arrays, PolicyHeader, read_header, read_policy
from mecsim.learning.problem import TrainingProblem
from mecsim.learning.settings import TrainingSettings
from mecsim.scheduler.base import Scheduler
from mecsim.scheduler.custom_features import AddedFeatures
from mecsim.scheduler.observation import Observation, feature_names
from mecsim.scheduler.registry import check_options
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.support.arrays import Floats
from mecsim.support.files import packaged

_log = logging.getLogger(__name__)

UNTRAINED: Final = "untrained"
"""As the path of a policy: the parameters that training begins with."""
POLICY_FOLDERS: Final = (Path("results", "policies"), Path("results", "training"))
"""Where the policy for a scenario is searched, below the working folder."""


class Checkpoint(NamedTuple):
    """The point from which an interrupted training resumes."""

    arrays: Arrays
    """Parameters and other arrays, all of 32-bit floats."""
    state: dict[str, Any]
    """Plain values that JSON can hold."""


class TrainingLogger(Protocol):
    """Receives training metrics and checkpoints."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint to resume from; None at the beginning of a training."""

    def log(self, share: float, measures: Mapping[str, float]) -> None:
        """Log measures.

        Args:
            share: The share of the training that is done, 0 to 1.
            measures: Values by name, see :data:`mecsim.learning.learning_curve.MEASURES`.
        """

    @property
    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old. Learners with many short steps save only then."""

    def save_checkpoint(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Save a checkpoint, which replaces the previous one.

        Args:
            arrays: Arrays of 32-bit floats; they are copied.
            state: Plain values that JSON can hold.
        """

    def warn(self, message: str) -> None:
        """Warn the user."""


class TrainingResult(NamedTuple):
    """The result of a training."""

    arrays: Arrays
    """The best policy."""
    validation_reward: float
    """Its mean reward of a run on the validation seeds, in seconds (Eq. 14)."""


class Learner(Scheduler):
    """A scheduler that decides by a trained policy.

    Args:
        spec: The part of the scenario that schedulers know.
        policy: A policy file. By default the one for this scenario is searched in
            ``results/policies`` and ``results/training``.
        features: The custom features of a policy that was trained with them,
            ``path/file.py:Class``. A policy file never says what to execute.

    Attributes:
        policy_file: The file of the policy; None for the untrained one.
        custom: The custom features; None without them.

    Raises:
        PolicyError: If there is no policy, or if it does not fit.
    """

    name: ClassVar[str]
    """The name under which the scheduler is registered."""
    settings: ClassVar[type[TrainingSettings]]
    """Training options, all with defaults."""
    conformance_options: ClassVar[Mapping[str, Any]] = {"policy": UNTRAINED}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tuned": {}}
    """Training options by the name of a preset; ``tuned`` are the defaults. Given options override
    those of a preset."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules of the extra ``torch`` that training imports."""

    def __init__(self, spec: SchedulerSpec, *, policy: str = "", features: str = "") -> None:
        super().__init__(spec)
        self.policy_file: Path | None = None
        self.custom = AddedFeatures(features, spec) if features else None
        if policy == UNTRAINED:
            untrained = self.settings(features=features)
            self.load(untrained, self.untrained(spec, untrained))
            return
        path = Path(policy) if policy else find_policy(self.name, spec, custom=bool(features))
        self.policy_file = path
        found = read_policy(path)
        _check_fits(path, found.header, self.name, spec)
        _check_features(path, found.header, self.custom, spec)
        settings = self._settings_in(path, found.header, features)
        if layout_of(found.arrays) != layout_of(self.untrained(spec, settings)):
            raise PolicyError(f"policy {path}: names or shapes of arrays do not match its header")
        try:
            self.load(settings, found.arrays)
        except SchedulerError as error:
            raise PolicyError(f"policy {path}: {error}") from error

    def features_of(self, observation: Observation) -> Floats:
        """Return the features of an observation, custom ones last; shape (features,)."""
        found = observation.features()
        return found if self.custom is None else np.append(found, self.custom.one(observation))

    def _settings_in(self, path: Path, header: PolicyHeader, features: str) -> TrainingSettings:
        given = header.settings | ({"features": features} if features else {})
        try:
            return self.settings(**check_options(self.name, self.settings, given))
        except SchedulerError as error:
            raise PolicyError(f"policy {path}: its settings: {error}") from error

    @classmethod
    @abstractmethod
    def untrained(cls, spec: SchedulerSpec, settings: Any) -> Arrays:
        """Return an untrained policy.

        Args:
            spec: The part of the scenario that schedulers know.
            settings: An instance of :attr:`settings`.

        Raises:
            SchedulerError: If the settings do not fit the scenario.
        """

    @abstractmethod
    def load(self, settings: Any, arrays: Arrays) -> None:
        """Use a policy for all decisions from now on.

        Args:
            settings: The instance of :attr:`settings` with which it was trained.
            arrays: The policy, with names and shapes as :meth:`untrained` returns them.

        Raises:
            SchedulerError: If the policy does not fit.
        """

    @classmethod
    @abstractmethod
    def train(cls, problem: TrainingProblem, logger: TrainingLogger) -> TrainingResult:
        """Train a policy, from the logger's checkpoint if it has one.

        Args:
            problem: The scenario, the settings and the amount to simulate.
            logger: Receives metrics and checkpoints.

        Returns:
            The best policy by its reward on validation seeds.

        Raises:
            TrainingError: If the training fails.
        """

    @classmethod
    def in_one_process(cls, settings: Any) -> bool:
        """Whether trainings with these settings always run in one process, without workers."""
        del settings
        return False

    @classmethod
    def stack_key(cls, settings: Any) -> str | None:
        """Return a text that is equal for settings whose trainings can be one stack.

        None: such trainings gain nothing from :meth:`train_stack`.
        """
        del settings
        return None

    @classmethod
    def train_stack(
        cls, problems: Sequence[TrainingProblem], loggers: Sequence[TrainingLogger]
    ) -> list[TrainingResult | TrainingError]:
        """Train several policies; each is the one that :meth:`train` would give.

        Args:
            problems: Problems of one scenario and length, with settings of equal
                :meth:`stack_key`.
            loggers: One for each.

        Returns:
            The result of each, or why it failed.
        """
        found: list[TrainingResult | TrainingError] = []
        for problem, logger in zip(problems, loggers, strict=True):
            try:
                found.append(cls.train(problem, logger))
            except TrainingError as error:
                found.append(error)
        return found


def layout_of(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array by name.

    Examples:
        >>> import numpy as np
        >>> layout_of({"weight": np.zeros((2, 3), np.float32)})
        {'weight': (2, 3)}
    """
    return {name: array.shape for name, array in arrays.items()}


def find_policy(scheduler: str, spec: SchedulerSpec, *, custom: bool = False) -> Path:
    """Find the policy that was trained on a scenario.

    Args:
        scheduler: The name of a learner.
        spec: The part of the scenario that schedulers know.
        custom: Whether it was trained with custom features.

    Raises:
        NoPolicyError: If there is none.
    """
    for path in _policy_files():
        try:
            header = read_header(path)
        except PolicyError:
            continue  # another kind of file, or another version
        if (header.custom_features is not None) != custom:
            continue
        if header.scheduler == scheduler and header.scenario_sha256 == spec.scenario_sha256:
            return path
    raise NoPolicyError(
        f"scheduler {scheduler!r}: there is no policy for this scenario. Try: "
        f"`mecsim train SCENARIO --scheduler {scheduler}` (with the same --set), "
        "--option policy=FILE, or --scheduler greedy, which needs none"
    )


def _policy_files() -> list[Path]:
    shipped = packaged("policies", str(POLICY_FOLDERS[0]))
    folders = dict.fromkeys(folder.resolve() for folder in (*POLICY_FOLDERS, shipped))
    return [path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))]


def classes_of(spec: SchedulerSpec) -> dict[str, int]:
    """Return the blocks of each class of tasks by its name, in order; none if there is only one."""
    return {each.class_name: each.blocks for each in spec.classes} if len(spec.classes) > 1 else {}


def _shown(classes: Mapping[str, int]) -> str:
    texts = [f"{name} ({of} {'block' if of == 1 else 'blocks'})" for name, of in classes.items()]
    return ", ".join(texts) or "one class"


def _check_fits(path: Path, header: PolicyHeader, scheduler: str, spec: SchedulerSpec) -> None:
    """Raise ``PolicyError`` if a policy has another shape; warn if its scenario is another one."""
    compared = {
        "scheduler": (header.scheduler, scheduler),
        "tasks": (_shown(header.classes), _shown(classes_of(spec))),
        "blocks": (header.blocks, spec.most_blocks),
        "edge_servers": (header.servers, spec.servers),
        "decision_epoch": (header.decision_epoch, spec.decision_epoch),
    }
    for name, (theirs, ours) in compared.items():
        if theirs != ours:
            raise PolicyError(f"policy {path}: has {name}: {theirs}. Expected: {ours}")
    if header.scenario_sha256 != spec.scenario_sha256:
        _log.warning("policy %s was trained on another scenario (%s)", path, header.scenario)


def _check_features(
    path: Path, header: PolicyHeader, added: AddedFeatures | None, spec: SchedulerSpec
) -> None:
    """Raise ``PolicyError`` if a policy was trained on other features."""
    was = header.custom_features
    if was is None and added is not None:
        raise PolicyError(f"policy {path}: has no custom features. Try: omit the option features")
    if was is not None:
        ours = None if added is None else added.described()
        remedy = f"Try: --option features={was.source}"
        if ours is None:
            problem = f"was trained with custom features ({', '.join(was.names)})"
            raise PolicyError(f"policy {path}: {problem}. {remedy}")
        for kind, theirs, here in (
            ("custom features", ", ".join(was.names), ", ".join(ours.names)),
            ("a source of features with the SHA-256", was.sha256, ours.sha256),
        ):
            if theirs != here:
                problem = f"was trained with {kind} {theirs}, not {here} of {ours.source}"
                raise PolicyError(f"policy {path}: {problem}. {remedy} as it was then, or train")
    names = [*feature_names(spec), *(was.names if was else ())]
    if header.features != names:
        raise PolicyError(f"policy {path}: was trained on other features. Try: train it again")
