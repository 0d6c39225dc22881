"""Load and validate scenarios; export their JSON schema."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from mecsim.errors import ScenarioError
from mecsim.scenario import messages, yaml_source
from mecsim.scenario.schema import Origin, Scenario

MAX_FAULTS: Final = 10
"""Faults that one message tells; a list of a thousand wrong values says no more than ten."""


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario file, apply ``KEY.PATH=VALUE`` overrides, and validate it.

    Raises ``ScenarioError`` that names file and line (or the override), key, value and what is
    allowed.
    """
    document = yaml_source.read(path)
    for override in overrides:
        yaml_source.assign(document, override)
    return validate(document)


def validate(document: yaml_source.Document) -> Scenario:
    """Validate plain data as a scenario. Raises ``ScenarioError`` with one line a fault."""
    try:
        scenario = Scenario.model_validate(document.values)
    except ValidationError as error:
        lines = messages.messages(document, error)
        if len(lines) > MAX_FAULTS:
            lines[MAX_FAULTS:] = [f"... and {len(lines) - MAX_FAULTS} more faults"]
        raise ScenarioError("\n".join(lines)) from error
    scenario._origin = Origin(document)
    return scenario


def json_schema() -> str:
    """Return the JSON Schema of scenario files, for editors."""
    schema = Scenario.model_json_schema()
    base = {"type": "string", "description": "Path of a scenario that this one builds on"}
    schema["properties"] = {"extends": base, **schema["properties"]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mecsim scenario"}
    return json.dumps(schema | head, indent=1, ensure_ascii=False)


def from_json(text: str, source: str) -> Scenario:
    """Rebuild the scenario that a trace carries. Raises ``ScenarioError``."""
    return validate(yaml_source.Document(_json_mapping(text, source), {(): source}))


def _json_mapping(text: str, source: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{source}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ScenarioError(f"{source}: a scenario is a mapping of keys to values")
    return values
