"""Errors of pydantic in plain words, for messages about files, options and settings."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema


class Within:
    """Pydantic annotation: bounds of a number, both of which a message names."""

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        above: float | None = None,
    ) -> None:
        """Give the bounds.

        Args:
            low: The least value.
            high: The greatest value.
            above: All values are greater. With ``low``, it is the bound that the JSON Schema gives.
        """
        self._low, self._high, self._above = low, high, above

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Put the bounds behind the type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Add the bounds to the schema of the type."""
        low = self._low if self._above is None else None
        bounds = {"minimum": low, "maximum": self._high, "exclusiveMinimum": self._above}
        return handler(schema) | {key: each for key, each in bounds.items() if each is not None}

    def _check(self, value: float) -> float:
        low, high, above = self._low, self._high, self._above
        if (
            (low is not None and value < low)
            or (high is not None and value > high)
            or (above is not None and value <= above)
        ):
            raise ValueError(f"should be {self.words()}")
        return value

    def words(self) -> str:
        """Return the bounds in words."""
        upper = "" if self._high is None else f" and at most {_short(self._high)}"
        if self._low is None:
            return f"above {_short(self._above or 0)}{upper}"
        if self._high is None:
            return f"at least {_short(self._low)}"
        return f"from {_short(self._low)} to {_short(self._high)}"


def _short(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


_EXACT: Final = 2**53
"""All integers up to this are exact as floats."""


def _whole(value: object) -> object:
    """Return a float without a fraction as an integer, anything else as it is."""
    exact = isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT
    return int(value) if exact and isinstance(value, float) else value


Whole: Final = BeforeValidator(_whole)
"""Pydantic annotation: an integer that may be written as ``12.5e6``."""

_BOUNDS: Final = {
    "greater_than_equal": ("greater than or equal to", "at least"),
    "less_than_equal": ("less than or equal to", "at most"),
    "greater_than": ("greater than", "above"),
    "less_than": ("less than", "below"),
}
"""Pydantic's name of an error, its words for the bound, and those of :class:`Within`."""


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
    for subject in ("Input", "Tuple", "List", "String", "Dictionary"):
        text = text.replace(f"{subject} should", "should")
    for theirs, ours in _BOUNDS.values():
        text = text.replace(f"should be {theirs}", f"should be {ours}")
    for technical in ("valid tuple", "valid array"):
        text = text.replace(technical, "list")
    text = text.replace("valid dictionary", "mapping of keys to values")
    return text.replace(" after validation", "").replace("1 items", "1 item")


def first_fault(error: ValidationError, *above: str, declared: Any = None) -> str:
    """Return the first fault in one line: path of the key, value, what is allowed.

    Args:
        error: The errors of a validation.
        *above: Keys that lead to what was validated.
        declared: The annotation of what was validated; gives both bounds of a number.
    """
    details = next(faults(error))
    path = ".".join(str(step) for step in (*above, *details["loc"])) or "the document"
    shown = "" if details["type"] == "missing" else f"{reprlib.repr(details['input'])} "
    bounds = _declared_bounds(declared) if details["type"] in _BOUNDS else None
    problem = in_words(details) if bounds is None else f"should be {bounds.words()}"
    return f"{path}: {shown}{problem}"


def _declared_bounds(annotation: Any) -> Within | None:
    """Return the bounds that pydantic's ``Field`` or its constraints put into an annotation."""
    bounds: dict[str, float] = {}
    for item in getattr(annotation, "__metadata__", ()):
        for each in (item, *getattr(item, "metadata", ())):
            for name, ours in (("ge", "low"), ("le", "high"), ("gt", "above")):
                if getattr(each, name, None) is not None:
                    bounds[ours] = getattr(each, name)
    return Within(**bounds) if bounds else None
