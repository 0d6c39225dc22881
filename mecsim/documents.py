"""YAML files to plain data that knows where each value was written.

Scalars follow YAML 1.2's core schema (``1e-26`` is a number, ``no`` is a string). A document is a
mapping; it may build on another one with ``extends``. Anchors and aliases are refused: they are
how a small file becomes a huge one, and ``extends`` does what they are used for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from mecsim.errors import ScenarioError

Keys: TypeAlias = tuple[str | int, ...]

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
PATH_KEYS: Final = (("arrivals", "file"), ("dnn", "model"))
"""Where a scenario names other files."""

KIND_KEYS: Final = ("process", "distribution", "topology")
"""Keys that say what kind of thing a mapping is: another kind replaces the mapping as a whole."""

FORMS: Final = ("repeat", "uniform")
"""Keys of which a mapping of values has one: another form replaces the mapping as a whole."""


class _CoreSchemaLoader(yaml.SafeLoader):
    """A safe loader with the scalars of YAML 1.2's core schema only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _CoreSchemaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


@dataclass
class Document:
    """Plain data and, for each path of keys in it, where that value was written."""

    values: dict[str, Any]
    where: dict[Keys, str] = field(default_factory=dict)

    def locate(self, keys: Keys) -> str:
        """Return where ``keys``, or the nearest thing above it, was written."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.where:
                return self.where[keys[:end]]
        return ""


def read(path: str | os.PathLike[str]) -> Document:
    """Read a YAML file and everything it extends. Raises ``ScenarioError``."""
    return _read(Path(path), ())


def _read(path: Path, above: tuple[Path, ...]) -> Document:
    resolved = path.resolve()
    if resolved in above:
        chain = " extends ".join(str(link) for link in (*above, resolved))
        raise ScenarioError(f"{path}: extends: goes round in a circle: {chain}")
    document = parse(_text(path), str(path))
    _anchor_paths(document.values, path.parent)
    base = document.values.pop("extends", None)
    if base is None:
        return document
    where = document.locate(("extends",))
    if not isinstance(base, str) or not base:
        raise ScenarioError(f"{where}: extends: {base!r} is not the path of a scenario file")
    base_path = path.parent / base
    if not base_path.is_file():
        raise ScenarioError(f"{where}: extends: {base!r} does not exist ({base_path})")
    return _merge(_read(base_path, (*above, resolved)), document)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make file names in a document relative to the folder in which it lies."""
    for section, key in PATH_KEYS:
        name = values.get(section, {}).get(key) if isinstance(values.get(section), dict) else None
        if isinstance(name, str) and (key == "file" or name.endswith(".json")):
            values[section][key] = str(folder / name)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ScenarioError(f"{path}: is larger than {MAX_BYTES} bytes; a scenario is small")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: is not a text file (UTF-8): {error.reason}") from error
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error


def parse(text: str, name: str) -> Document:
    """Parse YAML text whose top is a mapping. ``name`` stands before line numbers in messages."""
    document = Document({}, {(): name})
    try:
        _refuse_aliases(text, name)
        loader = _CoreSchemaLoader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise ScenarioError(f"{name}: a scenario is a mapping of keys to values")
            document.values = _plain(node, (), loader, name, document.where)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ScenarioError(f"{name}: is not valid YAML: {_oneline(error)}") from error
    except ValueError as error:
        raise ScenarioError(f"{name}: has a value that cannot be read: {error}") from error
    return document


def _oneline(error: yaml.YAMLError) -> str:
    return re.sub(r"\s+", " ", str(error)).replace('in "<unicode string>", ', "")


def _refuse_aliases(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_CoreSchemaLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1
            raise ScenarioError(f"{name}:{line}: aliases (*{event.anchor}) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1
            raise ScenarioError(f"{name}:{line}: is nested deeper than {MAX_DEPTH} levels")


def _plain(
    node: yaml.Node, keys: Keys, loader: _CoreSchemaLoader, name: str, where: dict[Keys, str]
) -> Any:
    where.setdefault(keys, f"{name}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node, loader, name)
            line = f"{name}:{key_node.start_mark.line + 1}"
            if key in values:
                raise ScenarioError(f"{line}: {_dotted((*keys, key))}: is given twice")
            where[(*keys, key)] = line
            values[key] = _plain(value_node, (*keys, key), loader, name, where)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*keys, i), loader, name, where) for i, item in enumerate(node.value)]
    return loader.construct_object(node)


def _key(node: yaml.Node, loader: _CoreSchemaLoader, name: str) -> str:
    if isinstance(node, yaml.ScalarNode):
        key = loader.construct_object(node)
        if isinstance(key, str):
            return key
    raise ScenarioError(f"{name}:{node.start_mark.line + 1}: {node.value!r} is not a key (a word)")


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(str(key) for key in keys)


def _merge(base: Document, over: Document) -> Document:
    values = _merged(base.values, over.values)
    return Document(values, base.where | over.where)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = {} if _of_other_kind(base, over) else dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def _of_other_kind(base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    forms = {key for key in FORMS if key in over}
    other_form = bool(forms) and forms != {key for key in FORMS if key in base}
    return other_form or any(key in over and base.get(key) != over[key] for key in KIND_KEYS)


def dump(values: Mapping[str, Any]) -> str:
    """Return plain data as YAML, in the order it has."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def assign(document: Document, assignment: str, option: str = "--set") -> None:
    """Apply ``KEY.PATH=VALUE`` to the document; VALUE is read as YAML. Raises ``ScenarioError``."""
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ScenarioError(f"{option} {assignment}: is not of the form KEY.PATH=VALUE")
    where = f"{option} {assignment}"
    value = parse(f"value: {text}", where).values.get("value")
    _put(document, keys, value, where)


def _put(document: Document, keys: list[str], value: Any, where: str) -> None:
    target: Any = document.values
    taken: list[str | int] = []
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        step = _step(target, key, where, taken)
        taken.append(step)
        if last:
            target[step] = value
        elif isinstance(target, list) or isinstance(target.get(step), (dict, list)):
            target = target[step]
        else:  # a section that is not there yet, or a short form that the longer one replaces
            target[step] = target = {}
    document.where = {k: w for k, w in document.where.items() if k[: len(taken)] != tuple(taken)}
    document.where[tuple(taken)] = where


def _step(target: Any, key: str, where: str, taken: list[str | int]) -> str | int:
    if isinstance(target, dict):
        return key
    if isinstance(target, list) and key.isdigit() and int(key) < len(target):
        return int(key)
    allowed = f"0 to {len(target) - 1}" if isinstance(target, list) else "nothing below it"
    raise ScenarioError(f"{where}: {_dotted(taken)}: has no {key!r} (allowed: {allowed})")
