"""Progress lines without a terminal."""

from __future__ import annotations

import pytest

from mecsim.cli import progress
from mecsim.study.job_queue import Status


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


def test_equal_lines_of_a_batch_are_repeated_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is reported every 6 s, and the second job ends after 90 s."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    update = progress._plain_batch("comparing")
    for step in range(1, 20):
        now[0] = 6.0 * step
        done = 1 if step < 15 else 2
        update(Status(done=done, running=1, failed=0, total=3, left=None))
    assert capsys.readouterr().err.splitlines() == [
        "comparing: 1 of 3 jobs, 1 running",  # after 6 s
        "comparing: 1 of 3 jobs, 1 running",  # after 66 s
        "comparing: 2 of 3 jobs, 1 running",  # after 90 s
    ]
