"""A learner that decides by a policy network."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from mecsim import Observation, Placement, SchedulerSpec
from mecsim.learning import Learner
from schedulers.rl.encoding import Encoded, encoding_in
from schedulers.rl.layers import Arrays
from schedulers.rl.policy_network import Network


class NetworkLearner(Learner):
    """A learner whose policy is a network's parameters, and how observations are encoded."""

    @classmethod
    @abstractmethod
    def kind(cls, settings: Any) -> type[Network]:
        """Return the kind of network that the settings ask for."""

    @classmethod
    def _network(cls, spec: SchedulerSpec, settings: Any, encoded: Encoded) -> Network:
        kind, places = cls.kind(settings), spec.servers + 1
        return kind(encoded.inputs, spec.blocks, places, settings, spec.decision_epoch)

    @classmethod
    def untrained(cls, spec: SchedulerSpec, settings: Any) -> Arrays:
        encoded = Encoded.of(spec, settings.observe)
        network = cls._network(spec, settings, encoded)
        return network.initial(np.random.default_rng(0)) | encoded.arrays()

    def load(self, settings: Any, arrays: Arrays) -> None:
        self._encoded, self._arrays = encoding_in(arrays, self.spec), arrays
        self._decides = self._network(self.spec, settings, self._encoded)

    def decide(self, observation: Observation) -> Placement:
        """Return the placement that the network decides for."""
        x = self._encoded(observation.features()[None])
        return self._decides.decide(self._arrays, x, self.spec.rng)[0]
