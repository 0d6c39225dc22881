"""Gymnasium environments: ``mecsim/Partition-v0``, single and vectorised.

An episode is a run, a step one of its decision epochs (a slot or a task, as the scenario says).
Importing this module registers the environment::

    gymnasium.make("mecsim.env:mecsim/Partition-v0", scenario="scenarios/vgg16_4es.yaml")

**Action**: a place in {0, …, N} for each of the M blocks (Eq. 2), an array of shape (M,). Where
tasks are of several classes, M is the largest number of blocks of a class; a class that has fewer
uses the first places.
**Reward**: the reward of the epoch (Eq. 14). After the last epoch the network drains, which counts
for that epoch, and the episode is *terminated*; it is never truncated. Where an epoch is a slot and
tasks are of several classes, a slot is a step for each class in turn; the last one has the reward
of the slot, and the others have 0.

**Observation**: the features of :func:`mecsim.scheduler.feature_names`, in that order, each divided
by a scale that depends on the scenario but not on the seed, see
:mod:`mecsim.scheduler.feature_scale`. A limited battery is 1 when full, an unlimited one always.
In a run, :meth:`mecsim.scheduler.Observation.scaled_features` gives a scheduler the same vectors.
Custom features (``features=``, see :class:`mecsim.CustomFeatures`) follow as they are.
The observation after the end of an episode is all zeros. In SI units an observation is
``observation * env.scale``; ``env.feature_names`` names its features. Where tasks are of several
classes, the last features are 1 for the class of the tasks to place and 0 for the others.

**Seeds**: ``reset(seed=n)`` gives the tasks and channels of ``mecsim run --seed n``. Every reset
without a seed draws the next workload from the generator of the environment, and
``options={"workload_seed": n}`` chooses one. With per-task decisions, seeds without any task are
skipped: the run takes the next seed that has one.

**Info**, after every reset and step: ``epoch``, the number of the current epoch; ``time_s``, its
time, infinite after the end; ``workload_seed``, the seed of the run; ``skipped_seeds``, the number
of seeds without tasks that its reset skipped.

**Copies**: environments can be deep-copied and pickled at any time. A copy steps exactly like the
original.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import InputError
from mecsim.scenario.loading import with_overrides
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.custom_features import CustomFeatures
from mecsim.scheduler.feature_scale import Scaled
from mecsim.simulation.replicas import Replicas
from mecsim.support.arrays import Bools, Floats, Ints, read_only

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.error import ResetNeeded
    from gymnasium.utils import seeding
    from gymnasium.vector import AutoresetMode, VectorEnv
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError("mecsim.env needs gymnasium: pip install 'mecsim[gym]'") from error

ID: Final = "mecsim/Partition-v0"

Observations: TypeAlias = Scaled
"""An observation, shape (features,), or those of B runs, shape (B, features)."""
Source: TypeAlias = Scenario | str | os.PathLike[str]
"""A scenario, the path of its file, or a shipped name."""
Features: TypeAlias = str | type[CustomFeatures] | None
"""Custom features: ``path/file.py:Class``, or the class; None for none."""


class PartitionEnv(gymnasium.Env[Observations, Ints]):
    """A single environment; see :mod:`mecsim.env`.

    Args:
        scenario: A scenario, the path of its file, or a shipped name.
        overrides: Changes of the scenario, each as ``KEY.PATH=VALUE``.
        features: Features that observations have in addition, the last ones.

    Attributes:
        scenario: The scenario with all changes.
        feature_names: Names of the features in an observation.
        scale: The divisor of each feature; shape (features,).

    Raises:
        ScenarioError: If the scenario is not valid.
        SchedulerError: If the features cannot be loaded; from a step, if they cannot be computed.

    Example:
        >>> env = PartitionEnv("scenarios/vgg16_4es.yaml", overrides=["slots=2"])
        >>> observation, info = env.reset(seed=0)
        >>> observation.shape, info["workload_seed"]
        ((45,), 0)
        >>> observation, reward, ended, _, info = env.step([1, 1, 1, 1, 1, 1])
        >>> reward < 0, ended
        (True, False)
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self, scenario: Source, *, overrides: Sequence[str] = (), features: Features = None
    ) -> None:
        self._runs = runs = _Runs(with_overrides(scenario, overrides), 1, 1, features)
        self.scenario, self.feature_names, self.scale = runs.scenario, runs.names, runs.scale
        self.observation_space, self.action_space = runs.observation_space, runs.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a run.

        Args:
            seed: The seed of the run and of the generator of later ones.
            options: ``workload_seed``, the seed of the run alone.

        Returns:
            The first observation, shape (features,), and info, see :mod:`mecsim.env`.

        Raises:
            ScenarioError: If with per-task decisions no task is released under 1,001 seeds.
            InputError: If an option is unknown.
        """
        super().reset(seed=seed)
        chosen = _option(options)
        observed = self._runs.reset([0], [_workload_seed(chosen, seed, self.np_random)])
        return observed[0], self._info()

    def step(self, action: Ints) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Act on the current epoch and advance to the next one.

        Args:
            action: A place in {0, …, N} for each block; shape (M,).

        Returns:
            The next observation, shape (features,); the reward; whether the episode terminated;
            False; and info.

        Raises:
            PlacementError: If the action is not a placement; the episode can continue.
            ResetNeeded: If no episode has been started.
        """
        if self._runs.replicas.ended[0]:
            raise ResetNeeded(f"{ID}: no episode is running. Try: call reset() first")
        observed, rewards, ended = self._runs.step(np.asarray(action)[None])
        return observed[0], float(rewards[0]), bool(ended[0]), False, self._info()

    def _info(self) -> dict[str, Any]:
        return {name: values[0].item() for name, values in self._runs.infos().items()}


class PartitionVectorEnv(VectorEnv[Observations, Ints, NDArray[Any]]):
    """Steps B runs in one compiled call; see :mod:`mecsim.env`.

    Results equal those of Gymnasium's ``SyncVectorEnv`` of B single environments to the last bit,
    with its seeds (``seed + i`` for the i-th) and its way of resetting
    (``AutoresetMode.NEXT_STEP``): the step after the end of an episode ignores its action and
    returns the first observation of the next episode, with reward 0.

    Args:
        scenario: A scenario, the path of its file, or a shipped name.
        num_envs: B.
        overrides: Changes of the scenario, each as ``KEY.PATH=VALUE``.
        threads: Threads that step runs in parallel; results do not depend on it.
        features: Features that observations have in addition, the last ones.

    Attributes ``scenario``, ``feature_names`` and ``scale`` are those of :class:`PartitionEnv`.

    Raises:
        ScenarioError: If the scenario is not valid.
        InputError: If a number is below 1.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as Gymnasium declares it
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        scenario: Source,
        num_envs: int = 1,
        *,
        overrides: Sequence[str] = (),
        threads: int = 1,
        features: Features = None,
    ) -> None:
        for name, value in (("num_envs", num_envs), ("threads", threads)):
            if value < 1:
                raise InputError(f"{name}: {value}; allowed: at least 1")
        self._runs = runs = _Runs(with_overrides(scenario, overrides), num_envs, threads, features)
        self._generators: list[np.random.Generator] = []
        self.num_envs = num_envs
        self.scenario, self.feature_names, self.scale = runs.scenario, runs.names, runs.scale
        self.single_observation_space = runs.observation_space
        self.single_action_space = runs.action_space
        self.observation_space = batch_space(runs.observation_space, num_envs)
        self.action_space = batch_space(runs.action_space, num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Start all runs.

        Args:
            seed: The seed of the first run (plus i for the i-th), or a list of seeds.
            options: ``workload_seed``, the seed of all runs, or a list.

        Returns:
            The first observations, shape (B, features), and info in Gymnasium's form.

        Raises:
            ScenarioError: If with per-task decisions no task is released under 1,001 seeds.
            InputError: If an option is unknown, or a list does not have length B.
        """
        seeds = self._seeds(seed)
        chosen = self._each("workload_seed", _option(options))
        self._generators = [
            seeding.np_random(seeds[i])[0] if seeds[i] is not None else self._generator(i)
            for i in self._rows
        ]
        chosen_seeds = map(_workload_seed, chosen, seeds, self._generators)
        return self._runs.reset(self._rows, list(chosen_seeds)), self._infos()

    def step(self, actions: Ints) -> tuple[Observations, Floats, Bools, Bools, dict[str, Any]]:
        """Act on the current epoch of every run; reset runs that ended at the last step.

        Args:
            actions: A place in {0, …, N} for each run and block; shape (B, M).

        Returns:
            Observations, shape (B, features); rewards, terminations and truncations (False), of
            shape (B,); and info in Gymnasium's form.

        Raises:
            PlacementError: If an action is not a placement.
            ResetNeeded: If no episode has been started.
        """
        self._check_started()
        again = self._runs.replicas.ended.copy()
        observed, rewards, ended = self._runs.step(actions)
        if again.any():
            observed = self._start_again(again)
            ended = self._runs.replicas.ended.copy()
        return observed, rewards, ended, np.zeros(self.num_envs, dtype=np.bool_), self._infos()

    def reset_ended(self) -> tuple[Observations, dict[str, Any]]:
        """Reset the runs that have ended now, which otherwise the next step does.

        Returns:
            The present observations of all runs, shape (B, features), and info in Gymnasium's form.

        Raises:
            ScenarioError: As :meth:`reset`.
            ResetNeeded: If no episode has been started.
        """
        self._check_started()
        return self._start_again(self._runs.replicas.ended.copy()), self._infos()

    def _check_started(self) -> None:
        if not self._generators:
            raise ResetNeeded(f"{ID}: no episode is running. Try: call reset() first")

    def _start_again(self, ended: Bools) -> Observations:
        rows = np.flatnonzero(ended).tolist()
        seeds = [_workload_seed(None, None, self._generators[row]) for row in rows]
        return self._runs.reset(rows, seeds)

    def close_extras(self, **_kwargs: Any) -> None:
        """Stop the threads."""
        self._runs.replicas.close()

    @property
    def _rows(self) -> range:
        return range(self.num_envs)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None or isinstance(seed, Sequence):
            return self._each("seed", seed)
        return [operator.index(seed) + i for i in self._rows]

    def _generator(self, row: int) -> np.random.Generator:
        return self._generators[row] if self._generators else seeding.np_random()[0]

    def _each(self, name: str, values: Any) -> list[Any]:
        """Return a value for every run, from one for all or a list."""
        if not isinstance(values, Sequence):
            return [values] * self.num_envs
        if len(values) != self.num_envs:
            raise InputError(f"{name}: has {len(values)} entries; allowed: {self.num_envs}")
        return list(values)

    def _infos(self) -> dict[str, Any]:
        """Return info in Gymnasium's form: every entry with a mask of the runs that have it."""
        infos = self._runs.infos()
        return infos | {f"_{name}": np.ones(self.num_envs, dtype=np.bool_) for name in infos}


class _Runs:
    """Replicas of a scenario, with the observations, spaces and info of both environments."""

    def __init__(self, scenario: Scenario, count: int, threads: int, features: Features) -> None:
        self.scenario = scenario
        self.replicas = Replicas(scenario, count, threads=threads, features=features)
        self.names, self._encode = self.replicas.feature_names, self.replicas.spec.feature_scale
        self._known = len(self._encode.divisor)
        custom = len(self.names) - self._known
        self.scale = read_only(np.append(self._encode.divisor, np.ones(custom)))
        # Backlogs have no bound, but Gymnasium's checker warns of an infinite one.
        high = np.full(len(self.names), np.finfo(np.float32).max, dtype=np.float32)
        low = np.where(np.arange(len(self.names)) < self._known, np.float32(0.0), -high)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.MultiDiscrete(
            np.full(self.replicas.blocks, self.replicas.places, dtype=np.int64)
        )
        self._epoch = np.zeros(count, dtype=np.int64)
        self._skipped = np.zeros(count, dtype=np.int64)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        read_only(self.scale)  # which copying forgets

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Observations:
        """Start some runs; return the observations of all."""
        raw = self.replicas.reset(seeds, which=rows)
        pairs = zip(self.replicas.seeds[rows].tolist(), seeds, strict=True)
        self._epoch[rows], self._skipped[rows] = 0, [found - asked for found, asked in pairs]
        return self._observations(raw)

    def step(self, placements: Ints) -> tuple[Observations, Floats, Bools]:
        """Step the replicas; those that have ended wait for a reset."""
        raw, rewards, ended = self.replicas.step(placements)
        self._epoch += 1
        return self._observations(raw), rewards, ended

    def infos(self) -> dict[str, NDArray[Any]]:
        """Return info on every run, as new arrays of shape (B,)."""
        return {
            "epoch": self._epoch.copy(),
            "time_s": self.replicas.time_s,
            "workload_seed": self.replicas.seeds.copy(),
            "skipped_seeds": self._skipped.copy(),
        }

    def _observations(self, raw: Floats) -> Observations:
        scaled = self._encode(raw[:, : self._known])
        if raw.shape[1] > self._known:
            scaled = np.concatenate([scaled, raw[:, self._known :]], axis=1, dtype=np.float32)
        scaled[self.replicas.ended] = 0.0
        return scaled


def _option(options: Mapping[str, Any] | None) -> Any:
    """Return the option ``workload_seed``, or None."""
    for name in options or {}:
        if name != "workload_seed":
            raise InputError(f"reset: {name!r} is not a known option; allowed: workload_seed")
    return (options or {}).get("workload_seed")


def _workload_seed(chosen: int | None, seed: int | None, draws: np.random.Generator) -> int:
    """Return the seed of the next run: the chosen one, that of the reset, or a drawn one."""
    given = seed if chosen is None else chosen
    return int(draws.integers(2**63)) if given is None else operator.index(given)


gymnasium.register(
    ID,
    entry_point="mecsim.env:PartitionEnv",
    vector_entry_point="mecsim.env:PartitionVectorEnv",
)
