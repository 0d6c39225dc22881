"""`mecsim train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mecsim.cli.options import EngineName, Overrides, RayAddress, SchedulerName, Seed
from mecsim.cli.output import Output, echo_error, with_output
from mecsim.errors import InputError, TrainingError

Settings = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="A training option of the learner, see --settings. Repeatable.",
    ),
]


@with_output
def train(
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).", show_default=False),
    ] = None,
    scheduler: SchedulerName = "mtl-a3c",
    option: Settings = None,
    set_: Overrides = None,
    episodes: Annotated[
        int, typer.Option("--episodes", metavar="N", help="Runs of the scenario to learn from.")
    ] = 400,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--workers", metavar="N", help="Processes that learn, 1 to 16. Default: 2."),
    ] = None,
    serial: Annotated[
        bool,
        typer.Option("--serial", help="In one process: the same policy from the same seed."),
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
        bool, typer.Option("--resume", help="Go on with a training that was stopped.")
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="List the learner's training options and exit.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Train a learning scheduler; save its policy, learning curve and TensorBoard events."""
    from mecsim.cli import display
    from mecsim.cli.progress import training_progress
    from mecsim.learning.policy_file import SUFFIX
    from mecsim.scenario import yaml_source
    from mecsim.scenario.loading import load
    from mecsim.study.executors import cluster_for
    from mecsim.support.names import output_path, run_name, scenario_label

    try:
        from mecsim.learning.training import settings_of
        from mecsim.learning.training import train as train_
    except ImportError as error:
        raise InputError(f"train: needs {error.name}; pip install 'mecsim[torch]'") from error
    if settings:
        _report_settings(settings_of(scheduler), output)
        return
    if scenario is None:
        raise InputError("train: SCENARIO is missing; allowed: a scenario file (YAML)")
    if serial and engine != "local":
        raise InputError(f"--serial: is in one process; allowed: without --engine {engine}")
    if serial and workers is not None:
        raise InputError("--serial: is in one process; allowed: without --workers")
    processes = 2 if workers is None else workers
    loaded = load(scenario, set_ or [])
    default = run_name(scenario, scheduler, seed, set_, option)
    path = output_path(out, default, [SUFFIX], Path("results", "training"))
    with (
        training_progress(f"training {scheduler}", quiet=output.silent) as progress,
        output.reserve_stdout(),
        cluster_for(engine, processes, ray_address),
    ):
        try:
            summary = train_(
                loaded,
                scheduler,
                yaml_source.assigned(option or (), "--option"),
                episodes=episodes,
                seed=seed,
                workers=processes,
                serial=serial,
                out=path,
                engine=engine,
                name=scenario_label(scenario, set_),
                resume=resume,
                progress=progress,
            )
        except TrainingError as error:
            echo_error(str(error))
            raise typer.Exit(1) from None
    output.report(
        summary,
        lambda: [
            display.training_table(summary),
            _how_to_use(summary, scenario, scheduler, set_),
        ],
    )


def _how_to_use(
    summary: dict[str, Any], scenario: Path, scheduler: str, changes: list[str] | None
) -> str:
    from rich.markup import escape

    changed = [part for change in changes or () for part in ("--set", change)]
    policy = f"policy={summary['policy']}"
    run = ["mecsim", "run", str(scenario), *changed, "--scheduler", scheduler, "--option", policy]
    return escape(f"use it:       {shlex.join(run)}\nlearning curve: {summary['curve_file']}")


def _report_settings(settings: list[dict[str, str]], output: Output) -> None:
    from mecsim.cli import display

    rows = [[each["name"], each["allowed"], each["default"], each["meaning"]] for each in settings]
    head = ["option", "allowed", "default", "meaning"]
    output.report({"settings": settings}, lambda: [display.plain_table(head, rows, text=4)])
