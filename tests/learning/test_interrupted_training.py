"""Interrupted trainings: Ctrl-C, and kill -9 of the training or of a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from mecsim.learning import TrainingRequest
from mecsim.learning.checkpoint import read_checkpoint
from mecsim.learning.training import train
from mecsim.scenario.loading import load
from tests.learning.test_training import SCENARIO, SMALL
from tests.rl.test_learners import ACTOR_CRITIC, decisions

EPISODES = 1500
LONG = [
    f"--episodes={EPISODES}",
    "--out=p.safetensors",
    "--quiet",
    *SMALL,
    "--option=branch_horizon=12",
]
PREPARED = """\
import signal
from mecsim import cli
from mecsim.learning import recorder
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    recorder.CHECKPOINT_SECONDS = 0.3
    cli.main()
"""


@contextmanager
def started(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A training in a process group of its own, as a shell starts it."""
    (folder / "main.py").write_text(PREPARED, encoding="utf-8")
    command = [sys.executable, "main.py", "train", "s.yaml", *LONG, *options]
    with subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + 120.0
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.1)  # listing processes takes time from the training
    pytest.fail("nothing happened")


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it ends just now
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(SCENARIO, encoding="utf-8")
    return tmp_path


def test_ctrl_c_keeps_a_checkpoint(here: Path) -> None:
    with started(here, "--workers", "1") as process:
        (worker,) = until(lambda: workers_of(process))
        until(lambda: list((here / "p.tensorboard").glob("*")))
        until((here / "p.checkpoint.safetensors").exists)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
    assert err.startswith("mecsim: stopped; ")
    assert err.endswith("Try: the same command with --resume\n")
    assert len(err.splitlines()) == 1
    assert not worker.is_running()
    assert not list(here.glob(".*"))
    assert (here / "p.curve.h5").exists()


@pytest.mark.slow
def test_ctrl_c_while_workers_start_is_quiet(here: Path) -> None:
    with started(here, "--workers", "2") as process:
        until(lambda: workers_of(process))
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
    assert err == "mecsim: stopped; no checkpoint was saved yet\n"
    assert not list(here.glob("*.safetensors"))


def gone(worker: psutil.Process) -> bool:
    try:
        return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # just now
        return True


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_one_whose_parent_is_killed_ends(
    here: Path,
) -> None:
    checkpoint = here / "p.checkpoint.safetensors"
    with started(here, "--workers", "2") as process:
        first = until(lambda: found if len(found := workers_of(process)) == 2 else None)
        first[0].kill()
        (third,) = until(lambda: set(workers_of(process)) - set(first))
        until(checkpoint.exists)
        process.kill()
        until(lambda: gone(first[1]) and gone(third))  # one that still starts does so first
        assert process.stderr is not None
        err = process.stderr.read()
    assert err == "mecsim: a worker died with exit code -9; another one replaces it\n"
    out, scenario = here / "p.safetensors", load(here / "s.yaml")
    request = TrainingRequest(
        scenario=scenario,
        scheduler="mtl-a3c",
        options=ACTOR_CRITIC | {"branch_horizon": 12},
        episodes=EPISODES,
        out=out,
        scenario_name="s",
    )
    train(request, resume=True)
    assert read_checkpoint(checkpoint).record.complete
    assert (decisions(out, "mtl-a3c", scenario) == 2).all()
    assert not list(here.glob(".*"))
