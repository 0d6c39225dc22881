"""The examples in docstrings run, in the root of the repository."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = {
    "mecsim/env.py": "gymnasium",
    "mecsim/dnn/profiler.py": "torch",
    "mecsim/report/figures.py": "bokeh",
    "mecsim/report/timeline.py": "bokeh",
}
"""Modules with examples that need an extra."""
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("mecsim", "schedulers")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_examples(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.as_posix() in EXTRAS:
        pytest.importorskip(EXTRAS[path.as_posix()])
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed  # the report is in the captured output
