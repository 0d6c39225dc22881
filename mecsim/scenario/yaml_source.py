"""Reads YAML files into plain data and records the line of each value.

Scalars follow the core schema of YAML 1.2 (``1e-26`` is a number, ``no`` is a string). A document
is a mapping; it may build on another one with ``extends``. Anchors and aliases are refused: a small
file can expand to a huge one with them, and ``extends`` replaces their legitimate uses.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from mecsim.errors import ScenarioError
from mecsim.scenario import shipped
from mecsim.scenario.alternatives import inherit
from mecsim.scenario.document import FORMS, Document, Keys, dotted, holds, value_of

__all__ = ["Document", "Keys", "assign", "assigned", "dump", "holds", "parse", "read"]

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
PATH_KEYS: Final = (("arrivals", "file"), ("dnn", "model"), ("dnn", "service_times"))
"""Keys that hold the names of other files."""
SERIES_KEYS: Final = ("series", "mahimahi", "positions")
"""Keys that hold the names of files with series, wherever they are, if they hold a text."""

UNION_KEYS: Final = ("process", "distribution")
"""Those kinds that also determine which other keys the mapping may have."""

_CORE: Final = "tag:yaml.org,2002:"
_BASES: Final = {"0o": 8, "0x": 16}
_WORDS: Final = {"null": None, "true": True, "false": False, "~": None, "": None}


class _CoreSchemaLoader(yaml.SafeLoader):
    """A safe loader with the scalars of YAML 1.2's core schema only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _CoreSchemaLoader.add_implicit_resolver(
        f"{_CORE}{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def read(path: str | os.PathLike[str]) -> Document:
    """Read a YAML file and all files that it extends.

    Raises:
        ScenarioError: If a file cannot be read or is not a valid document.
    """
    return _read(Path(path), ())


def _read(path: Path, above: tuple[str, ...]) -> Document:
    document = parse(_text(path), str(path))
    _anchor_paths(document.values, path.parent)
    base = document.values.pop("extends", None)
    if base is None:
        return document
    where = f"{document.locate(('extends',))}: extends:"
    if not isinstance(base, str) or not base:
        raise ScenarioError(f"{where} {reprlib.repr(base)} is not the path of a scenario file")
    base_path = path.parent / base
    if not os.path.isfile(base_path):  # noqa: PTH113 - Path.is_file raises for a name too long
        if base not in shipped.names():
            seen = "does not exist (seen from this file's folder)"
            raise ScenarioError(f"{where} {base!r:.99} {seen}; {shipped.expected(base)}")
        base_path = shipped.path(base)
    chain = (*above, os.path.realpath(path))
    if os.path.realpath(base_path) in chain:
        raise ScenarioError(f"{where} {base!r} goes round in a circle: it builds on this file")
    if len(chain) > MAX_DEPTH:
        raise ScenarioError(f"{where} is a chain of more than {MAX_DEPTH} files")
    below = _read(base_path, chain)
    below.drop(("description",))  # it describes the other scenario
    return inherit(below, document)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the file names in a document relative to its folder."""
    classes = values.get("tasks")
    for tasks in (values, *(classes if isinstance(classes, list) else ())):
        for name, key in PATH_KEYS:
            section = tasks.get(name) if isinstance(tasks, dict) else None
            if isinstance(section, dict) and section.get(key) is not None:
                section[key] = _anchored(section[key], key, folder)
    _anchor_series(values, folder)


def _anchored(name: Any, key: str, folder: Path) -> Any:
    """Return the path of a file that a value names, or of each in a list; other values as is."""
    if isinstance(name, list):
        return [_anchored(each, key, folder) for each in name]
    names_file = isinstance(name, str) and (key == "file" or name.endswith(".json"))
    return str(folder / name) if names_file else name


def _anchor_series(values: Any, folder: Path) -> None:
    """Make the file names of series anywhere in some values relative to a folder."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if key in SERIES_KEYS and isinstance(value, str):
            values[key] = str(folder / value)
        elif isinstance(value, dict | list):
            _anchor_series(value, folder)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScenarioError(f"{path}: cannot be read: {reason}") from error
    if len(data) > MAX_BYTES:
        raise ScenarioError(f"{path}: is larger than {MAX_BYTES} bytes; a scenario is small")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(f"{path}:{line}: is not text in UTF-8: {error.reason}") from error


def parse(text: str, name: str) -> Document:
    """Parse YAML text that is a mapping.

    Args:
        text: The text.
        name: Name of its source, for messages.

    Raises:
        ScenarioError: If the text is not valid.
    """
    document = Document({}, {(): name})
    values = _value(text, name, document.where)
    if not isinstance(values, dict):
        raise ScenarioError(f"{name}: a scenario is a mapping of keys to values")
    document.values = values
    return document


def _value(text: str, name: str, where: dict[Keys, str]) -> Any:
    """Parse YAML text and store the line of each value in ``where``."""
    try:
        _refuse_aliases(text, name)
        loader = _CoreSchemaLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _plain(node, (), name, where)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise ScenarioError(f"{name}{line}: is not valid YAML: {_oneline(problem)}") from error
    except yaml.YAMLError as error:  # characters that YAML does not allow
        raise ScenarioError(f"{name}: is not valid YAML: {_oneline(str(error))}") from error


def _oneline(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace(' in "<unicode string>",', " at")


def _refuse_aliases(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_CoreSchemaLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ScenarioError(f"{_line(event, name)}: aliases (*{event.anchor}) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ScenarioError(f"{_line(event, name)}: is nested deeper than {MAX_DEPTH} levels")


def _line(found: yaml.Event | yaml.Node, name: str) -> str:
    return f"{name}:{found.start_mark.line + 1}" if found.start_mark else name


def _plain(node: yaml.Node, keys: Keys, name: str, where: dict[Keys, str]) -> Any:
    line = _line(node, name)
    where.setdefault(keys, line)
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node, name)
            line = _line(key_node, name)
            if key in values:
                raise ScenarioError(f"{line}: {dotted((*keys, key))}: is given twice")
            where[(*keys, key)] = line
            values[key] = _plain(value_node, (*keys, key), name, where)
        return values
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
        return [_plain(item, (*keys, i), name, where) for i, item in enumerate(node.value)]
    try:
        return _scalar(node)
    except ValueError as error:
        raise ScenarioError(f"{line}: {dotted(keys)}: cannot be read: {error}") from error


def _scalar(node: yaml.Node) -> Any:
    """Return a scalar as YAML 1.2 reads it (``010`` is ten). Raises ``ValueError``."""
    kind, text = node.tag.removeprefix(_CORE), node.value
    if not isinstance(node, yaml.ScalarNode) or kind not in ("str", "int", "float", "bool", "null"):
        raise ValueError(f"the tag {node.tag} is not allowed; write the value without it")
    match kind:
        case "int":
            return int(text, _BASES.get(text[:2], 10))
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "bool" | "null":
            if text.lower() not in _WORDS:
                raise ValueError(f"{reprlib.repr(text)} is not true, false or null")
            return _WORDS[text.lower()]
        case _:
            return _valid_text(text)


def _valid_text(text: str) -> str:
    """Return the text; raise ``ValueError`` for half a surrogate pair, which no file can hold."""
    for character in text:
        if "\ud800" <= character <= "\udfff":
            raise ValueError(
                f"{reprlib.repr(text)} is not valid text: U+{ord(character):04X} is half of a "
                "surrogate pair or a byte that is not UTF-8"
            )
    return text


def _key(node: yaml.Node, name: str) -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag == f"{_CORE}str":
        try:
            return _valid_text(str(node.value))
        except ValueError as error:
            raise ScenarioError(f"{_line(node, name)}: the key {error}") from error
    shown = reprlib.repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
    raise ScenarioError(f"{_line(node, name)}: {shown} is not a key (a word)")


def dump(values: Mapping[str, Any]) -> str:
    """Return plain data as YAML, in its order."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def assign(document: Document, assignment: str, option: str = "--set") -> None:
    """Apply ``KEY.PATH=VALUE`` to a document.

    Args:
        document: Changed in place.
        assignment: VALUE is read as YAML.
        option: Name of the command-line option, for messages.

    Raises:
        ScenarioError: If the assignment is not valid or does not fit the document.
    """
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    where = _oneline(f"{option} {assignment if len(assignment) < 80 else assignment[:77] + '...'}")
    if not equals or not all(keys):
        form = "KEY.PATH=VALUE" if option == "--set" else "KEY=VALUE"
        raise ScenarioError(f"{where}: is not of the form {form}")
    try:
        _valid_text(assignment)
    except ValueError as error:
        raise ScenarioError(f"{where}: {error}") from error
    _put(document, keys, _value(text, where, {}), where)


def assigned(pairs: Iterable[str], option: str) -> dict[str, Any]:
    """Return ``KEY=VALUE`` pairs as a mapping; values are read as YAML. Raises ``ScenarioError``.

    >>> assigned(["budget=20"], "--option")
    {'budget': 20}
    """
    document = Document({})
    for pair in pairs:
        assign(document, pair, option)
    return document.values


def _put(document: Document, keys: list[str], value: Any, where: str) -> None:
    target: Any = document.values
    taken: list[str | int] = []
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        step = _step(target, key, where, taken)
        taken.append(step)
        if last:
            for form in FORMS if step in FORMS else ():
                target.pop(form, None)
            target[step] = value
        elif isinstance(target, list) or isinstance(target.get(step), (dict, list)):
            target = target[step]
        elif keys[position + 1].isdecimal():  # an entry of a list that is not there
            name, entry = dotted(taken), keys[position + 1]
            raise ScenarioError(
                f"{where}: {name}: has no entry {entry}, since the scenario has no list of "
                f"{name}; give the whole list: {name}=[{{KEY: VALUE, ...}}]"
            )
        else:  # a missing section, or a short form that the longer one replaces
            target[step] = target = {}
    document.where = {k: w for k, w in document.where.items() if k[: len(taken)] != tuple(taken)}
    document.where[tuple(taken)] = where
    document.assigned.append(tuple(taken))


def _step(target: Any, key: str, where: str, taken: list[str | int]) -> str | int:
    if isinstance(target, dict):
        return key
    allowed = "nothing below it"
    if isinstance(target, list):
        numbers = {str(number): number for number in range(len(target))}
        words = {name: n for n, each in enumerate(target) if (name := value_of(each, ("name",)))}
        if key in numbers or key in words:
            return (numbers | words)[key]
        allowed = ", ".join([f"0 to {len(target) - 1}", *map(str, words)])
    raise ScenarioError(f"{where}: {dotted(taken)}: has no {key!r} (allowed: {allowed})")
