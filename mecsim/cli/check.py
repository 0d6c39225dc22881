"""`mecsim check`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.options import SCENARIO_HELP, Overrides, Seed
from mecsim.cli.output import Output, show_comment, with_output, write
from mecsim.errors import InputError


@with_output
def check(
    scenario: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this form
        typer.Argument(metavar="SCENARIO", help=SCENARIO_HELP, show_default=False),
    ] = None,
    set_: Overrides = None,
    seed: Seed = 0,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of scenarios instead.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Validate a scenario; print every value that has an effect, in SI units.

    Comments list the blocks of a task, the devices that each server serves, the wired links, and
    how long a task takes at each place without queues.

    Example: mecsim check scenarios/vgg16_4es.yaml --set edge_servers=6
    """
    from mecsim.scenario.loading import json_schema, load

    if schema:
        write(json_schema())
        return
    if scenario is None:
        raise InputError("SCENARIO: missing. Give a scenario file or a shipped name, or --schema")
    from mecsim.cli import display
    from mecsim.model.coverage import coverage_table, link_table, place_times
    from mecsim.model.model import resolve
    from mecsim.scenario import yaml_source
    from mecsim.scenario.alternatives import without_idle
    from mecsim.trace.recorded_workload import arrivals_of

    loaded = load(scenario, set_ or [])
    model = resolve(loaded, seed)
    with arrivals_of(model):  # recorded tasks fit, as a run would find
        pass
    values = without_idle(loaded.model_dump(mode="json"))
    blocks, servers = model.block_table(), coverage_table(model)
    links, times = link_table(model), place_times(model)
    if output.silent:
        tables = {"blocks": blocks, "servers": servers, "links": links, "times": times}
        output.report({"scenario": values, **tables}, list)
        return
    write(yaml_source.dump(values))
    show_comment(display.blocks_table(blocks, "Blocks (per task of size factor 1)"))
    show_comment(display.coverage_table(servers, seed))
    if links:
        show_comment(display.links_table(links))
    for _, of_class in groupby(times, lambda row: row.get("class")):
        show_comment(display.times_table(list(of_class)))
