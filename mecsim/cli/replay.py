"""`mecsim replay`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mecsim.cli.options import Options, TracePath
from mecsim.cli.output import Output, with_output
from mecsim.cli.replay_measured import Other, predict, run_other
from mecsim.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mecsim.simulation.metrics import RunSummary
    from mecsim.simulation.replay import ReplayResult


@with_output
def replay(
    trace: TracePath,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this form
        typer.Option(
            "--scheduler",
            metavar="NAME",
            help="Run this scheduler on the recorded tasks and channels, and compare.",
        ),
    ] = None,
    option: Options = None,
    kernel: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--kernel", metavar="NAME", help="Event loop: simpy or compiled. Default: as recorded."
        ),
    ] = None,
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--scenario",
            metavar="SCENARIO",
            help="For a measured trace: predict with this scenario, such as a calibrated one.",
        ),
    ] = None,
    after: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--after",
            metavar="TIME",
            help="For a measured trace: score only tasks released at this time (30 s) or later.",
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="PATH", help="With --scheduler: trace file to write."),
    ] = None,
    *,
    output: Output,
) -> None:
    """Repeat a run from its trace and compare every column with ==.

    A trace that `mecsim testbed` has measured is predicted: its tasks and decisions are simulated,
    and the times are compared.

    With --scheduler, run that scheduler on the same recorded tasks and channels and print both
    runs next to each other.

    Example: mecsim replay results/vgg16_4es-greedy-0.h5 --scheduler rpdi
    """
    from mecsim.scenario import yaml_source
    from mecsim.scheduler import registry
    from mecsim.testbed.prediction import is_measured

    if scheduler is None and (option or out):
        raise InputError("--option and --out: only valid with --scheduler")
    given = yaml_source.assigned(option or [], "--option")
    if scheduler is not None:
        registry.check(scheduler, given)
    other = Other(scheduler, given, kernel, _new_trace(trace, scheduler, out, output))
    if is_measured(trace):
        predict(trace, scenario, after, other, output)
    elif scenario is not None or after is not None:
        problem = f"{trace}: was simulated; --scenario and --after"
        raise InputError(f"{problem}: only valid with a trace that `mecsim testbed` has measured")
    else:
        _repeat(trace, other, output)


def _new_trace(trace: Path, scheduler: str | None, out: Path | None, output: Output) -> Path | None:
    """Return the file for the trace of the other scheduler, if one is wanted."""
    from mecsim.cli.existing import replace_trace
    from mecsim.support.names import output_path, scheduler_label

    if scheduler is None or out is None:
        return None
    path = output_path(out, f"{trace.stem}-{scheduler_label(scheduler)}")
    replace_trace(path, output, measured=False)
    return path


def _repeat(trace: Path, wanted: Other, output: Output) -> None:
    """Repeat a simulated run; exit with code 1 if it differs."""
    from mecsim.cli.progress import progress
    from mecsim.simulation.replay import replay as replay_trace

    with progress(f"replaying {trace.name}", quiet=output.silent) as update:
        recorded = replay_trace(trace, kernel=wanted.kernel, progress=update)
    same = recorded.difference is None
    other = run_other(trace, wanted, output) if same else None
    document: dict[str, Any] = {
        "trace": str(trace),
        "identical": same,
        "complete": recorded.complete,
        "rows": recorded.rows,
        "difference": None if same else str(recorded.difference),
    }
    if other is not None:
        document |= {"recorded": recorded.summary.as_json(), "other": other.as_json()}
    if not same:
        output = replace(output, quiet=False)  # a difference is reported even with --quiet
    output.report(document, lambda: _tables(recorded, other))
    raise typer.Exit(0 if same else 1)


def _tables(recorded: ReplayResult, other: RunSummary | None) -> Iterator[RenderableType]:
    from rich.text import Text

    from mecsim.cli import display

    if recorded.difference is not None:
        yield Text.assemble(("different", "red"), f": {recorded.difference}")
        return
    rows = sum(recorded.rows.values())
    part = "" if recorded.complete else " (of an incomplete trace, up to its last row)"
    yield Text.assemble(("identical", "green"), f": all columns, {rows:,} rows{part}")
    if other is not None:
        yield ""
        yield display.comparison_table([recorded.summary, other])
        if other.counting is not None:
            yield other.counting
