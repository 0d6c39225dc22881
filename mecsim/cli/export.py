"""`mecsim export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    Quiet,
    TracePath,
    show_json,
    write,
)


def export(
    trace: TracePath,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="csv, parquet or perfetto.")
    ] = "csv",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="PATH", help="Folder, or file for perfetto."),
    ] = None,
    begin: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--from", metavar="S", help="Perfetto: services that end after this time."),
    ] = None,
    end: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--to", metavar="S", help="Perfetto: services that begin before this time."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a trace as CSV, as Parquet, or as a timeline for https://ui.perfetto.dev."""
    from mecsim.trace import export as exporting

    files = [str(path) for path in exporting.export(trace, format_, out, begin, end)]
    if json_:
        show_json({"trace": str(trace), "format": format_, "files": files})
    elif not quiet:
        write("\n".join(files))
