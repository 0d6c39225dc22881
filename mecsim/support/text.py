"""Numbers and suggestions as text."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import takewhile
from typing import Any, Final

_MOST_HINTS: Final = 3
_log = logging.getLogger(__name__)


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


def error_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message.

    >>> error_line(ValueError("no weights", "at all"))
    "ValueError: ('no weights', 'at all')"
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def value_text(value: Any) -> str:
    """Return a value of a scenario or an option as a user writes it in one line.

    >>> value_text(["4 GHz", 2]), value_text({"uniform": [1, 2]}), value_text(True)
    ('[4 GHz, 2]', '{uniform: [1, 2]}', 'true')
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {value_text(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name, to be put before what is allowed.

    Args:
        name: The name that is not known.
        known: The names that are.

    Returns:
        A question with a space after it, or nothing if no known name is similar. Of equally similar
        names it has those with the longest common beginning, at most three.

    Example:
        >>> did_you_mean("greedi", ["edge", "greedy", "local"])
        "did you mean 'greedy'? "
        >>> did_you_mean("conv1", ["conv1_1", "conv1_2", "conv5_1"])
        "did you mean 'conv1_1' or 'conv1_2'? "
        >>> did_you_mean("lookahead", ["edge", "greedy", "local"])
        ''
    """
    names = list(dict.fromkeys(known))
    scores: dict[str, tuple[float, int]] = {}
    for each in difflib.get_close_matches(name, names, n=max(1, len(names))):
        alike = difflib.SequenceMatcher(None, each, name).ratio()
        beginning = takewhile(lambda pair: pair[0] == pair[1], zip(each, name, strict=False))
        scores[each] = (alike, len(list(beginning)))
    best = max(scores.values(), default=None)
    close = [each for each in names if each in scores and scores[each] == best][:_MOST_HINTS]
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


@cache
def warn_once(message: str) -> None:
    """Log a warning once in a process: a comparison loads a scenario for each of its points."""
    _log.warning("%s", message)
