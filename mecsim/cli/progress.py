"""Progress of long commands on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mecsim.cli.output import console
from mecsim.support.text import number

if TYPE_CHECKING:
    from mecsim.study.job_queue import Status

PLAIN_SECONDS = 5.0
"""Time between progress lines without a terminal."""
SAME_SECONDS = 60.0
"""Time until an equal line is repeated: the command is alive."""


class Update(Protocol):
    """Shows the progress of a command, and the latest measurement if there is one."""

    def __call__(self, done: int, total: int, measured: str = "") -> None:
        """Show the progress, if enough time has passed since the last call."""


@contextmanager
def progress(what: str, *, unit: str = "slots", quiet: bool) -> Iterator[Update | None]:
    """Show progress on stderr: a bar on a terminal, else a line every few seconds."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(what, unit) as update:
            yield update
    else:
        yield _plain(what, unit)


class _Pace:
    """The rate since the first report: a resumed command begins with what was done before."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def rate(self, done: int) -> float | None:
        """Return the rate per second; None if it is not known yet."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        began, before = self._first
        return (done - before) / (now - began) if now > began and done > before else None


def _text(template: str) -> TextColumn:
    """Return a column of plain text: names may have square brackets."""
    return TextColumn(template, markup=False)


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Update]:
    columns = (
        _text("{task.description}"),
        BarColumn(),
        _text("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}, "),
        _text("{task.fields[rate]} per second, left:"),
        TimeRemainingColumn(),
        _text("{task.fields[measured]}"),
    )
    pace, last = _Pace(), time.monotonic()
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1, rate="…", unit=unit, measured="")

        def update(done: int, total: int, measured: str = "") -> None:
            nonlocal last
            now, rate = time.monotonic(), pace.rate(done)
            if now - last > 0.1 or done == total:
                last, shown = now, "…" if rate is None else number(rate)
                bar.update(task, completed=done, total=total, rate=shown, measured=measured)

        yield update


def _plain(what: str, unit: str) -> Update:
    pace, last = _Pace(), time.monotonic()

    def update(done: int, total: int, measured: str = "") -> None:
        nonlocal last
        now, rate = time.monotonic(), pace.rate(done)
        if now - last >= PLAIN_SECONDS:
            last = now
            left = f", {(total - done) / rate:.0f} s left" if rate else ""
            speed = "" if rate is None else f", {number(rate)} per second{left}"
            text = f"{what}: {done:,} of {total:,} {unit}{speed}{measured and f'; {measured}'}"
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    return update


@contextmanager
def batch_progress(what: str, *, quiet: bool) -> Iterator[Callable[[Status], None] | None]:
    """Show the progress of a batch on stderr: a bar, or lines without a terminal."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        columns = _text("{task.fields[what]}"), BarColumn(), _text("{task.description}")
        with Progress(*columns, console=console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None, what=what)
            yield lambda status: bar.update(
                task, total=status.total, completed=status.done, description=_batch_line(status)
            )
    else:
        yield _plain_batch(what)


def _plain_batch(what: str) -> Callable[[Status], None]:
    last, printed = time.monotonic(), ""

    def update(status: Status) -> None:
        nonlocal last, printed
        line, waited = _batch_line(status), time.monotonic() - last
        if waited >= (SAME_SECONDS if line == printed else PLAIN_SECONDS):
            last, printed = time.monotonic(), line
            print(f"{what}: {line}", file=sys.stderr, flush=True)  # noqa: T201

    return update


def _batch_line(status: Status) -> str:
    failed, left = f", {status.failed:,} failed" if status.failed else "", ""
    if status.left is not None:
        about = "at least" if status.left.at_least else "about"
        left = f", {about} {_duration(status.left.seconds)} left"
    return f"{status.done:,} of {status.total:,} jobs, {status.running} running{failed}{left}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@contextmanager
def training_progress(
    what: str, *, quiet: bool
) -> Iterator[Callable[[float, float, str], None] | None]:
    """Show the progress of a training on stderr: episodes, rate, time left and measurements."""
    with progress(what, unit="episodes", quiet=quiet) as update:
        if update is None:
            yield None
            return

        def rounded(done: float, total: float, measured: str) -> None:
            update(round(done), round(total), measured)

        yield rounded
