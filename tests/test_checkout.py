"""The files around the code name what exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_gitignore_excepts_files_that_exist() -> None:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    excepted = [line.removeprefix("!/") for line in lines if line.startswith("!")]
    assert excepted
    assert [name for name in excepted if not list(ROOT.glob(name.rstrip("/")))] == []


def test_the_makefile_names_tests_that_exist() -> None:
    """A path that pytest is set to ignore may be wrong without a complaint."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.findall(r"addprefix \S*tests/,([^)]+)\)", text)
    assert listed
    names = [name for each in listed for name in each.split()]
    assert [name for name in names if not (ROOT / "tests" / name).exists()] == []
