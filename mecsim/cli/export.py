"""`mecsim export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.options import TracePath
from mecsim.cli.output import Output, with_output, write


@with_output
def export(
    trace: TracePath,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, parquet or perfetto.")
    ] = "csv",
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this form
        typer.Option("--out", metavar="PATH", help="A folder, or a file for perfetto."),
    ] = None,
    begin: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--from", metavar="S", help="Perfetto: services that end after S seconds."),
    ] = None,
    end: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--to", metavar="S", help="Perfetto: services that begin before S seconds."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    *,
    output: Output,
) -> None:
    """Convert a trace to CSV, to Parquet, or to a timeline for https://ui.perfetto.dev.

    Example: mecsim export results/vgg16_4es-greedy-0.h5 --format perfetto
    """
    from mecsim.trace import export as exporting

    written = exporting.export(trace, format_, out, begin, end, force=force)
    files = [str(path) for path in written]
    if output.silent:
        output.report({"trace": str(trace), "format": format_, "files": files}, list)
    else:
        write("\n".join(files))
