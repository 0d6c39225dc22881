"""Gymnasium environments: ``mecsim/Partition-v0``, alone and many at a time.

An episode is a run, a step one of its decision epochs (a slot or a task, as the scenario says).
Importing this module registers the environment::

    gymnasium.make("mecsim.env:mecsim/Partition-v0", scenario="scenarios/vgg16_4es.yaml")

**Action**: a place in {0, …, N} for each of the M blocks (Eq. 2), an array of shape (M,).
**Reward**: that of the epoch (Eq. 14). After the last epoch the network drains, which counts for
that epoch, and the episode is *terminated*; nothing is ever truncated.

**Observation**: the features of :func:`mecsim.scheduler.observation.feature_names`, in that order, each divided
by a scale that belongs to the scenario and is the same for all seeds:

==================  ===============================================================================
feature             scale
==================  ===============================================================================
``tasks``           mean number of tasks in a slot; 1 where epochs are tasks
``size_factor``     1
``cycles``          largest c_m of a task of size factor 1
``parameter_bytes`` largest d_m
``input_bits``      largest I_m of a task of size factor 1
``…backlog_s``      1: they are in seconds
``rate_bps``        nominal rate: mean of the range given, or of all devices without fading
``battery_J``       a full battery; the feature is 1 where batteries are unlimited
``serving_server``          N
==================  ===============================================================================

A scale that would be 0 is 1. Rates without fading depend on where devices are: they are taken
under seed 0. What is observed when an episode has ended is all zeros. The attributes
``feature_names`` and ``scale`` tell what is seen: ``observation * env.scale`` is in SI units.

**Seeds**: ``reset(seed=n)`` meets the tasks and channels of ``mecsim run --seed n``. Every reset
without a seed draws the next workload from the environment's own generator; ``info`` tells which,
and ``options={"workload_seed": n}`` asks for one.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.errors import InputError
from mecsim.model import equations
from mecsim.model.model import Model, resolve
from mecsim.model.workload import mean_rate
from mecsim.scenario import yaml_source
from mecsim.scenario.loading import load, validate
from mecsim.scenario.schema import Scenario, UniformRate
from mecsim.scheduler.observation import feature_names
from mecsim.simulation.replicas import Replicas
from mecsim.support.arrays import Floats, Ints, read_only

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

Seen: TypeAlias = NDArray[np.float32]
"""What is observed; shape (features,), or (B, features) of B replicas."""
Source: TypeAlias = Scenario | str | os.PathLike[str]
"""A scenario, or the path of one."""


class PartitionEnv(gymnasium.Env[Seen, Ints]):
    """One run at a time; see :mod:`mecsim.env`.

    ``overrides`` change the scenario, each as ``KEY.PATH=VALUE``. Raises ``ScenarioError``.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, scenario: Source, *, overrides: Sequence[str] = ()) -> None:
        self._runs = runs = _Runs(_scenario(scenario, overrides), 1, 1)
        self.scenario, self.feature_names, self.scale = runs.scenario, runs.names, runs.scale
        self.observation_space, self.action_space = runs.observation_space, runs.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Start a run; return what is observed at its first epoch, and info (see :meth:`step`).

        Raises ``ScenarioError`` and, for options that do not exist, ``InputError``.
        """
        super().reset(seed=seed)
        chosen = _option(options)
        seen = self._runs.reset([0], [_workload_seed(chosen, seed, self.np_random)])
        return seen[0], self._info()

    def step(self, action: Ints) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Act on the present epoch; return what is seen at the next one, the reward, and info.

        ``info`` has the number of the epoch that is now to be acted on (``epoch``), its time
        (``time_s``, infinite where none is left) and the seed of the run (``workload_seed``).
        Raises ``PlacementError``, after which the episode can go on, and Gymnasium's
        ``ResetNeeded``.
        """
        if self._runs.replicas.ended[0]:
            raise ResetNeeded(f"{ID}: no episode is going on; call reset() first")
        seen, rewards, ended = self._runs.step(np.asarray(action)[None])
        return seen[0], float(rewards[0]), bool(ended[0]), False, self._info()

    def _info(self) -> dict[str, Any]:
        return {name: values[0].item() for name, values in self._runs.infos().items()}


class PartitionVectorEnv(VectorEnv[Seen, Ints, NDArray[Any]]):
    """Many runs at a time, an epoch of each in one compiled call; see :mod:`mecsim.env`.

    Gives what Gymnasium's ``SyncVectorEnv`` of as many single environments gives, to the last bit,
    with its seeds (``seed + i`` for the i-th) and its way of starting anew
    (``AutoresetMode.NEXT_STEP``): the step after the last one of an episode ignores its action and
    returns the first observation of the next episode, with reward 0. ``threads`` work at a time;
    results do not depend on it. Raises ``ScenarioError`` and ``InputError``.
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
    ) -> None:
        for name, value in (("num_envs", num_envs), ("threads", threads)):
            if value < 1:
                raise InputError(f"{name}: {value}; allowed: at least 1")
        self._runs = runs = _Runs(_scenario(scenario, overrides), num_envs, threads)
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
    ) -> tuple[Seen, dict[str, Any]]:
        """Start all runs; return what is observed, shape (B, features), and info.

        ``seed`` is one for the first run, and one more for each that follows, or a list with one
        each; the option ``workload_seed`` is one for all runs, or a list. Raises ``ScenarioError``
        and ``InputError``.
        """
        seeds = self._seeds(seed)
        chosen = self._each("workload_seed", _option(options))
        self._generators = [
            seeding.np_random(seeds[i])[0] if seeds[i] is not None else self._generator(i)
            for i in self._rows
        ]
        drawn = map(_workload_seed, chosen, seeds, self._generators)
        return self._runs.reset(self._rows, list(drawn)), self._infos()

    def step(
        self, actions: Ints
    ) -> tuple[Seen, Floats, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Act on the present epoch of every run, or start it anew if it ended at the last step.

        ``actions`` has the shape (B, M). Returns what is observed, shape (B, features), rewards,
        terminations and truncations (never), all of shape (B,), and info. Raises
        ``PlacementError`` and ``ResetNeeded``.
        """
        if not self._generators:
            raise ResetNeeded(f"{ID}: no episode is going on; call reset() first")
        again = np.flatnonzero(self._runs.replicas.ended).tolist()
        seen, rewards, ended = self._runs.step(actions)
        if again:
            seeds = [_workload_seed(None, None, self._generators[i]) for i in again]
            seen = self._runs.reset(again, seeds)
            ended = self._runs.replicas.ended.copy()
        return seen, rewards, ended, np.zeros(self.num_envs, dtype=np.bool_), self._infos()

    def close_extras(self, **_kwargs: Any) -> None:
        """Let the threads go."""
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
        """Return info in Gymnasium's form: with a mask of the runs that each entry is of."""
        infos: dict[str, Any] = {}
        for name, values in self._runs.infos().items():
            infos[name], infos[f"_{name}"] = values, np.ones(self.num_envs, dtype=np.bool_)
        return infos


class _Runs:
    """Replicas of a scenario with what both environments make of them."""

    def __init__(self, scenario: Scenario, count: int, threads: int) -> None:
        self.scenario, self.replicas = scenario, Replicas(scenario, count, threads=threads)
        model = resolve(scenario)
        self.names = feature_names(self.replicas.spec)
        self.scale = read_only(_scale(model, self.names))
        (self._battery,) = (i for i, name in enumerate(self.names) if name.endswith("battery_J"))
        self._unlimited = bool(np.isinf(model.battery_j))
        # Backlogs have no bound; Gymnasium's checker takes an infinite one for an oversight.
        high = np.finfo(np.float32).max
        shape = (len(self.names),)
        self.observation_space = spaces.Box(np.float32(0.0), high, shape, dtype=np.float32)
        self.action_space = spaces.MultiDiscrete(
            np.full(self.replicas.blocks, self.replicas.places, dtype=np.int64)
        )
        self._epoch = np.zeros(count, dtype=np.int64)
        self._seed = np.zeros(count, dtype=np.uint64)

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> Seen:
        """Start some runs; return what is seen of all."""
        raw = self.replicas.reset(seeds, which=rows)
        self._epoch[rows], self._seed[rows] = 0, seeds
        return self._seen(raw)

    def step(self, placements: Ints) -> tuple[Seen, Floats, NDArray[np.bool_]]:
        """Do a step of the replicas; those that ended before wait to be started anew."""
        raw, rewards, ended = self.replicas.step(placements)
        self._epoch += 1
        return self._seen(raw), rewards, ended

    def infos(self) -> dict[str, NDArray[Any]]:
        """Return info on every run; arrays of shape (B,), new ones."""
        return {
            "epoch": self._epoch.copy(),
            "time_s": self.replicas.time_s,
            "workload_seed": self._seed.copy(),
        }

    def _seen(self, raw: Floats) -> Seen:
        scaled = raw / self.scale
        if self._unlimited:
            scaled[:, self._battery] = 1.0
        scaled[self.replicas.ended] = 0.0
        return scaled.astype(np.float32)


def _scenario(source: Source, overrides: Sequence[str]) -> Scenario:
    if not isinstance(source, Scenario):
        return load(source, overrides)
    if not overrides:
        return source
    document = yaml_source.Document(source.model_dump(mode="json"))
    for override in overrides:
        yaml_source.assign(document, override)
    return validate(document)


def _scale(model: Model, names: Sequence[str]) -> Floats:
    """Return what each feature is divided by; shape (features,)."""
    of = {
        "tasks": _mean_tasks(model),
        "size_factor": 1.0,
        "cycles": model.cycles.max(),
        "parameter_bytes": model.parameter_bytes.max(),
        "input_bits": model.input_bits.max(),
        "rate_bps": _nominal_rate_bps(model),
        "battery_J": 1.0 if np.isinf(model.battery_j) else model.battery_j,
        "serving_server": model.servers,
    }
    backlogs = ("cpu", "links_out", "device", "uplink", "downlink")
    of |= {f"{name}_backlog_s": 1.0 for name in backlogs}
    # A name is "kind", "entity.kind", or either with "mean_" before the kind.
    scale = np.array([of[name.rpartition(".")[2].removeprefix("mean_")] for name in names])
    return np.where(scale > 0, scale, 1.0)


def _mean_tasks(model: Model) -> float:
    """Return the mean number of tasks of an epoch."""
    return 1.0 if model.scenario.decision_epoch == "per_task" else mean_rate(model)


def _nominal_rate_bps(model: Model) -> float:
    radio = model.scenario.radio
    if isinstance(radio.rate, UniformRate):
        return sum(radio.rate.uniform) / 2
    if radio.rate is not None:
        return radio.rate
    rates = equations.shannon_rate(
        radio.bandwidth, radio.transmit_power, model.gain, radio.noise_density
    )
    return float(rates.mean())


def _option(options: Mapping[str, Any] | None) -> Any:
    """Return the option ``workload_seed``, None if it is not given."""
    for name in options or {}:
        if name != "workload_seed":
            raise InputError(f"reset: {name!r} is not a known option; allowed: workload_seed")
    return (options or {}).get("workload_seed")


def _workload_seed(chosen: int | None, seed: int | None, draws: np.random.Generator) -> int:
    """Return the seed of the next run: as chosen, or that of the reset, or else drawn."""
    given = seed if chosen is None else chosen
    return int(draws.integers(2**63)) if given is None else operator.index(given)


gymnasium.register(
    ID,
    entry_point="mecsim.env:PartitionEnv",
    vector_entry_point="mecsim.env:PartitionVectorEnv",
)
