"""`mecsim testbed`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Optional, cast

import typer

from mecsim.cli.options import (
    Options,
    Overrides,
    ScenarioPath,
    SchedulerOrDefault,
    Seed,
    TraceOut,
)
from mecsim.cli.output import Output, with_output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mecsim.simulation.metrics import RunSummary
    from mecsim.testbed.modes import LinkMode, NodeMode
    from mecsim.testbed.prediction import Prediction


@with_output
def testbed(
    scenario: ScenarioPath,
    scheduler: SchedulerOrDefault = None,
    option: Options = None,
    set_: Overrides = None,
    seed: Seed = 0,
    nodes: Annotated[
        str,
        typer.Option(
            "--nodes",
            metavar="HOW",
            help="padded: a service lasts as long as in the scenario; natural: as this machine "
            "takes.",
        ),
    ] = "padded",
    links: Annotated[
        str,
        typer.Option(
            "--links",
            metavar="HOW",
            help="pacing: the sender keeps to the rate of a link; tbf: the Linux kernel does.",
        ),
    ] = "pacing",
    stretch: Annotated[
        float,
        typer.Option("--stretch", metavar="K", help="Real seconds for one second of the scenario."),
    ] = 1.0,
    module: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--module",
            metavar="NAME=FACTORY",
            help="Module of a model: package.module:factory or file.py:factory. Repeatable.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="local: all nodes on this machine; ray: on the machines of testbed.hosts.",
        ),
    ] = "local",
    ray_address: Annotated[
        str,
        typer.Option(
            "--ray-address", metavar="HOST:PORT", help="The Ray cluster. Default: $RAY_ADDRESS."
        ),
    ] = "",
    out: TraceOut = None,
    *,
    output: Output,
) -> None:
    """Run a scenario on real processes that compute its DNN and send its tensors; write a trace.

    Example: mecsim testbed testbed --scheduler greedy
    """
    from mecsim.cli.existing import replace_trace
    from mecsim.cli.progress import progress
    from mecsim.scenario import yaml_source
    from mecsim.scenario.loading import load
    from mecsim.simulation.run import default_scheduler
    from mecsim.support.names import output_path, run_name
    from mecsim.testbed.prediction import predict
    from mecsim.testbed.run import run_testbed

    loaded = load(scenario, set_ or [])
    options = yaml_source.assigned(option or (), "--option")
    decides = scheduler or default_scheduler(loaded, options, seed).name
    name = run_name(scenario, decides, seed, set_, option)
    path = output_path(out, f"{name}-testbed")
    replace_trace(path, output, measured=True)
    with (
        progress(f"{decides} on the testbed of {scenario.stem}", quiet=output.silent) as update,
        output.reserve_stdout(),
    ):
        result = run_testbed(
            loaded,
            scheduler,
            options,
            seed=seed,
            nodes=cast("NodeMode", nodes),
            links=cast("LinkMode", links),
            stretch=stretch,
            modules=module,
            engine=engine,
            ray_address=ray_address,
            out=path,
            progress=update,
        )
    summary, found = result.summary, predict(path)
    document = summary.as_json() | {"prediction": found.as_json()}
    output.report(document, lambda: _tables(summary, found))


def _tables(summary: RunSummary, found: Prediction) -> Iterator[RenderableType]:
    from mecsim.cli.prediction_tables import prediction_tables
    from mecsim.cli.run import tables

    yield from tables(summary)
    yield ""
    yield from prediction_tables(found)
