"""Compiled functions: kept on disk, loaded quickly, compiled again when their files are damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from numba.core.event import Event, EventStatus

from mecsim.support import jit

ROOT = Path(__file__).parents[2]
RUN = ("-W", "error", "-m", "mecsim", "run", "scenarios/vgg16_4es.yaml", "--scheduler", "greedy")
BRIEF = ("--set", "slots=1", "--no-trace", "--json", "--kernel", "compiled")

DRAW = """
from mecsim.model.random_streams import Stream
print(*Stream(7, "rates").first(range(2)))
"""
FORK = """
import os
import numpy as np
from mecsim.scheduler.features import means_per_server
from mecsim.model.random_streams import Stream
Stream(7, "rates").first(range(2))
child = os.fork()
if not child:
    os._exit(int(means_per_server(np.ones(2), np.zeros(2, np.int64), 1)[0] != 1.0))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = ("NUMBA_", jit.COMPILE_NOTICE_SHOWN)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=inherited | environment,
    )


def test_compiled_code_becomes_stale_with_every_source() -> None:
    """Modules that use the compiler, and those whose functions they pass to it."""
    folder = Path(jit.__file__).parents[1]
    used = set()
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8")
        if "import compiled\n" in text:
            used.add(path)
            used |= {folder / f"model/{m}.py" for m in re.findall(r"\bcompiled\((\w+)\.", text)}
    assert len(used) >= 6
    assert used <= set(jit.sources())


def test_compiles_once_and_reports_it(tmp_path: Path) -> None:
    def run(debug: str = "1") -> subprocess.CompletedProcess[str]:
        return python(*RUN, *BRIEF, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_DEBUG_CACHE=debug)

    with ThreadPoolExecutor() as at_once:  # one compiles, the other loads the result
        both = [done.result() for done in [at_once.submit(run), at_once.submit(run)]]
    written = "".join(done.stderr for done in both)
    lines = {line for line in written.splitlines() if not line.startswith("[cache]")}
    assert lines == {jit.COMPILE_NOTICE}
    saved = re.findall(r"data saved to '(.*)'", written)
    assert len(saved) == len(set(saved)) == len(list(tmp_path.rglob("*.nbc")))
    again = run(debug="0")
    assert json.loads(again.stdout)["kernel"] == "compiled"
    assert again.stderr == ""


def test_loading_compiled_code_imports_no_compiler_parts(tmp_path: Path) -> None:
    ask = DRAW + "import sys; print('numba.np.linalg' in sys.modules)"
    made, loaded = (python("-c", ask, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert made.stdout.split("\n")[1] == "True"
    assert loaded.stdout.split("\n")[1] == "False"
    assert made.stdout.split("\n")[0] == loaded.stdout.split("\n")[0]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[: len(data) // 2], id="halved"),
        pytest.param(lambda data: bytes(len(data)), id="zeroed"),
        pytest.param(lambda data: data[:-99] + bytes(99), id="zeroed at the end"),
    ],
)
def test_damaged_files_are_compiled_again(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    made = python("-c", DRAW, NUMBA_CACHE_DIR=str(tmp_path))
    for path in tmp_path.rglob(f"*.{kind}"):
        path.write_bytes(damage(path.read_bytes()))
    again, later = (python("-c", DRAW, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert again.returncode == 0, again.stderr
    assert again.stdout == later.stdout == made.stdout
    assert re.fullmatch(
        r"the compiled numba kernels .* damaged; compiling them again\n", again.stderr
    )
    assert later.stderr == ""


def test_a_forked_process_compiles_too() -> None:
    done = python("-c", FORK)
    assert done.returncode == 0, done.stderr


def test_a_process_that_holds_the_lock_delays_others_only_a_while(tmp_path: Path) -> None:
    made = python("-c", FORK, NUMBA_CACHE_DIR=str(tmp_path))
    assert made.returncode == 0, made.stderr
    (lock,) = tmp_path.rglob("compiling.lock")
    for path in tmp_path.rglob("*.nbc"):
        path.unlink()
    impatient = "from mecsim.support import jit\njit.LOCK_TIMEOUT_S = 0.1\n" + FORK
    with FileLock(lock):
        done = python("-c", impatient, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_child_processes_do_not_repeat_the_notice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(jit.COMPILE_NOTICE_SHOWN)
    data = {"dispatcher": SimpleNamespace(py_func=jit.compiled)}  # a function of ours
    compiling = Event("numba:compile", EventStatus.START, data)  # type: ignore[no-untyped-call]
    for _ in range(2):  # as in a process that has just begun
        notifier = jit.CompileNotifier()
        notifier.folder = "somewhere"
        notifier.on_start(compiling)
    assert caplog.messages == [jit.COMPILE_NOTICE]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}, "cannot be saved"),
        ({}, "NUMBA_CACHE_DIR: cannot write to /proc/nowhere; using"),
    ],
)
def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, more: dict[str, str], said: str
) -> None:
    for package in ("mecsim", "schedulers"):  # of which nothing is compiled yet
        nothing = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=nothing)
    more = more | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": "/proc/nowhere"}
    done = python("-P", *RUN, *BRIEF, **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(said) == 1
