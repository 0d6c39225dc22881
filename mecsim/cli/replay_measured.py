"""`mecsim replay` of a measured trace, and of another scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mecsim.cli.output import Output
from mecsim.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mecsim.scenario.schema import Scenario
    from mecsim.simulation.metrics import RunSummary
    from mecsim.testbed.prediction import Prediction


class Other(NamedTuple):
    """The scheduler that is to run on the recorded tasks."""

    scheduler: str | None
    options: dict[str, Any]
    kernel: str | None
    out: Path | None
    """The file for its trace."""


def run_other(
    trace: Path, wanted: Other, output: Output, scenario: Scenario | None = None
) -> RunSummary | None:
    """Run the other scheduler, if one is wanted, on the tasks and channels of a trace."""
    if wanted.scheduler is None:
        return None
    from mecsim.cli.progress import progress
    from mecsim.simulation.replay import replay_with

    with (
        progress(f"{wanted.scheduler} on {trace.name}", quiet=output.silent) as update,
        output.reserve_stdout(),
    ):
        return replay_with(
            trace,
            wanted.scheduler,
            wanted.options,
            scenario=scenario,
            kernel=wanted.kernel,
            out=wanted.out,
            progress=update,
        ).summary


def predict(
    trace: Path, scenario: Path | None, after: str | None, wanted: Other, output: Output
) -> None:
    """Predict a measured run, and run the other scheduler in simulation, if one is wanted."""
    from mecsim.cli.progress import progress
    from mecsim.scenario.loading import load
    from mecsim.testbed.prediction import predict as predict_trace

    described = None if scenario is None else load(scenario)
    after_s = None if after is None else _seconds(after)
    with progress(f"predicting {trace.name}", quiet=output.silent) as update:
        found = predict_trace(
            trace, described, after_s=after_s, kernel=wanted.kernel or "simpy", progress=update
        )
    other = run_other(trace, wanted, output, described)
    document = found.as_json()
    if other is not None:
        document |= {
            "recorded": found.measured_run.as_json(),
            "repeated": found.simulated_run.as_json(),
            "other": other.as_json(),
        }
    output.report(document, lambda: _tables(found, other))


def _seconds(text: str) -> float:
    from mecsim.scenario import units

    try:
        return units.parse(text, "s")
    except ValueError as error:
        raise InputError(f"--after: {text!r} {error}") from error


def _tables(found: Prediction, other: RunSummary | None) -> Iterator[RenderableType]:
    from mecsim.cli import display
    from mecsim.cli.prediction_tables import prediction_tables

    yield from prediction_tables(found)
    if other is not None:
        runs = {
            "measured": found.measured_run,
            "simulated": found.simulated_run,
            "simulated ": other,
        }
        yield ""
        yield display.comparison_table(
            [
                run.model_copy(update={"scheduler": f"{run.scheduler}, {how.strip()}"})
                for how, run in runs.items()
            ]
        )
        if other.counting is not None:
            yield other.counting
