"""`mecsim verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    KernelName,
    Quiet,
    show,
    show_json,
)


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller samples, in seconds.")] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FILE", help="Also write the table as Markdown."),
    ] = None,
    kernel: KernelName = "simpy",
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the known-answer suite: queueing theory, equations, exact recursions, replay."""
    from mecsim.cli import display
    from mecsim.support.files import write_whole
    from mecsim.verification import known_answers as verifying

    with display.progress("verifying", unit="checks", quiet=quiet or json_) as progress:
        outcomes = verifying.run_checks(progress, quick=quick, kernel=kernel)
    passed = sum(each.ok for each in outcomes)
    if out is not None:
        write_whole(out, verifying.as_markdown(outcomes))
    if json_:
        show_json({"checks": [vars(each) for each in outcomes]})
    elif not quiet:
        show(
            display.checks_table(verifying.HEADER, verifying.rows(outcomes)),
            f"{passed} of {len(outcomes)} checks passed (--out FILE writes what is known and how)",
        )
    raise typer.Exit(0 if passed == len(outcomes) else 1)
