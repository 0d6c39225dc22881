"""The vector environment for Stable-Baselines3: many runs stepped in one compiled call.

Train with it as with any of its vector environments; ``mecsim run SCENARIO --scheduler sb3:FILE``
then runs the policy that ``save`` wrote::

    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    envs = VecMonitor(PartitionVecEnv("vgg16_4es", 16))
    PPO("MlpPolicy", envs).learn(100_000).save("policy.zip")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from mecsim.env import Features, Observations, PartitionVectorEnv, Source
from mecsim.support.arrays import Ints

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
except ImportError as error:
    raise ImportError("mecsim.sb3 needs Stable-Baselines3: pip install 'mecsim[sb3]'") from error


class PartitionVecEnv(VecEnv):
    """B runs as a vector environment of Stable-Baselines3; see :mod:`mecsim.env`.

    Observations, rewards, infos and seeds equal those of Stable-Baselines3's ``DummyVecEnv`` of B
    single environments to the last bit. A run that ends is reset in the same step.

    Args:
        scenario: A scenario, the path of its file, or a shipped name.
        num_envs: B.
        overrides: Changes of the scenario, each as ``KEY.PATH=VALUE``.
        threads: Threads that step runs in parallel; results do not depend on it.
        features: Features that observations have in addition, the last ones.

    Raises:
        ScenarioError: If the scenario is not valid.
        InputError: If a number is below 1.
    """

    def __init__(
        self,
        scenario: Source,
        num_envs: int = 1,
        *,
        overrides: Sequence[str] = (),
        threads: int = 1,
        features: Features = None,
    ) -> None:
        self._envs = envs = PartitionVectorEnv(
            scenario, num_envs, overrides=overrides, threads=threads, features=features
        )
        super().__init__(num_envs, envs.single_observation_space, envs.single_action_space)
        self._actions: Ints = np.empty(0, dtype=np.int64)

    def reset(self) -> Observations:
        """Start all runs, under the seeds and options that ``seed`` and ``set_options`` gave.

        Returns:
            The first observations; shape (B, features).

        Raises:
            ScenarioError: If with per-task decisions no task is released under 1,001 seeds.
            InputError: If an option is unknown.
        """
        names = {name for options in self._options for name in options}
        options = {name: [each.get(name) for each in self._options] for name in names}
        observed, infos = self._envs.reset(seed=self._seeds, options=options)
        self.reset_infos = _separate(infos, self.num_envs)
        self._reset_seeds()  # they and the options hold for one reset
        self._reset_options()
        return observed

    def step_async(self, actions: Ints) -> None:
        """Keep the places of all runs and blocks, shape (B, M), for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Act on the current epoch of every run; reset the runs that end.

        Returns:
            Observations, shape (B, features); rewards and whether runs ended, shape (B,); an info
            for each run.

        Raises:
            PlacementError: If an action is not a placement.
            ResetNeeded: If no episode has been started.
        """
        observed, rewards, ended, _, vector_infos = self._envs.step(self._actions)
        infos = _separate(vector_infos, self.num_envs)
        for info in infos:
            info["TimeLimit.truncated"] = False
        if ended.any():
            last = observed
            observed, vector_infos = self._envs.reset_ended()
            reset_infos = _separate(vector_infos, self.num_envs)
            for row in np.flatnonzero(ended).tolist():
                infos[row]["terminal_observation"] = last[row]
                self.reset_infos[row] = reset_infos[row]
        return observed, rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        """Stop the threads."""
        self._envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute that the runs share, such as ``scenario``, for each of them.

        Args:
            attr_name: Its name.
            indices: Numbers of the runs; all by default.
        """
        return [getattr(self._envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: the runs are not separate environments.

        Args:
            attr_name: The attribute.
            value: Its value.
            indices: Numbers of the runs.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(f"{attr_name}: {type(self).__name__} has no separate environments")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **options: Any
    ) -> NoReturn:
        """Refuse: the runs are not separate environments.

        Args:
            method_name: The method.
            *args: Its arguments.
            indices: Numbers of the runs.
            **options: Its keyword arguments.

        Returns:
            Never.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(f"{method_name}: {type(self).__name__} has no separate environments")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each run: runs have no wrappers.

        Args:
            wrapper_class: The class of the wrapper.
            indices: Numbers of the runs; all by default.
        """
        return [False for _ in self._get_indices(indices)]


def _separate(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the info of each run, from the vector environment's arrays."""
    values = {name: array.tolist() for name, array in infos.items() if name[0] != "_"}
    return [{name: value[row] for name, value in values.items()} for row in range(count)]
