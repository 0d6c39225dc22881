"""What a person sees on the terminal: tables and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mecsim.support.text import number

if TYPE_CHECKING:
    from mecsim.study.batch import Status

PLAIN_SECONDS = 5.0
"""How often progress is told where there is no terminal."""

_DELAYS = (
    ("total delay", "total_delay_s"),
    ("at servers", "edge_delay_s"),
    ("at devices", "local_delay_s"),
)
_STATISTICS = ("mean", "std", "p50", "p95", "p99", "max")


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Return delays and energy of a run with their percentiles."""
    table = Table(title=_title(summary), title_justify="left", box=None, pad_edge=False)
    table.add_column("per task", no_wrap=True)
    for name in _STATISTICS:
        table.add_column(name, justify="right")
    for label, key in (
        *((f"{name} (s)", key) for name, key in _DELAYS),
        ("energy (J)", "energy_J"),
    ):
        table.add_row(label, *(number(summary[key][name]) for name in _STATISTICS))
    return table


def _title(summary: Mapping[str, Any]) -> str:
    who = f"{summary['scheduler']} on {summary['scenario']}, seed {summary['seed']}"
    return f"[bold]{who}[/bold] ({summary['kernel']} kernel)"


def totals_line(summary: Mapping[str, Any]) -> str:
    """Return counts and reward of a run in one line."""
    failed = f"[red]{summary['failed']:,} failed[/red], " if summary["failed"] else ""
    drained = summary["drained_s"]
    after = f", empty {number(drained)} s after the last slot" if drained else ""
    reward = f"reward [bold]{summary['reward']:,.1f}[/bold]"
    return (
        f"{summary['completed']:,} of {summary['tasks']:,} tasks completed, {failed}"
        f"{summary['late_blocks']:,} late blocks, {reward}{after}"
    )


def bound_line(bound: Mapping[str, Any]) -> str:
    """Return how much a run costs more than if nothing ever waited, in one line."""
    gap = bound["gap_percent"]
    more = "" if gap is None else f"; this run costs {gap:,.1f}% more"
    return f"cost (minus the reward) if nothing ever waited: {bound['cost']:,.1f}{more}"


def resources_table(resources: Sequence[Mapping[str, Any]], count: int = 6) -> Table:
    """Return the busiest resources of a run."""
    table = Table(title="Busiest resources", title_justify="left", box=None, pad_edge=False)
    table.add_column("resource")
    for name in ("utilization", "mean queue", "mean wait (s)"):
        table.add_column(name, justify="right")
    for row in resources[:count]:
        share = f"{row['utilization']:.1%}"
        table.add_row(row["name"], share, number(row["mean_queue"]), number(row["mean_wait_s"]))
    return table


def speed_line(summary: Mapping[str, Any]) -> str:
    """Return how long a run took and where its trace is."""
    wall, events = summary["wall_s"], summary["events"]
    trace = f", trace in {summary['trace']}" if summary["trace"] else ""
    return f"{events:,} events in {wall:.2f} s ({events / wall:,.0f} a second){trace}"


def comparison_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Return runs side by side, each number with its change against the first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for summary in summaries:
        table.add_column(summary["scheduler"], justify="right")
    for label, key in (*_DELAYS, ("energy", "energy_J")):
        for name in ("mean", "p95"):
            values = [summary[key][name] for summary in summaries]
            unit = "J" if key == "energy_J" else "s"
            table.add_row(f"{label}, {name} ({unit})", *_with_change(values))
    for label, key in (
        ("late blocks", "late_blocks"),
        ("failed tasks", "failed"),
        ("reward", "reward"),
    ):
        table.add_row(label, *_with_change([summary[key] for summary in summaries]))
    return table


def _with_change(values: Sequence[float | None]) -> list[str]:
    first = values[0]
    texts = [number(first)]
    for value in values[1:]:
        change = f" ({(value - first) / abs(first):+.1%})" if first and value is not None else ""
        texts.append(number(value) + change)
    return texts


def plain_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", text: int = 1
) -> Table:
    """Return a table whose first ``text`` columns are text and whose others are numbers."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for position, name in enumerate(head):
        table.add_column(name, justify="right" if position >= text else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def models_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the shipped models, one a row of :func:`mecsim.dnn.graph.overview`."""
    head = ["model", "input", "layers", "blocks up to", "stages", "MFLOP", "parameters (MB)"]
    counts = ("model", "input", "layers", "max_blocks", "stages")
    texts = [
        [
            *(str(row[key]) for key in counts),
            f"{row['flops'] / 1e6:,.1f}",
            f"{row['parameter_bytes'] / 1e6:,.2f}",
        ]
        for row in rows
    ]
    return plain_table(head, texts)


def layers_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the layers of a model and where it may be cut."""
    head = ["layer", "MFLOP", "parameters (kB)", "output (kB)", "cut after?"]
    texts = [
        [
            row["name"],
            f"{row['flops'] / 1e6:,.2f}",
            f"{row['parameter_bytes'] / 1e3:,.1f}",
            f"{row['output_bits'] / 8e3:,.1f}",
            row["cut"],
        ]
        for row in rows
    ]
    return plain_table(head, texts, title)


def blocks_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the blocks of a task: layers, c_m, d_m, I_m."""
    head = ["block", "layers", "c_m (Mcycles)", "d_m (kB)", "I_m (kB)"]
    texts = [
        [
            str(row["block"]),
            row["layers"],
            f"{row['cycles'] / 1e6:,.2f}",
            f"{row['parameter_bytes'] / 1e3:,.1f}",
            f"{row['input_bits'] / 8e3:,.1f}",
        ]
        for row in rows
    ]
    return plain_table(head, texts, title, text=2)


def checks_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return outcomes of checks, with the columns that fit a terminal."""
    shown = [head.index(name) for name in ("check", "expected", "measured", "interval", "ok")]
    kept = [[row[position] for position in shown] for row in rows]
    return plain_table([head[position] for position in shown], kept)


class Update(Protocol):
    """Shows how much is done, and perhaps what was measured last."""

    def __call__(self, done: int, total: int, measured: str = "") -> None:
        """Show it, if it is time to."""


@contextmanager
def progress(what: str, *, unit: str = "slots", quiet: bool) -> Iterator[Update | None]:
    """Show progress on stderr: a bar on a terminal, else a plain line now and then."""
    if quiet or sys.stderr is None:  # a closed stderr is None
        yield None
    elif sys.stderr.isatty():
        with _bar(what, unit) as update:
            yield update
    else:
        yield _plain(what, unit)


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Update]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}, "),
        TextColumn("{task.fields[rate]} a second, left:"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measured]}"),
    )
    began = last = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1, rate="…", unit=unit, measured="")

        def update(done: int, total: int, measured: str = "") -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > 0.1 or done == total:
                last = now
                rate = number(done / max(now - began, 1e-9))
                bar.update(task, completed=done, total=total, rate=rate, measured=measured)

        yield update


def _plain(what: str, unit: str) -> Update:
    began = last = time.monotonic()

    def update(done: int, total: int, measured: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            last = now
            rate = done / (now - began)
            left = f", {(total - done) / rate:.0f} s left" if done else ""
            pace = f"{number(rate)} a second{left}"
            text = f"{what}: {done:,} of {total:,} {unit}, {pace}{measured and f'; {measured}'}"
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    return update


def study_table(
    summary: Sequence[Mapping[str, Any]], metric: str, label: str, baseline: str
) -> Table:
    """Return the means of a metric, with what each scheduler saves against the others."""
    shown = [each for each in summary if each["metric"] == metric]
    others = dict.fromkeys([baseline, *(name for each in shown for name in each["vs"])])
    several = len({each["scenario"] for each in shown}) > 1
    keys = list(dict.fromkeys(key for each in shown for key in each["sweep"]))
    names = [key.rpartition(".")[2] for key in keys]
    head = [*(["scenario"] if several else []), *names, "scheduler", f"{label}\n± 95%"]
    head += [
        f"{'saves against' if other == baseline else 'gap to'}\n{other} (%)" for other in others
    ]
    rows = [
        [
            *([each["scenario"]] if several else []),
            *(str(each["sweep"].get(key, "")) for key in keys),
            each["scheduler"],
            _with_half(each["mean"], each["ci95_low"], each["ci95_high"]),
            *(_percent(each["vs"].get(other), saved=other == baseline) for other in others),
        ]
        for each in shown
    ]
    return plain_table(head, rows, text=len(head) - 1 - len(others))


def _with_half(mean: float | None, low: float | None, high: float | None) -> str:
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.2g}"
    return number(mean) + half


def _percent(versus: Mapping[str, Any] | None, *, saved: bool) -> str:
    if versus is None or versus["percent"] is None:
        return ""
    low, high = versus["percent_ci95_low"], versus["percent_ci95_high"]
    percent = versus["percent"] if saved else 0.0 - versus["percent"]
    return _rounded(percent) + ("" if low is None else f" ± {_rounded((high - low) / 2)}")


def _rounded(percent: float) -> str:
    return f"{percent:,.0f}" if abs(percent) >= 100 else f"{percent:.1f}"


@contextmanager
def batch_progress(what: str, *, quiet: bool) -> Iterator[Callable[[Status], None] | None]:
    """Show on stderr how far a batch is: a bar on a terminal, else a plain line now and then."""
    if quiet or sys.stderr is None:
        yield None
    elif sys.stderr.isatty():
        columns = TextColumn(what), BarColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda status: bar.update(
                task, total=status.total, completed=status.done, description=_batch_line(status)
            )
    else:
        yield _plain_batch(what)


def _plain_batch(what: str) -> Callable[[Status], None]:
    last = time.monotonic()

    def update(status: Status) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_SECONDS:
            last = time.monotonic()
            print(f"{what}: {_batch_line(status)}", file=sys.stderr, flush=True)  # noqa: T201

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
    """Show the progress of a training on stderr: episodes, rate, time left and what is measured."""
    with progress(what, unit="episodes", quiet=quiet) as update:
        if update is None:
            yield None
            return

        def told(done: float, total: float, measured: str) -> None:
            update(round(done), round(total), measured)

        yield told


def training_table(summary: Mapping[str, Any]) -> Table:
    """Return what a training led to: the evaluations along the way."""
    rate = f"{summary['episodes']} episodes in {summary['wall_s']:.1f} s"
    how = "serial" if summary["serial"] else f"{summary['workers']} workers"
    title = (
        f"{summary['scheduler']} on {summary['scenario']}, seed {summary['seed']}: {rate}, {how}"
    )
    rows = [[f"{row['episode']:.0f}", number(row["reward"])] for row in summary["curve"]]
    rows.append(["best", number(summary["validation_reward"])])
    table = plain_table(["episode", "reward (validation)"], rows)
    table.title = title
    return table
