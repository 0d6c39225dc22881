"""`mecsim train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Optional

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
    from mecsim.cli import display
    from mecsim.learning.policy_file import SUFFIX
    from mecsim.learning.problem import TrainingRequest
    from mecsim.learning.training import settings_of
    from mecsim.learning.training import train as train_
    from mecsim.scenario.loading import load
    from mecsim.study.executors import cluster_for

    if settings:
        _show_settings(settings_of(scheduler), json_=json_)
        return
    if scenario is None:
        raise InputError("train: SCENARIO is missing; allowed: a scenario file (YAML)")
    if serial and engine != "local":
        raise InputError(f"--serial: runs in one process; allowed: without --engine {engine}")
    if serial and workers is not None:
        raise InputError("--serial: runs in one process; allowed: without --workers")
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
    with (
        display.training_progress(f"training {scheduler}", quiet=quiet or json_) as progress,
        stdout_kept(json_),
        cluster_for(engine, request.workers, ray_address),
    ):
        try:
            summary = train_(request, resume=resume, progress=progress)
        except TrainingError as error:
            tell(str(error))
            raise typer.Exit(1) from None
    if json_:
        show_json(summary)
    elif not quiet:
        show(display.training_table(summary), _how_to_use(summary, scenario, scheduler, set_))


def _how_to_use(
    summary: dict[str, Any], scenario: Path, scheduler: str, changes: list[str] | None
) -> str:
    from rich.markup import escape

    changed = [part for change in changes or () for part in ("--set", change)]
    policy = f"policy={summary['policy']}"
    run = ["mecsim", "run", str(scenario), *changed, "--scheduler", scheduler, "--option", policy]
    return escape(f"use it:       {shlex.join(run)}\nlearning curve: {summary['curve_file']}")


def _show_settings(settings: list[dict[str, str]], *, json_: bool) -> None:
    from mecsim.cli import display

    if json_:
        show_json({"settings": settings})
        return
    rows = [[each["name"], each["allowed"], each["default"], each["meaning"]] for each in settings]
    show(display.plain_table(["option", "allowed", "default", "meaning"], rows, text=4))
