"""Profiles of DNNs as JSON files: shipped ones and a user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mecsim.dnn.graph import Layer, LayerGraph, as_record
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


def _fault(error: ValidationError) -> str:
    details = next(faults(error))
    match details["type"], details["loc"]:
        case "json_invalid", _:
            return f" is not a JSON file: {details['ctx']['error']}"
        case "unexpected_keyword_argument", (*above, key):
            keys = [field.name for field in fields(Layer if above else LayerGraph)]
            path = ".".join(map(str, details["loc"]))
            allowed = f"{did_you_mean(str(key), keys)}allowed: {', '.join(keys)}"
            return f": {path}: is not a known key; {allowed}"
        case _:
            return f": {first_fault(error)}"


def write_profile(graph: LayerGraph, path: Path | str) -> None:
    """Write a graph as JSON, one layer on each line; `load_graph` reads it.

    Args:
        graph: The layers of a model.
        path: The file; replaced if it exists.

    Raises:
        OutputError: If the file cannot be written.
    """
    record = asdict(graph)
    del record["layers"]
    layers = ",\n".join(f"    {json.dumps(as_record(layer))}" for layer in graph.layers)
    keys = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in record.items())
    write_whole(Path(path), f'{{\n{keys}  "layers": [\n{layers}\n  ]\n}}\n')
