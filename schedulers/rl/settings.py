"""Training options that several learners have."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from mecsim.learning import TrainingSettings
from schedulers.rl.encoding import Observed

Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Weight: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Units: TypeAlias = Annotated[int, Field(ge=1, le=1024)]
Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]


_OF_VINES: Final = (
    "candidates",
    "replayed_share",
    "mutated_share",
    "branch_horizon",
    "elite_share",
    "elite_scope",
)
_OF_STEPS: Final = ("branched_share", "n_steps", "gae_lambda", "n_envs")


class VineSettings(TrainingSettings):
    """Options of vine rollouts, which the paper does not have, and of Algorithm 1."""

    train_freq: Literal["step", "episode"] = "step"
    """``step``: after every k steps of all environments, or in vine rollouts. ``episode``: after
    every episode, from transitions of its memory (Algorithm 1); without vine rollouts."""
    work_nodes: Count = 1
    """Work nodes of Algorithm 1: episodes with the same parameters, each followed by its update."""
    branched_share: Share = 0.9
    """Share of the simulated epochs that vine rollouts use; the rest are full episodes."""
    candidates: Annotated[int, Field(ge=2)] = 16
    """C, placements simulated from each state of a vine rollout."""
    replayed_share: Share = 0.0
    """Share of the candidates that were recently the best of their state."""
    mutated_share: Share = 0.0
    """Share of the candidates: the greedy placement with one or two blocks moved or swapped."""
    branch_horizon: Annotated[int, Field(ge=1)] = 40
    """Epochs of each environment in a vine rollout."""

    def without_effect(self) -> dict[str, str]:
        """Return the options that have no effect with the way of training."""
        if self.train_freq == "episode":
            return dict.fromkeys((*_OF_VINES, *_OF_STEPS), "train_freq=episode")
        found = {"work_nodes": "train_freq=step"}
        if not self.branched_share:
            found |= dict.fromkeys(_OF_VINES, "branched_share=0")
        return found

    def vine_cost(self, envs: int, epochs: int) -> int:
        """Return the epochs that a vine rollout of ``envs`` runs of ``epochs`` simulates."""
        return envs * (self.candidates + 1) * min(self.branch_horizon, epochs)


class ActorCriticSettings(VineSettings):
    """Options of actor-critic learners. In brackets: the paper's value, if it gives one."""

    observe: Observed = "full"
    """``paper``: without backlogs. ``full``: with them, which shows the load of earlier epochs."""
    hidden_units: Units = 64
    """Units of each of the two hidden layers."""
    elite_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Share of the best branches that are reinforced; 1: the plain policy gradient."""
    elite_scope: Literal["pool", "group"] = "pool"
    """``pool``: the best of all recent branches; ``group``: the best of each state."""
    batch_size: Count = 128
    """Decisions in an update (paper: 32)."""
    buffer_size: Annotated[int, Field(ge=0)] = 0
    """Transitions in the memory of Algorithm 1; 0: those of the latest episode (paper: not given).
    Older ones are of other policies, for which the gradient is not that of Eq. 21."""
    n_steps: Count = 8
    """k of the k-step returns (paper: not given)."""
    gamma: Share = 0.95
    """Discount factor (paper: 0.95)."""
    gae_lambda: Share = 0.9
    """λ of generalised advantage estimation; 1: the k-step return (paper: 1)."""
    actor_learning_rate: Positive = 2e-4
    """Learning rate η of the actor (paper: 0.01). Higher: faster, more often stuck."""
    critic_learning_rate: Positive = 5e-4
    """Learning rate of the critic (paper: 0.01)."""
    ent_coef: Weight = 0.01
    """Weight β of the entropy at the beginning; falls geometrically (paper: not given)."""
    ent_coef_end: Weight = 0.001
    """Weight of the entropy at the end."""
    epsilon_start: Share = 0.0
    """Share of places sampled uniformly at the beginning; falls geometrically (paper: 1)."""
    epsilon_end: Share = 0.0
    """Share of places sampled uniformly at the end (paper: 0.01)."""
    max_grad_norm: Positive = 1.0
    """Largest norm of a gradient; longer ones are clipped (paper: none)."""
    normalize_advantage: bool = True
    """Scale the advantages of an update to a standard deviation of 1 (paper: no)."""
    critic_loss: Literal["huber", "squared"] = "huber"
    """``squared``: Eq. 19; ``huber``: linear where errors are large."""
    sample_actions: Literal["per_task", "always", "never"] = "per_task"
    """When a trained policy samples placements rather than taking the most probable one:
    with per-task decisions, always or never. Tasks released at one instant see the same queues,
    so a greedy policy would send them all to the same place."""

    def without_effect(self) -> dict[str, str]:
        found = super().without_effect()
        if self.train_freq == "step":
            found["buffer_size"] = "train_freq=step"
            if self.branched_share:
                found["normalize_advantage"] = f"branched_share={self.branched_share:g}"
        if self.elite_share == 1.0:
            found.setdefault("elite_scope", "elite_share=1")
        return found


PAPER: Final[dict[str, Any]] = {
    "train_freq": "episode",
    "observe": "paper",
    "batch_size": 32,
    "gamma": 0.95,
    "epsilon_start": 1.0,
    "epsilon_end": 0.01,
}
"""What the paper says of all learners (sections 4.1 and 5.1): each learns from a minibatch of 32
after an episode, as in Algorithm 1."""
PAPER_ACTOR_CRITIC: Final[dict[str, Any]] = PAPER | {
    "actor_learning_rate": 0.01,
    "critic_learning_rate": 0.01,
    "critic_loss": "squared",
}
"""What it says of actor-critic learners (Eq. 19). It does not give the weight β of the entropy in
Eq. 18: each has the best of four (results/tuning_paper.csv)."""
