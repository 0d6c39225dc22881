"""After a warm-up no common command compiles anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from numba.core import caching

from mecsim.support import jit

ROOT = Path(__file__).parents[2]
SCENARIO = "scenarios/vgg16_loaded.yaml"
FIXED = ("--scheduler", "fixed", "--option", "placement=[3,4,2,1,1,0]")
LOCATOR: Final[Any] = caching._CacheLocator  # numba has no types
BRIEF = ("--set", "slots=2", "--quiet")
COMMANDS = (
    ("run", SCENARIO, "--scheduler", "greedy", "--out", "{}/a.h5"),
    ("run", SCENARIO, "--scheduler", "greedy", "--no-trace", "--kernel", "compiled"),
    ("run", SCENARIO, *FIXED, "--out", "{}/b.h5", "--kernel", "compiled"),
    ("run", SCENARIO, *FIXED, "--no-trace", "--kernel", "compiled"),
    ("run", "scenarios/small_battery.yaml", "--scheduler", "lookahead", "--no-trace"),
    ("run", "scenarios/bursty.yaml", "--scheduler", "rpdi", "--out", "{}/c.h5"),
    ("compare", SCENARIO, "--schedulers", "greedy,rpdi", "--seeds", "2", "--no-figures",
     "--out", "{}/d"),
)  # fmt: skip


def python(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own that prints a notice if it compiles."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=_environment() | changes,
    )


def _environment() -> dict[str, str]:
    names = (jit.COMPILE_NOTICE_SHOWN, "NUMBA_DISABLE_JIT")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return kept | {"PYTHONPATH": str(ROOT)}


def errors(folder: Path, *arguments: str) -> str:
    """Run a module with a folder of compiled code of its own; return what it writes to stderr."""
    return python(*arguments, NUMBA_CACHE_DIR=str(folder)).stderr


def folder_of(source: Path) -> str:
    """Return the folder in ``NUMBA_CACHE_DIR`` for the functions of a source file."""
    return str(LOCATOR.get_suitable_cache_subpath(source))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with no code except what a warm-up loads, or compiles where nothing is compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    done = python("mecsim.simulation.warm_up", NUMBA_DEBUG_CACHE="1")
    files = {Path(name) for name in re.findall(r"data (?:loaded|saved).*'(.*)'", done.stdout)}
    assert len(files) > 10
    for file in files:
        beside_source = file.parent.name == "__pycache__"
        own = folder_of(file.parent.with_name("any.py")) if beside_source else file.parent.name
        (folder / own).mkdir(exist_ok=True)
        index = file.with_name(re.sub(r"\.\d+\.nbc$", ".nbi", file.name))
        for each in (file, index):
            shutil.copy(each, folder / own)
    return folder


@pytest.mark.slow
def test_an_empty_folder(tmp_path: Path) -> None:
    assert errors(tmp_path, "mecsim.simulation.warm_up") == f"{jit.COMPILE_NOTICE}\n"
    assert errors(tmp_path, "mecsim.simulation.warm_up") == ""


def test_commands_compile_nothing(warm: Path, tmp_path: Path) -> None:
    """One process runs all of them, as each would take a second to start."""
    before = sorted(path for path in warm.rglob("*.nbc"))
    commands = [[part.format(tmp_path) for part in command] + [*BRIEF] for command in COMMANDS]
    program = f"from tests.helpers.cli import mecsim\nfor each in {commands}: print(mecsim(*each))"
    environment = _environment() | {"NUMBA_CACHE_DIR": str(warm)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["Finished(stdout='', stderr='')"] * len(COMMANDS)
    assert done.stderr == ""
    assert sorted(warm.rglob("*.nbc")) == before


def test_a_short_run_loads_only_what_it_needs(warm: Path) -> None:
    """Each of these modules takes longer to load than the run itself."""
    slow = {"filelock", "networkx", "numba.np.linalg", "matplotlib", "torch"}
    program = f"""if 1:
        import sys
        from mecsim.cli import main
        sys.argv = ["mecsim", "run", {SCENARIO!r}, "--scheduler", "greedy", "--no-trace",
                    "--set", "slots=2", "--quiet"]
        try:
            main()
        finally:
            print(sorted({slow!r} & set(sys.modules)), file=sys.stderr)
        """
    environment = os.environ | {"NUMBA_CACHE_DIR": str(warm), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stderr == "[]\n"


@pytest.mark.slow
def test_training_compiles_nothing(warm: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    before = sorted(path for path in warm.rglob("*.nbc"))
    where = ("--out", str(tmp_path / "policy.safetensors"), "--episodes", "2", "--serial")
    errors(warm, "mecsim", "train", SCENARIO, "--scheduler", "mtl-a3c", *where, *BRIEF)
    assert sorted(warm.rglob("*.nbc")) == before


@pytest.mark.slow
def test_a_second_warm_up_compiles_nothing(warm: Path) -> None:
    assert errors(warm, "mecsim.simulation.warm_up") == ""
