"""Returns, advantages and weights of reinforcement learning: pure functions of arrays.

Shapes: k steps of B replicas, (k, B). References: Mnih et al., Asynchronous methods for deep
reinforcement learning, ICML 2016 (k-step returns); Schulman et al., High-dimensional continuous
control using generalized advantage estimation, ICLR 2016; Petersen et al., Deep symbolic
regression, ICLR 2021 (risk-seeking policy gradient).
"""

from __future__ import annotations

import numpy as np

from mecsim import SchedulerSpec
from schedulers.rl.layers import Floats


def k_step_returns(rewards: Floats, bootstrap: Floats, gamma: float) -> Floats:
    """Return R^t of every step (Eq. 16); shape (k, B).

    ``bootstrap`` is V of the state after the last step, of shape (B,): 0 where the episode has
    terminated, the critic's estimate where it was only cut off.
    """
    returns, after = np.empty_like(rewards), bootstrap
    for step in range(len(rewards) - 1, -1, -1):
        after = returns[step] = rewards[step] + gamma * after
    return returns


def advantages(
    rewards: Floats, values: Floats, bootstrap: Floats, gamma: float, decay: float
) -> Floats:
    """Return R^t − V of every step (Eq. 17), a mean over all step counts up to k; shape (k, B).

    ``decay`` = 1 is the k-step advantage itself; smaller ones weight long returns less
    (generalised advantage estimation, λ).
    """
    found, later, after = np.empty_like(rewards), np.zeros_like(bootstrap), bootstrap
    for step in range(len(rewards) - 1, -1, -1):
        later = rewards[step] + gamma * after - values[step] + gamma * decay * later
        found[step], after = later, values[step]
    return found


def standardised(advantage: Floats, limit: float = 3.0) -> Floats:
    """Return advantages of mean 0 and deviation 1, none beyond ``limit``."""
    spread = float(advantage.std())
    centred = advantage - advantage.mean()
    return np.clip(centred / spread, -limit, limit) if spread > 0.0 else centred


def within_groups(returns: Floats) -> Floats:
    """Return how much better each return of a group is than the group, in its deviations.

    Shape (B, C), a group a row; 0 where all returns of a group are the same.
    """
    spread = returns.std(axis=1, keepdims=True)
    centred = returns - returns.mean(axis=1, keepdims=True)
    return centred / np.where(spread > 1e-12 * np.abs(returns).max(initial=1.0), spread, np.inf)


def elite_weights(advantage: Floats, pool: Floats, share: float, limit: float = 50.0) -> Floats:
    """Return weights of a risk-seeking policy gradient: only the best are followed.

    An advantage counts by as much as it exceeds the quantile 1 − ``share`` of a pool of recent
    ones, in units of the pool's mean excess; same shape as ``advantage``, all at least 0.
    """
    threshold = np.quantile(pool, 1.0 - share)
    excess = float(np.maximum(pool - threshold, 0.0).mean())
    if excess <= 0.0:
        return np.zeros_like(advantage)
    return np.minimum(np.maximum(advantage - threshold, 0.0) / excess, limit)


def group_weights(advantage: Floats, share: float) -> Floats:
    """Return weights that follow the best of each group, 1 / ``share`` each, and no other.

    Shape (B, C); at least one of each group, none where all are the same.
    """
    count = max(1, round(share * advantage.shape[1]))
    weights = np.zeros_like(advantage)
    best = np.argsort(-advantage, axis=1, kind="stable")[:, :count]
    np.put_along_axis(weights, best, advantage.shape[1] / count, axis=1)
    return weights * (np.ptp(advantage, axis=1, keepdims=True) > 0.0)


def between(begin: float, end: float, progress: float) -> float:
    """Return a value on its way from one to the other: geometrically, or in line if one is 0."""
    if begin <= 0.0 or end <= 0.0:
        return begin + (end - begin) * progress
    return float(begin * (end / begin) ** progress)


def usual_cost_s(spec: SchedulerSpec, tasks: float) -> float:
    """Return what an epoch costs roughly: its work, shared by all servers, waited for by half."""
    together_hz = float((spec.server_hz * spec.cores).sum())
    return max(tasks, 1.0) * (1.0 + tasks) / 2.0 * float(spec.cycles.sum()) / together_hz
