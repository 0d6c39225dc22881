"""`mecsim schedulers`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    Options,
    Quiet,
    scheduler_options,
    show,
    show_json,
    stdout_kept,
)
from mecsim.errors import InputError, SchedulerError


def schedulers(
    check_: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--check", metavar="NAME", help="Run the conformance check on a scheduler."),
    ] = None,
    option: Options = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the installed schedulers with their options, or check one of any origin."""
    from mecsim.cli import display
    from mecsim.scheduler import registry

    if check_ is not None:
        from mecsim.verification.conformance import check_scheduler

        registry.load(check_)
        try:
            with stdout_kept(json_):
                shapes = check_scheduler(check_, scheduler_options(option))
        except SchedulerError as error:
            _print_nonconforming(check_, str(error), json_=json_)
            raise typer.Exit(1) from None
        if json_:
            show_json({"scheduler": check_, "passed": shapes})
        elif not quiet:
            show(f"[green]{check_} conforms[/green]: checked with {', '.join(shapes)}")
        return
    if option:
        raise InputError("--option: goes with --check only")
    found = [registry.describe(name) for name in registry.names()]
    if json_:
        show_json({"schedulers": [vars(each) for each in found]})
        return
    if quiet:
        return
    rows = [[each.name, each.summary, _signature(each.options)] for each in found]
    show(display.plain_table(["scheduler", "what it does", "options"], rows, text=3))


def _print_nonconforming(name: str, problem: str, *, json_: bool) -> None:
    from rich.markup import escape

    if json_:
        show_json({"scheduler": name, "passed": [], "problem": problem})
    else:
        show(f"[red]{escape(name)} does not conform[/red]: {escape(problem)}")


def _signature(options: dict[str, str]) -> str:
    from rich.markup import escape

    return escape(", ".join(f"{name}: {kind}" for name, kind in options.items()))
