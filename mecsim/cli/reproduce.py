"""`mecsim reproduce`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mecsim.cli.common import Debug, Json, Quiet, show, show_json
from mecsim.cli.compare import (
    EngineName,
    Jobs,
    RayAddress,
    Resume,
    failures,
    names_in,
    tell_troubles,
)
from mecsim.errors import InputError


def reproduce(
    figures: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="FIGURE...",
            help="fig6 to fig13, and beyond the paper beyond_224, beyond_bursts, "
            "beyond_generalisation, beyond_ingredients, beyond_plain, beyond_poisson, "
            "beyond_sparse, beyond_task_epochs; default: all.",
            show_default=False,
        ),
    ] = None,
    short: Annotated[
        bool, typer.Option("--quick", help="Fewer points, seeds and episodes, marked as such.")
    ] = False,
    schedulers: Annotated[
        str, typer.Option("--schedulers", metavar="A,B,C", help="Only these of each figure's.")
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
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Regenerate the figures of Li et al. and the table of what of their claims holds.

    Beyond the paper, the same comparison in other settings, marked as ours.

    Writes a page, a picture and tables for each figure, and claims.md; --resume goes on.
    """
    from mecsim.cli import display
    from mecsim.paper import pages
    from mecsim.paper import reproduce as paper
    from mecsim.paper.figure_files import load_figures
    from mecsim.study import plots
    from mecsim.study.batch import ResultStore, run_batch
    from mecsim.study.executors import make_executor
    from mecsim.support.files import write_whole

    chosen = load_figures(figures or [])
    only = names_in(schedulers)
    known = set[str]().union(*(figure.schedulers_of() for figure in chosen.values()))
    if unknown := ", ".join(sorted(set(only) - known)):
        allowed = ", ".join(sorted(known))
        raise InputError(f"--schedulers: {unknown}: not in these figures; allowed: {allowed}")
    plots.need_matplotlib()
    plans = paper.plan(chosen, quick=short, only=only)
    place = out or Path("results") / ("paper-quick" if short else "paper")
    scope = {"figures": list(chosen), "schedulers": only, "quick": short}
    _check_scope(place, scope)
    folder = ResultStore(place, resume=resume)
    with (
        display.batch_progress("reproducing", quiet=quiet or json_) as watch,
        make_executor(engine, jobs, ray_address) as made,
    ):
        done = run_batch(paper.all_jobs(plans), folder, made, watch)
    failed = [each for trials in plans.values() for each in failures(trials, done.failures)]
    tell_troubles(done.warnings, failed)
    results = paper.collect(chosen, plans, done.results)
    pages.write_figures(place, chosen, results, quick=short)
    found = paper.judged(results)
    write_whole(place / "claims.md", pages.claims_page(found, quick=short))
    volume = paper.volume(paper.all_jobs(plans), done.results)
    made_by = json.dumps(_made_by() | scope | volume, indent=1)
    write_whole(place / "made_by.json", made_by)
    claims = [
        {"id": claim.id, "verdict": finding.verdict, "measured": finding.measured,
         "reason": finding.reason}
        for claim, finding in found
    ]  # fmt: skip
    if json_:
        show_json({"claims": claims, "volume": volume, "failed": failed, "folder": str(place)})
    elif not quiet:
        rows = [[claim.id, str(finding.verdict), finding.told] for claim, finding in found]
        show(
            display.plain_table(["claim", "verdict", "measured"], rows, text=3),
            f"{len(done.results):,} jobs, {done.found:,} of them done already; "
            f"figures and claims.md in {place}",
        )
    raise typer.Exit(1 if failed else 0)


def _check_scope(place: Path, scope: dict[str, Any]) -> None:
    """Raise ``InputError`` where fewer figures or schedulers would replace the claims of more."""
    try:
        made = json.loads((place / "made_by.json").read_text(encoding="utf-8"))
        had, only = set(made["figures"]), set(made["schedulers"])
        quick = made["quick"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing is there, or nothing that was finished
    fewer = had - set(scope["figures"])
    if scope["schedulers"]:
        fewer |= only - set(scope["schedulers"]) if only else {"all schedulers"}
    if fewer or quick != scope["quick"]:
        lost = ", ".join(sorted(fewer)) or ("--quick" if quick else "the full run")
        raise InputError(
            f"{place}: its pages and claims are those of {lost}, too; allowed: the command that "
            "made them (made_by.json), or another folder with --out"
        )


def _made_by() -> dict[str, Any]:
    """Return the command, the version, and the commit where the code lies in a checkout."""
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    commit = found.stdout.strip() if found.returncode == 0 else ""
    command = " ".join(["mecsim", *sys.argv[1:]])
    return {"command": command, "mecsim": version("mecsim"), "commit": commit}
