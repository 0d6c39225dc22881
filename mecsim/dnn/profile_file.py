"""Profiles of DNNs as JSON files: shipped ones and a user's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from mecsim.dnn.graph import Layer, LayerGraph, as_record
from mecsim.dnn.measurement import Measurement
from mecsim.errors import ProfileError
from mecsim.support.files import write_whole
from mecsim.support.text import did_you_mean
from mecsim.support.validation import faults, first_fault


def shipped() -> tuple[str, ...]:
    """Return the names of the models that come with mecsim, sorted.

    Example:
        >>> shipped()
        ('alexnet', 'nin', 'resnet32', 'vgg16', 'vgg16_224')
    """
    files = (file.name for file in (resources.files("mecsim.dnn") / "profiles").iterdir())
    return tuple(sorted(f.removesuffix(".json") for f in files if f.endswith(".json")))


def load_graph(name: str) -> LayerGraph:
    """Read the layer graph of a model.

    Args:
        name: Name of a shipped model, or the path of a profile that ends in ``.json``.

    Raises:
        ProfileError: If there is no such model or file, or its content is not a profile. The
            message names file, key, value and what is allowed.

    Example:
        >>> graph = load_graph("vgg16")
        >>> graph.input_shape, len(graph.layers), graph.stages[0]
        ((3, 32, 32), 21, 'pool1')
    """
    if name.endswith(".json"):
        return _read(Path(name).read_bytes, name)
    if name not in shipped():
        raise ProfileError(
            f"there is no model {name!r}; {did_you_mean(name, shipped())}allowed: "
            f"{', '.join(shipped())}, or the path of a profile that ends in .json"
        )
    resource = resources.files("mecsim.dnn") / "profiles" / f"{name}.json"
    return _read(resource.read_bytes, f"{name}.json")


def _read(source: Callable[[], bytes], file: str) -> LayerGraph:
    """Parse a profile; every error names the file."""
    try:
        return TypeAdapter(LayerGraph).validate_json(source())
    except OSError as error:
        raise ProfileError(f"cannot read {file}: {error.strerror or error}") from error
    except ValidationError as error:
        raise ProfileError(f"{file}{_fault(error)}") from error
    except ProfileError as error:
        raise ProfileError(f"{file}: {error}") from error


_KINDS: Final[Mapping[str, type]] = {"layers": Layer, "measured": Measurement}
"""What the entries of a list or an object in a profile are."""


def _fault(error: ValidationError) -> str:
    details = next(faults(error))
    match details["type"], details["loc"]:
        case "json_invalid", _:
            return f" is not a JSON file: {details['ctx']['error']}"
        case "unexpected_keyword_argument", (*above, key):
            kind = _KINDS[str(above[0])] if above else LayerGraph
            keys = [each.name for each in fields(kind)]
            path = ".".join(map(str, details["loc"]))
            allowed = f"{did_you_mean(str(key), keys)}allowed: {', '.join(keys)}"
            return f": {path}: is not a known key; {allowed}"
        case _:
            return f": {first_fault(error)}"


def merge_profiles(files: Sequence[str]) -> LayerGraph:
    """Join profiles of one network that were measured on several types of node.

    Args:
        files: Shipped models or paths of profiles; at least one. Names and stages are the first's.

    Returns:
        The first profile with the measured times of all.

    Raises:
        ProfileError: If a file is no profile, is of another network, or has a type of an earlier
            one. The message names the file.
    """
    first, *others = (load_graph(file) for file in files)
    measured, source = dict(first.measured), dict.fromkeys(first.measured, files[0])
    for file, other in zip(files[1:], others, strict=True):
        if found := difference(first, other):
            raise ProfileError(f"{file}: {found} in {files[0]}; allowed: profiles of one network")
        for node, measurement in other.measured.items():
            if node in measured:
                raise ProfileError(
                    f"{file}: measured.{node}: is also in {source[node]}; allowed: each type of "
                    "node once. Rename the key in one of the files"
                )
            measured[node], source[node] = measurement, file
    return replace(first, measured=measured)


def difference(first: LayerGraph, other: LayerGraph) -> str | None:
    """Return how a network differs from the first one: ``KEY: is …, but …``; or nothing.

    Names, stages and measured times do not matter.
    """
    for key in ("input_shape", "input_bits"):
        if (mine := getattr(other, key)) != (its := getattr(first, key)):
            return f"{key}: is {mine}, but {its}"
    if len(other.layers) != len(first.layers):
        return f"layers: are {len(other.layers)}, but {len(first.layers)}"
    for index, (layer, expected) in enumerate(zip(other.layers, first.layers, strict=True)):
        for key in (each.name for each in fields(Layer)):
            if (mine := getattr(layer, key)) != (its := getattr(expected, key)):
                return f"layers.{index}.{key}: is {mine!r}, but {its!r}"
    return None


def write_profile(graph: LayerGraph, path: Path | str) -> None:
    """Write a graph as JSON, one layer on each line; `load_graph` reads it.

    Args:
        graph: The layers of a model.
        path: The file; replaced if it exists.

    Raises:
        OutputError: If the file cannot be written.
    """
    record = asdict(graph)
    layers = [json.dumps(as_record(layer)) for layer in graph.layers]
    measured = {node: _measurement(each) for node, each in graph.measured.items()}
    parts = [f"{json.dumps(key)}: {json.dumps(record[key])}" for key in _PLAIN]
    if measured:
        parts.append(f'"measured": {_braces(measured, 2)}')
    parts.append('"layers": [\n    ' + ",\n    ".join(layers) + "\n  ]")
    write_whole(Path(path), "{\n  " + ",\n  ".join(parts) + "\n}\n")


_PLAIN: Final = ("name", "input_shape", "input_bits", "stages")
"""Keys of a profile with short values."""


def _measurement(measurement: Measurement) -> str:
    """Return a measurement as JSON, a key on each line; what it lacks is left out."""
    record = {key: value for key, value in asdict(measurement).items() if value not in (None, {})}
    return _braces({key: json.dumps(value) for key, value in record.items()}, 4)


def _braces(texts: Mapping[str, str], indent: int) -> str:
    """Return a JSON object whose values are JSON texts, a key on each line."""
    inner, outer = f"\n{' ' * (indent + 2)}", f"\n{' ' * indent}"
    return "{" + ",".join(f"{inner}{json.dumps(k)}: {v}" for k, v in texts.items()) + outer + "}"
