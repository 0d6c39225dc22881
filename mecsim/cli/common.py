"""What the commands share: common options, reading them, and printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from mecsim.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).")]
TracePath = Annotated[Path, typer.Argument(metavar="TRACE", help="A trace file (HDF5).")]
SchedulerName = Annotated[
    str,
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help="An installed name (see `mecsim schedulers`), package.module:Class or file.py:Class.",
    ),
]
Options = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this form
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the scheduler. Repeatable."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a scenario value. Repeatable."),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of every random draw.")]
KernelName = Annotated[
    str, typer.Option("--kernel", metavar="NAME", help="Event loop: simpy or compiled (fast).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print neither progress nor tables.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def scheduler_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return ``KEY=VALUE`` pairs as options of a scheduler; values are read as YAML."""
    from mecsim.scenario import yaml_source

    document = yaml_source.Document({})
    for pair in pairs or ():
        yaml_source.assign(document, pair, "--option")
    return document.values


def out_path(
    out: Path | None,
    default: str,
    endings: Sequence[str] = (".h5", ".hdf5"),
    folder: Path = Path("results"),
) -> Path:
    """Return the file that ``--out`` means: itself, a file in it, or one in a folder of ours.

    ``default`` is a name without its ending. Raises ``InputError`` for another ending.
    """
    name = default + endings[0]
    if out is None:
        return folder / name
    if out.suffix in endings:
        return out
    if out.suffix and not out.is_dir():
        raise InputError(f"--out: {out}: allowed: a name that ends in {endings[0]}, or a folder")
    return out / name


def full_name(scenario: Path, changes: Sequence[str] | None) -> str:
    """Return how a scenario with its overrides is called."""
    return f"{scenario.stem} ({', '.join(changes)})" if changes else scenario.stem


def file_name(scenario: Path, scheduler: str, seed: int, *changes: Sequence[str] | None) -> str:
    """Return how what comes of a run or a training is called, without an ending."""
    every = [change for some in changes for change in some or ()]
    return f"{scenario.stem}-{file_part(scheduler)}-{seed}{tag(every)}"


def tag(changes: Sequence[str]) -> str:
    """Return what keeps the trace of a changed scenario apart from others."""
    if not changes:
        return ""
    from hashlib import sha256

    return "-" + sha256("\n".join(changes).encode(errors="backslashreplace")).hexdigest()[:6]


def stdout_kept(json_: bool) -> AbstractContextManager[Any]:
    """Keep stdout for the one JSON document, whatever a scheduler prints."""
    return redirect_stdout(sys.stderr) if json_ else nullcontext()


def file_part(scheduler: str) -> str:
    """Return the part of a scheduler's name that fits into a file's name."""
    return Path(scheduler.partition(":")[2] or scheduler).name


def write(text: str) -> None:
    """Write text to stdout as it is, with one newline at its end."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def tell(message: str) -> None:
    """Write a message to stderr."""
    for line in message.splitlines() if sys.stderr is not None else ():
        print(f"mecsim: {line}", file=sys.stderr, flush=True)  # noqa: T201


def show_json(document: Any) -> None:
    """Write a document to stdout as JSON."""
    write(json.dumps(document, indent=2, allow_nan=False, default=str))


def show(*parts: RenderableType) -> None:
    """Print tables and texts of rich to stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, 80)  # let a narrow terminal wrap: no digit is ever cut
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def show_comment(table: RenderableType) -> None:
    """Print a table as YAML comments, so that all that is printed can be read back."""
    from rich.console import Console

    console = Console(width=100, highlight=False)
    with console.capture() as captured:
        console.print(table)
    write("".join(f"# {line.rstrip()}\n" for line in captured.get().splitlines()))
