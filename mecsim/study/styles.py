"""The style of each scheduler, the same in every figure.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish; markers and line
styles distinguish schedulers in a black and white print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mecsim.study.summary import BOUND

_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _RED, _PURPLE, _GREY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#777777"


class Style(NamedTuple):
    """How the line of a scheduler is drawn, in matplotlib's notation."""

    colour: str
    marker: str
    line: str


STYLES: Final = {
    "mtl-a3c": Style(_RED, "o", "-"),
    "a3c": Style(_BLUE, "s", "-"),
    "dqn": Style(_GREEN, "^", "-"),
    "greedy": Style(_ORANGE, "D", "--"),
    "apdi": Style(_SKY, "v", "--"),
    "rpdi": Style(_PURPLE, "P", "--"),
    "single-cut": Style(_GREY, "X", "-."),
    "lookahead": Style(_BLACK, "*", "-."),
    "local": Style(_YELLOW, "<", ":"),
    "edge": Style(_YELLOW, ">", ":"),
    "viterbi": Style(_GREY, "d", ":"),
    "fixed": Style(_SKY, "h", ":"),
    BOUND: Style(_BLACK, "", ":"),
}
_OTHERS: Final = [
    Style(colour, marker, line)
    for line in ("-", "--", "-.", ":")
    for colour, marker in zip(
        (_RED, _BLUE, _GREEN, _ORANGE, _SKY, _PURPLE, _GREY, _BLACK), "os^DvPX*", strict=True
    )
]


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Return the style of each label: that of the scheduler if it is shipped, else a free one."""
    known = {label: _style(label) for label in labels}
    unknown = [label for label, style in known.items() if style is None]
    taken = {style[:2] for style in known.values() if style is not None}
    free = sorted(_OTHERS, key=lambda style: style[:2] in taken)
    others = {label: free[place % len(free)] for place, label in enumerate(unknown)}
    return {label: style or others[label] for label, style in known.items()}


def _style(label: str) -> Style | None:
    """Return the style of a shipped scheduler, dotted if its label has a remark (``dqn, …``)."""
    name, comma, _ = label.partition(", ")
    style = STYLES.get(name)
    return style._replace(line=":") if style and comma else style
