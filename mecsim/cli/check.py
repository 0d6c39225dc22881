"""`mecsim check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mecsim.cli.common import (
    Debug,
    Json,
    Overrides,
    Quiet,
    Seed,
    show_comment,
    show_json,
    write,
)
from mecsim.errors import InputError


def check(
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="SCENARIO", help="A scenario file (YAML).", show_default=False),
    ] = None,
    set_: Overrides = None,
    seed: Seed = 0,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of scenarios instead.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Validate a scenario and print it resolved: every value, in SI units."""
    from mecsim.scenario.loading import json_schema, load

    if schema:
        write(json_schema())
        return
    if scenario is None:
        raise InputError("SCENARIO: is missing; give a scenario file, or --schema")
    from mecsim.cli import display
    from mecsim.model.model import resolve
    from mecsim.scenario import yaml_source

    loaded = load(scenario, set_ or [])
    model = resolve(loaded, seed)
    if json_:
        show_json({"scenario": loaded.model_dump(mode="json"), "blocks": model.block_table()})
    elif not quiet:
        write(yaml_source.dump(loaded.model_dump(mode="json")))
        title = "Blocks (per task of size factor 1)"
        show_comment(display.blocks_table(model.block_table(), title))
