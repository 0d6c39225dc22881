"""Plain data of a scenario, and the place where each value was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Keys: TypeAlias = tuple[str | int, ...]

KIND_KEYS: Final = ("process", "distribution", "topology")
"""Keys that give the kind of a mapping. A different kind replaces the whole mapping."""

FORMS: Final = ("repeat", "uniform", "series", "mahimahi", "steps")
"""Keys that give the form of a mapping of values. A different form replaces the whole mapping."""

FORMULA: Final = "formula"
"""What service times are where none are measured: cycles / capacity."""


@dataclass
class Document:
    """Plain data and the place where each value was written.

    Attributes:
        values: Nested dictionaries and lists.
        where: The place of each path of keys, as ``file:line`` or the text of an option.
        assigned: The paths of keys that options such as ``--set`` gave.
    """

    values: dict[str, Any]
    where: dict[Keys, str] = field(default_factory=dict)
    assigned: list[Keys] = field(default_factory=list)

    def locate(self, keys: Keys) -> str:
        """Return where ``keys``, or the nearest thing above it, was written."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.where:
                return self.where[keys[:end]]
        return ""

    def value(self, keys: Keys) -> Any:
        """Return the value of ``keys``; None where there is none."""
        return value_of(self.values, keys)

    def is_assigned(self, keys: Keys) -> bool:
        """Return whether an option gave ``keys``, something above it or something in it."""
        return any(
            given[: len(keys)] == keys or keys[: len(given)] == given for given in self.assigned
        )

    def drop(self, keys: Keys) -> None:
        """Remove a key and all below it."""
        section = value_of(self.values, keys[:-1])
        if isinstance(section, dict):
            section.pop(keys[-1], None)
        self.where = {k: w for k, w in self.where.items() if k[: len(keys)] != keys}


def dotted(keys: Iterable[str | int]) -> str:
    """Return a path of keys as people write it."""
    return ".".join(str(key) for key in keys)


def in_yaml(text: str) -> str:
    """Return Python's text of a value as a scenario has it: ``true`` for ``True``."""
    words = {"None": "null", "True": "true", "False": "false", "nan": ".nan", "inf": ".inf"}
    return words.get(text, text)


def holds(values: Any, key: str | int) -> bool:
    """Return whether a mapping or a list has ``values[key]``."""
    if isinstance(values, dict):
        return key in values
    return isinstance(values, list | tuple) and isinstance(key, int) and 0 <= key < len(values)


def value_of(values: Any, keys: Keys) -> Any:
    """Return the value of a path of keys in nested data; None where there is none."""
    for key in keys:
        if not holds(values, key):
            return None
        values = values[key]
    return values


def merge(base: Document, over: Document) -> Document:
    """Return a document with the values of another one put over it."""
    values = _merged(base.values, over.values)
    kept = {keys: line for keys, line in base.where.items() if _has(values, keys)}
    return Document(values, kept | over.where)


def _has(values: Any, keys: Keys) -> bool:
    for key in keys:
        if not holds(values, key):
            return False
        values = values[key]
    return True


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
