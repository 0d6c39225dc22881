"""Batches compute trainings as stacks; each remains a job, with the result it had alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import OutputError
from mecsim.learning.options import resolve_settings
from mecsim.scenario.loading import load
from mecsim.study.executors import make_executor
from mecsim.study.job_queue import Results, ResultStore, Status, run_batch
from mecsim.study.jobs import Job, Outcome, Training, execute, execute_apart, make_job
from tests.helpers import toy_learner
from tests.helpers.batches import SCENARIO, Inline, in_this_process, until_jobs
from tests.helpers.cli import mecsim, started

ROOT = Path(__file__).parents[2]
STACKED = "tests.helpers.toy_learner:Stacked"
DIVERGES, TOO_LARGE = 13, 14
"""Seeds whose training fails alone, and whose training fails its stack."""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_learner.use(monkeypatch)


def trainings(
    seeds: Sequence[int],
    scheduler: str = STACKED,
    options: dict[str, Any] | None = None,
    training: Training = Training(5),  # noqa: B008 - frozen
    servers: int = 4,
) -> list[Job]:
    scenario = load(SCENARIO, ["slots=3", f"edge_servers={servers}"])
    return [
        make_job("train", scenario, scheduler, options or {}, seed, training=training)
        for seed in seeds
    ]


def done(jobs: Sequence[Job], folder: Path, executor: Inline) -> Results:
    return run_batch(jobs, ResultStore(folder, resume=True), executor)


def sizes(executor: Inline) -> list[int]:
    return [len(jobs) for jobs in executor.calls]


@pytest.mark.usefixtures("toy")
def test_trainings_alike_are_one_call_of_at_most_ten(tmp_path: Path) -> None:
    executor = Inline(1)
    results = done(trainings(range(12)), tmp_path, executor)
    assert sizes(executor) == [10, 2]
    assert len(results.results) == len(list((tmp_path / "policies").iterdir())) == 12
    more = Inline(1)
    assert done(trainings([*range(12), 20, 21]), tmp_path, more).found == 12
    assert sizes(more) == [2]


@pytest.mark.usefixtures("toy")
def test_only_trainings_alike_share_a_call(tmp_path: Path) -> None:
    several = [
        *trainings(range(2)),
        *trainings(range(3), options={"wish": 1}),
        *trainings(range(2), training=Training(10)),
        *trainings(range(2), servers=5),
        *trainings(range(2), training=Training(5, workers=2)),
        *trainings(range(2), "tests.helpers.toy_learner:Toy"),
    ]
    executor = Inline(1)
    done(several, tmp_path, executor)
    assert sizes(executor) == [2, 3, 2, 2, 1, 1, 1, 1]


@pytest.mark.usefixtures("toy")
def test_stacks_are_split_where_slots_would_be_idle(tmp_path: Path) -> None:
    executor = Inline(4)
    done(trainings(range(10)), tmp_path / "one", executor)
    assert sizes(executor) == [3, 3, 2, 2]
    several = [*trainings(range(4)), *trainings(range(4), options={"wish": 1})]
    executor = Inline(2)
    done(several, tmp_path / "two", executor)
    assert sizes(executor) == [4, 4]


@pytest.mark.usefixtures("toy")
def test_one_training_of_a_stack_fails_alone(tmp_path: Path) -> None:
    jobs = trainings([0, DIVERGES, 1])
    executor = Inline(1)
    results = done(jobs, tmp_path, executor)
    assert results.failures == {jobs[1].key: "TrainingError: the training diverged"}
    assert sizes(executor) == [3]
    assert {*results.results} == {jobs[0].key, jobs[2].key}


@pytest.mark.usefixtures("toy")
def test_an_error_of_a_whole_stack_fails_only_its_cause(tmp_path: Path) -> None:
    jobs = trainings([0, TOO_LARGE, 1])
    results = done(jobs, tmp_path, Inline(1))
    assert results.failures == {jobs[1].key: "MemoryError: too large"}
    assert {*results.results} == {jobs[0].key, jobs[2].key}


@pytest.mark.usefixtures("toy")
def test_trainings_of_a_stack_whose_process_died_are_retried_alone(tmp_path: Path) -> None:
    jobs = trainings(range(3))
    executor = Inline(1, deaths={jobs[0].key: 1, jobs[1].key: 2})
    results = done(jobs, tmp_path, executor)
    assert sizes(executor) == [3, 1, 1, 1]
    assert [*results.failures] == [jobs[1].key]
    assert {*results.results} == {jobs[0].key, jobs[2].key}


class Pending(Inline):
    """Never finishes what it starts."""

    def submit(self, jobs: Sequence[Job], policy: bytes | None) -> Future[list[Outcome]]:
        self.calls.append(list(jobs))
        return Future()


class EnoughError(Exception):
    """Ends a batch that would not end."""


@pytest.mark.usefixtures("toy")
def test_progress_counts_the_jobs_of_a_stack(tmp_path: Path) -> None:
    reported: list[Status] = []

    def report(status: Status) -> None:
        reported.append(status)
        raise EnoughError

    jobs = trainings(range(12))
    with pytest.raises(EnoughError):
        run_batch(jobs, ResultStore(tmp_path, resume=True), Pending(1), report)
    assert (reported[0].running, reported[0].done, reported[0].total) == (10, 0, 12)


@pytest.mark.usefixtures("toy")
def test_time_of_a_stack_is_divided_by_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack of ten takes ten seconds; of the two jobs left each is expected to take one."""
    reported: list[Status] = []
    clock = iter([0.0, 10.0, *[10.0] * 10])
    monkeypatch.setattr("mecsim.study.job_queue.time.monotonic", lambda: next(clock))
    run_batch(trainings(range(12)), ResultStore(tmp_path, resume=True), Inline(1), reported.append)
    left = [status.left for status in reported if status.done == 10]
    assert left[0] is not None
    assert left[0].seconds == 2.0


def test_files_of_a_stack_go_to_where_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the node of a cluster."""
    toy_learner.use(monkeypatch)
    own = tmp_path / "own.py"
    own.write_text("from tests.helpers.toy_learner import Stacked as Own\n", encoding="utf-8")
    jobs = trainings(range(2), f"{own}:Own")
    assert jobs[0].stack == jobs[1].stack is not None
    content = {str(own): own.read_bytes()}
    here = execute(jobs)
    own.unlink()
    assert execute_apart(jobs, None, content) == here


# Trainings of shipped learners ----------------------------------------------------------------


def of_paper(seeds: Sequence[int], scheduler: str = "mtl-a3c") -> list[Job]:
    settings = resolve_settings(scheduler, {"hidden_units": 8, "episode_slots": 3}, "paper")
    return trainings(seeds, scheduler, settings.model_dump(mode="json"), Training(4))


def without_times(results: Results) -> dict[str, dict[str, Any]]:
    return {
        key: {name: value for name, value in result.items() if name != "wall_s"}
        for key, result in results.results.items()
    }


def policies(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "policies").iterdir()}


@pytest.fixture
def torch() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tensorboardX")


@pytest.mark.quick("mtl-a3c")
@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("scheduler", ["mtl-a3c", "dqn"])
def test_results_are_those_of_single_trainings(scheduler: str, tmp_path: Path) -> None:
    jobs, executor = of_paper(range(3), scheduler), Inline(1)
    stacked = done(jobs, tmp_path / "stacked", executor)
    assert sizes(executor) == [3]
    assert not stacked.failures
    for job in jobs:
        done([job], tmp_path / "single", Inline(1))
    single = done(jobs, tmp_path / "single", Inline(1))
    assert single.found == 3
    assert without_times(single) == without_times(stacked)
    assert policies(tmp_path / "single") == policies(tmp_path / "stacked")


@pytest.mark.usefixtures("torch")
def test_stopped_before_all_results_are_kept_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = of_paper(range(3))
    whole = done(jobs, tmp_path / "whole", Inline(1))
    keep, kept = ResultStore.keep, list[Job]()

    def full_disk(store: ResultStore, job: Job, outcome: Outcome) -> None:
        if kept:
            raise OutputError("the disk is full")
        kept.append(job)
        keep(store, job, outcome)

    monkeypatch.setattr(ResultStore, "keep", full_disk)
    with pytest.raises(OutputError):
        done(jobs, tmp_path / "cut", Inline(1))
    monkeypatch.undo()
    executor = Inline(1)
    resumed = done(jobs, tmp_path / "cut", executor)
    assert (resumed.found, sizes(executor)) == (1, [2])
    assert without_times(resumed) == without_times(whole)
    assert policies(tmp_path / "cut") == policies(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("torch")
def test_stack_on_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    jobs = of_paper(range(3))
    with make_executor("ray", 1) as ray:
        far = run_batch(jobs, ResultStore(tmp_path / "ray", resume=True), ray)
    near = done(jobs, tmp_path / "local", Inline(1))
    assert not far.failures
    assert without_times(far) == without_times(near)
    assert policies(tmp_path / "ray") == policies(tmp_path / "local")


ARGUMENTS = (
    "compare", str(SCENARIO), "--set", "slots=10", "--schedulers", "greedy,mtl-a3c,dqn", "--preset",
    "paper", "--episodes", "8", "--training-seeds", "3", "--seeds", "2", "--no-figures", "--quiet",
    "--sweep", "edge_servers=2,3", "--jobs", "1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("torch")
def test_killed_between_stacks_and_resumed_the_tables_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    in_this_process(monkeypatch)
    mecsim(*ARGUMENTS, "--out", str(whole), cwd=ROOT)
    with started(*ARGUMENTS, "--out", str(cut), cwd=ROOT) as killed:
        until_jobs(cut, 1, killed)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=60)
    assert not (cut / "summary.csv").exists()
    mecsim(*ARGUMENTS, "--out", str(cut), "--resume", cwd=ROOT)
    for name in ("rows.csv", "summary.csv", "comparison.h5"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert policies(cut) == policies(whole)
    jobs = [json.loads(path.read_text(encoding="utf-8")) for path in (cut / "jobs").iterdir()]
    trained = [each["job"]["options"] for each in jobs if each["job"]["kind"] == "train"]
    assert len(trained) == 2 * 2 * 3
    assert {each["train_freq"] for each in trained} == {"episode"}
