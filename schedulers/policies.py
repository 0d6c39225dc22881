"""The networks' face, their options and input, and what decides by them; all without PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from mecsim import Observation, Placement, SchedulerSpec
from mecsim.learning import Learner, SchedulerError
from mecsim.scheduler import feature_names
from schedulers.branches import BranchSettings, Share
from schedulers.encoding import Observed, backlogs, encode, encoding, inputs
from schedulers.networks import Arrays, Batch, Floats, Ints, Tensors

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True, kw_only=True)
class Settings(BranchSettings):
    """Training options of actor-critic learners. In brackets: what the paper says, if anything."""

    observe: Observed = "full"
    """``paper``: no backlogs. With them the policy knows what earlier epochs left behind."""
    width: Width = 64
    """Units of each of the two hidden layers."""
    elite: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Share of the advantages of branches that is followed; 1: the plain policy gradient."""
    elite_of: Literal["pool", "group"] = "pool"
    """Whether the best of all recent branches are followed, or the best of each state."""
    batch: Count = 128
    """Decisions in an update (paper: 32)."""
    steps: Count = 8
    """k of the k-step returns (paper: not said)."""
    gamma: Share = 0.95
    """Discount factor (paper: 0.95)."""
    decay: Share = 0.9
    """Weight of longer returns, λ; 1 is the k-step return alone (paper: 1)."""
    actor_rate: Positive = 2e-4
    """Learning rate η of the actor (paper: 0.01). Faster: fewer episodes, oftener stuck."""
    critic_rate: Positive = 5e-4
    """Learning rate of the critic (paper: 0.01)."""
    entropy: Weight = 0.01
    """Weight β of the entropy at the beginning; it falls geometrically (paper: not said)."""
    entropy_end: Weight = 0.001
    """Weight of the entropy at the end."""
    exploration: Share = 0.0
    """Share of places drawn uniformly at the beginning; falls geometrically (paper: 1)."""
    exploration_end: Share = 0.0
    """That share at the end (paper: 0.01)."""
    clip: Positive = 1.0
    """Largest norm of a gradient."""
    drawn: Literal["tasks", "always", "never"] = "tasks"
    """Where the policy draws its placements, and does not take the likeliest: where epochs are
    tasks. Those of one instant see the same queues, and would all go to the same place."""


class Network(ABC):
    """Places M blocks on P = N + 1 places, given encoded features."""

    def __init__(
        self, inputs: int, blocks: int, places: int, settings: Any, epoch: str = "slot"
    ) -> None:
        self.inputs, self.blocks, self.places = inputs, blocks, places
        self.settings, self.epoch = settings, epoch

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Arrays:
        """Return the parameters that training begins with."""

    @abstractmethod
    def draw(
        self, p: Arrays, x: Batch, count: int, explore: float, rng: np.random.Generator
    ) -> Ints:
        """Draw placements, a share ``explore`` of the places uniformly; shape (n, count, M)."""

    @abstractmethod
    def mode(self, p: Arrays, x: Batch) -> Ints:
        """Return the placements thought best; shape (n, M)."""

    def decide(self, p: Arrays, x: Batch, rng: np.random.Generator) -> Ints:
        """Return the placements of a trained policy; shape (n, M)."""
        del rng
        return self.mode(p, x)


class Heads(NamedTuple):
    """What an actor says of given placements: H distributions over O outputs each."""

    logits: Any
    """Shape (n, H, O)."""
    chosen: Any
    """The outputs that the placements stand for; shape (n, H)."""


class ActorCriticNetwork(Network):
    """An actor and a critic; their parameters begin with ``actor``, ``critic`` or ``shared``."""

    @abstractmethod
    def heads(self, p: Tensors, x: Any, places: Any) -> Heads:
        """Return what the actor says of placements of shape (n, M)."""

    @abstractmethod
    def value(self, p: Tensors, x: Any) -> Any:
        """Return V (Eq. 15); shape (n,)."""

    def decide(self, p: Arrays, x: Batch, rng: np.random.Generator) -> Ints:
        """Return the likeliest placements, or drawn ones; shape (n, M)."""
        drawn = {"tasks": self.epoch == "task", "always": True, "never": False}
        if drawn[self.settings.drawn]:
            return self.draw(p, x, 1, 0.0, rng)[:, 0]
        return self.mode(p, x)

    def penalty(self, p: Tensors) -> Any:
        """Return what keeps parameters together that are softly shared."""
        del p
        return 0.0


class ValueNetwork(Network):
    """Tells the values of places."""

    @abstractmethod
    def values(self, p: Tensors, x: Any) -> Any:
        """Return Q of every block and place; shape (M, n, P)."""


class Encoded(NamedTuple):
    """How observations are encoded, and how long a network's input is."""

    how: Arrays

    @classmethod
    def of(cls, spec: SchedulerSpec, observed: Observed) -> Encoded:
        """Return the encoding of a scenario's observations."""
        return cls(encoding(spec, feature_names(spec), observed))

    @property
    def inputs(self) -> int:
        """Length of an encoded observation."""
        return inputs(self.how)

    def arrays(self) -> Arrays:
        """Return the encoding as arrays of a policy."""
        return {f"encoding.{name}": array for name, array in self.how.items()}

    def backlogs(self, features: Floats) -> Floats:
        """Return the backlog of every place, in slots; shape (B, N + 1)."""
        return backlogs(features, self.how)

    def __call__(self, features: Floats) -> Batch:
        """Return features as a network's input."""
        return encode(features, self.how)


def encoding_in(arrays: Arrays, spec: SchedulerSpec) -> Encoded:
    """Return the encoding that a policy was trained with. Raises ``SchedulerError``."""
    prefix = "encoding."
    how = {n.removeprefix(prefix): x for n, x in arrays.items() if n.startswith(prefix)}
    if not (np.isin(how["column"], np.arange(len(feature_names(spec)))).all()):
        raise SchedulerError("its encoding names features that there are not")
    if not (how["scale"] > 0.0).all():
        raise SchedulerError("its encoding divides by what is not above 0")
    return Encoded(how)


class NetworkLearner(Learner):
    """A learner whose policy is a network's parameters, and how observations are encoded."""

    @classmethod
    @abstractmethod
    def kind(cls, settings: Any) -> type[Network]:
        """Return the kind of network that the settings ask for."""

    @classmethod
    def _network(cls, spec: SchedulerSpec, settings: Any, encoded: Encoded) -> Network:
        kind, places = cls.kind(settings), spec.servers + 1
        return kind(encoded.inputs, spec.blocks, places, settings, spec.epoch)

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
