"""A comparison from its request to its files: what `mecsim compare` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mecsim.errors import InputError
from mecsim.simulation.drive import check_kernel
from mecsim.simulation.metrics import METRICS
from mecsim.study import plots
from mecsim.study.by_class import summarise_classes
from mecsim.study.competitors import competitors
from mecsim.study.executors import ExecutorChoice
from mecsim.study.executors.choice import check_executor
from mecsim.study.figure_format import SCREEN, FigureFormat, parse_formats
from mecsim.study.figures import FigureRequest, draw_comparison
from mecsim.study.job_queue import OnProgress, ResultStore, run_batch
from mecsim.study.jobs import Kind, Training
from mecsim.study.plan import Study, check_schedulers, name_scenarios, plan
from mecsim.study.provenance import provenance
from mecsim.study.report import Document, failures, write_report
from mecsim.study.summary import curves, rows, summarise
from mecsim.study.sweep import grid, parse_sweep
from mecsim.support.names import changes_suffix

_NAME_LENGTH: Final = 60
"""Maximum length of the scenarios' names in the name of a default folder."""


@dataclass(frozen=True)
class StudyRequest:
    """A comparison as a user asks for it; texts have the forms of the command line."""

    scenarios: Sequence[Path]
    schedulers: Sequence[str]
    """``SCHEDULER`` or ``LABEL=SCHEDULER``, as for
    :func:`mecsim.study.competitors.competitors`."""
    seeds: int = 10
    """Seeds 0 to n - 1, the same for all schedulers."""
    sweep: Sequence[str] = ()
    """Sweeps ``KEY.PATH=V1,V2,…`` of the scenario or ``LABEL.KEY=V1,V2,…`` of a scheduler's option;
    all combinations are simulated."""
    overrides: Sequence[str] = ()
    """``KEY.PATH=VALUE`` for all scenarios."""
    options: Sequence[str] = ()
    """``LABEL.KEY=VALUE``; the label of a scheduler without one is its name."""
    presets: Sequence[str] = ()
    """``PRESET`` of all learners that are trained, ``LABEL=PRESET`` of one; else the defaults."""
    baseline: str | None = None
    """The label to compare with; None for ``greedy`` or, without it, the first scheduler."""
    lower_bound: bool = False
    episodes: int | None = None
    """Train each learner for this many episodes; None: learners need policies."""
    training_seeds: int = 1
    """Number of trainings of each learner."""
    kernel: str = "compiled"
    metric: str = "total_delay_s"
    """The metric that the caller will show; checked before any work."""
    executor: ExecutorChoice = field(default_factory=ExecutorChoice)
    out: Path | None = None
    """Folder of the results; None for a folder in ``results``."""
    resume: bool = False
    figures: bool = True
    command: Sequence[str] | None = None
    """The words of the command line, for the record; None for a call of the library."""
    figure_formats: Sequence[str] = SCREEN.formats
    """``png``, ``svg`` and ``pdf``, or some of them."""


@dataclass(frozen=True)
class StudyResult:
    """A finished comparison."""

    document: Document
    """What ``mecsim compare --json`` prints."""
    baseline: str
    """The label that the others are compared with."""
    folder: Path
    files: Sequence[Path]
    """Tables and figures."""
    found: int
    """Number of jobs that had a stored result."""
    computed: Mapping[Kind, int]
    """Number of jobs of each kind that were computed."""
    warnings: frozenset[str]
    """Distinct warnings of the runs."""


def run(request: StudyRequest, on_progress: OnProgress | None = None) -> StudyResult:
    """Run a comparison and write its tables and figures.

    Args:
        request: What to compare, where to compute it and where to write it.
        on_progress: Called with the progress of the batch.

    Raises:
        InputError: The request is not valid; nothing was computed.
        Interrupted: The user pressed Ctrl-C; finished jobs are kept.
        OutputError: A result cannot be written.
    """
    form = FigureFormat(parse_formats(request.figure_formats, "--figure-format"))
    _check(request)
    study = make_study(request)
    trials = plan(study)
    check_schedulers(trials)
    with request.executor.make() as executor:
        store = ResultStore(request.out or _default_folder(request), resume=request.resume)
        done = run_batch([trial.job for trial in trials], store, executor, on_progress)
    found = rows(trials, done.results)
    document: Document = {
        "rows": found,
        "summary": summarise(found, study.baseline),
        "failed": failures(trials, done.failures),
        "curves": curves(trials, done.results),
    }
    if by_class := summarise_classes(found, study.baseline):
        document["classes"] = by_class
    origin = provenance(request, study, trials, request.command)
    files = write_report(store.path, document, origin)
    if request.figures:
        files += draw_comparison(document, store.path / "figures", FigureRequest(form=form))
    return StudyResult(
        document=document,
        baseline=study.baseline,
        folder=store.path,
        files=files,
        found=done.found,
        computed=done.computed,
        warnings=frozenset(done.warnings),
    )


def make_study(request: StudyRequest) -> Study:
    """Return the design of a comparison. Raises ``InputError``."""
    found = competitors(request.schedulers, request.options, request.presets)
    labels = [each.label for each in found]
    default = "greedy" if "greedy" in labels else labels[0]
    return Study(
        scenarios=name_scenarios(request.scenarios),
        competitors=found,
        seeds=range(request.seeds),
        points=grid(parse_sweep(request.sweep)),
        overrides=tuple(request.overrides),
        baseline=request.baseline or default,
        kernel=request.kernel,
        lower_bound=request.lower_bound,
        training=None if request.episodes is None else Training(request.episodes),
        training_seeds=range(request.training_seeds),
    )


def _check(request: StudyRequest) -> None:
    if request.metric not in METRICS:
        known = ", ".join(METRICS)
        raise InputError(f"--metric: {request.metric!r} is unknown; expected one of {known}")
    if request.metric == "optimality_gap_percent" and not request.lower_bound:
        raise InputError(f"--metric {request.metric}: needs --lower-bound")
    counts = {
        "--seeds": request.seeds,
        "--training-seeds": request.training_seeds,
        "--episodes": request.episodes,
    }
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: {count}; expected 1 or more")
    check_kernel(request.kernel)
    check_executor(request.executor.name, request.executor.address)
    if request.figures:
        plots.need_matplotlib(", or use --no-figures")


def _default_folder(request: StudyRequest) -> Path:
    names = "-".join(name_scenarios(request.scenarios))[:_NAME_LENGTH]
    suffix = changes_suffix([*request.overrides, *request.sweep])
    return Path("results") / f"compare-{names}{suffix}"
