"""Tests of the summary that a run returns."""

from __future__ import annotations

import pytest

from mecsim.simulation.run import run
from mecsim.support import jit
from tests.helpers.builders import scenario


def test_wall_time_leaves_out_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_s = iter([0.0, 100.0])  # at the start and at the end of the run
    monkeypatch.setattr(jit, "compile_seconds", lambda: next(compiled_s))
    summary = run(scenario(), "local").summary
    assert summary.wall_s is not None
    assert -100.0 < summary.wall_s < -50.0
