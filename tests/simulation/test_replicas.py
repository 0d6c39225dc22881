"""Replicas stepped together do, to the last bit, what single runs under their seeds do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings

from mecsim import Scenario
from mecsim.errors import PlacementError, ScenarioError
from mecsim.kernels.advance import advance
from mecsim.kernels.compiled_kernel import CompiledKernel
from mecsim.kernels.rollout import rollout
from mecsim.model import workload
from mecsim.model.model import resolve
from mecsim.scenario.loading import load
from mecsim.scenario.schema import Poisson
from mecsim.scheduler.observation import Outcomes, feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.replicas import Replicas
from mecsim.simulation.session import Session
from mecsim.support.arrays import Floats, Ints
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import SCRIPTED
from tests.helpers.strategies import cases

FOLDER = Path(__file__).parents[2] / "scenarios"


@dataclass(eq=False)
class Episode:
    """What one replica saw, did and earned from a reset to its end."""

    seed: int
    seen: list[Floats] = field(default_factory=list)
    placements: list[list[int]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def assert_is_that_of_a_single_run(self, spec: Scenario) -> None:
        options = {"placements": self.placements}
        trace = simulate(spec, SCRIPTED, options, self.seed, "compiled").trace
        if not self.placements:
            assert "decisions/reward" not in trace.paths() or not len(trace["decisions/reward"])
            return
        assert np.array_equal(trace["decisions/placement"], self.placements)
        assert np.array_equal(trace["decisions/reward"], self.rewards)
        assert np.array_equal(trace["decisions/observation"], self.seen)


@pytest.fixture(scope="module", autouse=True)
def small_tables() -> Iterator[None]:
    """Every episode goes through several pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mecsim.simulation.epoch_buffer.SLOTS", 16)
        yield


class Watched:
    """Replicas under placements that differ from each other, and what became of each."""

    def __init__(self, spec: Scenario, seeds: Sequence[int], threads: int = 1) -> None:
        self.spec, self.replicas = spec, Replicas(spec, len(seeds), threads=threads)
        self._rng = np.random.default_rng(len(seeds))
        self.now = [Episode(seed) for seed in seeds]
        self.done: list[Episode] = []
        self._saw = self.replicas.reset(seeds)
        self._retire()

    def placements(self) -> Ints:
        shape = self.replicas.replicas, self.replicas.blocks
        return self._rng.integers(self.replicas.places, size=shape)

    def step(self, placements: Ints | None = None) -> None:
        chosen = self.placements() if placements is None else placements
        live = ~self.replicas.ended
        seen, rewards, ended = self.replicas.step(chosen)
        assert ended.tolist() == self.replicas.ended.tolist()
        for row in np.flatnonzero(live):
            self.now[row].seen.append(self._saw[row])
            self.now[row].placements.append(chosen[row].tolist())
            self.now[row].rewards.append(float(rewards[row]))
        assert not rewards[~live].any()
        self._saw = seen
        self._retire()

    def reset(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        before = self._saw
        self._saw = self.replicas.reset(seeds, rows)
        others = np.delete(np.arange(len(self.now)), rows)
        assert np.array_equal(self._saw[others], before[others])
        for row, seed in zip(rows, seeds, strict=True):
            self.now[row] = Episode(seed)
        self._retire()

    def _retire(self) -> None:
        ended = [self.now[row] for row in np.flatnonzero(self.replicas.ended)]
        self.done += [episode for episode in ended if episode not in self.done]

    def finish(self) -> list[Episode]:
        while not self.replicas.ended.all():
            self.step()
        self.replicas.close()
        for episode in self.done:
            episode.assert_is_that_of_a_single_run(self.spec)
        return self.done


def shaken(**overrides: Any) -> Scenario:
    """Queues everywhere, fading, batteries that run out, results that go back."""
    base: dict[str, Any] = {
        "slots": 70,  # more than four pages
        "dnn": chain([3e8, 5e8, 4e8], [2e5, 9e5, 3e5], max_tolerated_delay=[0.4, 0.9, 0.5]),
        "size_factor": {"distribution": "exponential", "per": "block"},
        "arrivals": {"process": "poisson", "rate": 6},
        "edge_servers": 3,
        "edge_server": {"capacity": 1.3e9, "cores": 2},
        "devices": 4,
        "device": {"battery": 120.0},
        "radio": {"bandwidth": 2e6, "fading": "rayleigh"},
        "wired": {"topology": "line", "rate": 5e6, "latency": 0.01},
        "return_result": True,
    }
    return scenario(**(base | overrides))


# ---------------------------------------------------------------- equal to single runs


@pytest.mark.quick("vgg16_loaded-*", "small_battery-*", "resnet32-*")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("vgg16_loaded", ["slots=70", "arrivals.rate=8"]),
        ("small_battery", ["slots=30"]),
        ("bursty", ["slots=15", "decision_epoch=per_task"]),
        ("resnet32", ["slots=5"]),
    ],
)
def test_shipped_scenarios(name: str, sets: list[str], threads: int) -> None:
    spec = load(FOLDER / f"{name}.yaml", sets)
    assert len(Watched(spec, [4, 5, 6], threads).finish()) == 3


def test_pages_as_large_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecsim.simulation.epoch_buffer.SLOTS", 256)
    spec = load(FOLDER / "vgg16_loaded.yaml", ["slots=300", "arrivals.rate=8"])
    assert len(Watched(spec, [4, 5], 2).finish()) == 2


def test_pages_are_smaller_where_slots_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to one slot; memory does not grow with the slots."""
    monkeypatch.setattr("mecsim.simulation.epoch_buffer.ITEMS", 5)
    watched = Watched(shaken(), [1, 2])
    assert len(watched.finish()) == 2
    assert len(watched.replicas._buffer.table.time_s) < 10


PROCESSES: dict[str, dict[str, Any]] = {
    **{name: {"process": name, "rate": 6} for name in ("slotted", "deterministic", "poisson")},
    "mmpp": {"process": "mmpp", "rates": [1.0, 9.0], "mean_dwell": [9.0, 9.0]},
}


@pytest.mark.quick("*-per_slot", "mmpp-per_task")
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("process", PROCESSES)
def test_everything_at_once(epoch: str, process: str) -> None:
    spec = shaken(decision_epoch=epoch, arrivals=PROCESSES[process])
    episodes = Watched(spec, [1, 2, 3, 4]).finish()
    if epoch == "per_task" and process in ("poisson", "mmpp"):
        assert len({len(episode.rewards) for episode in episodes}) > 1


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_many_epochs_in_one_call(epoch: str) -> None:
    """Across the ends of pages and of episodes, and with rings that grow."""
    spec = shaken(decision_epoch=epoch, device={"capacity": 1e8})
    stepped, rolled = (Replicas(spec, 3, threads=2) for _ in range(2))
    assert np.array_equal(stepped.reset([1, 2, 3]), rolled.reset([1, 2, 3]))
    rng, total = np.random.default_rng(0), np.zeros(3)
    while not stepped.ended.all():
        placements = rng.integers(4, size=(50, 3, 3))
        steps = [stepped.step(placement) for placement in placements]
        seen, rewards, ended = rolled.roll(placements)
        assert np.array_equal(seen, steps[-1][0])
        assert np.array_equal(rewards, [reward for _, reward, _ in steps])
        assert np.array_equal(ended, steps[-1][2])
        assert np.array_equal(stepped.time_s, rolled.time_s)
        total += rewards.sum(axis=0)
    assert (total < 0).all()
    for replicas in (stepped, rolled):
        replicas.close()


@given(cases())
@settings(max_examples=examples(60), deadline=None, derandomize=True)
def test_random_scenarios(case: tuple[Scenario, list[list[int]]]) -> None:
    """Replica b begins with placement b of the script, so that replicas differ anyway."""
    spec, script = case
    assume(all(any(len(slot.tasks) for slot in workload.slots(resolve(spec, n))) for n in (0, 7)))
    watched, epoch = Watched(spec, [0, 7]), 0
    while not watched.replicas.ended.all():
        watched.step(np.array([script[(epoch + b) % len(script)] for b in range(2)]))
        epoch += 1
    assert len(watched.finish()) == 2


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_rings_grow(monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    """From room for two tasks; the backlog of local processing grows all the time."""
    monkeypatch.setattr("mecsim.simulation.replicas.RING", 2)
    spec = shaken(slots=12, decision_epoch=epoch, device={"capacity": 1e8})
    watched = Watched(spec, [1, 2, 3])
    while not watched.replicas.ended.all():
        placements = watched.placements()
        placements[1:] = 0  # the first one has less to keep
        watched.step(placements)
    assert len(watched.finish()) == 3


def test_memory_is_that_of_the_tasks_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mecsim.simulation.replicas.RING", 64)
    watched = Watched(shaken(arrivals={"process": "slotted", "rate": 3}), [1, 2])
    while not watched.replicas.ended.all():
        watched.step(np.tile([1, 2, 3], (2, 1)))  # 70 times 3 tasks, of 8 hops at least
    state = watched.replicas._state
    assert state.tasks.shape == state.batches.shape == (2, 64)
    assert state.hops.shape[1] <= 256


def test_results_do_not_depend_on_the_threads() -> None:
    many = [
        Replicas(shaken(decision_epoch="per_task", slots=10), 5, threads=threads)
        for threads in (1, 2, 9)
    ]
    for replicas in many:
        replicas.reset(range(5))
    rng = np.random.default_rng(0)
    while not many[0].ended.all():
        placements = rng.integers(4, size=(5, 3))
        first, *others = (replicas.step(placements) for replicas in many)
        for other in others:
            assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    for replicas in many:
        replicas.close()


def test_what_is_seen_after_the_end_does_not_depend_on_the_others() -> None:
    spec = shaken(decision_epoch="per_task", slots=2)
    last = []
    for seeds in ([1], [1, 2], [3, 1]):
        replicas = Replicas(spec, len(seeds))
        replicas.reset(seeds)
        while not replicas.ended.all():
            seen, _, _ = replicas.step(np.zeros((len(seeds), 3), dtype=int))
        last.append(seen[seeds.index(1)])
    assert np.array_equal(last[0], last[1])
    assert np.array_equal(last[0], last[2])
    names = feature_names(replicas.spec)
    assert len(names) == replicas.features == len(last[0])
    tail = dict(zip(names, last[0].tolist(), strict=True))
    assert (tail["tasks"], tail["size_factor"]) == (0, 1)
    assert not any(value for name, value in tail.items() if "backlog" in name)


# ---------------------------------------------------------------- resets and ends


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_some_start_anew_while_others_go_on(epoch: str) -> None:
    watched = Watched(shaken(decision_epoch=epoch, slots=20), [1, 2, 3], threads=2)
    for _ in range(7):
        watched.step()
    watched.reset([1], [9])  # in the middle of its episode
    for _ in range(3):
        watched.step()
    watched.reset([2, 0], [11, 12])
    while not watched.replicas.ended.any():
        watched.step()
    first = int(np.flatnonzero(watched.replicas.ended)[0])
    watched.reset([first], [20])
    assert not watched.replicas.ended[first]
    assert {episode.seed for episode in watched.finish()} == {9, 11, 12, 20}


def test_an_episode_again_after_all_have_ended() -> None:
    spec = shaken(slots=3)
    watched = Watched(spec, [1, 2])
    first = [episode.rewards for episode in watched.finish()]
    again = watched.replicas
    again.reset([2, 1])
    assert not again.ended.any()
    rewards = [again.step(np.zeros((2, 3), dtype=int))[1] for _ in range(3)]
    assert again.ended.all()
    assert len(first[0]) == len(rewards) == 3


def test_a_first_reset_of_some() -> None:
    """The others wait for theirs."""
    spec = shaken(slots=4)
    replicas = Replicas(spec, 3)
    assert replicas.ended.tolist() == [True, True, True]
    replicas.reset([7], [1])
    assert replicas.ended.tolist() == [True, False, True]
    chosen, rewards = [[1, 2, 3], [0, 0, 0], [3, 2, 1], [1, 1, 1]], []
    for placement in chosen:
        _, reward, _ = replicas.step(np.array([placement] * 3))
        rewards.append(reward)
    assert replicas.ended.all()
    single = simulate(spec, SCRIPTED, {"placements": chosen}, 7).trace
    assert np.array_equal(np.array(rewards)[:, 1], single["decisions/reward"])
    assert not np.array(rewards)[:, [0, 2]].any()


def test_steps_after_the_end_do_nothing() -> None:
    watched = Watched(shaken(slots=2), [1, 2])
    watched.finish()
    replicas = watched.replicas
    placements = np.ones((2, 3), dtype=int)
    once, twice = (replicas.step(placements) for _ in range(2))
    for seen, rewards, ended in (once, twice):
        assert np.array_equal(seen, watched._saw)
        assert (rewards.tolist(), ended.tolist()) == ([0.0, 0.0], [True, True])


def test_a_step_before_the_first_reset_does_nothing() -> None:
    replicas = Replicas(shaken(), 2)
    _, rewards, ended = replicas.step(np.zeros((2, 3), dtype=int))
    assert (rewards.tolist(), ended.tolist()) == ([0.0, 0.0], [True, True])


RARE = scenario(slots=1, decision_epoch="per_task", arrivals={"process": "poisson", "rate": 0.7})


def test_seeds_without_any_epoch_are_skipped() -> None:
    def next_with_tasks(seed: int) -> int:
        model = resolve(RARE, seed)
        some = any(len(slot.tasks) for slot in workload.slots(model))
        return seed if some else next_with_tasks(seed + 1)

    replicas, plain = Replicas(RARE, 12), Replicas(RARE, 12)
    found = [next_with_tasks(seed) for seed in range(12)]
    assert found != list(range(12))
    assert np.array_equal(replicas.reset(range(12)), plain.reset(found))
    assert replicas.seeds.tolist() == plain.seeds.tolist() == found
    other = next(seed for seed in range(99) if next_with_tasks(seed) > seed)
    replicas.reset([other], which=[3])
    assert replicas.seeds.tolist() == [*found[:3], next_with_tasks(other), *found[4:]]


def test_no_seed_with_an_epoch_is_an_error_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mecsim.simulation.replicas.SEED_TRIALS", 20)
    never = RARE.model_copy(update={"arrivals": Poisson(process="poisson", rate=0.0)})
    replicas = Replicas(never, 2)
    with pytest.raises(ScenarioError, match="arrivals: no task is released under seeds 5 to 25"):
        replicas.reset([5, 6])
    assert replicas.ended.all()


def copied(replicas: Replicas) -> Iterator[Replicas]:
    yield copy.deepcopy(replicas)
    yield pickle.loads(pickle.dumps(replicas))


@pytest.mark.quick("mmpp-per_slot", "slotted-per_task")
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("process", ["slotted", "poisson", "mmpp"])
def test_a_copy_steps_exactly_like_the_original(epoch: str, process: str) -> None:
    """From the state before any reset, in the middle of runs, and after the end of some."""
    slots = 40 if epoch == "per_slot" else 20
    spec = shaken(decision_epoch=epoch, arrivals=PROCESSES[process], slots=slots)
    rng, ended = np.random.default_rng(0), 0
    original = Replicas(spec, 3, threads=2)
    for epochs in (0, 1, 37, 200):
        if epochs:
            original.reset([epochs, 2, 3])
        for _ in range(epochs):
            original.step(rng.integers(original.places, size=(3, original.blocks)))
        ended += original.ended.sum()
        for other in copied(original):
            follow(copy.deepcopy(original), other, rng)
            other.close()
    assert ended >= 3
    original.close()


def follow(one: Replicas, other: Replicas, rng: np.random.Generator) -> None:
    """Step both to the end, and through a run after it."""
    for _ in range(2):
        assert np.array_equal(one.seeds, other.seeds)
        assert np.array_equal(one.time_s, other.time_s)
        while not one.ended.all():
            taken = rng.integers(one.places, size=(3, one.blocks))
            for left, right in zip(one.step(taken), other.step(taken), strict=True):
                assert np.array_equal(left, right)
        assert other.ended.all()
        assert np.array_equal(one.reset([8, 9], [2, 0]), other.reset([8, 9], [2, 0]))
    one.close()


def compiled_versions() -> list[int]:
    dispatchers: list[Any] = [advance, rollout]
    return [len(getattr(each, "signatures", ())) for each in dispatchers]  # none: compiler off


def test_a_copy_needs_no_further_compilation() -> None:
    replicas = Replicas(shaken(slots=3), 2)
    replicas.reset([0, 1])
    taken = np.zeros((2, replicas.blocks), dtype=np.int64)
    replicas.step(taken)
    replicas.what_if(taken[:, None])
    before = compiled_versions()
    for other in copied(replicas):
        other.step(taken)
        other.what_if(taken[:, None])
    assert compiled_versions() == before


def test_slots_without_tasks_are_epochs() -> None:
    spec = scenario(slots=3, arrivals={"process": "slotted", "rate": 0})
    (episode,) = Watched(spec, [1]).finish()
    assert episode.rewards == [0.0, 0.0, 0.0]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.astype(float), "the array of placements .* holds float64; allowed: integers"),
        (lambda p: p > 0, "the array of placements .* holds bool; allowed: integers"),
        (lambda p: p[0], r"has the shape \(3,\); allowed: \(2, 3\)"),
        (lambda p: p[:, :2], r"has the shape \(2, 2\); allowed: \(2, 3\)"),
        (lambda p: p[:1], r"has the shape \(1, 3\)"),
        (lambda p: np.concatenate([p, p]), r"has the shape \(4, 3\)"),
        (lambda p: p - [[0, 0, 0], [0, 0, -4]], r"replica 1 puts block 2 at \d; allowed: 0"),
        (lambda p: p - [[0, 9, 0], [0, 0, 0]], r"replica 0 puts block 1 at -\d; allowed: 0 .* 3"),
    ],
)
def test_wrong_placements_change_nothing(change: Callable[[Ints], Ints], message: str) -> None:
    watched = Watched(shaken(slots=4), [1, 2])
    for _ in range(4):
        placements = watched.placements()
        with pytest.raises(PlacementError, match=message):
            watched.replicas.step(change(placements))
        watched.step(placements)
    assert len(watched.finish()) == 2


def test_places_from_the_first_to_the_last_are_taken() -> None:
    watched = Watched(shaken(slots=2), [1, 2])
    watched.step(np.array([[0, 0, 0], [3, 3, 3]], dtype=np.uint8))
    watched.finish()


def test_wrong_resets_change_nothing() -> None:
    watched = Watched(shaken(slots=4), [1, 2])
    watched.step()
    for seeds, which in (([1], None), ([1, 2, 3], None), ([1, 2], [0]), ([], [1])):
        with pytest.raises(ValueError, match=f"{len(seeds)} seeds for"):
            watched.replicas.reset(seeds, which)
    with pytest.raises(ScenarioError, match="seed: -1"):
        watched.replicas.reset([7, -1])
    assert len(watched.finish()) == 2


def test_how_many_replicas_and_threads() -> None:
    with pytest.raises(ValueError, match="replicas: 0 should be at least 1"):
        Replicas(shaken(), 0)
    with pytest.raises(ValueError, match="threads: 0 should be at least 1"):
        Replicas(shaken(), 1, threads=0)
    many = Replicas(shaken(slots=1), 2, threads=9)
    assert many.reset([1, 2]).shape == (2, many.features)


def test_recorded_tasks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text("release_s,device,size_factor\n0.5,0,1\n", encoding="utf-8")
    spec = scenario(arrivals={"process": "trace", "file": str(path)})
    with pytest.raises(ScenarioError, match="trace has no seeds"):
        Replicas(spec, 2)


POISSON = ["arrivals.process=poisson", "size_factor={distribution: exponential}"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sets", [[], POISSON], ids=["slotted", "poisson"])
def test_what_if_of_replicas_is_that_of_single_runs(sets: list[str], threads: int) -> None:
    """Neither sees more of the slot's tasks than a scheduler may know."""
    spec = load(FOLDER / "vgg16_loaded.yaml", ["slots=6", *sets])
    rng, replicas = np.random.default_rng(5), Replicas(spec, 3, threads=threads)
    replicas.reset([4, 5, 6])
    taken = rng.integers(5, size=(5, 3, 6))
    asked = rng.integers(5, size=(6, 3, 20, 6))
    found = []
    for epoch in range(6):
        found.append(replicas.what_if(asked[epoch]))
        if epoch < 5:
            replicas.step(taken[epoch])
    for replica, seed in enumerate([4, 5, 6]):
        expected = _what_ifs_of_a_run(spec, seed, taken[:, replica], asked[:, replica])
        for epoch, outcomes in enumerate(expected):
            assert np.array_equal(found[epoch].cost[replica], outcomes.cost)
            assert np.array_equal(found[epoch].failed[replica], outcomes.failed)


def _what_ifs_of_a_run(spec: Scenario, seed: int, taken: Ints, asked: Ints) -> list[Outcomes]:
    model, found = resolve(spec, seed), []
    reported = SchedulerSpec.of(model)
    session = Session(
        model, workload.slots(model), CompiledKernel(model), reported, uses_rollouts=True
    )
    for epoch, placement in zip(session, [*taken, taken[0]], strict=True):
        found.append(session.observe(epoch).what_if(asked[epoch.number]))
        session.act(epoch, placement)
    return found


def test_what_if_leaves_the_replicas_where_they_are() -> None:
    spec = load(FOLDER / "vgg16_loaded.yaml", ["slots=4"])
    asked, alone = Replicas(spec, 2), Replicas(spec, 2)
    asked.reset([1, 2])
    alone.reset([1, 2])
    rng = np.random.default_rng(0)
    while not alone.ended.all():
        places = rng.integers(5, size=(2, 6))
        asked.what_if(rng.integers(5, size=(2, 7, 6)))
        for left, right in zip(asked.step(places), alone.step(places), strict=True):
            assert np.array_equal(left, right)


def test_what_if_refuses_places_out_of_range() -> None:
    replicas = Replicas(load(FOLDER / "vgg16_loaded.yaml", ["slots=4"]), 2)
    replicas.reset([1, 2])
    with pytest.raises(PlacementError, match="replica 1, placement 1 puts block 2 at 9"):
        replicas.what_if(np.array([[[0] * 6] * 3, [[0] * 6, [0, 0, 9, 0, 0, 0], [0] * 6]]))
