"""Standard output and error that end early, are full, or cannot show every character."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from mecsim.support import streams
from tests.helpers.cli import COMMAND

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = str(ROOT / "scenarios" / "vgg16_loaded.yaml")
RUN = ("run", SCENARIO, "--set", "slots=2", "--scheduler", "greedy", "--kernel", "compiled")
FULL = b"mecsim: the output cannot be written: No space left on device\n"
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
UNBUFFERED = BUFFERED | {"PYTHONUNBUFFERED": "1"}
MODES = [BUFFERED, UNBUFFERED]
"""A short text fails at once without a buffer, and at the end with one."""


def ended_pipe() -> int:
    """Return the end of a pipe that has no reader."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def _ended(
    *arguments: str | bytes,
    environment: dict[str, str] = BUFFERED,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in its own process and close the ends that it was given."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment, stdout=stdout, stderr=stderr, check=False
    )
    for number in {stdout, stderr} - {subprocess.PIPE}:
        os.close(number)
    return done


@pytest.mark.quick("arguments[0-3]-*")
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        *product([("--help",), ("--version",)], MODES),
        ((*RUN, "--no-trace", "--json"), UNBUFFERED),
        pytest.param((*RUN, "--no-trace", "--json"), BUFFERED, marks=pytest.mark.slow),
        pytest.param((*RUN, "--no-trace"), BUFFERED, marks=pytest.mark.slow),
        pytest.param((*RUN, "--no-trace"), UNBUFFERED, marks=pytest.mark.slow),
    ],
)
def test_the_reader_of_stdout_has_ended(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    done = _ended(*arguments, environment=environment, stdout=ended_pipe())
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert b"Broken pipe" not in done.stderr


@pytest.mark.quick("arguments1-2")
@pytest.mark.parametrize(("arguments", "code"), [(("schedulers",), 0), (("fly",), 2)])
def test_the_reader_of_both_has_ended(arguments: tuple[str, ...], code: int) -> None:
    pipe = ended_pipe()
    assert _ended(*arguments, stdout=pipe, stderr=pipe).returncode == code


@pytest.mark.quick("arguments[01]-*")
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        *product([("--version",)], MODES),
        (("check", SCENARIO, "--json"), BUFFERED),
        pytest.param(("check", SCENARIO, "--json"), UNBUFFERED, marks=pytest.mark.slow),
    ],
)
def test_full_stdout(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    done = _ended(*arguments, environment=environment, stdout=full())
    assert (done.returncode, done.stderr) == (2, FULL)


@pytest.mark.quick("arguments1-2")
@pytest.mark.parametrize(("arguments", "code"), [(("check", SCENARIO), 0), (("fly",), 2)])
def test_full_stderr(arguments: tuple[str, ...], code: int) -> None:
    assert _ended(*arguments, stderr=full()).returncode == code


@pytest.fixture
def loud(tmp_path: Path) -> str:
    """Return a scheduler that prints."""
    (tmp_path / "loud.py").write_text(
        "from mecsim import Scheduler\n\n\n"
        "class Loud(Scheduler):\n"
        "    def decide(self, observation):\n"
        "        print('hello', flush=True)\n"
        "        return [0] * self.spec.blocks\n",
        encoding="utf-8",
    )
    return f"{tmp_path / 'loud.py'}:Loud"


def test_a_run_that_cannot_print_keeps_its_trace(loud: str, tmp_path: Path) -> None:
    trace = tmp_path / "run.h5"
    done = _ended(*RUN, "--scheduler", loud, "--out", str(trace), stdout=full())
    assert (done.returncode, trace.exists()) == (2, True)
    assert done.stderr.endswith(FULL)


@pytest.mark.slow
def test_a_job_that_cannot_print_does_not_fail(loud: str, tmp_path: Path) -> None:
    done = _ended(
        "compare", SCENARIO, "--schedulers", f"greedy,{loud}",
        "--set", "slots=1", "--seeds", "1", "--jobs", "1", "--no-figures",
        "--out", str(tmp_path / "out"), stderr=ended_pipe(),
    )  # fmt: skip
    assert done.returncode == 0
    assert b"2 runs" in done.stdout


def test_closed_streams(tmp_path: Path) -> None:
    script = f'exec "$@" --out {tmp_path}/run.h5 >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *COMMAND, *RUN], check=False)
    assert done.returncode == 0
    assert (tmp_path / "run.h5").exists()


LATIN = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"PYTHONIOENCODING": "ascii"}
LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.quick("arguments1-*", "arguments[4-7]-*")
@pytest.mark.parametrize(
    ("arguments", "terminal", "code"),
    [
        (("schedulers",), LATIN, 0),
        (("--help",), LOCALE, 0),
        pytest.param(("schedulers",), LOCALE, 0, marks=pytest.mark.slow),
        (("train", "--settings"), ASCII, 0),
        (("--help",), ASCII, 0),
        (("compare", "--help"), ASCII, 0),
        (("check", "--schema"), ASCII, 0),
        (("verify", "--fast"), ASCII, 2),
    ],
)
def test_terminals_with_few_characters(
    arguments: tuple[str, ...], terminal: dict[str, str], code: int
) -> None:
    done = _ended(*arguments, environment=BUFFERED | terminal)
    shown = done.stdout + done.stderr
    assert (done.returncode, b"Traceback" in shown) == (code, False)
    assert b"\\u" not in shown, "a character of our own has no substitute"
    if "--schema" in arguments:
        json.loads(done.stdout)


@pytest.mark.quick("terminal0")
@pytest.mark.parametrize("terminal", [ASCII, {"PYTHONIOENCODING": "utf-8"}])
def test_names_that_a_terminal_cannot_show(terminal: dict[str, str]) -> None:
    """Also a name whose bytes are no text, on standard output and standard error."""
    name = "τö😀".encode() + b"\xff.yaml"
    done = _ended("run", name, environment=BUFFERED | terminal)
    assert done.returncode == 2
    assert b"\\udcff.yaml: cannot be read: No such file or directory; allowed: " in done.stderr
    if terminal == ASCII:
        assert done.stderr.startswith(b"mecsim: tau\\u00f6\\ud83d\\ude00")


def test_streams_of_a_program_stay(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    assert streams.protect() is None
    assert (sys.stdout, sys.stderr) == before
