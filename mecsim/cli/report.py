"""`mecsim report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.output import Output, with_output, write


@with_output
def report(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A trace, or a folder of `mecsim compare` or `mecsim reproduce`.",
        ),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this form
        typer.Option(
            "--out", metavar="FILE", help="HTML file. Default: next to the trace, or in the folder."
        ),
    ] = None,
    window: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--window",
            metavar="BEGIN:END",
            help="Window of the timeline, as 100s:120s. Default: the slot with the most tasks.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    *,
    output: Output,
) -> None:
    """Write a page to look at: one HTML file with figures and tables, which needs no network.

    Example: mecsim report results/vgg16_4es-greedy-0.h5 --window 0s:60s
    """
    from mecsim.report.make import report as make_report

    written = make_report(path, out, window, force=force)
    if output.silent:
        document = {"report": str(written.path), "of": str(path), "kind": written.kind}
        output.report(document | {"bytes": written.bytes}, list)
    else:
        write(str(written.path))
