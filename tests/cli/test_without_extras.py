"""Commands in an install without extras: they work, or name the extra that they need.

The extras are hidden by modules of their names that cannot be imported, also from the processes
that a command starts. ``make test-bare`` runs the tests where the extras are in fact absent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EXTRAS

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "results" / "policies" / "vgg16_loaded-mtl-a3c.safetensors"
LEARNED = ("--scheduler", "mtl-a3c", "--option", f"policy={POLICY}")
COMPARE = ("compare", "s.yaml", "--seeds", "1", "--schedulers", "greedy,rpdi", "--jobs", "1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "s.yaml", "--scheduler", "greedy", "--out", "t.h5"),
    "run of a learner": ("run", "s.yaml", *LEARNED, "--out", "learner.h5"),
    "check": ("check", "s.yaml"),
    "schedulers": ("schedulers",),
    "schedulers --check": ("schedulers", "--check", "rpdi"),
    "compare --no-figures": (*COMPARE, "--no-figures", "--out", "compared"),
    "replay": ("replay", "t.h5"),
    "replay --scheduler": ("replay", "t.h5", *LEARNED),
    "verify": ("verify", "--quick", "--kernel", "compiled"),
    "export": ("export", "t.h5", "--out", "csv"),
    "export --format perfetto": ("export", "t.h5", "--format", "perfetto", "--out", "t.json"),
    "profile": ("profile", "vgg16", "--blocks", "4"),
    "profile --devices": ("profile", "--devices"),
    "train --settings": ("train", "--settings"),
}
REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "run of sb3": ("torch", ("run", "s.yaml", "--scheduler", "sb3:s.yaml", "--out", "no.h5")),
    "train": ("torch", ("train", "s.yaml", "--episodes", "2", "--out", "no")),
    "train --serial": ("torch", ("train", "s.yaml", "--serial", "--out", "no/p.safetensors")),
    "profile of a module": ("torch", ("profile", "mecsim.dnn.zoo:vgg16", "--save", "no.json")),
    "profile --measure": ("torch", ("profile", "vgg16", "--measure", "--save", "no.json")),
    "compare": ("plot", (*COMPARE, "--out", "no")),
    "plot": ("plot", ("plot", "compared", "--out", "no")),
    "compare --engine ray": ("ray", (*COMPARE, "--no-figures", "--engine", "ray", "--out", "no")),
    "report": ("report", ("report", "t.h5")),
    "reproduce": ("plot", ("reproduce", "fig6", "--quick", "--out", "no")),
    "export --format parquet": (
        "parquet",
        ("export", "t.h5", "--format", "parquet", "--out", "no"),
    ),
}
PROGRAM = """\
import json, os, sys, traceback
from mecsim.verification import known_answers
from tests.helpers.cli import ended

every = known_answers.checks()
known_answers.checks = lambda: [every[0], every[-1]]  # all of them take ten seconds
found = {}
for name, arguments in json.load(sys.stdin).items():
    before = set(os.listdir())
    try:
        outcome = ended(*arguments)
    except Exception:
        outcome = 1, "", traceback.format_exc()
    found[name] = [*outcome, sorted(set(os.listdir()) - before)]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that finds no extra."""
    folder = tmp_path_factory.mktemp("hidden")
    for name in EXTRAS:
        error = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n"
        (folder / f"{name}.py").write_text(error, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT)])
    return os.environ | {"PYTHONPATH": path}


@pytest.fixture(scope="module")
def ends(hidden: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Exit code, streams and new files of each command, all of them run in one process."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "s.yaml").write_text("slots: 3\n", encoding="utf-8")
    every = COMMANDS | {name: arguments for name, (_, arguments) in REFUSED.items()}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        input=json.dumps(every), capture_output=True, text=True, check=False,
        cwd=folder, env=hidden,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_works(name: str, ends: dict[str, Any]) -> None:
    code, out, err, _ = ends[name]
    assert code == 0, err
    assert out


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_names_the_extra_that_it_needs(name: str, ends: dict[str, Any]) -> None:
    extra, _ = REFUSED[name]
    code, out, err, files = ends[name]
    assert (code, out, files) == (2, "", []), err
    assert len(err.splitlines()) == 1
    assert f"pip install 'mecsim[{extra}]'" in err


def test_the_environments_name_their_extra(hidden: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import mecsim.env"],
        capture_output=True, text=True, check=False, env=hidden,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ImportError: mecsim.env needs gymnasium: pip install 'mecsim[gym]'\n"
    )
