"""Validation errors of a scenario in the words of the person who wrote it."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mecsim.scenario import yaml_source
from mecsim.scenario.document import in_yaml
from mecsim.scenario.section import UnknownKey
from mecsim.support.validation import faults, in_words


def messages(document: yaml_source.Document, error: ValidationError) -> list[str]:
    """Return one line for each faulty value: file and line, key, value, what is allowed.

    Args:
        document: The values that were validated, and where each of them was written.
        error: What pydantic found.
    """
    found: dict[str, list[str]] = {}
    for details in faults(error):
        keys = _keys_in(document.values, details)
        path = ".".join(str(key) for key in keys) or "scenario"
        subject = f"{document.locate(keys)}: {path}: {_shown(document.values, keys, details)}"
        found.setdefault(subject, []).append(_problem(details))
    return [subject + "; or ".join(dict.fromkeys(texts)) for subject, texts in found.items()]


def _shown(values: Any, keys: yaml_source.Keys, details: ErrorDetails) -> str:
    """Return the faulty value as it was written and a space, or nothing where it does not help."""
    value = details["input"]
    if details["type"] in ("extra_forbidden", "missing", "fault"):
        return ""
    for key in keys:
        values = values[key]
        value = values
    if details["type"] == "value_error" and isinstance(value, dict):
        return ""
    return in_yaml(reprlib.repr(list(value) if isinstance(value, tuple) else value)) + " "


def _problem(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "union_tag_invalid":
        return f"is not known; allowed: {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"needs {context['discriminator']} to say what it is"
    if kind in ("model_type", "model_attributes_type"):
        return "should be a mapping of keys to values"
    if kind == "extra_forbidden" and isinstance(details["input"], UnknownKey):
        return details["input"].problem(str(details["loc"][-1]))
    return in_words(details)


def _keys_in(values: Any, details: ErrorDetails) -> yaml_source.Keys:
    """Drop from pydantic's location the names of union members, which are no keys of the data."""
    keys: list[str | int] = []
    for step in details["loc"]:
        if isinstance(values, dict) and step in (values.get(key) for key in yaml_source.UNION_KEYS):
            continue
        if yaml_source.holds(values, step):
            values = values[step]
            keys.append(step)
    context = details.get("ctx", {})
    more: dict[str, Sequence[Any]] = {
        "missing": details["loc"][-1:],
        "fault": context.get("keys", ()),
        "union_tag_invalid": (str(context.get("discriminator")).strip("'"),),
    }
    return (*keys, *more.get(details["type"], ()))
