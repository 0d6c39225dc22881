"""Files that exist where a command writes: it replaces those of the same kind, no others.

Traces, policies and figures are recognised by their content, and replaced. Texts (scenarios, CSV,
JSON, HTML) may have been edited, so they are replaced with ``--force`` only.
"""

from __future__ import annotations

import os
from pathlib import Path

from mecsim.cli.output import Output, echo_error
from mecsim.errors import InputError, MecsimError


def replace_trace(path: Path, output: Output, *, measured: bool) -> None:
    """Report that a trace will be replaced.

    Args:
        path: Where a run will write its trace; nothing happens if it does not exist.
        output: Reports it.
        measured: Whether the times of the run will be measured.

    Raises:
        InputError: The file is no trace, or the times of one are measured and those of the other
            are not.
    """
    from mecsim.trace.provenance import MEASURED
    from mecsim.trace.reader import kernel_of

    if not _is_file(path):
        return
    kernel = kernel_of(path)
    if kernel is None:
        raise _refused(path, "is no trace of mecsim")
    if (kernel == MEASURED) != measured:
        kinds = ("a simulation", "a measured run")
        raise _refused(path, f"is the trace of {kinds[not measured]}, not of {kinds[measured]}")
    _report(path, output, "run")


def replace_policy(path: Path, output: Output) -> None:
    """Report that a policy will be replaced. Raises ``InputError`` if the file is none."""
    from mecsim.learning.policy_file import read_header

    if not _is_file(path):
        return
    try:
        read_header(path)
    except MecsimError:
        raise _refused(path, "is no policy of mecsim") from None
    _report(path, output, "training")


def replace_text(path: Path, text: str, *, force: bool) -> None:
    """Raise ``InputError`` if a text would replace another one, unless that is forced."""
    if force or not _is_file(path):
        return
    if path.read_bytes() != text.encode():
        raise InputError(
            f"{path}: already exists, with another content. Use --force, or choose another --out"
        )


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for a name too long


def _refused(path: Path, problem: str) -> InputError:
    return InputError(f"{path}: already exists, and {problem}. Choose another --out, or delete it")


def _report(path: Path, output: Output, work: str) -> None:
    if not output.silent:
        echo_error(f"{path}: exists; it is replaced when the {work} is complete")
