"""Batches: finished jobs are kept after any failure; results depend only on the jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import InputError, Interrupted
from mecsim.scenario.loading import load
from mecsim.scheduler import sources
from mecsim.simulation.run import run as run_scenario
from mecsim.study.executors import Executor, make_executor
from mecsim.study.executors.local import LocalExecutor
from mecsim.study.job_queue import Results, ResultStore, Status, run_batch, time_left, with_needs
from mecsim.study.jobs import Job, Outcome, Training, contents, execute, execute_apart, make_job
from tests.helpers import toy_learner
from tests.helpers.batches import SCENARIO, Inline, InThisProcess, in_this_process, until_jobs
from tests.helpers.cli import mecsim, started
from tests.helpers.examples import thorough

ROOT = Path(__file__).parents[2]
TOY = "tests.helpers.toy_learner:Toy"


class Pressed(Inline):
    """Somebody presses Ctrl-C with every job."""

    def submit(self, jobs: Sequence[Job], policy: bytes | None) -> Future[list[Outcome]]:
        signal.raise_signal(signal.SIGINT)
        return super().submit(jobs, policy)


@pytest.fixture(autouse=True)
def training(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_learner.use(monkeypatch)


def jobs(*schedulers: str, seeds: int = 2, servers: int = 4) -> list[Job]:
    scenario = load(SCENARIO, ["slots=3", f"edge_servers={servers}"])
    return [make_job("run", scenario, each, {}, n) for each in schedulers for n in range(seeds)]


def learner_jobs(scheduler: str = TOY, seeds: int = 2) -> list[Job]:
    scenario = load(SCENARIO, ["slots=3"])
    need = make_job("train", scenario, scheduler, {}, 0, training=Training(10))
    return [make_job("run", scenario, scheduler, {}, seed, needs=need) for seed in range(seeds)]


def done(found: Sequence[Job], folder: Path, engine: Executor | None = None) -> Results:
    return run_batch(found, ResultStore(folder, resume=True), engine or Inline())


def numbers(results: Results) -> dict[str, dict[str, object]]:
    """Results without the times they took."""
    return {
        key: {name: value for name, value in result.items() if name != "wall_s"}
        for key, result in results.results.items()
    }


def test_job_key() -> None:
    one, other = jobs("greedy")
    assert one.key == jobs("greedy")[0].key
    assert one != other
    assert (
        len({job.key for job in [*jobs("greedy"), *jobs("rpdi"), *jobs("greedy", servers=5)]}) == 6
    )
    scenario = load(SCENARIO, ["slots=3", "edge_servers=4", "description=changed"])
    assert make_job("run", scenario, "greedy", {}, 0).key == one.key
    assert make_job("run", scenario, "fixed", {"placement": [0]}, 0).key != one.key
    assert len({learner_jobs()[0].key, make_job("run", scenario, TOY, {}, 0).key}) == 2


def test_job_key_of_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    keys = set()
    for text in ("a = 1\n", "a = 2\n"):
        file.write_text(text, encoding="utf-8")
        keys.add(make_job("run", load(SCENARIO), f"{file}:Mine", {}, 0).key)
    assert len(keys) == 2


def test_job_key_of_changed_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for line in ("", "# changed\n"):
        (tmp_path / "in_a_module.py").write_text(OWN + line, encoding="utf-8")
        keys.add(make_job("run", load(SCENARIO), "in_a_module:Own", {}, 0).key)
    assert len(keys) == 2
    assert not make_job("run", load(SCENARIO), "greedy", {}, 0).files  # its version is known


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "changed",
    ["beside.py", "further.py", "kit/__init__.py", "kit/a.py", "kit/b.py", "kit/c.py", "late.py",
     "named.py", "plain/deep.py", "on_path.py"],
)  # fmt: skip
def test_job_key_of_changed_import(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules that a scheduler's file imports, one of which changes; nothing is executed."""
    monkeypatch.syspath_prepend(tmp_path / "path")
    mine = (
        "import beside, os.path\nfrom kit.a import x\nimport plain.deep as deep\nimport on_path\n"
    )
    late = "def f():\n    import late\n    importlib.import_module('named')\n"
    boom, folder = "raise RuntimeError\n", tmp_path / "own"
    file = write(folder, "mine.py", boom + mine + late)
    write(folder, "beside.py", boom + "from further import *\nimport beside\n")
    write(folder, "kit/a.py", boom + "from . import b\nfrom .c import x\n")
    for name in ("further", "kit/__init__", "kit/b", "kit/c", "late", "named", "plain/deep"):
        write(folder, f"{name}.py", boom)
    for name in ("numpy/__init__", "unused", "os"):  # what the file does not import
        write(folder, f"{name}.py", boom)
    write(tmp_path / "path", "on_path.py", boom)
    before = make_job("run", load(SCENARIO), f"{file}:Mine", {}, 0)
    assert len(before.files) == 11
    assert make_job("run", load(SCENARIO), f"{file}:Mine", {}, 0).key == before.key
    place = write(tmp_path / "path" if changed == "on_path.py" else folder, changed, boom + "#\n")
    after = make_job("run", load(SCENARIO), f"{file}:Mine", {}, 0)
    assert {*after.files} - {*before.files} == {(str(place), dict(after.files)[str(place)])}
    assert after.key != before.key


def test_job_key_of_changed_import_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path, "their_package/__init__.py", "")
    write(tmp_path, "their_package/own.py", "from .inner import Own\n")
    write(tmp_path, "their_package/inner.py", OWN)
    inner = write(tmp_path, "their_package/tool.py", "")
    first = make_job("run", load(SCENARIO), "their_package.own:Own", {}, 0)
    names = [str(Path(name).relative_to(tmp_path)) for name, _ in first.files]
    assert names == ["their_package/__init__.py", "their_package/inner.py"]
    inner.write_text("# not imported\n", encoding="utf-8")
    assert make_job("run", load(SCENARIO), "their_package.own:Own", {}, 0).key == first.key


def test_job_key_of_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What computes: numpy and numba, torch in trainings, and what a scheduler imports."""
    file = write(tmp_path, "mine.py", "import pydantic, no_such_package\n")
    run_ = make_job("run", load(SCENARIO), "greedy", {}, 0)
    own = make_job("run", load(SCENARIO), f"{file}:Mine", {}, 0)
    training = make_job("train", load(SCENARIO), TOY, {}, 0, training=Training(1))
    assert [name for name, _ in run_.versions] == ["mecsim", "numba", "numpy"]
    assert {*dict(own.versions)} == {"mecsim", "numba", "numpy", "pydantic"}
    monkeypatch.setattr(sources, "version", lambda name: "8")
    both = ["mecsim", "numba", "numpy"]
    for job, names in (
        (run_, both),
        (own, [*both, "pydantic"]),
        (training, [*both, "pytest", "torch"]),
    ):
        again = make_job(job.kind, load(SCENARIO), job.scheduler, {}, 0, training=job.training)
        assert again.versions == tuple((name, "8") for name in names)
        assert again.key != job.key


def test_resume_after_a_change_of_a_sibling(tmp_path: Path) -> None:
    own = write(tmp_path, "own.py", "import beside\n" + OWN.replace("[2]", "[beside.SERVER]"))
    rewards = []
    for server in (2, 3):
        write(tmp_path, "beside.py", f"SERVER = {server}\n")
        job = make_job("run", load(SCENARIO, ["slots=3"]), f"{own}:Own", {}, 0)
        done = run_batch([job], ResultStore(tmp_path / "out", resume=True), Inline())
        rewards.append(done.results[job.key]["reward"])
        assert done.found == 0
        apart = execute_apart([job], None, contents(job))[0].result
        assert apart is not None
        assert apart["reward"] == rewards[-1]
    assert rewards[0] != rewards[1]


@pytest.mark.parametrize("odd", ["BaseException('odd')", "SystemExit(3)", "RecursionError('deep')"])
def test_scheduler_that_raises_or_prints(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = OWN.replace('ValueError("three is too many")', odd)
    text = text.replace("return", "print('chatty')\n        return")
    (tmp_path / "own.py").write_text(text, encoding="utf-8")
    for servers in (3, 4):
        scenario = load(SCENARIO, ["slots=3", f"edge_servers={servers}"])
        job = make_job("run", scenario, f"{tmp_path / 'own.py'}:Own", {}, 0)
        (outcome,) = execute([job])
        assert (outcome.result is None) == (servers == 3)
    assert capsys.readouterr().out == ""


def test_second_run_computes_nothing(tmp_path: Path) -> None:
    first = done(jobs("greedy", "rpdi"), tmp_path)
    engine = Inline()
    again = done(jobs("greedy", "rpdi"), tmp_path, engine)
    assert engine.submitted == []
    assert (first.found, again.found) == (0, 4)
    assert again.results == first.results


def test_missing_and_damaged_jobs_run(tmp_path: Path) -> None:
    whole = done(jobs("greedy"), tmp_path)
    files = sorted((tmp_path / "jobs").iterdir())
    files[0].write_text(files[0].read_text(encoding="utf-8")[:50], encoding="utf-8")
    engine = Inline()
    again = done(jobs("greedy", seeds=3), tmp_path, engine)
    assert len(engine.submitted) == 2
    assert numbers(whole).items() <= numbers(again).items()


def test_existing_folder_needs_resume(tmp_path: Path) -> None:
    done(jobs("greedy"), tmp_path / "a")
    with pytest.raises(InputError, match="--resume"):
        ResultStore(tmp_path / "a", resume=False)
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="already exists"):
        ResultStore(tmp_path / "file", resume=False)
    ResultStore(tmp_path / "new", resume=False)
    ResultStore(tmp_path / "new", resume=False)  # nothing was done yet


def test_failed_job_is_isolated_and_retried(tmp_path: Path) -> None:
    found = [*jobs("tests.helpers.toy_learner:Faulty", servers=5), *jobs("greedy")]
    results = done(found, tmp_path)
    assert len(results.results) == 2
    assert len(results.failures) == 2
    assert all("odd servers are not for me" in cause for cause in results.failures.values())
    engine = Inline()
    done(found, tmp_path, engine)
    assert len(engine.submitted) == 2


def test_training_runs_first_and_once(tmp_path: Path) -> None:
    found = [*jobs("greedy"), *learner_jobs(seeds=3)]
    engine = Inline()
    results = done(found, tmp_path, engine)
    assert [job.kind for job in engine.submitted] == ["train"] + 5 * ["run"]
    need = found[-1].needs
    assert need is not None
    assert (tmp_path / "policies" / f"{need.key}.safetensors").read_bytes() == b'{"server": 1}'
    assert results.results[need.key]["curve"][-1] == {"episode": 10, "reward": -100 / 11}
    everywhere = {"placement": [1] * 6}
    (edge,) = execute([make_job("run", load(SCENARIO, ["slots=3"]), "fixed", everywhere, 0)])
    assert edge.result is not None
    assert results.results[found[2].key]["reward"] == edge.result["reward"]


def test_training_without_policy_is_missing(tmp_path: Path) -> None:
    done(learner_jobs(), tmp_path)
    (policy,) = (tmp_path / "policies").iterdir()
    policy.unlink()
    engine = Inline()
    done(learner_jobs(seeds=3), tmp_path, engine)
    assert [job.kind for job in engine.submitted] == ["train", "run"]


def test_failed_training_fails_its_runs(tmp_path: Path) -> None:
    results = done([*learner_jobs("tests.helpers.toy_learner:Bad"), *jobs("greedy")], tmp_path)
    assert len(results.results) == 2
    causes = sorted(results.failures.values())
    assert causes[0] == "ValueError: no policy found"
    assert causes[1:] == 2 * [
        "the training that it needs failed (training of tests.helpers.toy_learner:Bad, seed 0)"
    ]


def test_dead_process_is_retried_alone(tmp_path: Path) -> None:
    found = jobs("greedy", "rpdi")
    deaths = {found[0].key: 1, found[1].key: 2}
    results = done(found, tmp_path, Inline(deaths=deaths))
    assert set(results.failures) == {found[1].key}
    assert "process died" in results.failures[found[1].key]
    assert len(results.results) == 3


def test_results_independent_of_processes_and_order(tmp_path: Path) -> None:
    found = jobs("greedy", "rpdi", "single-cut")
    inline = done(found, tmp_path / "inline")
    with make_executor("local", 2) as engine:
        local = done(found[::-1], tmp_path / "local", engine)
    assert numbers(local) == numbers(inline)
    assert not local.failures


@pytest.mark.parametrize(
    ("processes", "seeds"), [(1, 1), pytest.param(2, 3, marks=pytest.mark.slow)]
)
def test_dead_process_is_isolated(processes: int, seeds: int, tmp_path: Path) -> None:
    found = [*jobs("tests.helpers.toy_learner:Deadly", seeds=1), *jobs("greedy", seeds=seeds)]
    with make_executor("local", processes) as engine:
        results = done(found, tmp_path, engine)
    assert list(results.failures) == [found[0].key]
    assert len(results.results) == seeds


@pytest.mark.slow
def test_job_starts_processes(tmp_path: Path) -> None:
    with make_executor("local", 1) as engine:
        results = done(jobs("tests.helpers.toy_learner:Parent", seeds=1), tmp_path, engine)
    assert not results.failures


def test_progress(tmp_path: Path) -> None:
    reported: list[Status] = []
    found = [*jobs("greedy"), *jobs("tests.helpers.toy_learner:Faulty", seeds=1, servers=5)]
    run_batch(found, ResultStore(tmp_path, resume=True), Inline(), reported.append)
    first = reported[0]
    assert (first.done, first.running, first.total, first.left) == (0, 2, 3, None)
    assert (reported[-1].done, reported[-1].failed, reported[-1].running) == (2, 1, 0)
    assert reported[-1].left is None


def test_time_left() -> None:
    left = [*jobs("greedy"), *jobs("rpdi")]
    took = {("run", "greedy"): [1.0, 3.0]}
    assert time_left({}, left, 2) is None
    assert time_left(took, left, 2) == (4, False)  # rpdi is not known: as the others
    assert time_left(took | {("run", "rpdi"): [10.0]}, left, 2) == (12, False)
    trainings = {("train", "dqn"): [99.0]}
    assert time_left(trainings, left, 2) is None  # they tell nothing of runs
    assert time_left(took | trainings, learner_jobs(), 2) == (2, False)
    training = learner_jobs()[0].needs
    assert training is not None
    assert time_left(took, [*left, training], 2) == (4, True)


def test_with_needs() -> None:
    found = learner_jobs()
    assert with_needs([*found, *found]) == [found[0].needs, *found]


@pytest.mark.parametrize("damaged", ["jobs", "policies"])
def test_damaged_results_are_recomputed(damaged: str, tmp_path: Path) -> None:
    whole = numbers(done(learner_jobs(), tmp_path))
    for file in (tmp_path / damaged).iterdir():
        content = file.read_bytes()
        file.write_bytes(content.replace(b'"tasks": ', b'"tasks": 1') or b"")
        if damaged == "policies":
            file.write_bytes(content[:-8])
    again = done(learner_jobs(), tmp_path)
    assert again.found == (1 if damaged == "jobs" else 2)  # all but the runs; all but the training
    assert numbers(again) == whole


def test_ctrl_c_message(tmp_path: Path) -> None:
    def stop(status: Status) -> None:
        if status.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"2 of 4 jobs are kept .* --resume"):
        run_batch(jobs("greedy", seeds=4), ResultStore(tmp_path, resume=True), Inline(1), stop)
    assert done(jobs("greedy", seeds=4), tmp_path).found == 2


def test_ctrl_c_between_jobs(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"1 of 4 jobs are kept"):
        run_batch(jobs("greedy", seeds=4), ResultStore(tmp_path, resume=True), Pressed(1))


def test_ignored_ctrl_c(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job in the background
    try:
        assert len(done(jobs("greedy", seeds=4), tmp_path, Pressed(1)).results) == 4
    finally:
        signal.signal(signal.SIGINT, before)


def test_unknown_executor() -> None:
    with pytest.raises(InputError, match="expected one of local, ray"):
        make_executor("cloud")
    with pytest.raises(InputError, match="1 or more"):
        make_executor("local", 0)


@pytest.mark.slow
def test_close_just_after_submit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    died: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(str(args.exc_type)))
    job = jobs("greedy", seeds=1)[0]
    for _ in range(2 if thorough() else 1):
        with LocalExecutor(2) as engine:
            running = [engine.submit([job], None) for _ in range(2)]
            wait(running, return_when=FIRST_COMPLETED)
            engine.submit([job], None)
    assert died == []


# A whole command that is killed --------------------------------------------------------------

ARGUMENTS = (
    "compare", str(SCENARIO), "--set", "slots=20", "--schedulers", "greedy,rpdi,lookahead,mtl-a3c",
    "--option", "lookahead.budget=20", "--episodes", "2", "--training-seeds", "2", "--lower-bound",
    "--seeds", "2", "--sweep", "edge_servers=2,3", "--no-figures", "--quiet",
)  # fmt: skip


def start(out: Path, *more: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(*ARGUMENTS, "--out", str(out), "--jobs", "2", *more, cwd=ROOT)


def tables(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / name).read_bytes() for name in ("rows.csv", "summary.csv", "comparison.h5")
    }


@pytest.mark.slow
def test_interrupted_killed_and_resumed_the_tables_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    def kept() -> int:
        assert not (cut / "summary.csv").exists()
        return len(list((cut / "jobs").glob("*.json")))

    with start(cut) as interrupted:
        until_jobs(cut, 5, interrupted)
        os.kill(interrupted.pid, signal.SIGINT)
        _, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert "Use --resume to continue" in err
    assert "Traceback" not in err
    before = kept()
    assert 5 <= before < 20
    assert "Use --resume" in mecsim(*ARGUMENTS, "--out", str(cut), code=2, cwd=ROOT).stderr
    with start(cut, "--resume") as killed:
        until_jobs(cut, before + 5, killed)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate(timeout=60)
    assert before + 5 <= kept() < 28
    monkeypatch.undo()  # the shipped learner trains
    in_this_process(monkeypatch)
    mecsim(*ARGUMENTS, "--out", str(cut), "--resume", cwd=ROOT)
    mecsim(*ARGUMENTS, "--out", str(whole), cwd=ROOT)
    assert tables(cut) == tables(whole)
    document = json.loads((cut / "comparison.json").read_text(encoding="utf-8"))
    assert len(document["rows"]) == 20


def test_interrupted_and_resumed_the_tables_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: Ctrl-C when the fourth of ten jobs is submitted."""
    arguments = (
        "compare", str(SCENARIO), "--set", "slots=3", "--schedulers", "greedy,rpdi", "--seeds", "2",
        "--sweep", "edge_servers=2,3", "--lower-bound", "--no-figures", "--quiet", "--jobs", "1",
    )  # fmt: skip
    submit, submitted = InThisProcess.submit, count(1)

    def pressed(*job: Any) -> Any:
        if next(submitted) == 4:
            signal.raise_signal(signal.SIGINT)
        return submit(*job)

    in_this_process(monkeypatch)
    mecsim(*arguments, "--out", str(tmp_path / "whole"), cwd=ROOT)
    monkeypatch.setattr(InThisProcess, "submit", pressed)
    said = mecsim(*arguments, "--out", str(tmp_path / "cut"), code=130, cwd=ROOT).stderr
    assert "Use --resume to continue" in said
    assert 0 < len(list((tmp_path / "cut" / "jobs").glob("*.json"))) < 10
    mecsim(*arguments, "--out", str(tmp_path / "cut"), "--resume", cwd=ROOT)
    assert tables(tmp_path / "cut") == tables(tmp_path / "whole")


# A job where its files are not ----------------------------------------------------------------

OWN = """\
from mecsim import Scheduler


class Own(Scheduler):
    def decide(self, observation):
        if self.spec.servers == 3:
            raise ValueError("three is too many")
        return [2] * self.spec.blocks
"""


def test_job_carries_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler, a policy and recorded tasks, by paths that are not there later."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN, encoding="utf-8")
    Path("toy.json").write_text('{"server": 3}', encoding="utf-8")
    run_scenario(load(SCENARIO, ["slots=3"]), "local", out=Path("tasks.h5"))
    recorded = load(SCENARIO, ["slots=3", "arrivals={process: trace, file: tasks.h5}"])
    found = [
        make_job("run", recorded, "own.py:Own", {}, 0),
        make_job("run", load(SCENARIO, ["slots=3"]), TOY, {"policy": "toy.json"}, 0),
        make_job("run", load(SCENARIO, ["edge_servers=3"]), "own.py:Own", {}, 0),
    ]
    here = [execute([job])[0] for job in found]
    assert here[2].error.endswith("three is too many (own.py, line 7)")
    files = [contents(job) for job in found]
    packages = [str(ROOT / each / "__init__.py") for each in ("tests", "tests/helpers")]
    assert [sorted(each) for each in files] == [
        ["own.py", "tasks.h5"],
        [*packages, toy_learner.__file__, "toy.json"],
        ["own.py"],
    ]
    for each in ("own.py", "toy.json", "tasks.h5"):
        Path(each).unlink()
    there = [execute_apart([job], None, each)[0] for job, each in zip(found, files, strict=True)]
    for one, other in zip(here, there, strict=True):
        assert one.error == other.error
        for outcome in (one, other):
            (outcome.result or {}).pop("wall_s", None)
        assert one.result == other.result


def test_file_changed_after_planning(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN, encoding="utf-8")
    job = make_job("run", load(SCENARIO), f"{own}:Own", {}, 0)
    own.write_text(OWN + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="changed after the batch started"):
        contents(job)
    (outcome,) = execute([job])
    assert "changed after the batch started" in outcome.error
