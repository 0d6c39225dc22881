"""Learners on scenarios with several classes of tasks: one policy for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.errors import PolicyError
from mecsim.learning import UNTRAINED, TrainingRequest
from mecsim.learning.policy_file import read_header
from mecsim.learning.training import train
from mecsim.model.model import resolve
from mecsim.scenario.schema import Scenario
from mecsim.scheduler.observation import feature_names
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay
from mecsim.simulation.run import run
from schedulers.a3c import A3C
from schedulers.dqn import DQN
from schedulers.mtl_a3c import MTLA3C
from schedulers.rl.candidates import CandidateSampler
from schedulers.rl.encoding import FeatureEncoder
from schedulers.rl.policy_network import TaskClasses
from schedulers.rl.returns import reward_scale
from tests.helpers.builders import scenario, simulate
from tests.rl.test_learners import KINDS, LEARNERS, effective, same

torch = pytest.importorskip("torch")
from schedulers.rl.actor_critic import Sample, actor_loss  # noqa: E402 - needs PyTorch

LEARNER_OF: dict[str, Any] = {each.name: each for each in (MTLA3C, A3C, DQN)}
IMAGE = {"board": [300, 300], "gpu": [10, 10], "npu": [120, 120]}
SOUND = {"board": [300], "gpu": [120], "npu": [10]}
"""Service times in ms: images are fast at one type of server, sound at the other one."""


def measured(name: str, ms: dict[str, list[int]]) -> dict[str, Any]:
    """A class of tasks whose blocks take the given times; what they send is small."""
    count = len(ms["board"])
    table = {"ms": ms, "parameter_bytes": [1] * count, "input_bits": [80] * count}
    return {
        "name": name,
        "dnn": {"model": table, "service_times": "measured", "max_tolerated_delay": "200 ms"},
        "arrivals": {"process": "slotted", "rate": 2},
    }


TASKS = [measured("image", IMAGE), measured("sound", SOUND)]


def two_classes(gpu: int = 1, tasks: Any = TASKS, **more: Any) -> Scenario:
    """Images are best served by server ``gpu``, sound by the other one."""
    types = ["gpu", "npu"] if gpu == 1 else ["npu", "gpu"]
    values = scenario().model_dump(mode="json", exclude_none=True) | {
        "slots": 8,
        "devices": 3,
        "edge_servers": [{"name": f"s{i}", "type": each} for i, each in enumerate(types)],
        "device": {"type": "board", "compute_power": 1.0},
        "radio": {"rate": "8 Mbit/s", "transmit_power": 0.1},
    }
    kept = {k: v for k, v in values.items() if k not in ("dnn", "arrivals", "size_factor")}
    return Scenario.model_validate(kept | more | {"tasks": list(tasks)})


def trained(kind: str, spec: Scenario, out: Path, episodes: int = 150, **more: Any) -> Path:
    scheduler, options = KINDS[kind]
    how = {"seed": 0, "workers": 1, "serial": True} | {
        name: more.pop(name) for name in ("seed", "workers", "serial") if name in more
    }
    if kind == "dqn":
        options = options | {"learning_rate": 1e-2}
    options = effective(scheduler, options, more)
    train(TrainingRequest(
        scenario=spec, scheduler=scheduler, options=options, out=out, episodes=episodes, **how
    ))  # fmt: skip
    return out


def placed(policy: Path, kind: str, spec: Scenario) -> dict[int, set[tuple[int, ...]]]:
    """The placements of each class in a run."""
    trace = simulate(spec, KINDS[kind][0], {"policy": str(policy)}, 5, "compiled").trace
    class_, placement = trace["decisions/class"], trace["decisions/placement"]
    return {number: set(map(tuple, placement[class_ == number].tolist())) for number in (0, 1)}


# ---------------------------------------------------------------- they learn


@pytest.mark.parametrize(
    ("kind", "epoch"),
    [
        *((kind, "per_slot") for kind in KINDS),
        *((kind, "per_task") for kind in ("mtl-a3c", "a3c")),
        pytest.param("dqn", "per_task", marks=pytest.mark.slow),
    ],
)
def test_the_best_server_of_each_class_is_found(kind: str, epoch: str, tmp_path: Path) -> None:
    greedy = {} if kind == "dqn" or epoch == "per_slot" else {"sample_actions": "never"}
    spec = two_classes(2, decision_epoch=epoch)
    episodes = {"per_slot": 200, "per_task": 600}[epoch] if kind == "dqn" else 150
    policy = trained(kind, spec, tmp_path / "p.safetensors", episodes, **greedy)
    assert placed(policy, kind, spec) == {0: {(2, 2)}, 1: {(1, -1)}}


@pytest.mark.parametrize("kind", ["mtl-a3c", "a3c"])
def test_full_episodes_find_them_too(kind: str, tmp_path: Path) -> None:
    spec = two_classes()
    policy = trained(kind, spec, tmp_path / "p.safetensors", branched_share=0.0)
    assert placed(policy, kind, spec) == {0: {(1, 1)}, 1: {(2, -1)}}


@pytest.mark.parametrize("name", LEARNERS)
def test_untrained_policies_do_not_find_them(name: str) -> None:
    right = []
    for gpu in (1, 2):
        trace = simulate(two_classes(gpu), name, {"policy": UNTRAINED}).trace
        right.append((trace["decisions/placement"][:, 0] == [gpu, 3 - gpu] * 8).all())
    assert sum(right) <= 1


# ---------------------------------------------------------------- every way of training and use


@pytest.mark.parametrize("train_freq", ["step", "episode"])
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_determines_the_policy(
    kind: str, epoch: str, train_freq: str, tmp_path: Path
) -> None:
    """With a class of three blocks next to one of a block, and tasks at random."""
    long = measured("long", {name: [*ms, 5] for name, ms in IMAGE.items()})
    tasks = [long, TASKS[1] | {"arrivals": {"process": "poisson", "rate": 2}}]
    spec = two_classes(tasks=tasks, decision_epoch=epoch, slots=4)
    one, again, other = (
        trained(kind, spec, tmp_path / f"{n}.safetensors", 6, seed=seed, train_freq=train_freq)
        for n, seed in enumerate((3, 3, 4))
    )
    assert same(one, again)
    assert not same(one, other)


def test_one_worker_trains_the_same_policy_as_serial_training(tmp_path: Path) -> None:
    spec = two_classes(slots=4)
    serial, worker = (
        trained("mtl-a3c", spec, tmp_path / f"{serial}.safetensors", 10, serial=serial)
        for serial in (True, False)
    )
    assert same(serial, worker)


def test_a_policy_runs_replays_and_is_used_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = two_classes(slots=4, decision_epoch="per_task")
    monkeypatch.chdir(tmp_path)
    policy = trained("mtl-a3c", spec, tmp_path / "results/training/p.safetensors", 4)
    header = read_header(policy)
    assert (header.blocks, header.classes) == (2, {"image": 2, "sound": 1})
    options = {"policy": str(policy)}
    one, other = (simulate(spec, "mtl-a3c", options, 3, kernel) for kernel in KERNELS)
    assert one.trace.first_difference(other.trace) is None
    assert run(spec).summary.scheduler == "mtl-a3c"
    run(spec, "mtl-a3c", options, out=tmp_path / "run.h5")
    assert replay(tmp_path / "run.h5").difference is None


@pytest.mark.parametrize(
    ("tasks", "here"),
    [
        ([TASKS[1], TASKS[0]], r"sound \(1 block\), image \(2 blocks\)"),
        ([TASKS[0], measured("sound", IMAGE)], r"image \(2 blocks\), sound \(2 blocks\)"),
        ([TASKS[0]], "one class"),
    ],
)
def test_a_policy_for_other_classes_is_refused(tasks: Any, here: str, tmp_path: Path) -> None:
    policy = trained("dqn", two_classes(slots=2), tmp_path / "p.safetensors", 2)
    theirs = r"p.safetensors: has tasks: image \(2 blocks\), sound \(1 block\)"
    with pytest.raises(PolicyError, match=f"{theirs}. Expected: {here}"):
        run(two_classes(tasks=tasks), "dqn", {"policy": str(policy)})


# ---------------------------------------------------------------- by hand


def spec_of(source: Scenario) -> SchedulerSpec:
    return SchedulerSpec.of(resolve(source))


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_sizes_are_encoded_as_for_the_class_alone(epoch: str) -> None:
    """And as 0 where the class has no such block; the last inputs of features are the class."""
    both = spec_of(two_classes(decision_epoch=epoch))
    names, encoder = feature_names(both), FeatureEncoder.of(both, "paper")
    rng = np.random.default_rng(0)
    for number, task in enumerate(TASKS):
        alone = spec_of(two_classes(tasks=[task], decision_epoch=epoch))
        own = feature_names(alone)
        values = dict(zip(own, rng.uniform(0.5, 2.0, len(own)), strict=True))
        features = np.array([[values.get(name, 0.0) for name in names]])
        features[0, -2:] = [number == 0, number == 1]
        x = encoder(features)[0]
        kept = [names[int(at)] in own for at in encoder.how["column"]]
        expected = FeatureEncoder.of(alone, "paper")(np.array([list(values.values())]))[0]
        assert np.array_equal(x[kept], expected)
        rest = dict(zip(np.array(names)[encoder.how["column"].astype(int)], x, strict=True))
        assert rest["class.image"] == (number == 0)
        lacking = [name for name in names if name not in own and not name.startswith("class.")]
        assert all(rest[name] == 0.0 for name in lacking if name in rest)


@pytest.mark.parametrize(("epoch", "device"), [("per_slot", 1 / 2), ("per_task", 1.0)])
def test_committed_work_counts_as_backlog(epoch: str, device: float) -> None:
    """0.25 s wait at server 1 and 0.5 s are committed; at devices 0.2 s and 0.3 s."""
    spec = spec_of(two_classes(decision_epoch=epoch))
    names, encoder = feature_names(spec), FeatureEncoder.of(spec, "full")
    own = "es2.mean_device" if epoch == "per_slot" else "device.device"
    values = {"es1.cpu_backlog_s": 0.25, "es1.cpu_committed_s": 0.5}
    values |= {f"{own}_backlog_s": 0.2, f"{own}_committed_s": 0.3}
    features = np.array([[values.get(name, 0.0) for name in names]])
    assert encoder.backlogs(features)[0] == pytest.approx([0.5 * device, 0.75, 0.0])
    kept = [names[int(at)] for at in FeatureEncoder.of(spec, "paper").how["column"]]
    assert not any("committed" in name for name in kept)


def states(encoder: FeatureEncoder, *classes: int) -> Any:
    """Encoded observations of an idle network before tasks of some classes."""
    features = np.zeros((len(classes), encoder.how["place"].shape[1]))
    features[np.arange(len(classes)), np.array(classes) - 2] = 1.0
    return encoder(features)


def shaken(p: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Parameters whose outputs differ clearly."""
    return {name: x + 0.5 * rng.normal(size=x.shape).astype(np.float32) for name, x in p.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_places_of_blocks_that_a_class_lacks_are_0(kind: str) -> None:
    learner, spec = LEARNER_OF[KINDS[kind][0]], spec_of(two_classes())
    given = {n: v for n, v in KINDS[kind][1].items() if n in ("head", "sharing")}
    settings = learner.settings(**given)
    encoder = FeatureEncoder.of(spec, "full")
    network = learner.network_for(settings).of(spec, settings, encoder)
    rng, x = np.random.default_rng(2), states(encoder, 0, 1)
    p = shaken(network.initial(rng), rng)
    for epsilon in (0.0, 1.0):
        found = network.sample(p, x, 500, epsilon, rng)
        assert found.shape == (2, 500, 2)
        assert not found[1, :, 1].any()
        assert found[0, :, 1].any()
    found = network.sample(p, x, 4000, 1.0, rng)  # uniform over the places of its blocks
    counts = np.bincount(found[1, :, 0], minlength=3)
    assert np.abs(counts - 4000 / 3).max() < 5 * np.sqrt(4000 * 2 / 9)
    assert network.greedy(p, x)[1, 1] == 0


@pytest.mark.parametrize("kind", ["mtl-a3c", "a3c", "a3c joint"])
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_what_a_class_lacks_is_not_in_the_loss(kind: str, epsilon: float) -> None:
    """Log-probability and entropy of a task of one block are those of its block alone."""
    learner, spec = LEARNER_OF[KINDS[kind][0]], spec_of(two_classes())
    settings = learner.settings(**{n: v for n, v in KINDS[kind][1].items() if n == "head"})
    encoder = FeatureEncoder.of(spec, "full")
    network: Any = learner.network_for(settings).of(spec, settings, encoder)
    rng, x = np.random.default_rng(0), states(encoder, 1)
    p = shaken(network.initial(rng), rng)
    placements = np.array([[2, 0]])
    logits = network.heads(
        {n: torch.from_numpy(v) for n, v in p.items()},
        torch.from_numpy(x),
        torch.from_numpy(placements),
    ).logits.numpy()
    own = logits[0, 0][:3].astype(np.float64)  # of joint outputs, those with place 0 last
    share = np.exp(own - own.max()) / np.exp(own - own.max()).sum()
    mixed = (1 - epsilon) * share[2] + epsilon / 3
    sample = Sample(x, placements, np.ones(1), x, np.zeros(1))
    tensors = {n: torch.from_numpy(v) for n, v in p.items()}
    loss, entropy = actor_loss(network, tensors, sample, epsilon)
    assert float(loss) == pytest.approx(-np.log(mixed), rel=1e-4)
    assert float(entropy) == pytest.approx(-(share * np.log(share)).sum(), rel=1e-4)


def test_values_of_blocks_that_a_class_lacks_are_the_mean_of_the_others() -> None:
    spec = spec_of(two_classes(tasks=[measured("three", {n: [1, 1, 1] for n in IMAGE}), TASKS[0]]))
    encoder = FeatureEncoder.of(spec, "full")
    network = DQN.network.of(spec, DQN.settings(), encoder)
    rng, x = np.random.default_rng(0), states(encoder, 0, 1)
    p = shaken(network.initial(rng), rng)
    best, found = network.values(p, x).max(axis=-1), network.best_values(p, x)
    assert np.array_equal(found[:, 0], best[:, 0])
    assert np.array_equal(found[:2, 1], best[:2, 1])
    assert found[2, 1] == pytest.approx(best[:2, 1].mean())


def test_candidates_are_of_the_class_of_the_state() -> None:
    spec = spec_of(two_classes())
    encoder = FeatureEncoder.of(spec, "full")
    settings = A3C.settings(candidates=21, mutated_share=0.5, replayed_share=0.25)
    sampler = CandidateSampler(settings, 3, 3, TaskClasses.of(spec, encoder))
    x, rng = states(encoder, 0, 1, 1), np.random.default_rng(0)
    sampler.remember(x, np.array([[2, 2], [1, 0], [1, 0]]))
    zeros = np.zeros((3, 21, 2), dtype=np.int64)
    found = sampler.candidates(x, np.array([[1, 1], [2, 0], [2, 0]]), zeros, rng)
    assert not found[1:, :, 1].any()
    assert (found[0, 11:16] == [2, 2]).all()
    assert (found[1:, 11:16] == [1, 0]).all()
    assert len(np.unique(found[0, 1:11], axis=0)) > 2


def test_the_reward_is_scaled_by_the_mean_task_of_all_classes() -> None:
    """Tasks of 20 ms at the gpu and 240 at the npu, and of 10 and 120: pooled, and halved."""
    per_slot, per_task = (
        spec_of(two_classes(decision_epoch=epoch, reward={"aggregation": "sum"}))
        for epoch in ("per_slot", "per_task")
    )
    each_s = [work / speed for work, speed in (c.pooled_servers for c in per_slot.classes)]
    assert each_s[0] == pytest.approx(1 / (1 / 0.020 + 1 / 0.240))
    mean_s = sum(each_s) / 2
    assert reward_scale(per_slot, 7.0) == pytest.approx(4 * 5 / 2 * mean_s)
    assert reward_scale(per_task, 7.0) == pytest.approx(mean_s)
