"""The style of each scheduler, the same in every figure.

Each shipped scheduler has its own colour and marker. Most colours are those of Okabe and
Ito, which colour-blind readers can distinguish. Markers and line styles distinguish schedulers in a
black and white print.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

from mecsim.study.competitors import BOUND


class Style(NamedTuple):
    """How the line of a scheduler is drawn, in matplotlib's notation."""

    colour: str
    marker: str
    line: str
    hollow: bool = False
    """Draw the outline of the marker only."""

    @property
    def hatch(self) -> str:
        """The pattern of a bar, which distinguishes bars as the marker does lines."""
        return _HATCHES.get(self.marker, "")

    @property
    def dashes(self) -> tuple[float, tuple[float, ...]]:
        """The dashes of a distribution, whose lines cross more often than others."""
        order = list(_HATCHES).index(self.marker) if self.marker in _HATCHES else 0
        return 0, _DASHES[order % len(_DASHES)]


_HATCHES: Final = {
    "o": "", "s": "//", "^": r"\\\\", "D": "xx", "v": "..", "P": "++", "X": "--", "*": "||",
    "<": "oo", ">": "**", "d": "OO", "h": "/.", "p": r"\\.", "H": "x.", "8": "-.", "x": "|.",
    "+": "+.", "1": "/o", "2": r"\\o", "3": "-o", "": "-",
}  # fmt: skip
"""Markers to patterns."""
_DASHES: Final = (
    (),
    (5, 1.5),
    (1, 1),
    (6, 1.5, 1, 1.5),
    (3, 1),
    (8, 2, 1, 1, 1, 2),
    (2, 2),
    (10, 2),
    (4, 1, 1, 1, 1, 1),
)

STYLES: Final = {
    "mtl-a3c": Style("#D55E00", "o", "-"),
    "a3c": Style("#0072B2", "s", "-"),
    "dqn": Style("#009E73", "^", "-"),
    "sb3": Style("#FF8778", "4", "-"),
    "greedy": Style("#E69F00", "D", "--"),
    "apdi": Style("#56B4E9", "v", "--"),
    "rpdi": Style("#CC79A7", "P", "--"),
    "single-cut": Style("#808080", "X", "-."),
    "lookahead": Style("#000000", "*", "-."),
    "local": Style("#8C510A", "<", ":"),
    "edge": Style("#B5B000", ">", ":"),
    "viterbi": Style("#5E3C99", "d", "-."),
    "fixed": Style("#A50026", "h", ":"),
    BOUND: Style("#3B4C5C", "", ":"),
}
OTHERS: Final = [
    Style("#0000F2", "p", "-"),
    Style("#F200C9", "H", "-"),
    Style("#008C00", "8", "-"),
    Style("#4E661E", "x", "--"),
    Style("#9D48F2", "+", ":"),
    Style("#0079F2", "1", "--"),
    Style("#F20079", "2", "--"),
    Style("#8C005D", "3", ":"),
]
"""For all other schedulers: colours and markers that no shipped scheduler has. Similar colours have
different lines."""

_LINES: Final = ("-", "--", ":", "-.")
_VARIANT: Final = re.compile(r"(.+?)(?:[,:].*| tuned| \(.*\)| \d.*)")
"""A scheduler with a remark (``dqn, …``, ``dqn (…)``), with options (``dqn:…``), with tuned
settings, or with a number (``dqn 2``)."""


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Return the style of each label.

    A shipped scheduler has its own. A variant of it, such as ``dqn tuned``, has its colour and a
    hollow marker. Any other label has a style that follows from its text, so that it is the same in
    every figure; if two labels share it, the second takes the next one.
    """
    found: dict[str, Style] = {}
    variants: dict[str, int] = {}
    for label in labels:
        name = shipped_name(label)
        if name is not None and name == label:
            found[label] = STYLES[name]
        elif name is not None:
            variants[name] = variants.get(name, 0) + 1
            found[label] = _variant(STYLES[name], variants[name])
    every = found | _others(sorted({label for label in labels if label not in found}))
    return {label: every[label] for label in labels}


def shipped_name(label: str) -> str | None:
    """Return the shipped scheduler of a label, or None."""
    if label in STYLES:
        return label
    variant = _VARIANT.fullmatch(label)
    return variant[1] if variant and variant[1] in STYLES else None


def _variant(style: Style, number: int) -> Style:
    """Return the style of the n-th variant of a scheduler, from 1."""
    lines = [line for line in _LINES if line != style.line]
    turn, place = divmod(number - 1, len(lines))
    marker = style.marker if not turn else OTHERS[turn % 3].marker
    return Style(style.colour, marker, lines[place], hollow=True)


def _others(labels: Sequence[str]) -> dict[str, Style]:
    """Return a style for each label; more labels than colours get other line styles."""
    count, lines = len(OTHERS), len(_LINES)
    found: dict[str, Style] = {}
    taken: set[tuple[int, int]] = set()
    for label in labels:
        first = crc32(label.encode())
        order = [((first + step) % count, turn) for turn in range(lines) for step in range(count)]
        place, turn = next((each for each in order if each not in taken), order[0])
        taken.add((place, turn))
        style = OTHERS[place]
        found[label] = style._replace(line=_LINES[(_LINES.index(style.line) + turn) % lines])
    return found
