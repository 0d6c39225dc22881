"""Numbers and suggestions as text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def number(value: float | None) -> str:
    """Return a number as people read it: four significant digits, thousands grouped."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def hint(name: str, known: Iterable[str]) -> str:
    """Return what a misspelt name may have meant, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
