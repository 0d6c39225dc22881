"""The command line: parses arguments, calls the library, prints. One file per command."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mecsim.cli import (
    check,
    compare,
    export,
    profile,
    replay,
    reproduce,
    run,
    schedulers,
    train,
    verify,
)
from mecsim.cli.output import echo_error, write
from mecsim.errors import Interrupted, MecsimError, OverloadedError

app = typer.Typer(
    help="Simulate edge networks that run distributed DNN inference, and compare schedulers.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in (
    run.run,
    train.train,
    compare.compare,
    check.check,
    replay.replay,
    reproduce.reproduce,
    profile.profile,
    export.export,
    schedulers.schedulers,
    verify.verify,
):
    app.command()(command)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Hold the options that belong to no command."""
    if version:
        from importlib.metadata import version as installed

        write(f"mecsim {installed('mecsim')}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; print an error in one line and exit with its code."""
    # Imports allocate much that stays: repeated collection takes a fifth of a short run.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    sys.path.append(str(Path.cwd()))  # package.module:Class may be in the working directory
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - never closed
    try:
        app(standalone_mode=True)
    except Interrupted as error:
        _fail(str(error), 130)
    except KeyboardInterrupt:
        _fail("stopped; nothing was written", 130)
    except BrokenPipeError:
        os._exit(0)  # the reader of our output has gone
    except OSError as error:  # files raise OutputError or InputError: this is stdout
        echo_error(f"the output cannot be written: {error.strerror}")
        os._exit(2)  # do not try again at exit
    except OverloadedError as error:
        _fail(str(error), 1)
    except MecsimError as error:
        _fail(str(error), 2)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    echo_error(message)
    sys.exit(code)
