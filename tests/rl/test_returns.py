"""Returns, advantages, weights and targets of the learners, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mecsim.model.model import resolve
from mecsim.scheduler.spec import SchedulerSpec
from schedulers.rl.q_learning import td_targets
from schedulers.rl.returns import (
    advantages,
    anneal,
    elite_weights,
    k_step_returns,
    reward_scale,
    standardised,
    within_groups,
)
from tests.helpers.builders import chain, scenario

Floats = NDArray[np.float64]
NUMBERS = st.floats(-1e3, 1e3, width=32)
SHARES = st.floats(0.0, 1.0)


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, float]:
    """Rewards and values of k steps of B replicas, a bootstrap each, and gamma."""
    k, b = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rewards = draw(arrays(np.float64, (k, b), elements=NUMBERS))
    values = draw(arrays(np.float64, (k, b), elements=NUMBERS))
    return rewards, values, draw(arrays(np.float64, b, elements=NUMBERS)), draw(SHARES)


def column(*numbers: float) -> Floats:
    return np.array(numbers, dtype=np.float64)[:, None]


# ---------------------------------------------------------------- k-step returns (Eq. 16)


def test_returns_by_hand() -> None:
    found = k_step_returns(column(1.0, 2.0, 3.0), np.array([10.0]), 0.5)
    # 3 + 10/2 = 8; 2 + 8/2 = 6; 1 + 6/2 = 4
    assert found.ravel().tolist() == [4.0, 6.0, 8.0]


def test_terminated_episodes_have_no_bootstrap_and_truncated_ones_have() -> None:
    rewards = np.array([[1.0, 1.0], [1.0, 1.0]])
    found = k_step_returns(rewards, np.array([0.0, 100.0]), 0.9)
    assert found[:, 0].tolist() == pytest.approx([1.9, 1.0])
    assert found[:, 1].tolist() == pytest.approx([1.9 + 81.0, 1.0 + 90.0])


@given(rollouts())
def test_returns_are_sums_of_discounted_rewards(case: tuple[Floats, Floats, Floats, float]) -> None:
    rewards, _, bootstrap, gamma = case
    k = len(rewards)
    for t, found in enumerate(k_step_returns(rewards, bootstrap, gamma)):
        later = sum(gamma ** (i - t) * rewards[i] for i in range(t, k))
        expected = later + gamma ** (k - t) * bootstrap
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


@given(rollouts())
def test_a_rollout_may_be_cut_in_two_where_its_return_is_known(
    case: tuple[Floats, Floats, Floats, float],
) -> None:
    rewards, _, bootstrap, gamma = case
    whole = k_step_returns(rewards, bootstrap, gamma)
    cut = len(rewards) // 2
    first = k_step_returns(rewards[:cut], whole[cut], gamma)
    assert np.array_equal(first, whole[:cut])


# ---------------------------------------------------------------- advantages (Eq. 17)


def test_advantages_by_hand() -> None:
    rewards, values = column(1.0, 2.0), column(4.0, 8.0)
    # errors: 2 + 0.5·16 − 8 = 2; 1 + 0.5·8 − 4 = 1; with decay 0.5: 1 + 0.25·2 = 1.5
    found = advantages(rewards, values, np.array([16.0]), 0.5, 0.5)
    assert found.ravel().tolist() == [1.5, 2.0]


@given(rollouts())
def test_lambda_of_one_gives_the_return_minus_the_value(
    case: tuple[Floats, Floats, Floats, float],
) -> None:
    rewards, values, bootstrap, gamma = case
    found = advantages(rewards, values, bootstrap, gamma, 1.0)
    expected = k_step_returns(rewards, bootstrap, gamma) - values
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


@given(rollouts())
def test_lambda_of_zero_gives_the_one_step_error(
    case: tuple[Floats, Floats, Floats, float],
) -> None:
    rewards, values, bootstrap, gamma = case
    after = np.vstack([values[1:], bootstrap])
    found = advantages(rewards, values, bootstrap, gamma, 0.0)
    np.testing.assert_allclose(found, rewards + gamma * after - values, rtol=1e-9, atol=1e-6)


@given(rollouts(), SHARES)
def test_advantages_are_a_mean_over_step_counts(
    case: tuple[Floats, Floats, Floats, float], decay: float
) -> None:
    """(1 − λ)·Σ λ^(n−1)·A_n, the last one with all of the weight that is left."""
    rewards, values, bootstrap, gamma = case
    k, after = len(rewards), np.vstack([values[1:], bootstrap])
    expected = np.zeros_like(bootstrap)
    for n in range(1, k + 1):
        n_step = k_step_returns(rewards[:n], after[n - 1], gamma)[0] - values[0]
        expected += (1.0 - decay if n < k else 1.0) * decay ** (n - 1) * n_step
    found = advantages(rewards, values, bootstrap, gamma, decay)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


def test_a_perfect_critic_leaves_no_advantage() -> None:
    rewards = column(1.0, 2.0, 3.0)
    values = k_step_returns(rewards, np.zeros(1), 0.9)
    assert advantages(rewards, values, np.zeros(1), 0.9, 0.7) == pytest.approx(np.zeros((3, 1)))


# ---------------------------------------------------------------- scaled


def test_standardised_by_hand() -> None:
    assert standardised(np.array([1.0, 3.0])).tolist() == [-1.0, 1.0]
    outlier = standardised(np.array([0.0] * 99 + [1.0]))
    assert outlier.max() == 3.0
    assert (standardised(np.full(5, 7.0)) == 0.0).all()


@given(arrays(np.float64, st.integers(2, 40), elements=NUMBERS))
def test_standardised_is_limited_and_keeps_the_order(advantage: Floats) -> None:
    found = standardised(advantage)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 3.0 or advantage.std() == 0.0
    assert (np.diff(found[np.argsort(advantage, kind="stable")]) >= -1e-9).all()


def test_groups_by_hand() -> None:
    found = within_groups(np.array([[1.0, 3.0], [5.0, 5.0], [-20.0, -10.0]]))
    assert found.tolist() == [[-1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]]


@given(st.data())
def test_a_group_does_not_matter_to_another(data: st.DataObject) -> None:
    shape = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 8))
    returns = np.round(data.draw(arrays(np.float64, shape, elements=NUMBERS)), 2)
    found = within_groups(returns)
    np.testing.assert_allclose(found.mean(axis=1), 0.0, atol=1e-6)
    spread = returns.std(axis=1) > 1e-6
    np.testing.assert_allclose(found.std(axis=1)[spread], 1.0, rtol=1e-6)
    moved = within_groups(2.0 * returns + np.arange(shape[0])[:, None])
    np.testing.assert_allclose(moved[spread], found[spread], rtol=1e-6, atol=1e-6)


def test_rounding_errors_are_not_advantages() -> None:
    same = np.array([[0.1 + 0.2, 0.3, 0.3]]) * 1e3
    assert same.std() > 0.0
    assert (within_groups(same) == 0.0).all()


# ---------------------------------------------------------------- elites


def test_elite_weights_by_hand() -> None:
    pool = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    # the upper quarter begins at 3; the mean excess of the pool is 1/5
    found = elite_weights(np.array([-5.0, 3.0, 3.5, 4.0]), pool, 0.25)
    assert found.tolist() == [0.0, 0.0, 2.5, 5.0]


def test_no_weight_is_larger_than_the_limit() -> None:
    pool = np.array([0.0] * 999 + [1.0])
    assert elite_weights(np.array([1.0, 9.0]), pool, 0.01).tolist() == [50.0, 50.0]


def test_equal_advantages_have_no_weight() -> None:
    assert elite_weights(np.ones(4), np.ones(20), 0.1).tolist() == [0.0] * 4


@given(
    arrays(np.float64, st.integers(1, 30), elements=NUMBERS), st.floats(0.01, 1.0, exclude_max=True)
)
def test_elite_weights_follow_only_the_best(pool: Floats, share: float) -> None:
    found = elite_weights(pool, pool, share, limit=np.inf)
    assert (found >= 0.0).all()
    assert np.isfinite(found).all()
    assert (found > 0.0).sum() <= np.ceil(share * len(pool))
    if found.any():
        assert found.mean() == pytest.approx(1.0)
    assert (np.diff(found[np.argsort(pool, kind="stable")]) >= 0.0).all()


# ---------------------------------------------------------------- schedules, scales


@pytest.mark.parametrize(
    ("begin", "end", "progress", "found"),
    [
        (1.0, 0.01, 0.0, 1.0),
        (1.0, 0.01, 0.5, 0.1),
        (1.0, 0.01, 1.0, 0.01),
        (1.0, 0.0, 0.25, 0.75),
        (0.0, 1.0, 0.25, 0.25),
        (0.0, 0.0, 0.7, 0.0),
        (0.3, 0.3, 0.7, 0.3),
    ],
)
def test_anneal(begin: float, end: float, progress: float, found: float) -> None:
    assert anneal(begin, end, progress) == pytest.approx(found)


def test_the_reward_scale_by_hand() -> None:
    """Three tasks of 6 cycles on two servers of 2 Hz: 3·(1 + 3)/2 = 6 times 6 cycles / 4 Hz."""
    values = {"dnn": chain([2, 4], [1, 1]), "edge_server": {"capacity": 2.0}}
    arrivals = {"process": "slotted", "rate": 3}
    made = scenario(**values, arrivals=arrivals, reward={"aggregation": "sum"})
    spec = SchedulerSpec.of(resolve(made))
    assert reward_scale(spec, 3.0) == pytest.approx(9.0)
    assert reward_scale(spec, 0.0) == reward_scale(spec, 1.0) * 0.5 > 0.0
    spec = SchedulerSpec.of(resolve(scenario(**values, arrivals=arrivals)))
    assert reward_scale(spec, 3.0) == pytest.approx(3.0)  # of their mean
    assert reward_scale(spec, 1.0) == pytest.approx(0.5)  # of one of three tasks of a slot


def test_without_known_arrivals_the_reward_is_scaled_by_the_tasks_of_an_epoch() -> None:
    recorded = {"process": "trace", "file": "x.h5"}
    made = scenario(dnn=chain([6], [1]), edge_server={"capacity": 2.0}, arrivals=recorded)
    spec = SchedulerSpec.of(resolve(made))
    assert (spec.tasks_a_slot, spec.aggregation) == (None, "mean")
    assert reward_scale(spec, 3.0) == pytest.approx(3.0)


# ---------------------------------------------------------------- targets of Q-learning


def test_targets_by_hand() -> None:
    reward = np.array([-1.0, -2.0], np.float32)
    best_after = np.array([[-4.0, -8.0], [-6.0, -2.0]], np.float32)
    found = td_targets(reward, best_after, np.array([False, True]), 0.5)
    assert found.tolist() == [[-3.0, -2.0], [-4.0, -2.0]]
    assert found.dtype == np.float32


@given(arrays(np.float32, 3, elements=NUMBERS), arrays(np.float32, (2, 3), elements=NUMBERS))
def test_targets_of_terminated_transitions_are_rewards(reward: Floats, best_after: Floats) -> None:
    ended = np.ones(3, dtype=np.bool_)
    after = best_after.astype(np.float32)
    assert (td_targets(reward.astype(np.float32), after, ended, 0.9) == reward).all()
    going = td_targets(reward.astype(np.float32), after, ~ended, 0.9)
    np.testing.assert_allclose(going, reward + 0.9 * best_after, rtol=1e-5, atol=1e-3)
