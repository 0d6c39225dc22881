"""`mecsim plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.output import Output, with_output, write


@with_output
def plot(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The folder of a comparison, or a trace (HDF5).")
    ],
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this form
        typer.Option("--metric", metavar="NAME", help="Draw this metric. Repeatable."),
    ] = None,
    kind: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--kind",
            metavar="KIND",
            help="Comparison: means, cdf or tail (1 - CDF, log scale) of the total delay. Trace: "
            "cdf, tail, or parts of the delay. Repeatable.",
        ),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="A,B", help="Formats: pdf, svg, png.")
    ] = "pdf,svg,png",
    width: Annotated[
        str,
        typer.Option(
            "--width", metavar="LENGTH", help="column (3.5in), page (7.16in), or such as 88mm."
        ),
    ] = "column",
    font_size: Annotated[
        float, typer.Option("--font-size", metavar="PT", help="Font size in points, 7 or more.")
    ] = 8.0,
    label: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--label",
            metavar="NAME=TEXT",
            help="Write TEXT for a scheduler, scenario, metric or swept key. Repeatable.",
        ),
    ] = None,
    xlabel: Annotated[
        str, typer.Option("--xlabel", metavar="TEXT", help="Label of the x-axis, with unit.")
    ] = "",
    ylabel: Annotated[
        str, typer.Option("--ylabel", metavar="TEXT", help="Label of the y-axis, with unit.")
    ] = "",
    no_title: Annotated[
        bool, typer.Option("--no-title", help="Write no title above a single panel.")
    ] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Default: figures in the folder of the comparison, or a folder next to the trace.",
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Draw the figures of a comparison or of a trace for a paper. Computes no runs.

    Example: mecsim plot results/servers --metric total_delay_s --label greedy=Greedy
    """
    from mecsim.study.figure_format import figure_format
    from mecsim.study.figures import FigureRequest, parse_names, redraw

    request = FigureRequest(
        metrics=metric or (),
        kinds=kind or (),
        names=parse_names(label or ()),
        x_label=xlabel,
        y_label=ylabel,
        title=not no_title,
        form=figure_format(format_, width, font_size),
    )
    files = [str(file) for file in redraw(path, out, request)]
    if output.silent:
        output.report({"path": str(path), "files": files}, list)
    else:
        write("\n".join(files))
