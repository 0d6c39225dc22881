"""A learner that decides by a policy network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pkgutil import resolve_name
from typing import Any, ClassVar

import numpy as np

from mecsim import Observation, Placement, SchedulerSpec
from mecsim.learning import (
    Learner,
    TrainingError,
    TrainingLogger,
    TrainingProblem,
    TrainingResult,
)
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.layers import Arrays
from schedulers.rl.policy_network import PolicyNetwork


class NetworkLearner(Learner):
    """A learner whose policy holds the parameters of a network and its feature encoder."""

    requires = ("torch",)
    network: ClassVar[type[PolicyNetwork]]
    """The network, unless the settings choose another one."""
    algorithm: ClassVar[str]
    """``module:Class`` of the training algorithm, imported late: it needs PyTorch."""
    episodic: ClassVar[str]
    """``module:Class`` of the one that learns after every episode (option ``train_freq``)."""

    @classmethod
    def network_for(cls, settings: Any) -> type[PolicyNetwork]:
        """Return the class of the network for some settings."""
        del settings
        return cls.network

    @classmethod
    def _make_network(
        cls, spec: SchedulerSpec, settings: Any, encoder: FeatureEncoder
    ) -> PolicyNetwork:
        return cls.network_for(settings).of(spec, settings, encoder)

    @classmethod
    def untrained(cls, spec: SchedulerSpec, settings: Any) -> Arrays:
        encoder = FeatureEncoder.of(spec, settings.observe, settings.features)
        network = cls._make_network(spec, settings, encoder)
        return network.initial(np.random.default_rng(0)) | encoder.arrays()

    def load(self, settings: Any, arrays: Arrays) -> None:
        custom = 0 if self.custom is None else len(self.custom.names)
        self._encoder = FeatureEncoder.from_policy(arrays, self.spec, custom)
        self._arrays = arrays
        self._network = self._make_network(self.spec, settings, self._encoder)

    def decide(self, observation: Observation) -> Placement:
        """Return the placement that the network chooses."""
        x = self._encoder(self.features_of(observation)[None])
        found = self._network.decide(self._arrays, x, self.spec.rng)[0]
        return found[: observation.spec.blocks]

    @classmethod
    def train(cls, problem: TrainingProblem, logger: TrainingLogger) -> TrainingResult:
        """Train the network by its algorithm. Raises ``TrainingError``."""
        if cls._stacked(problem) is None:
            from schedulers.rl import trainer  # noqa: PLC0415 - policies decide without PyTorch

            make = partial(resolve_name(cls.algorithm), cls.network_for(problem.settings))
            return trainer.train(make, problem, logger)
        (found,) = cls.train_stack([problem], [logger])
        if isinstance(found, TrainingError):
            raise found
        return found

    @classmethod
    def in_one_process(cls, settings: Any) -> bool:
        """Whether these learn after every episode, on work nodes that follow each other."""
        return bool(settings.train_freq == "episode")

    @classmethod
    def stack_key(cls, settings: Any) -> str | None:
        """Return the settings without learning rates, if their trainings can be stacked."""
        rates = {name for name in type(settings).model_fields if name.endswith("learning_rate")}
        alike: str = settings.model_dump_json(exclude=rates)
        return alike if cls.stacked(settings) else None

    @classmethod
    def stacked(cls, settings: Any) -> str | None:
        """Return ``module:Class`` of the algorithm for stacks; None if there is none."""
        return cls.episodic if cls.in_one_process(settings) else None

    @classmethod
    def _stacked(cls, problem: TrainingProblem) -> str | None:
        serial = problem.serial and problem.spec.decision_epoch == "per_slot"
        fits = serial or cls.in_one_process(problem.settings)
        return cls.stacked(problem.settings) if fits else None

    @classmethod
    def train_stack(
        cls, problems: Sequence[TrainingProblem], loggers: Sequence[TrainingLogger]
    ) -> list[TrainingResult | TrainingError]:
        """Train networks of one shape in lockstep, see :mod:`schedulers.rl.stack`."""
        if (algorithm := cls._stacked(problems[0])) is None:
            return super().train_stack(problems, loggers)
        from schedulers.rl import stack  # noqa: PLC0415 - policies decide without PyTorch

        network = cls.network_for(problems[0].settings)
        return stack.train_stack(partial(resolve_name(algorithm), network), problems, loggers)


class ActorCriticLearner(NetworkLearner):
    """A learner with an actor and a critic."""

    algorithm = "schedulers.rl.actor_critic:ActorCritic"
    episodic = "schedulers.rl.episodic_actor_critic:EpisodicActorCritic"

    @classmethod
    def stacked(cls, settings: Any) -> str | None:
        """Return ``module:Class`` of the algorithm for stacks; None with vine rollouts."""
        found = super().stacked(settings)
        if found is not None or settings.branched_share > 0.0:
            return found
        return "schedulers.rl.episodic_actor_critic:RolloutActorCritic"
