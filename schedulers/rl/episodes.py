"""Plays runs of a scenario for a stack of trainings, all of them in one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.learning import Replicas, TrainingProblem
from mecsim.scheduler import feature_names
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.layers import Batch, Floats, Ints
from schedulers.rl.replay_buffer import Transitions

Choose: TypeAlias = Callable[[Batch], Ints]
"""From encoded observations, shape (S, n, inputs), to placements, shape (S, n, M)."""


class Steps(NamedTuple):
    """T steps of W runs of each of S trainings, in the order of time."""

    x: Batch
    """Encoded observations; shape (S, W, T, inputs)."""
    placements: Ints
    """Shape (S, W, T, M)."""
    rewards: Floats
    """Shape (S, W, T)."""
    alive: NDArray[np.bool_]
    """Whether the run had not ended before the step; shape (S, W, T)."""
    next_x: Batch
    """Encoded observations after the last step; shape (S, W, 1, inputs)."""
    ended: NDArray[np.bool_]
    """Whether the run has ended with the last step; shape (S, W)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """S, W and T."""
        return self.rewards.shape

    @classmethod
    def joined(cls, parts: Sequence[Steps]) -> Steps:
        """Return steps that follow each other as one."""
        columns = zip(*(part[:4] for part in parts), strict=True)
        joined = [np.concatenate(each, axis=2) for each in columns]
        return cls(*joined, parts[-1].next_x, parts[-1].ended)  # type: ignore[call-arg]

    def transitions(self, training: int, reward_scale: float) -> Transitions:
        """Return the transitions of whole runs of one training, rewards by ``reward_scale``.

        Those that end a run have a next state of zeros.
        """
        x, placements, rewards, alive, after, _ = (each[training] for each in self)
        following = np.concatenate([x[:, 1:], after], axis=1)
        last = alive & ~np.concatenate([alive[:, 1:], np.zeros_like(alive[:, :1])], axis=1)
        following[last] = 0.0
        scaled = (rewards[alive] / reward_scale).astype(np.float32)
        return Transitions(x[alive], placements[alive], scaled, following[alive], last[alive])


class EpisodePlayer:
    """Plays W runs at once for each of S trainings of one scenario.

    Args:
        problems: The trainings.
        encoder: Encodes observations.
        foreseeable: Whether many steps can be simulated at once, see :func:`foreseeable`.
        runs: W.
    """

    def __init__(
        self,
        problems: Sequence[TrainingProblem],
        encoder: FeatureEncoder,
        *,
        foreseeable: bool,
        runs: int,
    ) -> None:
        self._stack, self._runs = len(problems), runs
        self._encoder, self._foreseeable = encoder, foreseeable
        self._envs = problems[0].make_envs(len(problems) * runs)

    def play(
        self, seeds: Sequence[Sequence[int]], choose: Choose, *, at_most: int | None = None
    ) -> Iterator[Steps]:
        """Play the runs of seeds that are given for each training.

        Args:
            seeds: W seeds for each training.
            choose: Called with the observations of some steps.
            at_most: Most steps to yield at a time.

        Yields:
            Some steps at a time, of all runs; all runs of slots end with the same step.
        """
        envs = self._envs
        features = envs.reset([seed for own in seeds for seed in own])
        while not envs.ended.all():
            seen = envs.upcoming()[:at_most] if self._foreseeable else features[None]
            alive = np.broadcast_to(~envs.ended, seen.shape[:2])
            encoded = self._encoder(seen.reshape(-1, seen.shape[-1]))
            x = self._by_training(encoded.reshape(*seen.shape[:2], -1))
            placements = choose(x.reshape(self._stack, -1, x.shape[-1]))
            placements = placements.reshape(*x.shape[:3], -1)
            features, rewards, _ = envs.roll(self._by_time(envs, placements))
            after = self._by_training(self._encoder(features)[None])
            per_step = self._by_training(rewards), self._by_training(alive)
            ended = envs.ended.reshape(self._stack, self._runs).copy()
            yield Steps(x, placements, *per_step, after, ended)

    def _by_training(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Turn an array of shape (T, S·W, …) into one of shape (S, W, T, …)."""
        apart = rows.reshape(len(rows), self._stack, self._runs, *rows.shape[2:])
        return np.ascontiguousarray(np.moveaxis(apart, 0, 2))

    def _by_time(self, envs: Replicas, placements: Ints) -> Ints:
        """Turn an array of shape (S, W, T, M) into one of shape (T, S·W, M)."""
        time = np.moveaxis(placements, 2, 0)
        return np.ascontiguousarray(time.reshape(len(time), envs.replicas, -1))


def at_least(count: int, parts: Iterable[Steps]) -> Iterator[Steps]:
    """Join steps until they are ``count`` or more; yield what is left at the end."""
    joined: list[Steps] = []
    for part in parts:
        joined.append(part)
        if sum(each.shape[2] for each in joined) >= count:
            yield Steps.joined(joined)
            joined = []
    if joined:
        yield Steps.joined(joined)


def foreseeable(problem: TrainingProblem, features: Floats) -> bool:
    """Whether many steps can be simulated at once.

    That is so if the inputs of a learner do not depend on its placements: it does not observe
    backlogs, and no battery is limited. And runs must have equally many decision epochs, for
    otherwise a training would depend on how far the runs of others are.
    """
    if problem.spec.decision_epoch != "per_slot":
        return False
    names = feature_names(problem.spec)
    battery = next(n for n, name in enumerate(names) if name.endswith("battery_J"))
    return problem.settings.observe == "paper" and bool(np.isinf(features[:, battery]).all())
