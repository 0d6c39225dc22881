"""Training options that the learners share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schedulers.rl.encoding import Observed

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=1024)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True, kw_only=True)
class BranchSettings:
    """Training options of branched rounds; the paper has none."""

    branched: Share = 0.9
    """Share of the simulated epochs that go into branched rounds."""
    candidates: Annotated[int, Field(ge=2)] = 16
    """C, placements simulated from each state."""
    recalled: Share = 0.0
    """Share of the candidates that were the best of their state lately."""
    varied: Share = 0.0
    """Share of the candidates: the policy's best with one or two blocks moved, or two swapped."""
    trunk: Annotated[int, Field(ge=1)] = 40
    """Epochs of each replica's run in a branched round."""

    def cost(self, replicas: int, epochs: int) -> int:
        """Return how many epochs a branched round simulates, for runs of so many epochs."""
        return replicas * (self.candidates + 1) * min(self.trunk, epochs)


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
