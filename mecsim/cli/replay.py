"""`mecsim replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    Options,
    Quiet,
    TracePath,
    file_part,
    out_path,
    scheduler_options,
    show,
    show_json,
    stdout_kept,
)
from mecsim.errors import InputError


def replay(
    trace: TracePath,
    scheduler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--scheduler",
            metavar="NAME",
            help="Put this scheduler on the recorded tasks and channels, and compare.",
        ),
    ] = None,
    option: Options = None,
    kernel: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--kernel", metavar="NAME", help="Event loop; default: the recorded one."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="PATH", help="With --scheduler: write its trace here."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rebuild a run from its trace alone and compare every column with ==.

    With --scheduler: run that scheduler on the same recorded tasks and channels instead, and print
    both side by side.
    """
    from mecsim.cli import display
    from mecsim.simulation.replay import replay as replay_trace
    from mecsim.simulation.replay import replay_with

    if scheduler is None and (option or out):
        raise InputError("--option and --out: go with --scheduler only")
    with display.progress(f"replaying {trace.name}", quiet=quiet or json_) as progress:
        recorded = replay_trace(trace, kernel=kernel, progress=progress)
    same = recorded.difference is None
    document: dict[str, Any] = {
        "trace": str(trace),
        "identical": same,
        "complete": recorded.complete,
        "rows": recorded.rows,
        "difference": None if same else str(recorded.difference),
    }
    if scheduler is not None and same:
        path = None if out is None else out_path(out, f"{trace.stem}-{file_part(scheduler)}")
        with (
            display.progress(f"{scheduler} on {trace.name}", quiet=quiet or json_) as progress,
            stdout_kept(json_),
        ):
            other = replay_with(
                trace,
                scheduler,
                scheduler_options(option),
                kernel=kernel,
                out=path,
                progress=progress,
            )
        document["recorded"], document["other"] = recorded.summary, other.summary
    _print_replay(document, json_=json_, quiet=quiet)
    raise typer.Exit(0 if same else 1)


def _print_replay(document: dict[str, Any], *, json_: bool, quiet: bool) -> None:
    from mecsim.cli import display

    if json_:
        show_json(document)
        return
    rows = sum(document["rows"].values())
    part = "" if document["complete"] else " (of a run that was cut short: as far as it goes)"
    if not document["identical"]:
        show(f"[red]different[/red]: {document['difference']}")
    elif not quiet:
        show(f"[green]identical[/green]: all columns, {rows:,} rows{part}")
    if "other" in document and not quiet:
        show("", display.comparison_table([document["recorded"], document["other"]]))
