"""Errors of pydantic in plain words, for messages about files, options and settings."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def faults(error: ValidationError) -> Iterator[ErrorDetails]:
    """Yield the faults of a validation, without those that only follow from others.

    A list whose entries are wrong counts as too short for pydantic; the entries have faults of
    their own.
    """
    for details in error.errors(include_url=False):
        least = details.get("ctx", {}).get("min_length", 0)
        if details["type"] != "too_short" or len(details["input"]) < least:
            yield details


def in_words(details: ErrorDetails) -> str:
    """Return what is wrong with a value and what is allowed, to be put after the value.

    Example:
        >>> from pydantic import TypeAdapter
        >>> try:
        ...     TypeAdapter(int).validate_python("many")
        ... except ValidationError as error:
        ...     [in_words(details) for details in faults(error)]
        ['should be a valid integer, unable to parse string as an integer']
    """
    if details["type"] == "missing":
        return "is missing"
    text = details["msg"].removeprefix("Value error, ")
    for subject in ("Input", "Tuple", "List", "String"):
        text = text.replace(f"{subject} should", "should")
    for technical in ("valid tuple", "valid array"):
        text = text.replace(technical, "list")
    return text.replace(" after validation", "").replace("1 items", "1 item")


def first_fault(error: ValidationError, *above: str) -> str:
    """Return the first fault in one line: path of the key, value, what is allowed.

    Args:
        error: The errors of a validation.
        *above: Keys that lead to what was validated.
    """
    details = next(faults(error))
    path = ".".join(str(step) for step in (*above, *details["loc"])) or "the document"
    shown = "" if details["type"] == "missing" else f"{reprlib.repr(details['input'])} "
    return f"{path}: {shown}{in_words(details)}"
