"""`mecsim compare`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    Overrides,
    Quiet,
    file_part,
    scheduler_options,
    show,
    show_json,
    tag,
    tell,
)
from mecsim.errors import InputError

if TYPE_CHECKING:
    from mecsim.study.plan import Trial, Competitor, Study

ScenarioPaths = Annotated[
    list[Path], typer.Argument(metavar="SCENARIO...", help="Scenario files (YAML).")
]
Jobs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--jobs", metavar="N", min=1, help="Jobs at a time. Default: as many as cores."),
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="Where it is computed: local or ray.")
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="A Ray cluster. Default: $RAY_ADDRESS, or one on this machine for the time being.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a batch: do only what is missing.")
]


def compare(
    scenarios: ScenarioPaths,
    schedulers: Annotated[
        str, typer.Option("--schedulers", metavar="A,B,C", help="Which schedulers take part.")
    ] = "greedy,apdi,rpdi,single-cut",
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", help="Seeds 0 to N - 1, the same for all.")
    ] = 10,
    sweep: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--sweep", metavar="KEY.PATH=V1,V2,…", help="Values of a scenario's key. Repeatable."
        ),
    ] = None,
    set_: Overrides = None,
    option: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--option",
            metavar="SCHEDULER.KEY=VALUE",
            help="An option of a scheduler. Repeatable.",
        ),
    ] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="NAME", help="What the others are compared with.")
    ] = "greedy",
    bound: Annotated[
        bool, typer.Option("--bound", help="Also compare with what the tasks cost at least.")
    ] = False,
    episodes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--episodes", metavar="N", help="Train each learner for N episodes."),
    ] = None,
    training_seeds: Annotated[
        int, typer.Option("--training-seeds", metavar="N", help="Train each learner N times.")
    ] = 1,
    kernel: Annotated[
        str, typer.Option("--kernel", metavar="NAME", help="Event loop: simpy or compiled (fast).")
    ] = "compiled",
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="Which metric the table shows.")
    ] = "total_delay_s",
    jobs: Jobs = None,
    engine: EngineName = "local",
    ray_address: RayAddress = "",
    resume: Resume = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="FOLDER", help="Default: a folder in results/."),
    ] = None,
    no_figures: Annotated[bool, typer.Option("--no-figures", help="Draw no figures.")] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare schedulers on scenarios × a sweep × seeds, in pairs, with 95% intervals.

    All schedulers meet the same tasks on the same channels. Writes tables (CSV, JSON, HDF5) and
    figures; what is done is kept, and --resume goes on.
    """
    from mecsim.cli import display
    from mecsim.simulation.drive import check_kernel
    from mecsim.study import plan, plots
    from mecsim.study import summary as summary_module
    from mecsim.study.batch import ResultStore, run_batch
    from mecsim.study.executors import make_executor
    from mecsim.study.jobs import Training
    from mecsim.study.report import write_report

    if metric not in summary_module.METRICS:
        allowed = ", ".join(summary_module.METRICS)
        raise InputError(f"--metric: {metric!r} is not known; allowed: {allowed}")
    if metric == "optimality_gap_percent" and not bound:
        raise InputError(f"--metric {metric}: allowed: with --bound")
    counts = {"--seeds": seeds, "--training-seeds": training_seeds, "--episodes": episodes}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name}: {count}: allowed: 1 or more")
    check_kernel(kernel)
    if not no_figures:
        plots.need_matplotlib("; or leave figures out with --no-figures")
    asked = plan.Study(
        scenarios=plan.name_scenarios(scenarios),
        competitors=competitors(schedulers, option or []),
        seeds=range(seeds),
        points=plan.grid(plan.parse_sweep(sweep or [])),
        overrides=tuple(set_ or ()),
        baseline=baseline,
        kernel=kernel,
        bound=bound,
        training=None if episodes is None else Training(episodes),
        training_seeds=range(training_seeds),
    )
    trials = plan.plan(asked)
    folder = ResultStore(out or _default_folder(asked, sweep or []), resume=resume)
    with (
        display.batch_progress("comparing", quiet=quiet or json_) as watch,
        make_executor(engine, jobs, ray_address) as made,
    ):
        done = run_batch([trial.job for trial in trials], folder, made, watch)
    rows = summary_module.rows(trials, done.results)
    summary = summary_module.summarise(rows, baseline)
    failed = failures(trials, done.failures)
    document: dict[str, Any] = {"rows": rows, "summary": summary, "failed": failed}
    files = write_report(folder.path, document)
    for name in () if no_figures else summary_module.METRICS:
        if panels := plots.comparison_panels(summary, name):
            files += plots.draw(panels, folder.path / "figures" / name)
    tell_troubles(done.warnings, failed)
    if json_:
        show_json(document)
    elif not quiet:
        show(
            display.study_table(summary, metric, plots.LABELS[metric], baseline),
            f"{len(rows):,} runs, {done.found:,} jobs were done already; "
            f"{len(files)} files in {folder.path}",
        )
    raise typer.Exit(1 if failed else 0)


def competitors(schedulers: str, options: Sequence[str]) -> list[Competitor]:
    """Return who takes part, each with its options. Raises ``InputError``."""
    from mecsim.study.plan import Competitor

    names = names_in(schedulers)
    if not names:
        raise InputError("--schedulers: names none")
    own: dict[str, list[str]] = {name: [] for name in names}
    for pair in options:
        found = [name for name in names if pair.startswith(f"{name}.")]
        if not found:
            raise InputError(
                f"--option {pair}: allowed: SCHEDULER.KEY=VALUE with one of {', '.join(names)}"
            )
        name = max(found, key=len)
        own[name].append(pair[len(name) + 1 :])
    return [Competitor(file_part(name), name, scheduler_options(own[name])) for name in names]


def names_in(listed: str) -> list[str]:
    """Return the names in a list such as ``greedy, apdi``."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def failures(trials: Sequence[Trial], failed: dict[str, str]) -> list[dict[str, Any]]:
    """Return what failed, with where it belongs and its cause; of trainings each but once."""
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        for job in (trial.job.needs, trial.job):
            if job is not None and job.key in failed:
                place = {"scenario": trial.scenario, "sweep": trial.point, "job": str(job)}
                found.setdefault(job.key, place | {"cause": failed[job.key]})
    return list(found.values())


def tell_troubles(warnings: Iterable[str], failed: Iterable[Mapping[str, Any]]) -> None:
    """Tell what jobs warned of and why some failed, each but once."""
    for warning in sorted(warnings):
        tell(f"warning: {warning}")
    causes: dict[str, list[str]] = {}
    for each in failed:
        causes.setdefault(each["cause"], []).append(each["job"])
    for cause, jobs in causes.items():
        more = f" (and {len(jobs) - 1:,} more)" if len(jobs) > 1 else ""
        tell(f"failed: {jobs[0]}{more}: {cause}")


def _default_folder(asked: Study, sweep: Sequence[str]) -> Path:
    names = "-".join(asked.scenarios)[:60]
    return Path("results") / f"compare-{names}{tag([*asked.overrides, *sweep])}"
