"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Optional

import typer

SCENARIO_HELP: Final = "A scenario file (YAML), or the name of a shipped one: vgg16_4es."
ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help=SCENARIO_HELP)]
TracePath = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file (HDF5).")]
SCHEDULER_HELP: Final = (
    "An installed name (see `mecsim schedulers`), NAME:FILE with a policy, package.module:Class "
    "or file.py:Class."
)
SchedulerName = Annotated[str, typer.Option("--scheduler", metavar="NAME", help=SCHEDULER_HELP)]
SchedulerOrDefault = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this form
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help=f"{SCHEDULER_HELP} Default: mtl-a3c, if it was trained on this scenario, else greedy.",
        show_default=False,
    ),
]
Options = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the scheduler. Repeatable."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Override a value of the scenario. Repeatable."
    ),
]
TraceOut = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--out", metavar="PATH", help="Trace file (.h5), or a folder for it. Default: results/."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of all random numbers.")]
KernelName = Annotated[
    str, typer.Option("--kernel", metavar="NAME", help="Event loop: simpy or compiled (fast).")
]
Jobs = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--jobs", metavar="N", min=1, help="Jobs in parallel. Default: number of cores."),
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="Where jobs run: local or ray.")
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="A Ray cluster. Default: $RAY_ADDRESS, or a temporary one on this machine.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Run only the jobs without a result.")]


def names_in(listed: str) -> list[str]:
    """Return the names of a list such as ``greedy, apdi``.

    >>> names_in("greedy, apdi,")
    ['greedy', 'apdi']
    """
    return [name.strip() for name in listed.split(",") if name.strip()]
