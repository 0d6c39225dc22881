"""How large figures are, how large their text is, and in which formats they are written."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mecsim.errors import InputError
from mecsim.support.text import did_you_mean

FORMATS: Final = ("pdf", "svg", "png")
WIDTHS: Final = {"column": 3.5, "page": 7.16}
"""Widths in inches by name: a column and a page with two columns, as IEEE journals have them."""
LEAST_WIDTH, MOST_WIDTH = 2.0, 20.0
"""Limits of the width in inches."""
LEAST_FONT, MOST_FONT = 7.0, 24.0
"""Limits of the font size in points."""
LEAST_EMS: Final = 20.0
"""Least width in units of the font size: less has no room for labels."""
_INCHES: Final = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
_LENGTH: Final = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]+)\s*")


@dataclass(frozen=True)
class FigureFormat:
    """The format of figures; by default one for screens, as large as the panels need."""

    formats: Sequence[str] = ("png", "svg")
    width_in: float | None = None
    """Width of the whole figure in inches; None for panels of a fixed size."""
    font_size: float = 9.0
    """Font size in points; small text is one point smaller, but at least 7."""

    @property
    def scale(self) -> float:
        """The size of text in units of that on screens."""
        return self.font_size / 9

    @property
    def small(self) -> float:
        """The font size of notes, legends and tick labels in points."""
        return LEAST_FONT if self.width_in is None else max(LEAST_FONT, self.font_size - 1)

    @property
    def marker(self) -> float:
        """The size of markers in points."""
        return 5.5 if self.width_in is None else 4.5 * self.scale

    @property
    def letter(self) -> float:
        """The mean width of a letter in inches."""
        return 0.062 * self.scale

    def wrapped(self, text: str) -> str:
        """Return a text in lines that fit the width, if it is given."""
        if self.width_in is None:
            return text
        return "\n".join(textwrap.wrap(text, int((self.width_in - 0.6) / self.letter)))

    @property
    def dpi(self) -> int:
        """Dots per inch of PNG files."""
        return 160 if self.width_in is None else 300

    @property
    def parameters(self) -> Any:
        """The parameters of matplotlib (rcParams)."""
        fixed: dict[str, Any] = {
            "svg.hashsalt": "mecsim",
            "svg.fonttype": "none",
            "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
            "font.size": self.font_size,
        }
        if self.width_in is None:
            return fixed
        usual = ("axes.titlesize", "axes.labelsize", "figure.titlesize")
        small = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
        lines = {"axes.linewidth": 0.6, "hatch.linewidth": 0.5}
        return (
            fixed | lines | dict.fromkeys(usual, self.font_size) | dict.fromkeys(small, self.small)
        )


SCREEN: Final = FigureFormat()


def parse_formats(names: Iterable[str], option: str = "--format") -> tuple[str, ...]:
    """Return formats in small letters, each once. Raises ``InputError``.

    >>> parse_formats(["pdf", " SVG", "pdf"])
    ('pdf', 'svg')
    """
    found = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    for name in found:
        if name not in FORMATS:
            hint = did_you_mean(name, FORMATS)
            raise InputError(f"{option}: {name!r} is unknown; {hint}expected {', '.join(FORMATS)}")
    if not found:
        raise InputError(f"{option}: empty list; expected some of {', '.join(FORMATS)}")
    return found


def parse_width(text: str) -> float:
    """Return a width in inches from a name or a length with a unit. Raises ``InputError``.

    >>> parse_width("column"), round(parse_width("88mm"), 3)
    (3.5, 3.465)
    """
    if text in WIDTHS:
        return WIDTHS[text]
    found = _LENGTH.fullmatch(text)
    if found is None or found[2] not in _INCHES:
        names = ", ".join(WIDTHS)
        raise InputError(f"--width {text}: expected {names} or a length such as 3.5in or 88mm")
    width = float(found[1]) * _INCHES[found[2]]
    if not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise InputError(f"--width {text}: expected {LEAST_WIDTH:g}in to {MOST_WIDTH:g}in")
    return width


def figure_format(formats: str, width: str, font_size: float) -> FigureFormat:
    """Return the format that options of the command line describe. Raises ``InputError``."""
    inches = parse_width(width)
    if not LEAST_FONT <= font_size <= MOST_FONT:
        raise InputError(
            f"--font-size {font_size:g}: expected {LEAST_FONT:g} to {MOST_FONT:g} points"
        )
    if 72 * inches < LEAST_EMS * font_size:
        raise InputError(
            f"--font-size {font_size:g}: too large for --width {width}; expected at most "
            f"{72 * inches / LEAST_EMS:.3g} points"
        )
    return FigureFormat(parse_formats(formats.split(",")), inches, font_size)
