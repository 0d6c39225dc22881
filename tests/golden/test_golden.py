"""Runs and trainings give what they gave when the goldens were written, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from filelock import FileLock

from tests.golden import cases, goldens
from tests.helpers.shipped import SIMPLE
from tests.helpers.slow import slow_unless

Computed: TypeAlias = Callable[..., dict[str, goldens.Records]]

ADVICE = "If that is meant, `python -m tests.golden` rewrites the goldens; the commit says why."


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Computed:
    """Compute goldens once, also where pytest-xdist has several workers."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent

    def of(what: str) -> dict[str, goldens.Records]:
        path = Path(shared, f"golden-{what}.json")
        with FileLock(f"{path}.lock"):
            if not path.exists():
                path.write_text(json.dumps(goldens.compute(what)), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    return of


def agree(what: str, golden: dict[str, str], found: dict[str, str]) -> None:
    if lines := goldens.moved(golden, found):
        pytest.fail("\n".join([f"{what}: {len(lines)} moved", *lines, ADVICE]), pytrace=False)


def compare(case: str, scheduler: str, seed: int, kernel: str, folder: Path) -> None:
    """Compare a run in this process, which uses all features of the CPU."""
    found = goldens.run(cases.CASES[case], scheduler, seed, kernel, folder)
    key = f"{scheduler} {seed}"
    agree(f"{case}, {key}, {kernel}", goldens.read(case)[key], found)


@pytest.mark.quick("*-greedy-0", "mixture-*-0", "vgg16_loaded-*-0", "task_epochs-*-0")
@pytest.mark.parametrize("seed", slow_unless(cases.SEEDS[:1], cases.SEEDS))
@pytest.mark.parametrize("scheduler", cases.SCHEDULERS)
@pytest.mark.parametrize("case", cases.CASES)
def test_a_run_gives_what_it_gave(
    case: str, scheduler: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(goldens.ROOT)
    compare(case, scheduler, seed, "compiled", tmp_path)


@pytest.mark.quick("*-greedy", "mixture-*")
@pytest.mark.parametrize("scheduler", cases.SCHEDULERS)
@pytest.mark.parametrize("case", [case.name for case in cases.CASES.values() if case.on_simpy])
def test_the_simpy_kernel_gives_the_same(
    case: str, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(goldens.ROOT)
    compare(case, scheduler, cases.SEEDS[0], "simpy", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.CASES)
def test_a_run_does_not_depend_on_the_cpu(case: str, computed: Computed) -> None:
    for key, golden in goldens.read(case).items():
        agree(f"{case}, {key}, pinned", golden, computed(goldens.RUNS)[case][key])


@pytest.mark.parametrize(("learner", "load"), slow_unless(cases.QUICK_TRAININGS, cases.TRAININGS))
def test_a_training_gives_what_it_gave(learner: str, load: str, computed: Computed) -> None:
    pytest.importorskip("torch")
    key, quick = f"{learner} {load}", (learner, load) in cases.QUICK_TRAININGS
    what = goldens.QUICK_TRAININGS if quick else goldens.TRAININGS
    found = computed(what)[goldens.TRAININGS][key]
    agree(f"training, {key}", goldens.read(goldens.TRAININGS)[key], found)


@pytest.mark.parametrize(
    ("learner", "loads"),
    [
        *((learner, [*cases.LOADS]) for learner in cases.LEARNERS),
        ("mtl-a3c", [cases.PAPER]),
        ("dqn", [cases.PAPER]),
    ],
)
def test_goldens_are_not_only_of_untrained_policies(learner: str, loads: list[str]) -> None:
    trained = goldens.read(goldens.TRAININGS)
    curves = [trained[f"{learner} {load}"] for load in loads]
    assert any(float(at["curve.1.reward"]) > float(at["curve.0.reward"]) for at in curves)


def test_there_are_no_goldens_but_those_compared() -> None:
    names = {path.stem for path in goldens.FOLDER.glob("*.json")}
    assert names == {*cases.CASES, goldens.TRAININGS}


def test_every_simple_scenario_has_goldens() -> None:
    shipped = {path.stem for path in SIMPLE}
    assert {case.scenario for case in cases.SHIPPED} == shipped


def test_all_that_moved_is_named() -> None:
    golden = {"/tasks/total_s": "1 <f8 3", "/tasks/slot": "2 <i8 3", "reward": "-1.5"}
    found = {"/tasks/total_s": "1 <f8 3", "/tasks/slots": "2 <i8 3", "reward": "-1.4"}
    assert goldens.moved(golden, golden) == []
    assert goldens.moved(golden, found) == [
        "/tasks/slot: was 2 <i8 3, is (absent)",
        "/tasks/slots: was (absent), is 2 <i8 3",
        "reward: was -1.5, is -1.4",
    ]
