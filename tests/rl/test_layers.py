"""Networks of the learners: the same in NumPy and PyTorch, drawn from and followed as they say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from mecsim.learning.interface import SchedulerError, TrainingError, layout_of
from mecsim.model.model import resolve
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from schedulers.a3c import A3C, MOST_JOINT, A3CSettings, BlockByBlock, Joint
from schedulers.dqn import DQNSettings, Values
from schedulers.mtl_a3c import Branches, MTLSettings
from schedulers.rl.actor_critic import Sample, actor_loss, critic_loss
from schedulers.rl.encoding import Encoded
from schedulers.rl.layers import Arrays, drawn, softmax
from schedulers.rl.parameters import Shared, clipped, flat, named
from schedulers.rl.policy_network import ActorCriticNetwork
from tests.helpers.builders import scenario

INPUTS, BLOCKS, PLACES = 5, 3, 4
SOFT, HARD = (MTLSettings(width=8, sharing=kind) for kind in ("soft", "hard"))
APART, TOGETHER = (A3CSettings(width=8, head=kind) for kind in ("blocks", "joint"))

NETWORKS: dict[str, Callable[[], ActorCriticNetwork]] = {
    "soft": lambda: Branches(INPUTS, BLOCKS, PLACES, SOFT),
    "hard": lambda: Branches(INPUTS, BLOCKS, PLACES, HARD),
    "blocks": lambda: BlockByBlock(INPUTS, BLOCKS, PLACES, APART),
    "joint": lambda: Joint(INPUTS, BLOCKS, PLACES, TOGETHER),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> ActorCriticNetwork:
    return NETWORKS[request.param]()


def parameters(made: Any, seed: int = 1, spread: float = 0.5) -> Arrays:
    """Parameters that are far from those that training begins with."""
    rng = np.random.default_rng(seed)
    first: Arrays = made.initial(rng)
    return {
        name: (x + rng.normal(scale=spread, size=x.shape)).astype(np.float32)
        for name, x in first.items()
    }


def tensors(p: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(x) for name, x in p.items()}


def inputs(count: int = 7) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(size=(count, INPUTS)).astype(np.float32)


def log_probability(
    made: ActorCriticNetwork, p: Arrays, x: Any, places: Any
) -> NDArray[np.float64]:
    """The logarithm of the probability of whole placements; shape (n,)."""
    heads = made.heads(tensors(p), torch.from_numpy(x), torch.from_numpy(places))
    log_p = torch.log_softmax(heads.logits.double(), dim=-1)
    found = log_p.gather(-1, heads.chosen.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
    return np.asarray(found.numpy())


def all_placements(blocks: int = BLOCKS, places: int = PLACES) -> NDArray[np.int64]:
    return np.array(list(product(range(places), repeat=blocks)))


# ---------------------------------------------------------------- shapes, NumPy and PyTorch


def test_shapes(network: ActorCriticNetwork) -> None:
    p, x, rng = parameters(network), inputs(), np.random.default_rng(0)
    assert all(array.dtype == np.float32 for array in network.initial(rng).values())
    assert network.value(p, x).shape == (7,)
    assert network.mode(p, x).shape == (7, BLOCKS)
    found = network.draw(p, x, 5, 0.3, rng)
    assert found.shape == (7, 5, BLOCKS)
    assert found.dtype.kind == "i"
    assert found.min() >= 0
    assert found.max() < PLACES


def test_torch_gives_the_same_values(network: ActorCriticNetwork) -> None:
    p, x = parameters(network), inputs()
    found = network.value(tensors(p), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, network.value(p, x), rtol=1e-4, atol=1e-5)


def test_the_mode_is_what_the_heads_think_best(network: ActorCriticNetwork) -> None:
    """NumPy decides, PyTorch learns: head by head, the mode has the highest logit."""
    p, x = parameters(network), inputs()
    places = network.mode(p, x)
    heads = network.heads(tensors(p), torch.from_numpy(x), torch.from_numpy(places))
    assert torch.equal(heads.logits.argmax(dim=-1), heads.chosen)
    assert len(heads.logits) == len(heads.chosen) == 7


def test_q_values_are_the_same_in_both() -> None:
    made = Values(INPUTS, BLOCKS, PLACES, DQNSettings(width=8))
    p, x = parameters(made), inputs()
    found = made.values(p, x)
    assert found.shape == (BLOCKS, 7, PLACES)
    other = made.values(tensors(p), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(other, found, rtol=1e-4, atol=1e-5)
    assert (made.mode(p, x) == found.argmax(axis=-1).T).all()


def test_q_networks_have_nothing_in_common() -> None:
    made = Values(INPUTS, BLOCKS, PLACES, DQNSettings(width=8))
    p, x = parameters(made), inputs()
    before = made.values(p, x)
    for array in p.values():
        array[1] += 1.0
    after = made.values(p, x)
    assert (before[[0, 2]] == after[[0, 2]]).all()
    assert (before[1] != after[1]).all()


def test_hidden_layers_begin_orthogonal() -> None:
    first = NETWORKS["soft"]().initial(np.random.default_rng(0))
    matrix = first["actor.2.weight"] / (5.0 / 3.0)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-5)
    assert (first["actor.2.bias"] == 0.0).all()


# ---------------------------------------------------------------- sharing


def test_hard_sharing_has_one_trunk_and_soft_sharing_two_that_begin_alike() -> None:
    hard, soft = (NETWORKS[kind]().initial(np.random.default_rng(0)) for kind in ("hard", "soft"))
    assert not [name for name in hard if name.startswith(("actor.1", "critic.1"))]
    assert (soft["actor.1.weight"] == soft["critic.1.weight"]).all()
    assert not np.shares_memory(soft["actor.1.weight"], soft["critic.1.weight"])


def test_the_penalty_pulls_layers_together() -> None:
    made = Branches(INPUTS, BLOCKS, PLACES, MTLSettings(width=4, closeness=0.25))
    p = parameters(made)
    apart = sum(
        float(((p[n] - p[n.replace("actor", "critic")]) ** 2).sum())
        for n in ("actor.1.weight", "actor.1.bias", "actor.2.weight", "actor.2.bias")
    )
    assert float(made.penalty(tensors(p))) == pytest.approx(0.25 * apart, rel=1e-5)
    for _ in range(50):
        leaves = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
        gradients = torch.autograd.grad(
            made.penalty(leaves), list(leaves.values()), materialize_grads=True
        )
        others = {n: g for n, g in zip(p, gradients, strict=True) if "branch" in n or "value" in n}
        assert len(others) == 4
        assert not any(g.any() for g in others.values())
        steps = zip(p, gradients, strict=True)
        p = {n: (p[n] - 0.2 * g.numpy()).astype(np.float32) for n, g in steps}
    np.testing.assert_allclose(p["actor.1.weight"], p["critic.1.weight"], atol=1e-3)


def test_other_networks_have_no_penalty() -> None:
    for kind in ("hard", "blocks", "joint"):
        made = NETWORKS[kind]()
        assert made.penalty(tensors(parameters(made))) == 0.0


# ---------------------------------------------------------------- the joint head


@pytest.mark.parametrize(("blocks", "places"), [(1, 2), (3, 4), (4, 3), (2, 7)])
def test_outputs_of_a_joint_head_are_the_placements_one_to_one(blocks: int, places: int) -> None:
    made = Joint(INPUTS, blocks, places, TOGETHER)
    wanted = all_placements(blocks, places)
    p = parameters(made)
    x = np.repeat(inputs(1), len(wanted), axis=0)
    heads = made.heads(tensors(p), torch.from_numpy(x), torch.from_numpy(wanted))
    numbers = heads.chosen[:, 0].tolist()
    assert sorted(numbers) == list(range(places**blocks))
    for output, placement in zip(numbers, wanted.tolist(), strict=True):
        p["actor.head.bias"][:] = 0.0
        p["actor.head.bias"][output] = 1e3
        assert made.mode(p, x[:1])[0].tolist() == placement
        assert made.draw(p, x[:1], 1, 0.0, np.random.default_rng(0))[0, 0].tolist() == placement


def test_a_joint_head_that_is_too_large_is_refused() -> None:
    spec = SchedulerSpec.of(resolve(scenario(dnn={"blocks": 7}, edge_servers=4)))
    assert 5**6 <= MOST_JOINT < 5**7
    problem = r"joint needs 5\^7 = 78,125 outputs; allowed: at most 50,000; use blocks"
    with pytest.raises(SchedulerError, match=problem):
        A3C.untrained(spec, TOGETHER)
    A3C.untrained(spec, APART)
    assert A3C.kind(TOGETHER) is Joint
    with pytest.raises(SchedulerError, match="100,000,000,000,000,000,000 outputs"):
        Joint(INPUTS, 20, 10, TOGETHER).initial(np.random.default_rng(0))


# ---------------------------------------------------------------- probabilities and draws


def test_softmax_by_hand() -> None:
    found = softmax(np.log(np.array([[1.0, 2.0, 5.0]], np.float32)))
    np.testing.assert_allclose(found, [[0.125, 0.25, 0.625]], rtol=1e-6)
    assert softmax(np.array([1e30, 0.0], np.float32)).tolist() == [1.0, 0.0]


@pytest.mark.statistical
def test_draws_follow_the_softmax() -> None:
    logits = np.array([0.0, 1.0, -1.0, 2.5], np.float32)
    rng = np.random.default_rng(3)
    found = drawn(np.broadcast_to(logits, (20_000, 4)), 0.0, rng)
    expected = 20_000 * softmax(logits).astype(np.float64)
    observed = np.bincount(found, minlength=4)
    assert stats.chisquare(observed, expected * 20_000 / expected.sum()).pvalue > 0.01


@pytest.mark.statistical
def test_full_exploration_is_uniform_and_a_half_is_half_way() -> None:
    logits = np.broadcast_to(np.array([9.0, 0.0, 0.0, 0.0], np.float32), (20_000, 4))
    for explore in (1.0, 0.5):
        found = drawn(logits, explore, np.random.default_rng(4))
        mixed = explore / 4 + (1.0 - explore) * softmax(logits[0]).astype(np.float64)
        expected = 20_000 * mixed / mixed.sum()
        assert stats.chisquare(np.bincount(found, minlength=4), expected).pvalue > 0.01


@pytest.mark.statistical
def test_placements_are_drawn_as_probable_as_the_heads_say(network: ActorCriticNetwork) -> None:
    """All 64 placements of one state, counted, against the probabilities that are learned from."""
    p, x, count = parameters(network), inputs(1), 40_000
    found = network.draw(p, x, count, 0.0, np.random.default_rng(5))[0]
    observed = np.bincount(found @ (PLACES ** np.arange(BLOCKS)), minlength=PLACES**BLOCKS)
    every = all_placements()
    probable = np.exp(log_probability(network, p, np.repeat(x, len(every), axis=0), every))
    assert probable.sum() == pytest.approx(1.0, abs=1e-6)
    expected = np.empty(len(every))
    expected[every @ (PLACES ** np.arange(BLOCKS))] = count * probable / probable.sum()
    common = expected >= 5.0
    assert common.sum() >= 8
    kept = [np.append(each[common], each[~common].sum()) for each in (observed, expected)]
    counted, wanted = (each[kept[1] > 0.0] for each in kept)
    assert stats.chisquare(counted, wanted).pvalue > 0.01


@pytest.mark.statistical
def test_exploration_of_one_draws_every_placement_alike(network: ActorCriticNetwork) -> None:
    p, count = parameters(network, spread=3.0), 20_000
    found = network.draw(p, inputs(1), count, 1.0, np.random.default_rng(6))[0]
    observed = np.bincount(found @ (PLACES ** np.arange(BLOCKS)), minlength=PLACES**BLOCKS)
    assert stats.chisquare(observed).pvalue > 0.01


@pytest.mark.parametrize(
    ("epoch", "when", "likeliest"),
    [
        ("per_slot", "tasks", True),
        ("per_task", "tasks", False),
        ("per_slot", "always", False),
        ("per_task", "never", True),
    ],
)
def test_policies_draw_where_epochs_are_tasks(
    epoch: str, when: Literal["tasks", "always", "never"], likeliest: bool
) -> None:
    made = Branches(INPUTS, BLOCKS, PLACES, MTLSettings(width=8, drawn=when), epoch)
    p, x = parameters(made), np.repeat(inputs(1), 500, axis=0)
    found = made.decide(p, x, np.random.default_rng(8))
    drawn_ones = made.draw(p, x, 1, 0.0, np.random.default_rng(8))[:, 0]
    assert (found == (made.mode(p, x) if likeliest else drawn_ones)).all()
    assert (len(np.unique(found, axis=0)) == 1) == likeliest


def test_the_server_of_a_task_is_one_of_n_inputs() -> None:
    spec = SchedulerSpec.of(resolve(scenario(edge_servers=3, decision_epoch="per_task")))
    encoded = Encoded.of(spec, "full")
    features = np.ones((3, len(feature_names(spec))))
    features[:, -1] = [1, 2, 3]  # device.serving_server
    x = encoded(features)
    assert x.shape == (3, encoded.inputs)
    apart = x[:, (x != x[0]).any(axis=0)]
    assert apart.tolist() == np.eye(3).tolist()


@pytest.mark.statistical
def test_greedy_values_are_drawn_but_for_epsilon() -> None:
    made = Values(INPUTS, BLOCKS, PLACES, DQNSettings(width=8))
    p, x, rng = parameters(made), inputs(), np.random.default_rng(7)
    assert (made.draw(p, x, 9, 0.0, rng) == made.mode(p, x)[:, None]).all()
    found = made.draw(p, x, 4000, 0.5, rng)
    share = (found == made.mode(p, x)[:, None]).mean()
    assert share == pytest.approx(0.5 + 0.5 / PLACES, abs=0.01)
    uniform = np.bincount(made.draw(p, x, 4000, 1.0, rng).ravel())
    assert stats.chisquare(uniform).pvalue > 0.01


def test_block_by_block_looks_at_the_blocks_before_and_at_none_after() -> None:
    made = NETWORKS["blocks"]()
    p, x = tensors(parameters(made)), torch.from_numpy(inputs(1))
    logits = [made.heads(p, x, torch.tensor([each])).logits[0] for each in ([0, 1, 2], [0, 3, 3])]
    assert torch.equal(logits[0][:2], logits[1][:2])
    assert not torch.allclose(logits[0][2], logits[1][2])


# ---------------------------------------------------------------- losses and their gradients


def sample(count: int = 6) -> Sample:
    rng = np.random.default_rng(8)
    places = rng.integers(PLACES, size=(count, BLOCKS))
    weights, targets = rng.normal(size=(2, count))
    return Sample(inputs(count), places, weights, inputs(count), targets)


@pytest.mark.parametrize("explore", [0.0, 0.3])
def test_the_actors_loss_by_hand(explore: float) -> None:
    made, given = NETWORKS["soft"](), sample()
    p = parameters(made)
    heads = made.heads(tensors(p), torch.from_numpy(given.x), torch.from_numpy(given.places))
    pi = softmax(heads.logits.numpy().astype(np.float64))
    rows, heads_of = np.arange(len(given.x))[:, None], np.arange(BLOCKS)
    acted = ((1.0 - explore) * pi + explore / PLACES)[rows, heads_of, given.places]
    expected = -(given.weights * np.log(acted).mean(axis=1)).mean()
    loss, entropy = actor_loss(made, tensors(p), given, explore)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert entropy.item() == pytest.approx(-(pi * np.log(pi)).sum(axis=-1).mean(), rel=1e-4)


def test_the_critics_loss_by_hand() -> None:
    made, given = NETWORKS["soft"](), sample()
    p = parameters(made)
    off = np.abs(made.value(p, given.states) - given.targets)
    expected = np.where(off < 1.0, 0.5 * off**2, off - 0.5).mean()
    assert critic_loss(made, tensors(p), given).item() == pytest.approx(expected, rel=1e-4)


def test_gradients_against_finite_differences(network: ActorCriticNetwork) -> None:
    given = sample()
    p: dict[str, Any] = {name: x.astype(np.float64) for name, x in parameters(network).items()}
    x, states = (each.astype(np.float64) for each in (given.x, given.states))
    given = given._replace(x=x, states=states)  # type: ignore[arg-type] # exact enough to differ

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        actor, entropy = actor_loss(network, values, given, 0.1)
        total: torch.Tensor = actor - 0.2 * entropy + network.penalty(values)
        return total + critic_loss(network, values, given)

    leaves = {name: torch.from_numpy(x).requires_grad_() for name, x in p.items()}
    gradients = torch.autograd.grad(loss(leaves), list(leaves.values()))
    rng = np.random.default_rng(9)
    for name, gradient in zip(p, gradients, strict=True):
        for _ in range(3):
            at = tuple(int(rng.integers(n)) for n in p[name].shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = {n: torch.from_numpy(x.copy()) for n, x in p.items()}
                moved[name][at] += step
                ends.append(loss(moved).item())
            slope = (ends[0] - ends[1]) / 2e-5
            assert gradient[at].item() == pytest.approx(slope, rel=1e-3, abs=1e-6), (name, at)


# ---------------------------------------------------------------- shared parameters


def shared(**values: Any) -> Shared:
    arrays = {name: np.array(x, np.float32) for name, x in values.items()}
    layout = layout_of(arrays)
    made = Shared(layout, Shared.memory_for(layout))
    made.values[:] = flat(arrays)
    return made


def test_rmsprop_by_hand() -> None:
    """Eqs. 23 and 24: g ← α·g + (1 − α)·Δ², θ ← θ − η·Δ/√(g + ε)."""
    made = shared(w=[1.0, -1.0])
    gradient = np.array([4.0, -2.0], np.float32)
    made.push(gradient, 0.1, decay=0.75, epsilon=0.0)
    # squares: 0.25·16 = 4, 0.25·4 = 1; steps: 0.1·4/2 = 0.2, 0.1·(−2)/1 = −0.2
    assert made.squares.tolist() == [4.0, 1.0]
    np.testing.assert_allclose(made.values, [0.8, -0.8], rtol=1e-6)
    made.push(gradient, 0.1, decay=0.75, epsilon=9.0)
    # squares: 3 + 4 = 7, 0.75 + 1 = 1.75; steps: 0.4/√16, −0.2/√10.75
    assert made.squares.tolist() == [7.0, 1.75]
    np.testing.assert_allclose(made.values, [0.7, -0.8 + 0.2 / 10.75**0.5], rtol=1e-6)


def test_every_parameter_has_a_rate_of_its_own() -> None:
    made = shared(w=[0.0, 0.0])
    made.push(np.ones(2, np.float32), np.array([0.0, 1.0], np.float32), decay=0.0, epsilon=0.0)
    assert made.values.tolist() == [0.0, -1.0]


def test_what_is_pulled_is_a_copy_of_what_all_see() -> None:
    made = shared(a=[[1.0, 2.0]], b=[3.0])
    pulled = made.pull()
    made.values[:] = 0.0
    assert {name: x.tolist() for name, x in pulled.items()} == {"a": [[1.0, 2.0]], "b": [3.0]}


def test_two_who_share_memory_see_each_other() -> None:
    layout = {"w": (2,)}
    memory = Shared.memory_for(layout)
    one, other = Shared(layout, memory), Shared(layout, memory)
    one.push(np.array([1.0, 0.0], np.float32), 1.0)
    assert other.pull()["w"].tolist() == one.pull()["w"].tolist() != [0.0, 0.0]
    assert (other.squares == one.squares).all()


def test_flat_and_named_are_inverse(network: ActorCriticNetwork) -> None:
    p = parameters(network)
    back = named(layout_of(p), flat(p))
    assert back.keys() == p.keys()
    assert all((back[name] == p[name]).all() for name in p)


def test_gradients_are_clipped_to_a_norm_and_must_be_finite() -> None:
    gradient = np.array([3.0, 4.0], np.float32)
    np.testing.assert_allclose(clipped(gradient, 1.0), [0.6, 0.8], rtol=1e-6)
    assert clipped(gradient, 6.0).tolist() == [3.0, 4.0]
    assert clipped(np.zeros(2, np.float32), 1.0).tolist() == [0.0, 0.0]
    for bad in (np.nan, np.inf):
        with pytest.raises(TrainingError, match="diverged: a gradient is not finite"):
            clipped(np.array([bad, 1.0], np.float32), 1.0)
