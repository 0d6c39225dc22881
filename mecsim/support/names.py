"""Names of output files, made from a scenario, a scheduler and their changes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from mecsim.errors import InputError


def scheduler_label(scheduler: str) -> str:
    """Return the part of a scheduler's name that fits in a file name.

    >>> scheduler_label("my_package.module:Mine"), scheduler_label("greedy")
    ('Mine', 'greedy')
    """
    return Path(scheduler.partition(":")[2] or scheduler).name


def scenario_label(scenario: Path, changes: Sequence[str] | None = None) -> str:
    """Return the name of a scenario with its overrides; bytes that are not UTF-8 become U+FFFD.

    >>> scenario_label(Path("scenarios/city.yaml"), ["slots=2"])
    'city (slots=2)'
    """
    name = scenario.stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f"{name} ({', '.join(changes)})" if changes else name


def run_name(scenario: Path, scheduler: str, seed: int, *changes: Sequence[str] | None) -> str:
    """Return the name of the files of a run or a training, without an ending.

    >>> run_name(Path("city.yaml"), "greedy", 0, None)
    'city-greedy-0'
    """
    every = [change for some in changes for change in some or ()]
    return f"{scenario.stem}-{scheduler_label(scheduler)}-{seed}{changes_suffix(every)}"


def changes_suffix(changes: Sequence[str]) -> str:
    """Return a suffix that distinguishes files of a changed scenario; empty without changes."""
    if not changes:
        return ""
    return "-" + sha256("\n".join(changes).encode(errors="backslashreplace")).hexdigest()[:6]


TRACE_ENDINGS: Final = (".h5", ".hdf5")
"""Endings of the name of a trace, the usual one first."""


def output_path(
    out: Path | None,
    default: str,
    endings: Sequence[str] = TRACE_ENDINGS,
    folder: Path = Path("results"),
) -> Path:
    """Return the file that ``--out`` names: a file, or ``default`` in a folder.

    Args:
        out: The value of ``--out``, None if it was not given.
        default: A file name without its ending.
        endings: The endings that a file may have, the usual one first.
        folder: The folder if ``out`` is None.

    Raises:
        InputError: The file name has another ending.
    """
    name = default + endings[0]
    if out is None:
        return folder / name
    if out.suffix in endings:
        return out
    if out.suffix and not out.is_dir():
        raise InputError(
            f"--out: {out}: expected a file name that ends in {endings[0]}, or a folder"
        )
    return out / name
