"""`mecsim train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    Overrides,
    Quiet,
    SchedulerName,
    Seed,
    file_name,
    full_name,
    out_path,
    scheduler_options,
    show,
    show_json,
    stdout_kept,
    tell,
)
from mecsim.cli.compare import EngineName, RayAddress
from mecsim.errors import InputError, TrainingError

if TYPE_CHECKING:
    from mecsim.learning.problem import TrainingRequest

Settings = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="A training option of the learner, see --settings. Repeatable.",
    ),
]


def train(
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).", show_default=False),
    ] = None,
    scheduler: SchedulerName = "mtl-a3c",
    option: Settings = None,
    set_: Overrides = None,
    episodes: Annotated[
        int, typer.Option("--episodes", metavar="N", help="Runs of the scenario to simulate.")
    ] = 400,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--workers", metavar="N", help="Parallel workers, 1 to 16. Default: 2."),
    ] = None,
    serial: Annotated[
        bool,
        typer.Option("--serial", help="Train in one process; reproducible by --seed."),
    ] = False,
    engine: EngineName = "local",
    ray_address: RayAddress = "",
    seed: Seed = 0,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            metavar="PATH",
            help="Policy file (.safetensors), or a folder for it. Default: results/training/.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training.")
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="List the learner's training options and exit.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a learning scheduler; save its policy, learning curve and TensorBoard events."""
    from mecsim.learning.policy_file import SUFFIX
    from mecsim.learning.problem import TrainingRequest
    from mecsim.scenario.loading import load

    if settings:
        _show_settings(scheduler, json_=json_)
        return
    if scenario is None:
        raise InputError("train: SCENARIO is missing; allowed: a scenario file (YAML)")
    _check_serial(serial=serial, engine=engine, workers=workers)
    default = file_name(scenario, scheduler, seed, set_, option)
    request = TrainingRequest(
        scenario=load(scenario, set_ or []),
        scheduler=scheduler,
        out=out_path(out, default, [SUFFIX], Path("results", "training")),
        episodes=episodes,
        seed=seed,
        options=scheduler_options(option),
        workers=2 if workers is None else workers,
        serial=serial,
        engine=engine,
        scenario_name=full_name(scenario, set_),
    )
    summary = _train(request, ray_address, resume=resume, quiet=quiet, json_=json_)
    if json_:
        show_json(summary)
    elif not quiet:
        _show_summary(summary, scenario, scheduler, set_)


def _check_serial(*, serial: bool, engine: str, workers: int | None) -> None:
    if serial and engine != "local":
        raise InputError(f"--serial: runs in one process; allowed: without --engine {engine}")
    if serial and workers is not None:
        raise InputError("--serial: runs in one process; allowed: without --workers")


def _train(
    request: TrainingRequest, ray_address: str, *, resume: bool, quiet: bool, json_: bool
) -> dict[str, Any]:
    """Train with a progress bar; exit with code 1 if the training fails."""
    from mecsim.cli import display
    from mecsim.learning import training
    from mecsim.study.executors import cluster_for

    title = f"training {request.scheduler}"
    with (
        display.training_progress(title, quiet=quiet or json_) as progress,
        stdout_kept(json_),
        cluster_for(request.engine, request.workers, ray_address),
    ):
        try:
            return training.train(request, resume=resume, progress=progress)
        except TrainingError as error:
            tell(str(error))
            raise typer.Exit(1) from None


def _show_summary(
    summary: dict[str, Any], scenario: Path, scheduler: str, changes: list[str] | None
) -> None:
    """Print the summary and the command that runs the policy."""
    from rich.markup import escape

    from mecsim.cli import display

    changed = [part for change in changes or () for part in ("--set", change)]
    policy = f"policy={summary['policy']}"
    run = ["mecsim", "run", str(scenario), *changed, "--scheduler", scheduler, "--option", policy]
    usage = f"use it:       {shlex.join(run)}\nlearning curve: {summary['curve_file']}"
    show(display.training_table(summary), escape(usage))


def _show_settings(scheduler: str, *, json_: bool) -> None:
    from mecsim.cli import display
    from mecsim.learning.training import settings_of

    settings = settings_of(scheduler)
    if json_:
        show_json({"settings": settings})
        return
    rows = [[each["name"], each["allowed"], each["default"], each["meaning"]] for each in settings]
    show(display.plain_table(["option", "allowed", "default", "meaning"], rows, text=4))
