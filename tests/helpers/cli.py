"""The command line in tests: in this process, or in one of its own where a process is the point."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from mecsim.cli import main, progress

COMMAND = (sys.executable, "-W", "error", "-m", "mecsim")


class Finished(NamedTuple):
    """Standard output and standard error of a command that ended with the expected exit code."""

    stdout: str
    stderr: str


def mecsim(*arguments: str, code: int = 0, cwd: Path | None = None) -> Finished:
    """Run a command in this process; assert its exit code and that it shows no traceback."""
    found, *streams = ended(*arguments, cwd=cwd)
    return _checked(found, code, Finished(*streams))


def ended(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), _as_started(arguments, cwd or Path.cwd()):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def answer(*arguments: str, code: int = 0, cwd: Path | None = None) -> dict[str, Any]:
    """Run a command with ``--json`` in this process and return its document."""
    document = json.loads(mecsim(*arguments, "--json", code=code, cwd=cwd).stdout)
    assert isinstance(document, dict)
    return document


def mecsim_process(*arguments: str, code: int = 0, cwd: Path | None = None) -> Finished:
    """Run a command in a fresh interpreter: 0.5 s to 2 s slower than :func:`mecsim`."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, cwd=cwd, timeout=240
    )
    return _checked(done.returncode, code, Finished(done.stdout, done.stderr))


@contextmanager
def started(*arguments: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a process of its own, to be signalled; kill it in the end."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _checked(found: int, code: int, finished: Finished) -> Finished:
    assert found == code, finished.stderr
    assert "Traceback" not in finished.stderr
    return finished


@contextmanager
def _as_started(arguments: tuple[str, ...], cwd: Path) -> Iterator[None]:
    """Set what a command finds in a process, without lines of progress, and restore it."""
    logger = logging.getLogger("mecsim")
    before = list(logger.handlers)
    try:
        with (
            chdir(cwd),
            patch.object(sys, "argv", ["mecsim", *arguments]),
            patch.object(sys, "path", [*sys.path]),
            patch.dict(os.environ, COLUMNS="80"),
            patch.object(progress, "PLAIN_SECONDS", math.inf),  # how many lines depends on the load
        ):
            yield
    finally:
        logger.handlers = before
