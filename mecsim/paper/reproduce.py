"""The reproduction of the paper from figure files to pages: what `mecsim reproduce` does."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

from mecsim.errors import InputError
from mecsim.paper import pages
from mecsim.paper.claims import AnyClaim
from mecsim.paper.evidence import Evidence
from mecsim.paper.figure_files import Figure, load_figures
from mecsim.paper.judging import judge_all
from mecsim.paper.panels import Results
from mecsim.paper.verdicts import Finding
from mecsim.study import plan as plan_module
from mecsim.study import plots
from mecsim.study import summary as summary_module
from mecsim.study.executors import ExecutorChoice
from mecsim.study.executors.choice import check_executor
from mecsim.study.job_queue import OnProgress, ResultStore, run_batch
from mecsim.study.jobs import Job, Kind
from mecsim.study.plan import Trial
from mecsim.study.provenance import command_line
from mecsim.study.report import Failure, failures
from mecsim.support.checkout import commit_of
from mecsim.support.files import write_whole


@dataclass(frozen=True)
class ReproductionRequest:
    """Which figures to make, how, and where."""

    figures: Sequence[str] = ()
    """Names of figure files; empty for all."""
    schedulers: Sequence[str] = ()
    """Only these schedulers of each figure, by label or name; empty for all."""
    quick: bool = False
    """Use fewer points, seeds and episodes."""
    executor: ExecutorChoice = field(default_factory=ExecutorChoice)
    out: Path | None = None
    """Folder; None for ``results/paper`` or ``results/paper-quick``."""
    resume: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the pages."""
        return self.out or Path("results") / ("paper-quick" if self.quick else "paper")


class Volume(TypedDict):
    """The amount of simulation behind the pages."""

    trainings: int
    runs: int
    slots_of_runs: int
    events_of_runs: int


class _Scope(TypedDict):
    """The part of the evaluation that a folder holds, in ``made_by.json``."""

    figures: list[str]
    schedulers: list[str]
    quick: bool


@dataclass(frozen=True)
class Reproduction:
    """A finished reproduction."""

    claims: Sequence[tuple[AnyClaim, Finding]]
    volume: Volume
    failed: Sequence[Failure]
    warnings: frozenset[str]
    """Distinct warnings of the runs."""
    folder: Path
    jobs: int
    """Number of jobs with a result."""
    found: int
    """Number of jobs that had a result at the start."""
    computed: Mapping[Kind, int]
    """Number of jobs of each kind that were computed."""

    def document(self) -> dict[str, Any]:
        """Return what ``mecsim reproduce --json`` prints."""
        claims = [
            {
                "id": claim.id,
                "verdict": finding.verdict,
                "measured": finding.measured,
                "reason": finding.reason,
            }
            for claim, finding in self.claims
        ]
        return {
            "claims": claims,
            "volume": self.volume,
            "failed": self.failed,
            "folder": str(self.folder),
        }


def run(request: ReproductionRequest, on_progress: OnProgress | None = None) -> Reproduction:
    """Run the studies of the figures, and write pages, pictures, tables and the claims.

    Args:
        request: What to make and where.
        on_progress: Called with the progress of the batch.

    Raises:
        InputError: The request is not valid, or would replace pages of more figures.
        Interrupted: The user pressed Ctrl-C; finished jobs are kept.
        OutputError: A result cannot be written.
    """
    figures = load_figures(request.figures)
    _check_schedulers(request.schedulers, figures)
    plots.need_matplotlib()
    check_executor(request.executor.name, request.executor.address)
    plans = plan(figures, quick=request.quick, only=request.schedulers)
    scope: _Scope = {
        "figures": list(figures),
        "schedulers": list(request.schedulers),
        "quick": request.quick,
    }
    _check_scope(request.folder, scope)
    jobs = all_jobs(plans)
    with request.executor.make() as executor:
        store = ResultStore(request.folder, resume=request.resume)
        done = run_batch(jobs, store, executor, on_progress)
    results = collect(figures, plans, done.results)
    claims, amount = judged(results), volume(jobs, done.results)
    pages.write_figures(request.folder, figures, results, quick=request.quick)
    page = pages.claims_page(claims, quick=request.quick)
    write_whole(request.folder / "claims.md", page)
    made_by = json.dumps({**_made_by(), **scope, **amount}, indent=1)
    write_whole(request.folder / "made_by.json", made_by)
    return Reproduction(
        claims=claims,
        volume=amount,
        failed=[each for trials in plans.values() for each in failures(trials, done.failures)],
        warnings=frozenset(done.warnings),
        folder=request.folder,
        jobs=len(done.results),
        found=done.found,
        computed=done.computed,
    )


def _check_schedulers(only: Sequence[str], figures: Mapping[str, Figure]) -> None:
    known = set[str]().union(*(figure.names_of() for figure in figures.values()))
    if unknown := ", ".join(sorted(set(only) - known)):
        expected = ", ".join(sorted(known))
        raise InputError(
            f"--schedulers: {unknown}: not in these figures; expected some of {expected}"
        )


def _check_scope(folder: Path, scope: _Scope) -> None:
    """Raise ``InputError`` if fewer figures or schedulers would replace the claims of more."""
    try:
        made = json.loads((folder / "made_by.json").read_text(encoding="utf-8"))
        had, only = set(made["figures"]), set(made["schedulers"])
        quick = made["quick"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # no finished evaluation
    fewer = had - set(scope["figures"])
    if scope["schedulers"]:
        fewer |= only - set(scope["schedulers"]) if only else {"all schedulers"}
    if fewer or quick != scope["quick"]:
        lost = ", ".join(sorted(fewer)) or ("--quick" if quick else "the full evaluation")
        raise InputError(
            f"{folder}: its pages and claims also cover {lost}. Use the command in made_by.json, "
            "or choose another --out"
        )


def _made_by() -> dict[str, str]:
    """Return the command, the version, and the commit if the code is in a checkout."""
    found = commit_of(Path(__file__))
    commit = "" if found is None else found["commit"]
    return {"command": " ".join(command_line()), "mecsim": version("mecsim"), "commit": commit}


def plan(
    figures: Mapping[str, Figure], *, quick: bool = False, only: Sequence[str] = ()
) -> dict[str, list[Trial]]:
    """Return the trials of each study of each figure, by keys such as ``fig8.servers``.

    Raises:
        InputError: A figure file describes a study that is not valid.
    """
    plans = {}
    for name, figure in figures.items():
        for each in figure.studies:
            made = figure.make_study(each, quick=quick, only=only)
            plans[f"{name}.{each}"] = [] if made is None else plan_module.plan(made)
    return plans


def all_jobs(plans: Mapping[str, Sequence[Trial]]) -> list[Job]:
    """Return the jobs of all studies, each once: figures share runs."""
    trials = itertools.chain.from_iterable(plans.values())
    return list({trial.job.key: trial.job for trial in trials}.values())


def collect(
    figures: Mapping[str, Figure],
    plans: Mapping[str, Sequence[Trial]],
    results: summary_module.Results,
) -> Results:
    """Return the results of a batch by figure and study."""
    rows = {place: summary_module.rows(trials, results) for place, trials in plans.items()}
    curves = {place: summary_module.curves(trials, results) for place, trials in plans.items()}
    summary = {
        place: summary_module.summarise(found, figures[place.partition(".")[0]].baseline)
        for place, found in rows.items()
    }
    return Results(rows, summary, curves)


def judged(results: Results) -> list[tuple[AnyClaim, Finding]]:
    """Return each claim about these figures with its finding."""
    return judge_all(Evidence(results.rows, results.curves))


def volume(jobs: Iterable[Job], results: summary_module.Results) -> Volume:
    """Return the number of trainings and runs, and the slots and hop events of the runs."""
    done = [job for job in jobs if job.key in results]
    runs = [job for job in done if job.kind == "run"]
    return {
        "trainings": sum(job.kind == "train" for job in done),
        "runs": len(runs),
        "slots_of_runs": sum(json.loads(job.scenario)["slots"] for job in runs),
        "events_of_runs": sum(results[job.key]["events"] for job in runs),
    }
