"""From a path to its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mecsim.errors import InputError
from mecsim.report.page import need_bokeh, render
from mecsim.support.files import check_exists, write_whole

if TYPE_CHECKING:
    from mecsim.report.page import Page

ENDING: Final = ".html"


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    path: Path
    kind: str
    """``run``, ``comparison`` or ``paper``."""
    bytes: int


def report(
    path: Path, out: Path | None = None, window: str | None = None, *, force: bool = False
) -> Report:
    """Write the report of a run, a comparison or the reproduction of the paper.

    Args:
        path: A trace, or the folder of a comparison or of the reproduction.
        out: The HTML file; by default next to a trace, or in a folder.
        window: Window of the timeline of a run, as ``100s:120s``.
        force: Whether a file that exists is overwritten.

    Raises:
        InputError: The path is neither, Bokeh is missing, or the file exists.
        TraceError: The trace cannot be read.
        OutputError: The file cannot be written.
    """
    need_bokeh()
    kind = _kind(path)
    if window is not None and kind != "run":
        raise InputError(f"--window: {window!r}: only valid for a trace; {path} is a {kind}")
    target = _target(path, out, force=force)
    text = render(_page(path, kind, window))
    write_whole(target, text)
    return Report(target, kind, len(text.encode()))


def _kind(path: Path) -> str:
    written = "a trace, or a folder that mecsim compare or mecsim reproduce has written"
    check_exists(path, written)
    if not path.is_dir():
        return "run"
    if (path / "comparison.json").is_file():
        return "comparison"
    if (path / "claims.md").is_file():
        return "paper"
    raise InputError(
        f"{path}: has neither comparison.json nor claims.md; expected a trace, or a folder that "
        "mecsim compare or mecsim reproduce has written"
    )


def _target(path: Path, out: Path | None, *, force: bool) -> Path:
    default = path / f"report{ENDING}" if path.is_dir() else path.with_suffix(ENDING)
    target = default if out is None else out
    if target.suffix != ENDING:
        raise InputError(f"--out: {target}: expected a file name that ends in {ENDING}")
    if not force and target.is_file():
        raise InputError(f"{target}: already exists. Use --force, or choose another --out")
    return target


def _page(path: Path, kind: str, window: str | None) -> Page:
    # These modules need Bokeh.
    if kind == "run":
        from mecsim.report.run_report import run_page  # noqa: PLC0415
        from mecsim.report.timeline import parse_window  # noqa: PLC0415

        return run_page(path, None if window is None else parse_window(window))
    if kind == "comparison":
        from mecsim.report.comparison import comparison_page  # noqa: PLC0415

        return comparison_page(path)
    from mecsim.report.paper_report import paper_page  # noqa: PLC0415

    try:
        return paper_page(path)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise InputError(
            f"{path}: its tables: damaged, or written by another version of mecsim "
            f"({type(error).__name__}: {error})"
        ) from error
