"""After a warm-up no common command compiles anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mecsim.support import jit

ROOT = Path(__file__).parents[2]
SCENARIO = "scenarios/vgg16_4es.yaml"
FIXED = ("--scheduler", "fixed", "--option", "placement=[3,4,2,1,1,0]")
BRIEF = ("--set", "slots=2", "--quiet")


def python(folder: Path, *arguments: str) -> str:
    """Run Python with its own folder of compiled code; return what it writes to stderr."""
    names = (jit.COMPILE_NOTICE_SHOWN, "NUMBA_DISABLE_JIT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)},
    )
    return done.stderr


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    assert python(folder, "mecsim.simulation.warm_up") == f"{jit.COMPILE_NOTICE}\n"
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ("run", SCENARIO, "--scheduler", "greedy", "--out", "{}/a.h5"),
        ("run", SCENARIO, "--scheduler", "greedy", "--no-trace", "--kernel", "compiled"),
        ("run", SCENARIO, *FIXED, "--out", "{}/b.h5", "--kernel", "compiled"),
        ("run", SCENARIO, *FIXED, "--no-trace", "--kernel", "compiled"),
        ("run", "scenarios/small_battery.yaml", "--scheduler", "lookahead", "--no-trace"),
        ("run", "scenarios/bursty.yaml", "--scheduler", "rpdi", "--out", "{}/c.h5"),
        ("compare", SCENARIO, "--schedulers", "greedy,rpdi", "--seeds", "2", "--out", "{}/d"),
    ],
    ids=" ".join,
)
def test_a_command_compiles_nothing(warm: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    before = sorted(path for path in warm.rglob("*.nbc"))
    arguments = (argument.format(tmp_path) for argument in command)
    assert python(warm, "mecsim", *arguments, *BRIEF) == ""
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


def test_training_compiles_nothing(warm: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    before = sorted(path for path in warm.rglob("*.nbc"))
    where = ("--out", str(tmp_path / "policy.safetensors"), "--episodes", "2", "--serial")
    python(warm, "mecsim", "train", SCENARIO, "--scheduler", "mtl-a3c", *where, *BRIEF)
    assert sorted(warm.rglob("*.nbc")) == before


def test_a_second_warm_up_compiles_nothing(warm: Path) -> None:
    assert python(warm, "mecsim.simulation.warm_up") == ""
