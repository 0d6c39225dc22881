"""Batches on a Ray cluster of several nodes, all of them on this machine, at 127.0.0.1."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest

from mecsim import Observation, Placement, Scheduler
from mecsim.errors import InputError
from mecsim.scenario.loading import load
from mecsim.study.executors import make_executor
from mecsim.study.job_queue import Results, ResultStore, run_batch
from mecsim.study.jobs import Job, make_job
from tests.helpers.batches import SCENARIO, until_jobs
from tests.helpers.cli import mecsim, started
from tests.helpers.ray_cluster import ray_cluster
from tests.helpers.waiting import until

pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]
MARKING = """\
import time, uuid
from importlib.metadata import version
from pathlib import Path
from mecsim import Scheduler


class Slow(Scheduler):
    def __init__(self, spec):
        super().__init__(spec)
        Path({marks!r}, uuid.uuid4().hex).touch()

    def decide(self, observation):
        time.sleep(0.1)
        return [1 + observation.epoch % self.spec.servers] * self.spec.blocks
"""
"""A scheduler in a file of its own that takes its time and marks every run of it."""


class Threads(Scheduler):
    """Fails where the libraries that it uses would use several threads."""

    def decide(self, observation: Observation) -> Placement:
        import numba  # noqa: PLC0415
        import torch  # noqa: PLC0415

        if (threads := (torch.get_num_threads(), numba.get_num_threads())) != (1, 1):
            raise RuntimeError(f"{threads} threads")
        return [1] * self.spec.blocks


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head has a CPU; nodes are added where they are needed."""
    with ray_cluster(cpus=1) as made:
        yield made


def jobs(scheduler: str, seeds: int = 1, slots: int = 3) -> list[Job]:
    scenario = load(SCENARIO, [f"slots={slots}"])
    return [make_job("run", scenario, scheduler, {}, seed) for seed in range(seeds)]


def start(out: Path, *more: str) -> AbstractContextManager[subprocess.Popen[str]]:
    fixed = ("compare", str(SCENARIO), "--no-figures", "--quiet", "--out", str(out))
    return started(*fixed, *more, cwd=ROOT)


@pytest.fixture
def marking(tmp_path: Path) -> tuple[str, ...]:
    """Arguments for 16 runs, 8 of which take about a second."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "mine.py").write_text(MARKING.format(marks=str(tmp_path / "marks")), "utf-8")
    mine = f"{tmp_path / 'mine.py'}:Slow"
    return ("--set", "slots=8", "--schedulers", f"greedy,{mine}", "--seeds", "8")


def processes(cluster: Any, name: str) -> list[psutil.Process]:
    """Processes of a cluster's nodes by the beginning of their name."""
    nodes = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    found = [each for pid in nodes for each in psutil.Process(pid).children()]
    return [each for each in found if _command(each).startswith(name)]


def _command(process: psutil.Process) -> str:
    """Return the command of a process; nothing if it has ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # ZombieProcess is one of these
        return ""


@pytest.mark.slow
def test_killed_node(cluster: Any, marking: tuple[str, ...], tmp_path: Path) -> None:
    with start(tmp_path / "local", *marking, "--jobs", "2") as local:
        assert local.wait(120) == 0
    marks = len(list((tmp_path / "marks").iterdir()))
    assert marks == 9  # one for each seed, and that which was tried before the first job
    doomed = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    with start(
        tmp_path / "ray", *marking, "--engine", "ray", "--ray-address", cluster.address
    ) as batch:
        until_jobs(tmp_path / "ray", 4, batch)
        raylet = psutil.Process(doomed.all_processes["raylet"][0].process.pid)
        until(lambda: any("_execute" in str(each.cmdline()) for each in raylet.children()))
        for each in [*raylet.children(recursive=True), raylet]:
            each.kill()
        out, err = batch.communicate(timeout=120)
    cluster.remove_node(doomed)
    assert (batch.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert len(list((tmp_path / "marks").iterdir())) - marks in (9, 10, 11)
    for name in ("rows.csv", "summary.csv", "comparison.h5"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


@pytest.mark.slow
def test_ctrl_c_on_cluster(cluster: Any, marking: tuple[str, ...], tmp_path: Path) -> None:
    with start(
        tmp_path / "cut", *marking, "--engine", "ray", "--ray-address", cluster.address
    ) as batch:
        until_jobs(tmp_path / "cut", 9, batch)
        until(lambda: processes(cluster, "ray::_execute"))  # idle between two jobs
        batch.send_signal(signal.SIGINT)
        _, err = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert "Use --resume to continue" in err
    assert "Traceback" not in err
    until(lambda: not processes(cluster, "ray::_execute"))


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_own_cluster_ends(sent: signal.Signals, marking: tuple[str, ...], tmp_path: Path) -> None:
    with start(tmp_path / "cut", *marking, "--engine", "ray", "--jobs", "2") as batch:
        until_jobs(tmp_path / "cut", 9, batch)
        ours = psutil.Process(batch.pid).children(recursive=True)
        until(lambda: len([each for each in ours if "_execute" in str(each.cmdline())]) == 2)
        batch.send_signal(sent)
        batch.communicate(timeout=60)
    assert batch.returncode == (130 if sent == signal.SIGINT else -sent)
    _, alive = psutil.wait_procs(ours, timeout=30)
    # Nobody waits for Ray's agents after a kill -9: they end by themselves, in about a minute.
    assert [each for each in alive if sent == signal.SIGINT or "Agent" not in each.name()] == []


@pytest.mark.slow
def test_jobs_are_isolated(cluster: Any, tmp_path: Path) -> None:
    """A job that kills its process has failed in the end; one may start processes of its own."""
    deadly, parent = (
        jobs("tests.helpers.toy_learner:Deadly"),
        jobs("tests.helpers.toy_learner:Parent"),
    )
    found = [*deadly, *parent, *jobs("tests.study.test_ray_executor:Threads"), *jobs("greedy", 3)]
    with make_executor("ray", 2, cluster.address) as engine:
        results = run_batch(found, ResultStore(tmp_path, resume=False), engine)
    assert results.failures == {deadly[0].key: "its process died (out of memory or killed)"}
    assert len(results.results) == 5


def test_node_that_cannot_compute(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mecsim.study.executors.ray_executor.version", lambda name: "0.0.1")
    with make_executor("ray", 1, cluster.address) as engine:
        results: Results = run_batch(jobs("greedy"), ResultStore(tmp_path, resume=False), engine)
    (cause,) = results.failures.values()
    assert cause == f"a node has mecsim {version('mecsim')}; expected 0.0.1, as on this machine"


@pytest.mark.slow
def test_training_with_killed_node(cluster: Any, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
    raylet = psutil.Process(doomed.all_processes["raylet"][0].process.pid)
    arguments = (
        "train", str(SCENARIO), "--set", "slots=30", "--episodes", "300", "--workers", "2",
        "--engine", "ray", "--ray-address", cluster.address, "--out", str(tmp_path), "--quiet",
    )  # fmt: skip
    with started(*arguments, cwd=ROOT) as learning:
        until(lambda: list(tmp_path.glob("*.checkpoint.*")))
        assert any("ray::Worker" in str(each.cmdline()) for each in raylet.children())
        for each in [*raylet.children(recursive=True), raylet]:
            each.kill()
        out, err = learning.communicate(timeout=120)
    cluster.remove_node(doomed)
    assert (learning.returncode, out) == (0, ""), err
    assert "a worker died; another one replaces it" in err
    assert len(list(tmp_path.glob("vgg16_loaded-mtl-a3c-0*.safetensors"))) == 1


# ---------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:1", "no Ray cluster answers"),
        ("ray://127.0.0.1:1", "expected HOST:PORT"),
        ("auto", "expected HOST:PORT"),
        ("127.0.0.1:70000", "expected HOST:PORT"),
    ],
)
def test_invalid_address(address: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=problem):
        make_executor("ray", 1, address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match=problem):
        make_executor("ray", 1)
    with pytest.raises(InputError, match="only valid with --engine ray"):
        make_executor("local", 1, address)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--engine", "ray", "--serial"), "--serial: runs in one process"),
        (("--engine", "cloud"), "expected one of local, ray"),
        (("--ray-address", "127.0.0.1:1"), "only valid with --engine ray"),
        (("--engine", "ray", "--ray-address", "127.0.0.1:1"), "no Ray cluster answers"),
    ],
)
def test_train_with_invalid_arguments(
    arguments: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    done = mecsim("train", str(SCENARIO), *arguments, "--out", str(tmp_path), code=2)
    assert problem in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'mecsim\[ray\]'"):
        make_executor("ray", 1)
