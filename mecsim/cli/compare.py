"""`mecsim compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.options import (
    SCENARIO_HELP,
    EngineName,
    Jobs,
    KernelName,
    Overrides,
    RayAddress,
    Resume,
    names_in,
)
from mecsim.cli.output import Output, echo_error, with_output


@with_output
def compare(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="SCENARIO...", help=f"{SCENARIO_HELP} Repeatable.")
    ],
    schedulers: Annotated[
        str,
        typer.Option(
            "--schedulers",
            metavar="A,B,C",
            help="The schedulers to compare: NAME, or LABEL=NAME for variants of one scheduler.",
        ),
    ] = "greedy,apdi,rpdi,single-cut",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", help="Use seeds 0 to N - 1 for all schedulers.")
    ] = 10,
    sweep: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this form
        typer.Option(
            "--sweep",
            metavar="KEY.PATH=V1,V2,…",
            help="Compare at several values of a scenario key, or of a scheduler's option "
            "(LABEL.KEY). Repeatable.",
        ),
    ] = None,
    set_: Overrides = None,
    option: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--option",
            metavar="LABEL.KEY=VALUE",
            help="An option of one scheduler; without a label, LABEL is its name. Repeatable.",
        ),
    ] = None,
    preset: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--preset",
            metavar="[LABEL=]NAME",
            help="Training options that are not given, of one learner or of all: tuned (default) "
            "or paper. Repeatable.",
        ),
    ] = None,
    baseline: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--baseline",
            metavar="LABEL",
            help="The scheduler to compare the others with. Default: greedy, else the first.",
        ),
    ] = None,
    lower_bound: Annotated[
        bool,
        typer.Option("--lower-bound", help="Also compare with the lower bound on the cost."),
    ] = False,
    episodes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--episodes", metavar="N", help="Train each learner for N episodes."),
    ] = None,
    training_seeds: Annotated[
        int, typer.Option("--training-seeds", metavar="N", help="Train each learner N times.")
    ] = 1,
    kernel: KernelName = "compiled",
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="The metric of the printed table.")
    ] = "total_delay_s",
    jobs: Jobs = None,
    engine: EngineName = "local",
    ray_address: RayAddress = "",
    resume: Resume = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FOLDER", help="Default: a folder in results/."),
    ] = None,
    figure_format: Annotated[
        str,
        typer.Option("--figure-format", metavar="A,B", help="Formats of figures: pdf, svg, png."),
    ] = "png,svg",
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Draw no figures.")] = False,
    *,
    output: Output,
) -> None:
    """Compare schedulers on scenarios × a sweep × seeds, with 95% confidence intervals.

    All schedulers run on the same tasks and channels (common random numbers). Writes tables (CSV,
    JSON, HDF5) and figures. Finished jobs are kept: --resume continues a stopped comparison.

    Example: mecsim compare scenarios/vgg16_4es.yaml --sweep edge_servers=2,4,6 --seeds 5

    Variants: mecsim compare vgg16_loaded --schedulers greedy,lookahead,quick=lookahead
    --option quick.budget=30
    """
    from mecsim.cli import display
    from mecsim.cli.progress import batch_progress
    from mecsim.study.executors import ExecutorChoice
    from mecsim.study.provenance import command_line
    from mecsim.study.report import describe_work, problems
    from mecsim.study.run import StudyRequest, run

    request = StudyRequest(
        scenarios=scenarios,
        schedulers=names_in(schedulers),
        seeds=seeds,
        sweep=sweep or (),
        overrides=set_ or (),
        options=option or (),
        presets=preset or (),
        baseline=baseline,
        lower_bound=lower_bound,
        episodes=episodes,
        training_seeds=training_seeds,
        kernel=kernel,
        metric=metric,
        executor=ExecutorChoice(engine, jobs, ray_address),
        out=out,
        resume=resume,
        figures=not no_figures,
        command=command_line(),
        figure_formats=names_in(figure_format),
    )
    with batch_progress("comparing", quiet=output.silent) as on_progress:
        result = run(request, on_progress)
    document = result.document
    for line in problems(result.warnings, document["failed"]):
        echo_error(line)
    output.report(
        document,
        lambda: [
            display.study_table(document["summary"], metric, result.baseline),
            *display.study_tables_of_classes(document, metric, result.baseline),
            *display.study_notes(document, metric, result.baseline),
            f"{len(document['rows']):,} rows, {len(result.files)} files in {result.folder}",
            describe_work(result.computed, result.found),
        ],
    )
    raise typer.Exit(1 if document["failed"] else 0)
