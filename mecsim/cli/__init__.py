"""The command line: parses arguments, calls the library, prints. One file per command."""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mecsim.cli import (
    calibrate,
    check,
    compare,
    export,
    plot,
    profile,
    replay,
    report,
    reproduce,
    run,
    schedulers,
    testbed,
    train,
    verify,
)
from mecsim.cli.output import WarningHandler, echo_error, write
from mecsim.errors import Interrupted, MecsimError, NodeFailedError, OverloadedError
from mecsim.support import streams

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
    testbed.testbed,
    replay.replay,
    calibrate.calibrate,
    reproduce.reproduce,
    profile.profile,
    export.export,
    plot.plot,
    report.report,
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
    logging.getLogger("mecsim").addHandler(WarningHandler())
    stdout = streams.protect()
    code = _exit_code()
    sys.stdout.flush()
    if stdout is not None and stdout.error is not None:
        code = _failed(f"the output cannot be written: {stdout.error.strerror}", 2)
    sys.exit(code)


def _exit_code() -> int | str | None:
    """Run the command; report an error that mecsim raises on purpose."""
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        return end.code
    except Interrupted as error:
        return _failed(str(error), 130)
    except KeyboardInterrupt:
        return _failed("stopped; nothing was written", 130)
    except OSError as error:  # files raise OutputError or InputError
        file = f"{error.filename}: " if error.filename else ""
        return _failed(f"{file}{error.strerror or error}", 2)
    except (OverloadedError, NodeFailedError) as error:
        return _failed(str(error), 1)
    except MecsimError as error:
        return _failed(str(error), 2)
    return 0


def _failed(message: str, code: int) -> int:
    echo_error(message)
    return code
