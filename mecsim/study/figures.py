"""The figures of a comparison or of a trace: which there are, and how they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from mecsim.errors import InputError
from mecsim.simulation.metrics import METRICS
from mecsim.study import plots
from mecsim.study.axis_labels import Names
from mecsim.study.by_class import places_of_classes
from mecsim.study.comparison_file import NAME, read_comparison
from mecsim.study.comparison_panels import comparison_panels
from mecsim.study.distribution_panels import (
    COLUMNS,
    METRIC,
    distribution_panels,
    trace_distribution,
    trace_parts,
)
from mecsim.study.figure_format import SCREEN, FigureFormat
from mecsim.study.panel import Distribution, Panel
from mecsim.study.report import Document
from mecsim.support.files import check_exists
from mecsim.support.text import did_you_mean

Kind: TypeAlias = Literal["means", "cdf", "tail", "parts"]
KINDS: Final = ("means", "cdf", "tail", "parts")
_OF_COMPARISON: Final = ("means", "cdf", "tail")
_OF_TRACE: Final = ("cdf", "tail", "parts")
_PARTS: Final = ("waiting", "service")


@dataclass(frozen=True)
class FigureRequest:
    """Which figures are drawn, and how."""

    metrics: Sequence[str] = ()
    """Names of metrics; all for none."""
    kinds: Sequence[str] = ()
    """``means``, ``cdf``, ``tail`` or ``parts``; for none the usual ones."""
    names: Names = field(default_factory=dict)
    """Names for readers."""
    x_label: str = ""
    """Label of the x-axis; by default that of the swept key."""
    y_label: str = ""
    title: bool = True
    """Write the scenario above a single panel."""
    form: FigureFormat = SCREEN


Figures: TypeAlias = Iterator[tuple[str, list[Panel]]]
"""The name of each figure and its panels."""


def redraw(path: Path, out: Path | None, request: FigureRequest) -> list[Path]:
    """Draw figures of the folder of a comparison, or of a trace.

    Args:
        path: The folder, or the file.
        out: Folder of the figures; by default ``figures`` in the folder, or a folder next to the
            trace.
        request: Which figures.

    Returns:
        The files.

    Raises:
        InputError: The request or the input is not valid.
        OutputError: A file cannot be written.
    """
    plots.need_matplotlib()
    _check(request)
    check_exists(path, "the folder of a comparison, or a trace")
    if path.is_dir() or path.name == NAME:
        folder = path if path.is_dir() else path.parent
        document = read_comparison(folder)
        if not document["summary"]:
            raise InputError(f"{folder}: no run of the comparison has a result")
        return draw_comparison(document, out or folder / "figures", request)
    if path.suffix == ".json":
        raise InputError(f"{path}: is neither the folder of a comparison nor a trace")
    found = list(_trace_figures(path, request))
    return _draw(found, out or path.with_name(f"{path.stem}-figures"), request, ())


def draw_comparison(
    document: Document, folder: Path, request: FigureRequest = FigureRequest()
) -> list[Path]:
    """Draw figures of a comparison into a folder and return the files.

    Raises:
        InputError: A name in the request is not in the comparison, or there is nothing to draw.
        OutputError: A file cannot be written.
    """
    _check_kinds(request, _OF_COMPARISON, "a comparison")
    _check_names(request.names, document)
    found = list(_comparison_figures(document, request))
    labels = dict.fromkeys(each["scheduler"] for each in document["summary"])
    return _draw(found, folder, request, tuple(labels))


def _comparison_figures(document: Document, request: FigureRequest) -> Figures:
    kinds = request.kinds or (("means",) if request.metrics else ("means", "cdf"))
    for name in (request.metrics or METRICS) if "means" in kinds else ():
        panels = comparison_panels(document["summary"], name, request.names)
        if request.metrics and not panels:
            raise InputError(f"--metric {name}: the comparison has no values except 0 of it")
        yield name, panels
        by_class = places_of_classes(document.get("classes", []))
        yield f"{name}_by_class", comparison_panels(by_class, name, request.names)
    for kind in kinds:
        if kind in ("cdf", "tail"):
            which = cast(Distribution, kind)
            panels = distribution_panels(document["rows"], which, request.names)
            if request.kinds and not panels:
                raise InputError(
                    f"--kind {kind}: the comparison has no quantiles of the total delay, as those "
                    "of earlier versions of mecsim. Run `mecsim compare` again"
                )
            yield f"{kind}_{METRIC}", panels


def _trace_figures(path: Path, request: FigureRequest) -> Figures:
    _check_kinds(request, _OF_TRACE, "a trace")
    for name in request.metrics:
        if name not in COLUMNS:
            raise InputError(f"--metric {name}: not per task; expected one of {', '.join(COLUMNS)}")
    for kind in request.kinds or (("cdf",) if request.metrics else ("cdf", "parts")):
        if kind == "parts":
            yield "parts", [trace_parts(path, request.names)]
            continue
        for name in request.metrics or (METRIC,):
            which = cast(Distribution, kind)
            panel = trace_distribution(path, name, which, request.names)
            known = [*(line.label for line in panel.lines), *METRICS, *_PARTS]
            _check_labels(request.names, known)
            yield f"{kind}_{name}", [panel]


def _draw(
    figures: Iterable[tuple[str, list[Panel]]],
    folder: Path,
    request: FigureRequest,
    labels: Sequence[str],
) -> list[Path]:
    wanted = [(folder / name, panels) for name, panels in figures if panels]
    for stem, _ in wanted:
        plots.check_replaced(stem, request.form)
    files = []
    for stem, panels in wanted:
        shown = [_relabelled(panel, request, alone=len(panels) == 1) for panel in panels]
        files += plots.draw(shown, stem, labels=labels, form=request.form, share=True)
    return files


def _relabelled(panel: Panel, request: FigureRequest, *, alone: bool) -> Panel:
    return replace(
        panel,
        x_label=request.x_label or panel.x_label,
        y_label=request.y_label or panel.y_label,
        title=panel.title if request.title or not alone else "",
    )


def _check(request: FigureRequest) -> None:
    """Check names that need no input file."""
    for option, given, known in (
        ("--metric", request.metrics, METRICS),
        ("--kind", request.kinds, KINDS),
    ):
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known)
                raise InputError(
                    f"{option}: {name!r} is unknown; {hint}expected one of {', '.join(known)}"
                )


def _check_kinds(request: FigureRequest, known: Sequence[str], of: str) -> None:
    for kind in request.kinds:
        if kind not in known:
            raise InputError(f"--kind {kind}: not of {of}; expected one of {', '.join(known)}")


def _check_names(names: Names, document: Document) -> None:
    entries = document["summary"]
    known = dict.fromkeys(each["scheduler"] for each in entries)
    known |= dict.fromkeys(each["scenario"] for each in entries)
    known |= dict.fromkeys(key for each in entries for key in each["sweep"])
    _check_labels(names, [*known, *METRICS])


def _check_labels(names: Names, known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(
                f"--label {name}: is unknown; {hint}expected one of {', '.join(known)}"
            )


def parse_names(texts: Iterable[str]) -> dict[str, str]:
    """Return names for readers from texts ``NAME=TEXT``. Raises ``InputError``.

    >>> parse_names(["greedy=Greedy"])
    {'greedy': 'Greedy'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, shown = text.partition("=")
        if not equals or not name or not shown.strip():
            raise InputError(f"--label {text}: expected NAME=TEXT, such as greedy=Greedy")
        found[name] = shown.strip()
    return found
