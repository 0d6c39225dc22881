"""`mecsim schedulers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from mecsim.cli.options import Options
from mecsim.cli.output import Output, with_output
from mecsim.errors import InputError, SchedulerError

if TYPE_CHECKING:
    from rich.table import Table

    from mecsim.scheduler.registry import Description


@with_output
def schedulers(
    check: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this form
        typer.Option("--check", metavar="NAME", help="Run the conformance check on a scheduler."),
    ] = None,
    option: Options = None,
    *,
    output: Output,
) -> None:
    """List the installed schedulers with their options, or check any scheduler.

    Example: mecsim schedulers --check my_scheduler.py:MyScheduler
    """
    from mecsim.scheduler import registry

    if check is not None:
        _check(check, option or [], output)
        return
    if option:
        raise InputError("--option: only valid with --check")
    found = [registry.describe(name) for name in registry.names()]
    output.report({"schedulers": [vars(each) for each in found]}, lambda: [_table(found)])


def _check(name: str, options: list[str], output: Output) -> None:
    from rich.text import Text

    from mecsim.scenario import yaml_source
    from mecsim.scheduler import registry
    from mecsim.verification.conformance import check_scheduler

    given = yaml_source.assigned(options, "--option")
    own = registry.load(registry.split_policy(name)[0]).conformance_options
    registry.check(name, {key: v for key, v in own.items() if key not in given} | given)
    try:
        with output.reserve_stdout():
            shapes = check_scheduler(name, given)
    except SchedulerError as error:
        problem = str(error)
        Output(output.json, quiet=False).report(
            {"scheduler": name, "passed": [], "problem": problem},
            lambda: [Text.assemble((f"{name} does not conform", "red"), f": {problem}")],
        )
        raise typer.Exit(1) from None
    output.report(
        {"scheduler": name, "passed": shapes},
        lambda: [
            Text.assemble((f"{name} conforms", "green"), f": checked with {', '.join(shapes)}")
        ],
    )


def _table(found: list[Description]) -> Table:
    from mecsim.cli import display

    rows = [[each.name, each.summary, _signature(each.options)] for each in found]
    return display.plain_table(["scheduler", "method", "options"], rows, text=3)


def _signature(options: dict[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in options.items())
