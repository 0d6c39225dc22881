"""Ctrl-C that is deferred: it is raised once, wherever it was pressed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mecsim.errors import Interrupted
from mecsim.scheduler.base import Scheduler
from mecsim.simulation.run import run
from mecsim.support.signals import between_steps
from tests.helpers.builders import scenario


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def interrupted(work: Callable[[list[str]], None]) -> list[str]:
    """What some work has done until Ctrl-C was raised."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(done)
    return done


def test_it_is_raised_by_the_next_check() -> None:
    def work(done: list[str]) -> None:
        with between_steps() as check:
            check()
            press()
            done.append("the rest of the step")
            check()
            done.append("another step")

    assert interrupted(work) == ["the rest of the step"]


def test_after_the_last_check_it_is_raised_at_the_end() -> None:
    def work(done: list[str]) -> None:
        with between_steps() as check:
            check()
            press()
            done.append("the rest of the step")
        done.append("what follows")

    assert interrupted(work) == ["the rest of the step"]


def test_a_second_one_is_raised_at_once() -> None:
    def work(done: list[str]) -> None:
        with between_steps():
            press()
            done.append("the rest of the step")
            press()
            done.append("what follows")

    assert interrupted(work) == ["the rest of the step"]


@pytest.mark.parametrize("shared", [False, True])
def test_an_outer_use_gets_what_an_inner_one_has_not_raised(shared: bool) -> None:
    def work(done: list[str]) -> None:
        with between_steps() as outer:
            with between_steps(shared=shared) as inner:
                inner()
                press()
            done.append("the rest of the outer step")
            outer()
            done.append("another step")

    assert interrupted(work) == ["the rest of the outer step"]


@pytest.mark.parametrize("shared", [False, True])
def test_it_is_raised_once(shared: bool) -> None:
    """Who catches it inside has dealt with it, unless the use inside shares that outside."""
    caught = []
    with between_steps() as outer:
        try:
            with between_steps(shared=shared) as inner:
                press()
                inner()
        except KeyboardInterrupt:
            caught.append("inside")
        try:
            outer()
        except KeyboardInterrupt:
            caught.append("outside")
    assert caught == ["inside", *(["outside"] if shared else [])]


def fails_after_ctrl_c() -> None:
    with between_steps():
        press()
        raise ValueError("mine")


def test_another_error_is_not_replaced() -> None:
    with pytest.raises(ValueError, match="mine"):
        fails_after_ctrl_c()


def test_after_another_error_an_outer_use_gets_it() -> None:
    def work(done: list[str]) -> None:
        with between_steps() as outer:
            with pytest.raises(ValueError, match="mine"):
                fails_after_ctrl_c()
            done.append("the error")
            outer()
            done.append("another step")

    assert interrupted(work) == ["the error"]


# ---------------------------------------------------------------- uses


class PressesLast(Scheduler):
    """Somebody presses Ctrl-C after the last slot."""

    def decide(self, observation: Any) -> list[int]:
        return [0] * self.spec.blocks

    def run_ended(self) -> None:
        press()


def test_at_the_end_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="the rows until then are kept"):
        run(scenario(slots=2), PressesLast, out=tmp_path / "t.h5")
    assert [each.name for each in tmp_path.iterdir()] == ["t.partial.h5"]
