"""`mecsim verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.options import KernelName
from mecsim.cli.output import Output, with_output


@with_output
def verify(
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller samples: seconds, not minutes.")
    ] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this form
        typer.Option("--out", metavar="FILE", help="Also write the table as Markdown."),
    ] = None,
    kernel: KernelName = "simpy",
    *,
    output: Output,
) -> None:
    """Compare simulations with known answers: queueing theory, equations, recursions, replay.

    Example: mecsim verify --quick
    """
    from mecsim.cli import display
    from mecsim.cli.progress import progress
    from mecsim.support.files import write_whole
    from mecsim.verification import known_answers

    with progress("verifying", unit="checks", quiet=output.silent) as update:
        outcomes = known_answers.run_checks(update, quick=quick, kernel=kernel)
    passed = sum(each.ok for each in outcomes)
    if out is not None:
        write_whole(out, known_answers.as_markdown(outcomes))
    output.report(
        {"checks": [vars(each) for each in outcomes]},
        lambda: [
            display.checks_table(known_answers.HEADER, known_answers.rows(outcomes)),
            f"{passed} of {len(outcomes)} checks passed",
            "(--out FILE writes the formulas and their sources)",
        ],
    )
    raise typer.Exit(0 if passed == len(outcomes) else 1)
