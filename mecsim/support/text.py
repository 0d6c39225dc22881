"""Numbers and suggestions as text."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any


def number(value: float | None) -> str:
    """Format a number for tables: four significant digits, thousands grouped, a dash for None.

    Example:
        >>> [number(value) for value in (None, 0.123456, 36000.0, 1.5e9)]
        ['–', '0.1235', '36,000', '1.50e+09']
    """
    if value is None or math.isnan(value):
        return "–"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def finite(document: Any) -> Any:
    """Return a JSON document with None for numbers that JSON lacks: infinity and NaN.

    Results have them only where a number exceeds 1.8e308, the largest that a float holds.

    >>> finite({"reward": float("-inf"), "delays": (1.5, 2)})
    {'reward': None, 'delays': [1.5, 2]}
    """
    if isinstance(document, Mapping):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name, to be put before what is allowed.

    Args:
        name: The name that is not known.
        known: The names that are.

    Returns:
        A question with a space after it, or nothing if no known name is similar.

    Example:
        >>> did_you_mean("greedi", ["edge", "greedy", "local"])
        "did you mean 'greedy'? "
        >>> did_you_mean("lookahead", ["edge", "greedy", "local"])
        ''
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
