"""Progress lines without a terminal."""

from __future__ import annotations

import pytest

from mecsim.cli import progress


def test_rate_and_time_left_of_a_resumed_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 of 400 were done before; 50 in 10 s are 5 per second, and the other 50 take 10 s."""
    clock = iter([0.0, 0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    update = progress._plain("training", "episodes")
    update(300, 400)
    update(350, 400)
    assert capsys.readouterr().err == ("training: 350 of 400 episodes, 5 per second, 10 s left\n")


def test_no_rate_without_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 6.0, 6.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress._plain("run", "slots")(3, 9)
    assert capsys.readouterr().err == "run: 3 of 9 slots\n"
