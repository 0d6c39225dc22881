"""`mecsim run`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mecsim.cli.options import (
    KernelName,
    Options,
    Overrides,
    ScenarioPath,
    SchedulerOrDefault,
    Seed,
    TraceOut,
)
from mecsim.cli.output import Output, echo_error, with_output
from mecsim.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mecsim.scenario.schema import Scenario
    from mecsim.simulation.metrics import RunSummary

MANY_EXECUTIONS: Final = 1_000_000
"""Expected executions of blocks from which a run takes long (13 to 40 s) with the simpy kernel."""


@with_output
def run(
    scenario: ScenarioPath,
    scheduler: SchedulerOrDefault = None,
    option: Options = None,
    set_: Overrides = None,
    seed: Seed = 0,
    kernel: KernelName = "simpy",
    out: TraceOut = None,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Write no trace.")] = False,
    lower_bound: Annotated[
        bool, typer.Option("--lower-bound", help="Also print the lower bound on the cost.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Simulate one scenario under one scheduler; write a trace and print a summary.

    Example: mecsim run vgg16_4es --scheduler greedy --set slots=100
    """
    from mecsim.cli.existing import replace_trace
    from mecsim.cli.progress import progress
    from mecsim.scenario import yaml_source
    from mecsim.scenario.loading import load
    from mecsim.simulation.run import default_scheduler
    from mecsim.simulation.run import run as run_scenario
    from mecsim.support.names import output_path, run_name

    if no_trace and out is not None:
        raise InputError("--out: not valid with --no-trace")
    loaded = load(scenario, set_ or [])
    if not output.silent and (hint := _kernel_hint(loaded, kernel)):
        echo_error(hint)
    options = yaml_source.assigned(option or (), "--option")
    decides = scheduler or default_scheduler(loaded, options, seed).name
    name = run_name(scenario, decides, seed, set_, option)
    path = None if no_trace else output_path(out, name)
    if path is not None:
        replace_trace(path, output, measured=False)
    with (
        progress(f"{decides} on {scenario.stem}", quiet=output.silent) as update,
        output.reserve_stdout(),
    ):
        result = run_scenario(
            loaded,
            scheduler,
            options,
            seed=seed,
            kernel=kernel,
            out=path,
            lower_bound=lower_bound,
            progress=update,
        )
    summary = result.summary
    output.report(summary.as_json(), lambda: tables(summary))


def _kernel_hint(scenario: Scenario, kernel: str) -> str | None:
    """Return a line about the faster kernel for a run of many tasks; None for other runs."""
    from mecsim.model.workload import arrival_rate
    from mecsim.scenario.schema import CsvTasks, RecordedTasks

    classes = [scenario.of_class(number) for number in range(len(scenario.classes))]
    unknown = RecordedTasks | CsvTasks
    if kernel != "simpy" or any(isinstance(each.arrivals, unknown) for each in classes):
        return None
    blocks_a_slot = sum(arrival_rate(each) * (each.dnn.blocks or 1) for each in classes)
    executions = blocks_a_slot * scenario.slots
    if executions < MANY_EXECUTIONS:
        return None
    return (
        f"kernel: simpy simulates about {executions:,.0f} executions of blocks slowly. "
        "Try: --kernel compiled (the same results, 4 to 9 times as fast)"
    )


def tables(summary: RunSummary) -> Iterator[RenderableType]:
    """Yield the tables of a run."""
    from mecsim.cli import display

    if summary.scheduler_reason is not None:
        reason = f"as {summary.scheduler_reason} (--scheduler NAME chooses another)"
        yield f"scheduler: {summary.scheduler}, {reason}"
    yield display.summary_table(summary)
    yield display.totals_line(summary)
    if summary.counting is not None:
        yield summary.counting
    if (line := display.overload_line(summary)) is not None:
        yield line
    if summary.lower_bound is not None:
        yield display.bound_line(summary.lower_bound)
    if summary.classes:
        yield ""
        yield display.classes_table(summary)
    yield ""
    yield display.resources_table(summary.resources)
    yield ""
    yield display.speed_line(summary)
