"""Set-up of all tests: signals, environment, and modules that an install may lack."""

from __future__ import annotations

import gc
import os
import secrets
import signal
from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from mecsim.support import jit
from tests import ONE_THREAD, SET_HERE
from tests.helpers.examples import examples

os.environ[jit.COMPILE_NOTICE_SHOWN] = "1"  # commands print the same on a fresh machine
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell lets us ignore it
# Ray stays at 127.0.0.1 with a token of these tests; without one, its cluster never answers.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

# A machine that is busy with other work must not make a test fail.
hypothesis.settings.register_profile(
    "here",
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("here")

EXTRAS: Final = (
    *(
        "bokeh",
        "gymnasium",
        "matplotlib",
        "pyarrow",
        "ray",
        "stable_baselines3",
        "tensorboardX",
        "torch",
    ),
)
TOOLS: Final = ("ciw", "jsonschema", "pandas", "psutil", "scipy", "selenium")
MISSING: Final = {name for name in (*EXTRAS, *TOOLS) if find_spec(name) is None}
"""Modules that `make test-bare` leaves out: tests that need one are skipped, and say so."""


if find_spec("xdist") is None:

    @pytest.fixture(scope="session")
    def worker_id() -> str:
        """Name the only process as pytest-xdist does."""
        return "master"


gc.disable()  # nearly all that collecting the tests imports lives until the end


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases of a test that its ``quick`` does not name as slow."""
    patterns: dict[tuple[str, str], bool] = {}
    for item in items:
        if isinstance(item, pytest.Function) and (mark := item.get_closest_marker("quick")):
            name = item.callspec.id
            found = [fnmatchcase(name, pattern) for pattern in mark.args]
            for pattern, matches in zip(mark.args, found, strict=True):
                place = item.nodeid.removesuffix(f"[{name}]"), pattern
                patterns[place] = patterns.get(place, False) or matches
            if not any(found):
                item.add_marker("slow")
    unknown = [place for place, matches in patterns.items() if not matches]
    if unknown and not any("::" in arg for arg in config.args):
        raise pytest.UsageError(f"quick names no case of these tests: {unknown}")


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and give the processes that tests start all threads."""
    gc.freeze()
    gc.enable()
    if SET_HERE:
        os.environ.pop(ONE_THREAD, None)


class SkippableModule(pytest.Module):
    """A test file that is skipped as a whole where it imports one of ``MISSING``."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and _top(cause.name) in MISSING:
                pytest.skip(f"{self.nodeid} needs {cause.name}", allow_module_level=True)
            raise


def _top(name: str | None) -> str:
    return (name or "").partition(".")[0]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Let a test file that needs a missing module be skipped."""
    module: pytest.Module = SkippableModule.from_parent(parent, path=module_path)
    return module
