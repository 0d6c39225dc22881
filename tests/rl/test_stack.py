"""Stacked trainings: each is the training that it would be alone, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from mecsim.errors import TrainingError
from mecsim.learning import Arrays, Checkpoint, TrainingProblem, TrainingResult
from mecsim.scenario.schema import Scenario
from schedulers.a3c import A3C
from schedulers.dqn import DQN
from schedulers.mtl_a3c import MTLA3C
from schedulers.rl import stack
from schedulers.rl.learner import NetworkLearner
from tests.helpers.slow import slow_unless

ROLLOUTS: dict[str, Any] = {"train_freq": "step", "branched_share": 0.0, "n_steps": 4}
LEARNERS: dict[str, tuple[type[NetworkLearner], dict[str, Any]]] = {
    "mtl-a3c": (MTLA3C, {}),
    "mtl-a3c hard": (MTLA3C, {"sharing": "hard"}),
    "mtl-a3c rollouts": (MTLA3C, ROLLOUTS),
    "a3c": (A3C, {}),
    "a3c rollouts": (A3C, ROLLOUTS),
    "a3c joint": (A3C, {"head": "joint"}),
    "dqn": (DQN, {}),
}
THREE = ("mtl-a3c", "a3c", "dqn")
SMALL: dict[str, Any] = {"batch_size": 8, "hidden_units": 8}
PER_TASK: dict[str, Any] = {
    "slots": 3,
    "decision_epoch": "per_task",
    "arrivals": {"process": "poisson", "rate": 2},
}


def scenario(**overrides: Any) -> Scenario:
    """Two tasks a slot, two servers, two blocks."""
    base: dict[str, Any] = {
        "slots": 6,
        "devices": 3,
        "edge_servers": 2,
        "dnn": {"blocks": 2},
        "arrivals": {"process": "slotted", "rate": 2},
    }
    return Scenario.model_validate(base | overrides)


class Record:
    """A logger that keeps what it is told, and may have a checkpoint or be interrupted."""

    def __init__(self, checkpoint: Checkpoint | None = None, stop_after: int | None = None) -> None:
        self.checkpoint, self.checkpoint_due, self.warnings = checkpoint, True, list[str]()
        self.rows: list[tuple[float, dict[str, float]]] = []
        self.saved: list[Checkpoint] = []
        self._left = stop_after

    def log(self, share: float, measures: Mapping[str, float]) -> None:
        if self._left is not None and len(self.rows) == self._left:
            raise KeyboardInterrupt
        self.rows.append((share, dict(measures)))

    def save_checkpoint(self, arrays: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        kept = {name: x.astype(np.float32) for name, x in arrays.items()}
        self.saved.append(Checkpoint(kept, dict(state)))

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def rates(learner: str, value: float) -> dict[str, float]:
    if learner == "dqn":
        return {"learning_rate": value}
    return {"actor_learning_rate": value, "critic_learning_rate": 2.0 * value}


def problem(
    learner: str, spec: Scenario, seed: int, rate: float = 0.01, episodes: int = 4, **options: Any
) -> TrainingProblem:
    cls, own = LEARNERS[learner]
    paper = dict(cls.presets["paper"]) | {"train_freq": "episode"}
    made = cls.settings(**(paper | own | SMALL | options | rates(learner, rate)))
    return TrainingProblem(spec, made, seed, episodes, 1, serial=True)


Found = list[TrainingResult | TrainingError]


def train(
    learner: str, problems: Sequence[TrainingProblem], records: Sequence[Record] | None = None
) -> tuple[Found, list[Record]]:
    made = list(records or [Record() for _ in problems])
    return LEARNERS[learner][0].train_stack(problems, made), made


def result(found: TrainingResult | TrainingError) -> TrainingResult:
    assert isinstance(found, TrainingResult)
    return found


def bits(found: TrainingResult | TrainingError, record: Record) -> dict[str, Any]:
    """Everything that a training leaves; equal only where every bit is."""
    policy = {name: x.tobytes() for name, x in result(found).arrays.items()}
    end = {name: x.tobytes() for name, x in record.saved[-1].arrays.items()}
    reward = result(found).validation_reward
    return {"policy": policy, "end": end, "reward": reward, "rows": repr(record.rows)}


# ---------------------------------------------------------------- alone and in stacks

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "2 servers, 3 blocks": (
        {"dnn": {"blocks": 3}},
        {"batch_size": 32, "hidden_units": 64, "work_nodes": 2},
    ),
    "9 servers": ({"edge_servers": 9, "slots": 4}, {"hidden_units": 64, "batch_size": 5}),
    "one unit": ({}, {"hidden_units": 1, "batch_size": 32}),
    "batches of one": ({}, {"batch_size": 1, "hidden_units": 64}),
    "batteries": ({"device": {"battery": "5 J"}}, {}),
    "backlogs": ({}, {"observe": "full"}),
    "per task": (PER_TASK, {}),
}


QUICK = (
    ("mtl-a3c", "2 servers, 3 blocks"),
    ("mtl-a3c", "one unit"),
    ("mtl-a3c hard", "batteries"),
    ("mtl-a3c rollouts", "2 servers, 3 blocks"),
    ("a3c", "per task"),
    ("a3c joint", "2 servers, 3 blocks"),
    ("a3c rollouts", "backlogs"),
    ("dqn", "9 servers"),
    ("dqn", "batches of one"),
)
"""Every learner and every shape."""


@pytest.mark.quick("mtl-a3c-2 servers, 3 blocks", "dqn-9 servers", "a3c-per task")
@pytest.mark.parametrize(
    ("learner", "shape"),
    slow_unless(
        QUICK,
        [
            *[(learner, shape) for learner in ("mtl-a3c", "dqn") for shape in SHAPES],
            *[("a3c", shape) for shape in ("9 servers", "backlogs", "per task")],
            *[("a3c joint", shape) for shape in ("2 servers, 3 blocks", "per task")],
            ("mtl-a3c hard", "batteries"),
            *[(f"{learner} rollouts", "2 servers, 3 blocks") for learner in ("mtl-a3c", "a3c")],
            *[("a3c rollouts", shape) for shape in ("batteries", "backlogs")],
        ],
    ),
)
def test_a_training_is_the_same_in_every_stack(learner: str, shape: str) -> None:
    overrides, options = SHAPES[shape]
    spec = scenario(**overrides)
    options = {"episodes": 3} | options
    problems = [problem(learner, spec, 7 + s, 0.01 / (1 + s), **options) for s in range(10)]
    ten = [bits(*each) for each in zip(*train(learner, problems), strict=True)]
    assert len({repr(each["end"]) for each in ten}) == 10  # they differ from each other
    three = [bits(*each) for each in zip(*train(learner, problems[:3]), strict=True)]
    assert three == ten[:3]
    for each in (0, 9):
        (found,), (record,) = train(learner, problems[each : each + 1])
        assert bits(found, record) == ten[each]


@pytest.mark.parametrize("learner", ["mtl-a3c", "a3c", "dqn"])
def test_also_with_18_blocks(learner: str) -> None:
    spec = scenario(edge_servers=9, dnn={"blocks": 18}, slots=2)
    options: dict[str, Any] = {"hidden_units": 64, "batch_size": 32, "episodes": 1}
    problems = [problem(learner, spec, seed, **options) for seed in range(2)]
    together = [bits(*each) for each in zip(*train(learner, problems), strict=True)]
    (found,), (record,) = train(learner, problems[1:])
    assert bits(found, record) == together[1]


@pytest.mark.parametrize("learner", THREE)
def test_order_in_a_stack_does_not_matter(learner: str) -> None:
    problems = [problem(learner, scenario(), seed) for seed in range(3)]
    one = [bits(*each) for each in zip(*train(learner, problems), strict=True)]
    other = [bits(*each) for each in zip(*train(learner, problems[::-1]), strict=True)]
    assert other == one[::-1]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("learner", THREE)
def test_a_diverging_training_fails_alone(learner: str) -> None:
    spec = scenario()
    problems = [problem(learner, spec, s, rate) for s, rate in enumerate((0.01, 1e30, 0.02))]
    (first, failed, last), records = train(learner, problems)
    assert isinstance(failed, TrainingError)
    assert str(failed).startswith("the training diverged: a parameter exceeds 1e+06")
    assert str(failed).endswith("Try: lower learning rates")
    assert len(records[1].rows) == 1  # the evaluation of the initial parameters
    without = train(learner, problems[::2])
    both = [bits(*each) for each in zip(*without, strict=True)]
    assert [bits(first, records[0]), bits(last, records[2])] == both


@pytest.mark.parametrize("value", slow_unless([-np.inf], [np.nan, np.inf, -np.inf]))
@pytest.mark.parametrize("learner", THREE)
def test_a_gradient_that_is_not_finite_fails_its_training(
    learner: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, pushed = stack._StackedParameters.push, list[int]()

    def poisoned(self: Any, gradient: Any) -> None:
        pushed.append(1)
        if len(pushed) == 3:
            gradient[1, 3] = value
        real(self, gradient)

    problems = [problem(learner, scenario(), seed) for seed in range(3)]
    (one,), (alone,) = train(learner, problems[2:])
    monkeypatch.setattr(stack._StackedParameters, "push", poisoned)
    (_, failed, last), records = train(learner, problems)
    assert isinstance(failed, TrainingError)
    assert "the training diverged: a gradient is not finite" in str(failed)
    assert bits(last, records[2]) == bits(one, alone)


def test_a_stack_ends_once_all_of_it_has_failed() -> None:
    problems = [problem("dqn", scenario(), seed, 1e30, episodes=10**6) for seed in range(2)]
    found, records = train("dqn", problems)
    assert all(isinstance(each, TrainingError) for each in found)
    assert [len(each.rows) for each in records] == [1, 1]


# ---------------------------------------------------------------- checkpoints


@pytest.mark.quick("mtl-a3c-2", "dqn-2")
@pytest.mark.parametrize("after", slow_unless([2], [1, 2, 6]))
@pytest.mark.parametrize("learner", [*THREE, "a3c rollouts"])
def test_a_stack_resumes_where_it_was_stopped(learner: str, after: int) -> None:
    more = {"target_update_interval": 4} if learner == "dqn" else {"buffer_size": 20}
    episodes = 14 if learner == "a3c rollouts" else 7  # of two environments
    more |= {"episodes": episodes, "work_nodes": 2}
    problems = [problem(learner, scenario(), s, **more) for s in (0, 1)]
    whole = [bits(*each) for each in zip(*train(learner, problems), strict=True)]
    stopped = [Record(stop_after=after), Record()]
    with pytest.raises(KeyboardInterrupt):
        train(learner, problems, stopped)
    assert len(stopped[0].saved) == len(stopped[1].saved) == after
    again, records = train(learner, problems, [Record(each.saved[-1]) for each in stopped])
    for found, record, before, expected in zip(again, records, stopped, whole, strict=True):
        record.rows[:0] = before.rows[:after]
        assert bits(found, record) == expected


@pytest.mark.parametrize("learner", ["mtl-a3c", "dqn"])
def test_checkpoints_of_different_iterations_are_resumed_apart(learner: str) -> None:
    problems = [problem(learner, scenario(), seed, episodes=6) for seed in range(3)]
    whole, records = train(learner, problems)
    starts = [records[0].saved[2], None, records[2].saved[4]]
    again, resumed = train(learner, problems, [Record(each) for each in starts])
    for found, record, expected, full in zip(again, resumed, whole, records, strict=True):
        record.rows[:0] = full.rows[: len(full.rows) - len(record.rows)]
        assert bits(found, record) == bits(expected, full)
    assert [len(each.saved) for each in resumed] == [
        len(records[0].saved) - kept for kept in (3, 0, 5)
    ]


def test_checkpoints_wait_until_all_trainings_are_due_or_end() -> None:
    problems = [problem("dqn", scenario(), seed) for seed in range(2)]
    records = [Record(), Record()]
    records[1].checkpoint_due = False
    train("dqn", problems, records)
    (first,), (second,) = (each.saved for each in records)
    assert len(first.state["done"]) == len(second.state["done"]) == problems[0].episodes


@cache
def first_checkpoint(learner: str) -> Checkpoint:
    _, (record,) = train(learner, [problem(learner, scenario(), 0)])
    return record.saved[0]


@pytest.mark.parametrize("name", ["values", "square_avg", "best", "state.x", "state.added"])
@pytest.mark.parametrize("learner", ["mtl-a3c", "dqn"])
def test_a_checkpoint_of_another_shape_is_refused(learner: str, name: str) -> None:
    own, saved = problem(learner, scenario(), 0), first_checkpoint(learner)
    wrong = [{n: x for n, x in saved.arrays.items() if n != name}]
    wrong.append(saved.arrays | {name: np.zeros((3, 2), np.float32)})
    for arrays in wrong:
        with pytest.raises(TrainingError, match=r"checkpoint belongs to a .* of another shape"):
            train(learner, [own], [Record(Checkpoint(arrays, saved.state))])
    with pytest.raises(TrainingError, match="does not belong to this learner"):
        train(learner, [own], [Record(Checkpoint(saved.arrays, {"done": "some"}))])


# ---------------------------------------------------------------- updates


class _TwoNodes:
    """Learns one parameter: the gradients of its two work nodes are known numbers."""

    iterations, ends = 1, (1,)

    def __init__(self, problems: Sequence[TrainingProblem]) -> None:
        self.problems, self.settings = problems, problems[0].settings
        self.seen: list[Arrays] = []

    def initial(self) -> list[Arrays]:
        return [{"w": np.array([9.0, 5.0], np.float32)} for _ in self.problems]

    def learning_rates(self, own: TrainingProblem) -> Any:
        return np.full(2, own.settings.actor_learning_rate, np.float32)

    def run_iteration(self, number: int, parameters: Any) -> Any:
        for gradient in ([3.0, 4.0], [0.0, -1.0]):
            self.seen.append(parameters.pull())
            parameters.push(np.array([gradient] * 2, np.float32))
        return {"entropy": np.ones(2)}

    def evaluate(self, p: Arrays, stop_below: Any) -> Any:
        return p["w"][:, 0] - 10.0

    def state(self, training: int) -> Arrays:
        return {}

    def policy(self, parameters: Arrays) -> Arrays:
        return parameters


def test_every_work_node_has_its_clipped_update_by_rmsprop() -> None:
    """By hand: g = 0.01 Δ², θ -= η Δ / √(g + 1e-5); (3, 4) has norm 5 and is clipped to 2.5."""
    problems = [problem("mtl-a3c", scenario(), 0, rate, max_grad_norm=2.5) for rate in (0.1, 0.2)]
    made: list[_TwoNodes] = []

    def make(own: Sequence[TrainingProblem]) -> Any:
        made.append(_TwoNodes(own))
        return made[-1]

    records = [Record(), Record()]
    stack.train_stack(make, problems, records)
    for record, rate in zip(records, (0.1, 0.2), strict=True):
        first = np.array([1.5, 2.0])
        g = 0.01 * first**2
        expected = np.array([9.0, 5.0]) - rate * first / np.sqrt(g + 1e-5)
        second = np.array([0.0, -1.0])
        g = 0.99 * g + 0.01 * second**2
        expected -= rate * second / np.sqrt(g + 1e-5)
        end = record.saved[-1].arrays
        np.testing.assert_allclose(end["values"], expected, rtol=1e-6)
        np.testing.assert_allclose(end["square_avg"], g, rtol=1e-6)
    (learning,) = made
    assert (learning.seen[0]["w"] == [[9.0, 5.0], [9.0, 5.0]]).all()
    assert (learning.seen[1]["w"] != learning.seen[0]["w"]).all()  # a copy
