"""`mecsim calibrate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mecsim.cli.options import TracePath
from mecsim.cli.output import Output, with_output
from mecsim.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mecsim.testbed.calibration import Calibration
    from mecsim.testbed.prediction import Prediction

_SUFFIXES = (".yaml", ".yml")


@with_output
def calibrate(
    trace: TracePath,
    first: Annotated[
        str,
        typer.Option(
            "--first", metavar="PERCENT", help="Fit to this share of the tasks, the first ones."
        ),
    ] = "50%",
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The scenario to write (YAML).")
    ] = Path("calibrated.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    *,
    output: Output,
) -> None:
    """Fit a scenario to the first part of a measured trace.

    Fit the service time of each block at each group of nodes, and headers and overhead of transfers
    over radio and wired links. Write the scenario with these numbers, and score its prediction of
    the rest of the trace.

    Example: mecsim calibrate results/lab-greedy-0.h5 --first 50% --out calibrated.yaml
    """
    from mecsim.cli.existing import replace_text
    from mecsim.cli.progress import progress
    from mecsim.scenario import yaml_source
    from mecsim.scenario.alternatives import without_idle
    from mecsim.support.files import check_target, write_whole
    from mecsim.testbed.calibration import calibrate as fit
    from mecsim.testbed.prediction import predict

    share = _share(first)
    if out.suffix not in _SUFFIXES:
        raise InputError(f"--out {out}: allowed: a name that ends in {' or '.join(_SUFFIXES)}")
    check_target(out)
    found = fit(trace, first=share)
    text = yaml_source.dump(without_idle(found.scenario.model_dump(mode="json")))
    replace_text(out, text, force=force)
    with progress(f"predicting {trace.name}", quiet=output.silent) as update:
        before = predict(trace, after_s=found.until_s, progress=update)
    with progress(f"predicting {trace.name}, calibrated", quiet=output.silent) as update:
        after = predict(trace, found.scenario, progress=update)
    write_whole(out, text)
    document = found.as_json() | {
        "out": str(out),
        "prediction": after.as_json(),
        "prediction_before": before.as_json(),
    }
    output.report(document, lambda: _tables(found, before, after, out))


def _share(text: str) -> float:
    """Return a share that is written in percent, as 50% or 50."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise InputError(f"--first: {text!r}; allowed: more than 0% and less than 100%")
    return share


def _tables(
    found: Calibration, before: Prediction, after: Prediction, out: Path
) -> Iterator[RenderableType]:
    from mecsim.cli.calibration_tables import calibration_tables
    from mecsim.cli.prediction_tables import prediction_tables

    yield from calibration_tables(found, before, after)
    yield ""
    yield from prediction_tables(after)
    yield f"written: {out}"
