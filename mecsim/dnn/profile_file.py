"""Profiles of DNNs as JSON files: those that come with mecsim, and a user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any

from mecsim.dnn.graph import Layer, LayerGraph
from mecsim.errors import ProfileError
from mecsim.support.files import write_whole
from mecsim.support.text import did_you_mean


def shipped() -> tuple[str, ...]:
    """The names of the models that come with mecsim, sorted."""
    files = (file.name for file in (resources.files("mecsim.dnn") / "profiles").iterdir())
    return tuple(sorted(f.removesuffix(".json") for f in files if f.endswith(".json")))


def load_graph(name: str) -> LayerGraph:
    """Read a shipped model by its name, or a profile of one's own by a path ending in .json.

    Raises:
        ProfileError: If there is no such model or file, or its content is not a profile.
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
        return _parse(json.loads(source()))
    except OSError as error:
        raise ProfileError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise ProfileError(f"{file} is not a JSON file: {error}") from error
    except ProfileError as error:
        raise ProfileError(f"{file}: {error}") from error


def _parse(value: object) -> LayerGraph:
    """The graph of a decoded JSON document."""
    record = _record(value, LayerGraph, "the profile")
    if isinstance(record["layers"], tuple):
        layers = enumerate(record["layers"], start=1)
        record["layers"] = tuple(Layer(**_record(v, Layer, f"layer {n}")) for n, v in layers)
    return LayerGraph(**record)


def _record(value: object, kind: type[Layer | LayerGraph], where: str) -> dict[str, Any]:
    """A JSON object with the keys that the dataclass demands, its lists made tuples."""
    if not isinstance(value, dict):
        raise ProfileError(f"{where} is {value!r:.60}, must be an object with keys")
    keys = [field.name for field in fields(kind)]
    for key in value:
        if key not in keys:
            allowed = f"{did_you_mean(key, keys)}allowed: {', '.join(keys)}"
            raise ProfileError(f"{where}: unknown key {key!r}; {allowed}")
    for field in fields(kind):
        if field.default is MISSING and field.name not in value:
            raise ProfileError(f"{where}: key {field.name!r} is missing")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}


def write_profile(graph: LayerGraph, path: Path | str) -> None:
    """Write a graph as JSON, one layer a line; `load_graph` reads it.

    Raises:
        OutputError: If the file cannot be written.
    """
    record = asdict(graph)
    layers = ",\n".join(f"    {json.dumps(layer)}" for layer in record.pop("layers"))
    keys = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in record.items())
    write_whole(Path(path), f'{{\n{keys}  "layers": [\n{layers}\n  ]\n}}\n')
