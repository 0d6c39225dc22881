"""Iterations that all algorithms share: vine rollouts first, then full episodes.

A *vine rollout* (Schulman et al., Trust region policy optimization, ICML 2015) simulates, at every
epoch of a run, C candidate placements from the same state until the network has drained, and
continues with the best one. All candidates see the same tasks and the same queues, so their
returns differ only by the decision.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from mecsim.learning import Replicas, TrainingProblem
from schedulers.rl.algorithm import Algorithm
from schedulers.rl.candidates import CandidateSampler, burn_in
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.layers import Arrays, Batch, Floats, Ints
from schedulers.rl.parameters import SharedParameters
from schedulers.rl.policy_network import PolicyNetwork
from schedulers.rl.returns import anneal, reward_scale


class BranchReturns(NamedTuple):
    """The returns of C candidate placements from each of B states."""

    x: Batch
    """The encoded states; shape (B, inputs)."""
    placements: Ints
    """The greedy placement first; shape (B, C, M)."""
    returns: Floats
    """Rewards until the network has drained; shape (B, C)."""
    best: Ints
    """The placements of the highest returns; shape (B, M)."""


class RolloutAlgorithm(Algorithm):
    """Trains a network by vine rollouts and full episodes.

    Args:
        network: The class of the network.
        problem: The problem to solve.
        vine_envs: Environments of a vine rollout.
        episode_envs: Environments of an iteration of full episodes.
    """

    network: Any
    """The network; subclasses say of which kind."""

    def __init__(
        self,
        network: type[PolicyNetwork],
        problem: TrainingProblem,
        *,
        vine_envs: int,
        episode_envs: int,
    ) -> None:
        super().__init__(problem)
        torch.set_num_threads(1)
        s, spec = problem.settings, problem.spec
        self.encoder = FeatureEncoder.of(spec, s.observe, s.features)
        self.network = network.of(spec, s, self.encoder)
        self.vine_envs, self.episode_envs = vine_envs, episode_envs
        self._sampler = CandidateSampler(s, vine_envs, spec.servers + 1, self.network.classes)
        counts = [(0, 0), *(self._counts(length) for length in problem.lengths)]
        added = np.diff(counts, axis=0).clip(min=0)  # vine rollouts and others, at each length
        added[added.sum(axis=1) == 0] = (1, 0) if s.branched_share else (0, 1)
        self._is_vine = np.repeat([True, False] * len(added), added.ravel())
        self.ends = added.sum(axis=1).cumsum().tolist()
        first = self.envs(1).reset(problem.validation_seeds(1))
        self.reward_scale = reward_scale(spec, float(first[0, 0]))

    def _counts(self, length: int) -> tuple[int, int]:
        """Return the numbers of vine rollouts and of iterations of full episodes of a length."""
        s, epochs = self.problem.settings, self.problem.epochs
        budget, cost = length * epochs, s.vine_cost(self.vine_envs, epochs)
        vines = round(budget * s.branched_share / cost)
        return vines, round(length * (1.0 - s.branched_share) / self.episode_envs)

    def initial(self) -> Arrays:
        """Return the initial parameters."""
        found: Arrays = self.network.initial(self.problem.rng(0))
        return found

    def decide(self, parameters: Arrays, features: Floats, rng: np.random.Generator) -> Ints:
        """Return the placements of a trained network; shape (B, M)."""
        found: Ints = self.network.decide(parameters, self.encoder(features), rng)
        return found

    def policy(self, parameters: Arrays) -> Arrays:
        """Return the parameters and the feature encoder."""
        return parameters | self.encoder.arrays()

    def run_iteration(self, number: int, shared: SharedParameters) -> dict[str, float]:
        """Run a vine rollout, or full episodes after the vine rollouts of the same length."""
        rng = self.problem.rng(1, number)
        run = self.vine_iteration if self._is_vine[number] else self.episode_iteration
        measures = run(number, shared, rng)
        measures["training_reward"] *= self.problem.episodes_a_run
        return measures

    @abstractmethod
    def vine_iteration(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> dict[str, float]:
        """Learn from a vine rollout; return measures."""

    @abstractmethod
    def episode_iteration(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> dict[str, float]:
        """Learn from full episodes; return measures."""

    def start_episodes(self, number: int, count: int) -> tuple[Replicas, Floats]:
        """Reset the environments of an iteration; return them and their features."""
        envs = self.envs(count)
        return envs, envs.reset(self.problem.training_seeds(number, count))

    def start_vine(
        self, number: int, shared: SharedParameters, rng: np.random.Generator
    ) -> tuple[Replicas, Floats]:
        """Reset the environments of a vine rollout and burn them in.

        The burn-in may be longer in later iterations.
        """
        self._sampler.clear()
        envs, features = self.start_episodes(number, self.vine_envs)
        horizon = self.problem.settings.branch_horizon
        longest = (self.problem.epochs - horizon) * min(number, self.ends[0]) / self.ends[0]
        decide = partial(self.decide, shared.pull(), rng=rng)
        epochs = int(rng.random() * longest)
        return envs, burn_in(envs, features, epochs, decide, self.encoder.backlogs)

    def branch(
        self,
        envs: Replicas,
        features: Floats,
        p: Arrays,
        epsilon: float,
        rng: np.random.Generator,
    ) -> BranchReturns:
        """Simulate candidates from the state of every environment."""
        x = self.encoder(features)
        sampled = self.network.sample(p, x, self.problem.settings.candidates, epsilon, rng)
        placements = self._sampler.candidates(x, self.network.greedy(p, x), sampled, rng)
        returns = -envs.what_if(placements).cost
        best = placements[np.arange(len(placements)), returns.argmax(axis=1)]
        self._sampler.remember(x, best)
        return BranchReturns(x, placements, returns, best)

    def epsilon(self, progress: float) -> float:
        """Return the share of uniformly sampled places at some progress of the training."""
        s = self.problem.settings
        return anneal(s.epsilon_start, s.epsilon_end, progress)
