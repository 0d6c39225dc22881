"""`mecsim train`."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mecsim.cli.options import SCENARIO_HELP, EngineName, Overrides, RayAddress, SchedulerName, Seed
from mecsim.cli.output import Output, echo_error, with_output
from mecsim.errors import InputError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from mecsim.learning.problem import TrainingRequest
    from mecsim.learning.settings import TrainingSettings

Settings = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option(
        "--option",
        metavar="KEY=VALUE",
        help="A training option of the learner, see --settings. Repeatable.",
    ),
]

SCHEDULES = "exploration, entropy weight and burn-in keep their last values"
"""The schedules of a training that follow its first length."""


@with_output
def train(
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SCENARIO", help=SCENARIO_HELP, show_default=False),
    ] = None,
    scheduler: SchedulerName = "mtl-a3c",
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="Training options that are not given: tuned (the defaults) or paper.",
        ),
    ] = "tuned",
    option: Settings = None,
    set_: Overrides = None,
    episodes: Annotated[
        int, typer.Option("--episodes", metavar="N", help="Episodes to simulate.")
    ] = 400,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--workers",
            metavar="N",
            help="Parallel workers, 1 to 16. Default: 2; none with --option train_freq=episode.",
        ),
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
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted training, or prolong a complete one to --episodes.",
        ),
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="List the learner's training options and exit.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Train a learning scheduler; save its policy, learning curve and TensorBoard events.

    With matplotlib the curve is drawn, too.
    """
    from mecsim.cli.existing import replace_policy
    from mecsim.learning.options import TUNED, resolve_settings
    from mecsim.learning.policy_file import SUFFIX
    from mecsim.learning.problem import TrainingRequest
    from mecsim.scenario import yaml_source
    from mecsim.scenario.loading import load
    from mecsim.support.names import output_path, run_name, scenario_label

    if settings:
        _report_settings(scheduler, preset, output)
        return
    if scenario is None:
        raise InputError("train: SCENARIO is missing; allowed: a scenario file or a shipped name")
    _check_serial(serial=serial, engine=engine, workers=workers)
    options = yaml_source.assigned(option or (), "--option")
    workers = _workers(scheduler, resolve_settings(scheduler, options, preset), workers, engine)
    named = [] if preset == TUNED else [f"preset={preset}"]
    default = run_name(scenario, scheduler, seed, set_, named, option)
    request = TrainingRequest(
        scenario=load(scenario, set_ or []),
        scheduler=scheduler,
        out=output_path(out, default, [SUFFIX], Path("results", "training")),
        episodes=episodes,
        seed=seed,
        options=options,
        preset=preset,
        workers=workers,
        serial=serial,
        engine=engine,
        scenario_name=scenario_label(scenario, set_),
    )
    if not resume:
        replace_policy(request.out, output)
    summary = _train(request, ray_address, resume, output)
    summary["figures"] = _draw(summary)
    output.report(summary, lambda: _tables(summary, scenario, scheduler, set_))


def _check_serial(*, serial: bool, engine: str, workers: int | None) -> None:
    if serial and engine != "local":
        raise InputError(f"--serial: runs in one process; allowed: without --engine {engine}")
    if serial and workers is not None:
        raise InputError("--serial: runs in one process; allowed: without --workers")


def _workers(scheduler: str, settings: TrainingSettings, workers: int | None, engine: str) -> int:
    """Return the number of workers. Raises ``InputError`` if the training cannot have them."""
    from mecsim.learning.options import check_workers, find_learner

    if workers is None:
        workers = 1 if find_learner(scheduler).in_one_process(settings) else 2
    check_workers(scheduler, settings, workers, engine)
    return workers


def _train(
    request: TrainingRequest, ray_address: str, resume: bool, output: Output
) -> dict[str, Any]:
    """Train with a progress bar; exit with code 1 if the training fails."""
    from mecsim.cli.progress import training_progress
    from mecsim.learning import training
    from mecsim.study.executors import cluster_for

    title = f"training {request.scheduler}"
    with (
        training_progress(title, quiet=output.silent) as progress,
        output.reserve_stdout(),
        cluster_for(request.engine, request.workers, ray_address),
    ):
        try:
            return training.train(request, resume=resume, progress=progress)
        except TrainingError as error:
            echo_error(str(error))
            raise typer.Exit(1) from None


def _draw(summary: dict[str, Any]) -> list[str]:
    """Draw the learning curve; return the files, none without matplotlib."""
    from mecsim.study.training_figure import draw_training

    return [str(path) for path in draw_training(summary)] if _installed("matplotlib") else []


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def _tables(
    summary: dict[str, Any], scenario: Path, scheduler: str, changes: list[str] | None
) -> Iterator[RenderableType]:
    """Yield the summary and the command that runs the policy."""
    from mecsim.cli import display

    changed = [part for change in changes or () for part in ("--set", change)]
    policy = f"policy={summary['policy']}"
    run = ["mecsim", "run", str(scenario), *changed, "--scheduler", scheduler, "--option", policy]
    if features := summary["settings"].get("features"):
        run += ["--option", f"features={features}"]
    yield display.training_table(summary)
    yield f"use it:         {shlex.join(run)}"
    yield from _curve_lines(summary)
    if lengths := summary.get("prolonged"):
        yield f"prolonged:      from {lengths[-1]} to {summary['episodes']} episodes; {SCHEDULES}"


def _curve_lines(summary: dict[str, Any]) -> Iterator[str]:
    """Yield where the learning curve is, and how to look at it."""
    yield f"learning curve: {summary['curve_file']}"
    drawn = " ".join(summary["figures"])
    yield " " * 16 + (drawn or "to draw it: pip install 'mecsim[plot]'")
    need = "" if _installed("tensorboard") else "   (pip install 'mecsim[tensorboard]')"
    yield " " * 16 + shlex.join(["tensorboard", "--logdir", summary["events"]]) + need


def _report_settings(scheduler: str, preset: str, output: Output) -> None:
    from mecsim.cli import display
    from mecsim.learning.options import settings_of

    settings = settings_of(scheduler, preset)
    head = ["option", "allowed", "default", "meaning"]
    rows = [[each["name"], each["allowed"], each["default"], each["meaning"]] for each in settings]
    output.report({"settings": settings}, lambda: [display.plain_table(head, rows, text=4)])
