"""Returns, advantages and weights of reinforcement learning, as pure functions of arrays.

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

    Args:
        rewards: Rewards of k steps; shape (k, B).
        bootstrap: V of the state after the last step, 0 where the episode has terminated;
            shape (B,).
        gamma: Discount factor.

    Examples:
        >>> k_step_returns(np.array([[1.0], [2.0]]), np.array([10.0]), 0.5).ravel().tolist()
        [4.5, 7.0]
    """
    returns, after = np.empty_like(rewards), bootstrap
    for step in range(len(rewards) - 1, -1, -1):
        after = returns[step] = rewards[step] + gamma * after
    return returns


def advantages(
    rewards: Floats, values: Floats, bootstrap: Floats, gamma: float, gae_lambda: float
) -> Floats:
    """Return R^t − V of every step (Eq. 17), averaged over 1 to k steps; shape (k, B).

    ``gae_lambda`` = 1 gives the k-step advantage; smaller values give long returns less weight
    (generalised advantage estimation).
    """
    found, later, after = np.empty_like(rewards), np.zeros_like(bootstrap), bootstrap
    for step in range(len(rewards) - 1, -1, -1):
        later = rewards[step] + gamma * after - values[step] + gamma * gae_lambda * later
        found[step], after = later, values[step]
    return found


def standardised(advantage: Floats, limit: float = 3.0) -> Floats:
    """Return advantages with mean 0 and standard deviation 1, clipped to ``limit``."""
    spread = float(advantage.std())
    centred = advantage - advantage.mean()
    return np.clip(centred / spread, -limit, limit) if spread > 0.0 else centred


def within_groups(returns: Floats) -> Floats:
    """Return the returns of each group with mean 0 and standard deviation 1.

    A group is a row; shape (B, C). The result is 0 where all returns of a group are equal.
    """
    spread = returns.std(axis=1, keepdims=True)
    centred = returns - returns.mean(axis=1, keepdims=True)
    return centred / np.where(spread > 1e-12 * np.abs(returns).max(initial=1.0), spread, np.inf)


def elite_weights(advantage: Floats, pool: Floats, share: float, limit: float = 50.0) -> Floats:
    """Return weights of a risk-seeking policy gradient, which reinforces only the best.

    The weight of an advantage is its excess over the quantile 1 − ``share`` of a pool of recent
    ones, in units of the pool's mean excess; same shape as ``advantage``, 0 to ``limit``.
    """
    threshold = np.quantile(pool, 1.0 - share)
    excess = float(np.maximum(pool - threshold, 0.0).mean())
    if excess <= 0.0:
        return np.zeros_like(advantage)
    return np.minimum(np.maximum(advantage - threshold, 0.0) / excess, limit)


def group_weights(advantage: Floats, share: float) -> Floats:
    """Return weights of about 1 / ``share`` for the best of each group, 0 for all others.

    Shape (B, C); at least one of each group has weight, none where all are equal.
    """
    count = max(1, round(share * advantage.shape[1]))
    weights = np.zeros_like(advantage)
    best = np.argsort(-advantage, axis=1, kind="stable")[:, :count]
    np.put_along_axis(weights, best, advantage.shape[1] / count, axis=1)
    return weights * (np.ptp(advantage, axis=1, keepdims=True) > 0.0)


def anneal(begin: float, end: float, progress: float) -> float:
    """Return a value between two others: geometrically, or linearly if one of them is 0.

    Args:
        begin: The value at progress 0.
        end: The value at progress 1.
        progress: Share of the training that is done.

    Examples:
        >>> round(anneal(1.0, 0.01, 0.5), 6), anneal(1.0, 0.0, 0.25)
        (0.1, 0.75)
    """
    if begin <= 0.0 or end <= 0.0:
        return begin + (end - begin) * progress
    return float(begin * (end / begin) ** progress)


def reward_scale(spec: SchedulerSpec, tasks: float) -> float:
    """Return a typical cost of an epoch, in seconds, by which rewards are divided.

    It is the delay of all ``tasks`` if the servers share their work and half of them wait. It is
    divided by the mean number of tasks a slot where the reward is a mean over those tasks. Where
    tasks are of several classes and an epoch is a slot, it is that of the tasks of all.
    """
    if len(spec.classes) > 1:
        (work, speed), rate = _pooled_classes(spec)
        tasks = rate if spec.decision_epoch == "per_slot" else 1.0
    else:
        work, speed = spec.pooled_servers
    seconds = max(tasks, 1.0) * (1.0 + tasks) / 2.0 * work / speed
    return seconds / max(spec.tasks_a_slot or tasks, 1.0) if spec.aggregation == "mean" else seconds


def _pooled_classes(spec: SchedulerSpec) -> tuple[tuple[float, float], float]:
    """Return the mean time of a task at all servers together, as work at speed 1, and all tasks.

    The mean is over tasks of all classes; the number of tasks is that of a slot.
    """
    rates = np.array([each.tasks_a_slot for each in spec.classes])
    shares = rates / rates.sum() if rates.sum() else np.full(len(rates), 1.0 / len(rates))
    each_s = [work / speed for work, speed in (each.pooled_servers for each in spec.classes)]
    return (float(shares @ each_s), 1.0), float(rates.sum())
