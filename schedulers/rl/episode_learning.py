"""Algorithm 1 of the paper for a stack of trainings: play an episode, learn from a sample of it.

A *stack* is a number of trainings of one scenario and shape. Their parameters, observations and
minibatches have a leading axis S; one compiled call steps the environments of all, and one backward
pass gives all gradients. Each training has random numbers of its own, so it is the same training in
every stack.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mecsim.learning import TrainingProblem
from schedulers.rl.algorithm import VALIDATION_RUNS, Iterations
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.episodes import EpisodePlayer, Steps, foreseeable
from schedulers.rl.layers import Arrays, Batch, Floats, Ints
from schedulers.rl.parameters import Flat
from schedulers.rl.policy_network import PolicyNetwork
from schedulers.rl.replay_buffer import ReplayBuffer, Transitions
from schedulers.rl.returns import anneal, reward_scale
from schedulers.rl.stacked_generator import StackedGenerator

_log = logging.getLogger("mecsim.schedulers.rl")
_OF_MEMORY: Final = 3
"""Number of the random generators of minibatches. They are others than those of episodes, which
continue to draw while runs of other trainings continue."""

Measures: TypeAlias = Mapping[str, Floats]
"""Values of all trainings by name, each of shape (S,)."""


class Gradient(NamedTuple):
    """The gradients of a loss of every training, and measures."""

    values: Flat
    """Shape (S, P)."""
    measures: Measures


class Parameters(Protocol):
    """The parameters of a stack."""

    def pull(self) -> Arrays:
        """Return a copy of the parameters, each of shape (S, …)."""

    def push(self, gradient: Flat) -> None:
        """Apply gradients, shape (S, P)."""


class EpisodeLearning(Iterations, ABC):
    """The learning part of a stack of trainings; see the module.

    Args:
        network: The class of the network.
        problems: The trainings; they differ in their seeds and learning rates only.
        runs: Episodes of an iteration.
    """

    network: Any
    """The network; subclasses say of which kind."""

    def __init__(
        self, network: type[PolicyNetwork], problems: Sequence[TrainingProblem], runs: int
    ) -> None:
        torch.set_num_threads(1)
        self.problems, problem = problems, problems[0]
        self.settings, spec = problem.settings, problem.spec
        self.encoder = FeatureEncoder.of(spec, self.settings.observe, self.settings.features)
        self.network = network.of(spec, self.settings, self.encoder)
        first = problem.make_envs(1).reset(problem.validation_seeds(1))
        self.reward_scale = reward_scale(spec, float(first[0, 0]))
        known = foreseeable(problem, first)
        if known and problem.features:
            _log.warning(
                "features: %s: steps are simulated one by one, for custom features may depend on "
                "queues; without them all steps of a run are simulated at once",
                problem.features,
            )
            known = False
        self.runs = runs
        self.ends = self._ends()
        self._player, self._validation = (
            EpisodePlayer(problems, self.encoder, foreseeable=known, runs=each)
            for each in (runs, VALIDATION_RUNS)
        )

    def iterations_of(self, episodes: int) -> int:
        """Return the iterations of a length: an episode of every work node each."""
        return episodes

    def _ends(self) -> list[int]:
        found = [0]
        for length in self.problems[0].lengths:
            found.append(max(found[-1] + 1, self.iterations_of(length)))
        return found[1:]

    def initial(self) -> list[Arrays]:
        """Return the initial parameters of every training."""
        return [self.network.initial(problem.rng(0)) for problem in self.problems]

    @abstractmethod
    def run_iteration(self, number: int, parameters: Parameters) -> Measures:
        """Play episodes, learn from them and return measures."""

    def play(
        self, number: int, parameters: Parameters, rng: StackedGenerator, at_most: int | None = None
    ) -> Iterator[Steps]:
        """Play the episodes of an iteration, by the parameters of each time.

        Args:
            number: Number of the iteration.
            parameters: The parameters.
            rng: Random numbers.
            at_most: Most steps to yield at a time.
        """
        epsilon = self.epsilon(self.progress(number))

        def choose(x: Batch) -> Ints:
            found: Ints = self.network.sample(parameters.pull(), x, 1, epsilon, rng)[..., 0, :]
            return found

        seeds = [problem.training_seeds(number, self.runs) for problem in self.problems]
        return self._player.play(seeds, choose, at_most=at_most)

    def generators(self, number: int, part: int = 1) -> StackedGenerator:
        """Return the random generators of a part of an iteration."""
        return StackedGenerator([problem.rng(part, number) for problem in self.problems])

    def evaluate(self, p: Arrays, stop_below: Floats) -> Floats:
        """Return the mean reward of runs of each policy on seeds that training does not use.

        Rewards are never positive, so the value of a policy is taken once it is below
        ``stop_below``, shape (S,): runs with growing queues take long. It is then an upper bound.
        """
        rng = StackedGenerator([problem.rng(2) for problem in self.problems])
        seeds = [problem.validation_seeds(VALIDATION_RUNS) for problem in self.problems]
        mean, going = np.zeros(len(seeds)), np.ones(len(seeds), np.bool_)
        scale = self.problems[0].episodes_a_run
        for steps in self._validation.play(seeds, lambda x: self.network.decide(p, x, rng)):
            mean[going] += steps.rewards[going].sum(axis=(1, 2)) / VALIDATION_RUNS
            going &= mean * scale >= stop_below
            if not going.any():
                break
        return mean * scale

    def measures(self, rewards: Floats, learned: Sequence[Measures]) -> Measures:
        """Return the mean measures of an iteration; ``rewards`` are of episodes, shape (S, W)."""
        mean = {name: np.mean([each[name] for each in learned], axis=0) for name in learned[0]}
        return {"training_reward": rewards.mean(axis=1) * self.problems[0].episodes_a_run} | mean

    def policy(self, parameters: Arrays) -> Arrays:
        """Return the arrays of a policy file of one training."""
        return parameters | self.encoder.arrays()

    def epsilon(self, progress: float) -> float:
        """Return the share of uniformly sampled places at some progress of the training."""
        return anneal(self.settings.epsilon_start, self.settings.epsilon_end, progress)

    def state(self, training: int) -> Arrays:
        """Return what a training carries over from one iteration to the next, for a checkpoint."""
        del training
        return {}

    def restore(self, training: int, state: Arrays) -> None:
        """Continue a training from what :meth:`state` returned."""
        del training, state

    @abstractmethod
    def learning_rates(self, problem: TrainingProblem) -> Flat:
        """Return the learning rate of every parameter of a training; shape (P,)."""


class MemoryLearning(EpisodeLearning):
    """Algorithm 1: learn from a minibatch of the memory after each episode of every work node."""

    def __init__(self, network: type[PolicyNetwork], problems: Sequence[TrainingProblem]) -> None:
        super().__init__(network, problems, problems[0].settings.work_nodes)
        size = self.settings.buffer_size or self.runs * problems[0].epochs
        shape = self.encoder.inputs, self.network.blocks
        self.memories = [ReplayBuffer(size, *shape) for _ in problems]

    def run_iteration(self, number: int, parameters: Parameters) -> Measures:
        """Play an episode on every work node, then learn from a minibatch for each of them.

        As the work nodes begin with the same parameters, so do their gradients.
        """
        p = parameters.pull()
        steps = Steps.joined(list(self.play(number, parameters, self.generators(number))))
        for training, memory in enumerate(self.memories):
            memory.add(steps.transitions(training, self.reward_scale))
        progress, rng = self.progress(number), self.generators(number, _OF_MEMORY)
        found = [self._gradient(p, self._minibatch(rng), progress) for _ in range(self.runs)]
        for each in found:
            parameters.push(each.values)
        rewards = steps.rewards.cumsum(axis=2)[..., -1]  # zeros after the end do not change it
        return self.measures(rewards, [each.measures for each in found])

    def _minibatch(self, rng: StackedGenerator) -> Transitions:
        count = self.settings.batch_size
        pairs = zip(self.memories, rng.generators, strict=True)
        each = [memory.minibatch(count, own) for memory, own in pairs]
        return Transitions(*(np.stack(column) for column in zip(*each, strict=True)))

    @abstractmethod
    def _gradient(self, p: Arrays, batch: Transitions, progress: float) -> Gradient:
        """Return the gradients of a loss at transitions with a leading axis S."""

    def state(self, training: int) -> Arrays:
        """Return the memory of a training, for a checkpoint."""
        return self.memories[training].state()

    def restore(self, training: int, state: Arrays) -> None:
        """Continue a training from what :meth:`state` returned."""
        self.memories[training].restore(state)


def leaves(p: Arrays) -> dict[str, Tensor]:
    """Return parameters as tensors that record gradients."""
    return {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}


def gradients(loss: Tensor, tensors: Mapping[str, Tensor]) -> Flat:
    """Return the gradient of a loss by parameters with a leading axis S; shape (S, P).

    The loss is the sum over trainings, each of which depends on its own parameters only.
    """
    of_each = torch.autograd.grad(loss, list(tensors.values()), materialize_grads=True)
    return np.concatenate([each.flatten(1).numpy() for each in of_each], axis=1)
