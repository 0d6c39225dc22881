"""Load and validate scenarios; export their JSON schema."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mecsim.errors import ScenarioError
from mecsim.scenario import messages, shipped, yaml_source
from mecsim.scenario.alternatives import apply_assigned, take_idle
from mecsim.scenario.schema import UNNAMED, Origin, Scenario
from mecsim.support.names import scenario_label
from mecsim.support.text import warn_once

_POWER: Final = ("radio", "transmit_power")
USUAL_WATTS: Final = 5
"""Mobile devices transmit with less."""

MAX_FAULTS: Final = 10
"""Most faults that one message reports; a thousand wrong values say no more than ten."""


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario file, apply overrides, and validate it.

    Args:
        path: A YAML file, or the name of a shipped scenario. A file comes first.
        overrides: ``KEY.PATH=VALUE``, one or a list that is applied in order; the value is read
            as YAML.

    Returns:
        The scenario, with all values in SI units.

    Raises:
        ScenarioError: If there is no such scenario, or the file or an override is not valid. The
            message has one line for each fault: file and line (or the override), key, value and
            what is allowed.

    Example:
        >>> scenario = load("vgg16_4es", ["devices=20", "wired.rate=10 Gbit/s"])
        >>> scenario.devices, scenario.wired.rate
        (20, 10000000000.0)
        >>> load("vgg16_4es", ["wird.rate=10 Gbit/s"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        mecsim.errors.ScenarioError: ...: wird: is not a known key; did you mean 'wired'? ...
    """
    if not isinstance(path, str | os.PathLike):
        raise ScenarioError(
            f"scenario: {reprlib.repr(path)}; expected a Scenario, a path or a name"
        )
    changes = _texts(overrides)
    document = yaml_source.read(shipped.find(path))
    return _with_assigned(document, changes, scenario_label(Path(path), changes))


def _texts(overrides: Sequence[str]) -> list[str]:
    """Return overrides as a list; a single text is one override."""
    found = [overrides] if isinstance(overrides, str) else overrides
    if not (isinstance(found, list | tuple) and all(isinstance(each, str) for each in found)):
        raise ScenarioError(
            f"overrides: {reprlib.repr(overrides)}; expected 'KEY.PATH=VALUE' texts, "
            "for example ['slots=60']"
        )
    return list(found)


def with_overrides(
    source: Scenario | str | os.PathLike[str], overrides: Sequence[str] = ()
) -> Scenario:
    """Return a scenario, or that of a file, with overrides.

    Args:
        source: A scenario, or what :func:`load` takes.
        overrides: As for :func:`load`.

    Returns:
        The scenario itself where there are no overrides.

    Raises:
        ScenarioError: As :func:`load`.
    """
    if not isinstance(source, Scenario):
        return load(source, overrides)
    changes = _texts(overrides)
    if not changes:
        return source
    document = yaml_source.Document(source.model_dump(mode="json"))
    return _with_assigned(document, changes, f"{source.label} ({', '.join(changes)})")


def _with_assigned(
    document: yaml_source.Document, overrides: Sequence[str], label: str
) -> Scenario:
    for override in overrides:
        yaml_source.assign(document, override)
    apply_assigned(document)
    scenario = validate(document, label, take_idle(document))
    _warn_of_watts(document)
    return scenario


def _warn_of_watts(document: yaml_source.Document) -> None:
    """Log a warning about a transmit power without unit that is likely meant in dBm."""
    groups = document.value(("devices",))
    rows = range(len(groups)) if isinstance(groups, list | tuple) else ()
    for keys in (_POWER, *(("devices", row, "transmit_power") for row in rows)):
        text, where = str(document.value(keys)).strip(), document.locate(keys)
        if where and text[-1:].isdecimal() and float(text) > USUAL_WATTS:
            warn_once(
                f"{where}: {'.'.join(map(str, keys))}: {text} without a unit is {text} W, and "
                f"devices send with less than {USUAL_WATTS} W; write '{text} dBm' or '{text} W'"
            )


def validate(
    document: yaml_source.Document, label: str = UNNAMED, faults: Sequence[str] = ()
) -> Scenario:
    """Validate plain data as a scenario.

    Args:
        document: Plain values, and where each of them was written.
        label: Its name in results.
        faults: Messages about faults that are known already.

    Returns:
        The scenario; it remembers the document, for messages.

    Raises:
        ScenarioError: With one line for each fault, at most ``MAX_FAULTS`` of them.
    """
    try:
        scenario = Scenario.model_validate(document.values)
    except ValidationError as error:
        raise _error([*faults, *messages.messages(document, error)]) from error
    if faults:
        raise _error(faults)
    scenario._origin = Origin(document, label)
    return scenario


def _error(lines: Sequence[str]) -> ScenarioError:
    more = len(lines) - MAX_FAULTS
    shown = [*lines[:MAX_FAULTS], *([f"... and {more} more faults"] if more > 0 else [])]
    return ScenarioError("\n".join(shown))


def json_schema() -> str:
    """Return the JSON Schema of scenario files, for editors and for the reference of all keys."""
    schema = Scenario.model_json_schema()
    meaning = "The scenario on which this one builds: a path, or a shipped name."
    base = {"type": "string", "description": meaning}
    schema["properties"] = {"extends": base, **schema["properties"]}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mecsim scenario"}
    return json.dumps(schema | head, indent=1, ensure_ascii=False)


def from_json(text: str, source: str) -> Scenario:
    """Rebuild a scenario from its JSON, as a trace carries it.

    Args:
        text: The JSON, see :meth:`Scenario.canonical_json`.
        source: Where the text comes from, for messages.

    Raises:
        ScenarioError: If the text is not JSON or no valid scenario.
    """
    return validate(yaml_source.Document(_json_mapping(text, source), {(): source}))


def _json_mapping(text: str, source: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{source}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ScenarioError(f"{source}: a scenario is a mapping of keys to values")
    return values
