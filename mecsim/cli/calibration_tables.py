"""The tables of a calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from mecsim.cli.display import plain_table
from mecsim.cli.prediction_tables import percent
from mecsim.support.text import number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mecsim.testbed.calibration import Calibration
    from mecsim.testbed.fits import Estimate, TransferFit
    from mecsim.testbed.prediction import Prediction


def calibration_tables(
    found: Calibration, before: Prediction, after: Prediction
) -> Iterator[RenderableType]:
    """Yield the tables and lines about a calibration.

    Args:
        found: The calibration.
        before: The prediction of the rest of the trace by its own scenario.
        after: That by the calibrated one.
    """
    used = f"{found.tasks:,} tasks released before {number(found.until_s)} s"
    yield Text.assemble(("fitted to ", "bold"), used)
    yield _services(found)
    yield ""
    fits = {"radio": found.radio, "wired": found.wired}
    measured = {section: fit for section, fit in fits.items() if fit is not None}
    if measured:
        yield _transfers(measured)
    for section, fit in fits.items():
        yield from _remarks(section, fit)
    yield ""
    yield _errors(before, after)


def _services(found: Calibration) -> Table:
    head = ["service", "measured", "planned (ms)", "fitted (ms)", "95% interval", "change (%)"]
    rows = []
    for each in found.services:
        planned, fitted = each.planned_s, each.service_s.value
        rows.append(
            [
                each.name,
                f"{each.services:,}" if each.services else "no: scaled",
                number(1000 * planned),
                number(1000 * fitted),
                _interval(each.service_s, 1000),
                f"{100 * (fitted / planned - 1):+.1f}" if planned else "–",
            ]
        )
    return plain_table(head, rows)


def _transfers(fits: dict[str, TransferFit]) -> Table:
    head = ["transfers", "measured", "headers (%)", "95% interval", "overhead (ms)", "95% interval"]
    rows = [
        [
            section,
            f"{fit.transfers:,}",
            number(100 * fit.headers.value),
            _interval(fit.headers, 100),
            number(1000 * fit.overhead_s.value),
            _interval(fit.overhead_s, 1000),
        ]
        for section, fit in fits.items()
    ]
    return plain_table(head, rows)


def _interval(estimate: Estimate, factor: float) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(factor * estimate.low)} to {number(factor * estimate.high)}"


def _remarks(section: str, fit: TransferFit | None) -> Iterator[str]:
    if fit is None:
        yield f"{section}: nothing was sent; headers and overhead stay as they are"
    elif fit.one_size:
        yield (
            f"{section}: all transfers take the same time by their bits, so headers cannot be told "
            "from overhead; all is in headers"
        )
    elif fit.at_bound is not None:
        yield f"{section}: the best {fit.at_bound} would be below 0; it is 0"


def _errors(before: Prediction, after: Prediction) -> Table:
    head = ["error of the rest (%)", "mean", "p95", "MAPE of tasks"]
    rows = [
        [name, percent(of.total.mean.error_percent, "+"), percent(of.total.p95.error_percent, "+"),
         percent(of.total.mape_percent)]
        for name, of in (("as planned", before), ("calibrated", after))
    ]  # fmt: skip
    return plain_table(head, rows)
