"""Numbers and suggestions as text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def number(value: float | None) -> str:
    """Format a number for tables: four significant digits, thousands grouped, a dash for None.

    Example:
        >>> [number(value) for value in (None, 0.123456, 36000.0, 1.5e9)]
        ['–', '0.1235', '36,000', '1.50e+09']
    """
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


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
