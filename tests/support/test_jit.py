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
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pytest
from filelock import FileLock
from numba.core.event import Event, EventStatus

from mecsim.support import jit
from tests.helpers.slow import slow_unless

Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]
RUN = ("-W", "error", "-m", "mecsim", "run", "scenarios/vgg16_loaded.yaml", "--scheduler", "greedy")
BRIEF = ("--set", "slots=1", "--no-trace", "--json", "--kernel", "compiled")

TINY = """\
from mecsim.support.jit import compiled


@compiled
def double(number):
    return 2 * number


@compiled
def quadruple(number):
    return double(double(number))


@compiled
def half(number):
    return number / 2
"""
STREAM = """\
import json
import numpy as np
from mecsim.model.random_streams import Stream
Stream(7, "rates").uniform(0, np.array([2]))
print(json.dumps({"kernel": "compiled"}))
"""
QUADRUPLE = "from mecsim import tiny; print(tiny.quadruple(5))"
ONCE = """\
import json
from mecsim import tiny
print(json.dumps({"kernel": "compiled" if tiny.quadruple(5) == 20 else "wrong"}))
"""
LINALG = "\nimport sys; print('numba.np.linalg' in sys.modules)"
FORK = """
import os
from mecsim import tiny
tiny.quadruple(5)
child = os.fork()
if not child:
    os._exit(int(tiny.half(2) != 1.0))
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program to which ``mecsim.tiny`` is added: it compiles much faster than the kernels."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.py").write_text(TINY, encoding="utf-8")
    added = f"import mecsim; mecsim.__path__.append({str(folder)!r})\n"

    def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return python("-W", "error", "-c", added + program, **environment)

    return run


@pytest.fixture(scope="module")
def quadrupled(tmp_path_factory: pytest.TempPathFactory, tiny: Run) -> Path:
    """A folder with the compiled code of ``QUADRUPLE``."""
    folder = tmp_path_factory.mktemp("compiled")
    made = tiny(QUADRUPLE + LINALG, NUMBA_CACHE_DIR=str(folder))
    assert (made.stdout, made.stderr) == ("20\nTrue\n", f"{jit.COMPILE_NOTICE}\n")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="a small module"),
        pytest.param(("-c", STREAM), id="random streams", marks=pytest.mark.slow),
        pytest.param((*RUN, *BRIEF), id="kernels", marks=pytest.mark.slow),
    ],
)
def test_compiles_once_and_reports_it(
    tmp_path: Path, tiny: Run, arguments: tuple[str, ...]
) -> None:
    def run(debug: str = "1") -> subprocess.CompletedProcess[str]:
        folder = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DEBUG_CACHE": debug}
        return python(*arguments, **folder) if arguments else tiny(ONCE, **folder)

    with ThreadPoolExecutor() as at_once:  # one compiles, the other loads the result
        both = [done.result() for done in [at_once.submit(run), at_once.submit(run)]]
    assert [done.returncode for done in both] == [0, 0]
    written = "".join(done.stdout + done.stderr for done in both)
    lines = {line for done in both for line in done.stderr.splitlines()}
    assert {line for line in lines if not line.startswith("[cache]")} == {jit.COMPILE_NOTICE}
    saved = re.findall(r"data saved to '(.*)'", written)
    assert 0 < len(saved) == len(set(saved)) == len(list(tmp_path.rglob("*.nbc")))
    again = run(debug="0")
    assert json.loads(again.stdout)["kernel"] == "compiled"
    assert again.stderr == ""


def test_loading_compiled_code_imports_no_compiler_parts(tiny: Run, quadrupled: Path) -> None:
    loaded = tiny(QUADRUPLE + LINALG, NUMBA_CACHE_DIR=str(quadrupled))
    assert loaded.stdout == "20\nFalse\n"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "halved": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "zeroed at the end": lambda data: data[:-99] + bytes(99),
}


@pytest.mark.quick("zeroed at the end-nbc")
@pytest.mark.parametrize(
    ("damage", "kind"),
    slow_unless(
        [("halved", "nbi"), ("zeroed at the end", "nbc")], product(DAMAGES, ("nbi", "nbc"))
    ),
)
def test_damaged_files_are_compiled_again(
    tmp_path: Path, tiny: Run, quadrupled: Path, damage: str, kind: str
) -> None:
    shutil.copytree(quadrupled, tmp_path, dirs_exist_ok=True)
    files = list(tmp_path.rglob(f"*.{kind}"))
    assert len(files) == 2
    for path in files:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    again, later = (tiny(QUADRUPLE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert again.returncode == 0, again.stderr
    assert again.stdout == later.stdout == "20\n"
    assert re.fullmatch(
        r"the compiled numba kernels .* damaged; compiling them again\n", again.stderr
    )
    assert later.stderr == ""


@pytest.mark.slow
def test_a_forked_process_compiles_too(tmp_path: Path, tiny: Run) -> None:
    done = tiny(FORK, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_process_that_holds_the_lock_delays_others_only_a_while(
    tmp_path: Path, tiny: Run, quadrupled: Path
) -> None:
    folder = {"NUMBA_CACHE_DIR": str(tmp_path)}
    shutil.copytree(quadrupled, tmp_path, dirs_exist_ok=True)
    (lock,) = tmp_path.rglob("compiling.lock")
    for path in tmp_path.rglob("*.nbc"):
        path.unlink()
    impatient = "from mecsim.support import jit\njit.LOCK_TIMEOUT_S = 0.1\n" + FORK
    with FileLock(lock):
        done = tiny(impatient, **folder)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param(
            {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"},
            "cannot be saved",
            marks=pytest.mark.slow,
        ),
        ({}, "NUMBA_CACHE_DIR: cannot write to /proc/nowhere; using"),
    ],
)
def test_a_folder_that_cannot_be_written_to(tiny: Run, more: dict[str, str], said: str) -> None:
    done = tiny(QUADRUPLE, NUMBA_CACHE_DIR="/proc/nowhere", **more)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "20\n"
    assert done.stderr.count(said) == 1
