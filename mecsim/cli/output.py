"""What the commands print, and the options `--json`, `--quiet` and `--debug` that decide it."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from copy import copy
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mecsim.errors import Interrupted, MecsimError
from mecsim.support.text import finite

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@dataclass(frozen=True)
class Output:
    """How a command reports its result."""

    json: bool
    """Print one JSON document to stdout and nothing else."""
    quiet: bool
    """Print neither progress nor tables."""

    @property
    def silent(self) -> bool:
        """Whether progress and tables are left out."""
        return self.json or self.quiet

    def report(
        self, document: Mapping[str, Any], tables: Callable[[], Iterable[RenderableType]]
    ) -> None:
        """Print the document as JSON, or the tables, or nothing when quiet.

        Numbers that JSON lacks (infinity, NaN) become null.
        """
        if self.json:
            write(json.dumps(finite(document), indent=2, allow_nan=False, default=str))
        elif not self.quiet:
            show(*tables())

    def reserve_stdout(self) -> AbstractContextManager[Any]:
        """Redirect stdout to stderr if it is reserved for the JSON document."""
        return redirect_stdout(sys.stderr) if self.json else nullcontext()


_PARAMETERS: Final = [
    inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(f"--{name}", help=text)],
    )
    for name, text in (
        ("json", "Print one JSON document to stdout."),
        ("quiet", "Print neither progress nor tables."),
        ("debug", "Print the traceback of an error."),
    )
]


def with_output(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --json, --quiet and --debug, which it gets as ``output``."""

    @wraps(command)
    def run(*, json: bool, quiet: bool, debug: bool, **arguments: Any) -> None:
        try:
            command(**arguments, output=Output(json, quiet))
        except (MecsimError, OSError):
            if debug:
                traceback.print_exc()
            raise
        except KeyboardInterrupt:  # typer would exit without a message
            raise Interrupted("stopped") from None

    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "output"]
    parameters = [*(each.replace(kind=each.KEYWORD_ONLY) for each in own), *_PARAMETERS]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    run.__doc__ = "\n\n".join(each.replace("\n", " ") for each in paragraphs)  # rich wraps lines
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def write(text: str) -> None:
    """Write a text to stdout as it is, with one newline at its end."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def echo_error(message: str) -> None:
    """Write a message to stderr."""
    for line in message.splitlines():
        print(f"mecsim: {line}", file=sys.stderr, flush=True)  # noqa: T201


class WarningHandler(logging.Handler):
    """Writes warnings of mecsim's logger to stderr as all other messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a warning."""
        echo_error(record.getMessage())


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that prints strings as they are: names and paths may have square brackets.

    Only ``rich.text.Text`` objects have styles, also in the titles, heads and cells of tables.
    """
    from rich.console import Console

    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


_WIDE: Final = 10_000
"""Width of output that is no terminal's: no line is broken."""


def show(*parts: RenderableType) -> None:
    """Print rich tables and texts to stdout.

    On a terminal its width breaks the lines of tables; in a pipe or a file nothing does, unless
    ``COLUMNS`` is set. A title has its own line, however narrow its table is.
    """
    from rich.table import Table
    from rich.text import Text

    printer = console()
    piped = not printer.is_terminal
    # A narrow terminal wraps by itself: no digit is ever cut.
    wide = piped and "COLUMNS" not in os.environ
    printer.width = _WIDE if wide else max(printer.width, 80)
    with printer.capture() if piped else nullcontext() as captured:
        for each in parts:
            part = each
            if isinstance(part, Table) and part.title:
                title = part.title if isinstance(part.title, Text) else Text(str(part.title))
                printer.print(title, style="italic", soft_wrap=True)
                part = copy(part)
                part.title = None
            printer.print(part, soft_wrap=isinstance(part, str | Text))
    if captured is not None:
        write("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_comment(table: RenderableType) -> None:
    """Print a table as YAML comments, so that the whole output can be read back as YAML."""
    printer = console(width=100)
    with printer.capture() as captured:
        printer.print(table)
    write("".join(f"# {line.rstrip()}\n" for line in captured.get().splitlines()))
