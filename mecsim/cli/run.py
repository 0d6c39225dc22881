"""`mecsim run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    KernelName,
    Options,
    Overrides,
    Quiet,
    ScenarioPath,
    SchedulerName,
    Seed,
    file_name,
    full_name,
    out_path,
    scheduler_options,
    show,
    show_json,
    stdout_kept,
)
from mecsim.errors import InputError


def run(
    scenario: ScenarioPath,
    scheduler: SchedulerName = "mtl-a3c",
    option: Options = None,
    set_: Overrides = None,
    seed: Seed = 0,
    kernel: KernelName = "simpy",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out", metavar="PATH", help="Trace file (.h5), or a folder for it. Default: results/."
        ),
    ] = None,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Write no trace.")] = False,
    bound: Annotated[
        bool, typer.Option("--bound", help="Also tell what the tasks cost at least.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Simulate one scenario under one scheduler; write a trace and print a summary."""
    from mecsim.cli import display
    from mecsim.scenario.loading import load
    from mecsim.simulation.run import run as run_scenario

    if no_trace and out is not None:
        raise InputError("--out: does not go with --no-trace")
    loaded = load(scenario, set_ or [])
    default = file_name(scenario, scheduler, seed, set_, option)
    path = None if no_trace else out_path(out, default)
    with (
        display.progress(f"{scheduler} on {scenario.stem}", quiet=quiet or json_) as progress,
        stdout_kept(json_),
    ):
        result = run_scenario(
            loaded,
            scheduler,
            scheduler_options(option),
            name=full_name(scenario, set_),
            seed=seed,
            kernel=kernel,
            out=path,
            bound=bound,
            progress=progress,
        )
    _print_summary(result.summary, json_=json_, quiet=quiet)


def _print_summary(summary: dict[str, Any], *, json_: bool, quiet: bool) -> None:
    from mecsim.cli import display

    if json_:
        show_json(summary)
    elif not quiet:
        show(
            display.summary_table(summary),
            display.totals_line(summary),
            *([display.bound_line(summary["lower_bound"])] if "lower_bound" in summary else []),
            "",
            display.resources_table(summary["resources"]),
            "",
            display.speed_line(summary),
        )
