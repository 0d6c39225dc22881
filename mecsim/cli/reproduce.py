"""`mecsim reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.options import EngineName, Jobs, RayAddress, Resume, names_in
from mecsim.cli.output import Output, echo_error, with_output


@with_output
def reproduce(
    figures: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this form
        typer.Argument(
            metavar="FIGURE...",
            help="fig6 to fig13, and beyond the paper beyond_224, beyond_ablation, "
            "beyond_bursts, beyond_episodes, beyond_generalisation, beyond_poisson, "
            "beyond_sparse, beyond_task_epochs. Default: all.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Use fewer points, seeds and episodes; pages say so."),
    ] = False,
    schedulers: Annotated[
        str,
        typer.Option(
            "--schedulers",
            metavar="A,B,C",
            help="Only these schedulers of each figure, by label (mtl-a3c, mtl-a3c tuned). A name "
            "that is no label in a figure stands for all its variants there.",
        ),
    ] = "",
    jobs: Jobs = None,
    engine: EngineName = "local",
    ray_address: RayAddress = "",
    resume: Resume = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", metavar="FOLDER", help="Default: results/paper, or results/paper-quick."
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Reproduce the figures of Li et al. and check the claims of the paper.

    Fig. 6 shows convergence, Fig. 7 training options, Figs. 8 to 10 sweeps of servers, blocks and
    task rate, Fig. 11 their energy, Fig. 12 deadlines, and Fig. 13 four DNNs. beyond_* are other
    settings and trainings. Writes a page, a picture and tables for each figure, and claims.md.

    Each learner is trained up to ten times at every point, for up to 2,000 episodes; with --quick
    at most twice, for up to 200. Fig. 11 uses the jobs of Figs. 8 to 10. --resume continues a
    stopped reproduction.

    Example: mecsim reproduce fig8 --quick --schedulers greedy,single-cut
    """
    from mecsim.cli import display
    from mecsim.cli.progress import batch_progress
    from mecsim.paper.reproduce import ReproductionRequest, run
    from mecsim.study.executors import ExecutorChoice
    from mecsim.study.report import describe_work, problems

    request = ReproductionRequest(
        figures=figures or (),
        schedulers=names_in(schedulers),
        quick=quick,
        executor=ExecutorChoice(engine, jobs, ray_address),
        out=out,
        resume=resume,
    )
    with batch_progress("reproducing", quiet=output.silent) as on_progress:
        made = run(request, on_progress)
    for line in problems(made.warnings, made.failed):
        echo_error(line)
    rows = [[claim.id, str(found.verdict), found.text] for claim, found in made.claims]
    output.report(
        made.document(),
        lambda: [
            display.plain_table(["claim", "verdict", "measured"], rows, text=3),
            f"{made.jobs:,} jobs; figures and claims.md in {made.folder}",
            describe_work(made.computed, made.found),
        ],
    )
    raise typer.Exit(1 if made.failed else 0)
