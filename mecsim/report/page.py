"""The page of a report: sections of text, tables and charts, in one HTML file without a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mecsim.errors import InputError
from mecsim.support.text import number

if TYPE_CHECKING:
    from bokeh.models import Plot

INSTALL: Final = "reports need Bokeh; install it with pip install 'mecsim[report]'"


def need_bokeh() -> None:
    """Raise ``InputError`` if Bokeh is missing."""
    try:
        import bokeh  # noqa: F401, PLC0415 - slow to import
        import jinja2  # noqa: F401, PLC0415
    except ImportError as error:
        raise InputError(INSTALL) from error


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    value: float | None = None
    """The exact number, by which columns are sorted; None for a text."""
    colour: str = ""
    """Colour of a mark in front of the text, which the text never depends on."""

    @property
    def exact(self) -> str:
        """The number with all its digits, or nothing."""
        return "" if self.value is None else repr(self.value)


def quantity(value: float | None, text: str | None = None) -> Cell:
    """Return a cell with a number as :func:`number` formats it.

    >>> quantity(0.123456)
    Cell(text='0.1235', value=0.123456, colour='')
    """
    return Cell(number(value) if text is None else text, value)


@dataclass(frozen=True)
class Table:
    """A table with a caption; columns after the first ``texts`` are numbers."""

    kind: ClassVar = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    texts: int = 1
    name: str = ""
    """Its identifier in the page."""
    filterable: bool = False
    filters: Sequence[int] = ()
    """Columns whose values can be chosen from a list."""
    wide: bool = True
    """Take the width of the page; two blocks that are not wide are next to each other."""

    @property
    def cells(self) -> list[list[Cell]]:
        """All rows as cells."""
        return [[x if isinstance(x, Cell) else Cell(x) for x in row] for row in self.rows]

    @property
    def options(self) -> list[tuple[int, str, list[str]]]:
        """Number, title and values of each column with a list."""
        cells = self.cells
        return [
            (column, self.head[column], list(dict.fromkeys(row[column].text for row in cells)))
            for column in self.filters
        ]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str
    alert: bool = False


@dataclass(frozen=True)
class Listing:
    """Text as it is, such as a scenario, folded up."""

    kind: ClassVar = "listing"
    title: str
    text: str


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a name with its colour, dashes, marker or hatch."""

    label: str
    colour: str
    dash: Sequence[float] = ()
    marker: str = ""
    hatch: str = ""
    hollow: bool = False
    """Draw the outline of the marker only."""
    angle: float = 0
    """Degrees by which the marker is turned counterclockwise."""
    shown: bool = True
    """Whether it is shown when the page is opened."""


@dataclass(frozen=True)
class Chart:
    """A figure with its legend.

    A renderer with the tag ``line:LABEL`` is shown while its key is checked, one with
    ``choice:NAME`` while that choice is selected.
    """

    kind: ClassVar = "chart"
    name: str
    title: str
    alt: str
    """What the figure shows, for readers who do not see it."""
    plot: Plot
    keys: Sequence[Key] = ()
    choices: Sequence[str] = ()
    choice_label: str = ""
    wide: bool = True

    @property
    def data(self) -> str:
        """The figure as JSON for Bokeh."""
        from bokeh.core.json_encoder import serialize_json  # noqa: PLC0415 - slow to import
        from bokeh.embed import json_item  # noqa: PLC0415

        return script_json(serialize_json(json_item(self.plot, self.name)))


@dataclass(frozen=True)
class TaskPath:
    """A field for the number of a task, whose hops a chart draws and a table lists."""

    kind: ClassVar = "path"
    chart: str
    first: int
    """The task that is shown when the page is opened."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    name: str
    title: str
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Page:
    """A report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the page was made from, for programs that read it."""


def script_json(text: str) -> str:
    r"""Return JSON that can stand inside a script element.

    >>> script_json('{"a": "</script>"}')
    '{"a": "\\u003c/script>"}'
    """
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def render(page: Page) -> str:
    """Return the page as HTML: Bokeh, styles and data are in it, and it loads nothing."""
    from bokeh.resources import Resources  # noqa: PLC0415 - slow to import
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    charts = any(block.kind == "chart" for section in page.sections for block in section.blocks)
    bokeh = Resources(mode="inline", components=["bokeh"]).js_raw if charts else []
    return environment.from_string(_asset("page.html")).render(
        page=page,
        sections=page.sections,
        facts=Markup(script_json(json.dumps(page.facts, default=str))),
        style=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
        bokeh=[Markup(script) for script in bokeh],
        trusted=Markup,
        swatch=_swatch,
        version=version("mecsim"),
    )


def _asset(name: str) -> str:
    return (resources.files("mecsim.report") / name).read_text(encoding="utf-8")


def _swatch(key: Key) -> dict[str, Any]:
    """Return the attributes of the drawing of a key."""
    return {"dash": " ".join(f"{each:g}" for each in key.dash), "marker": MARKERS.get(key.marker)}


MARKERS: Final = {
    "circle": "M12 6m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "square": "M8 2h8v8h-8z",
    "triangle": "M12 1.5L16.5 10H7.5z",
    "inverted_triangle": "M12 10.5L16.5 2H7.5z",
    "diamond": "M12 1L17 6L12 11L7 6z",
    "plus": "M12 1v10M7 6h10",
    "x": "M8 2l8 8M16 2l-8 8",
    "star": "M12 1l1.4 3.4 3.6.3-2.8 2.3.9 3.6-3.1-2-3.1 2 .9-3.6L7 4.7l3.6-.3z",
    "hex": "M12 1.5l4 2.2v4.6l-4 2.2-4-2.2V3.7z",
    "asterisk": "M12 1v10M7.5 3.5l9 5M16.5 3.5l-9 5",
    "cross": "M12 1v10M7 6h10",
    "circle_dot": "M12 6m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0M12 5.5v1",
    "square_pin": "M7.5 1.5Q12 4 16.5 1.5Q14 6 16.5 10.5Q12 8 7.5 10.5Q10 6 7.5 1.5z",
    "triangle_pin": "M12 1Q13 6.5 17 10Q12 8 7 10Q11 6.5 12 1z",
    "y": "M12 6v5M12 6L7.7 3.5M12 6L16.3 3.5",
}
"""Outlines of Bokeh's markers in a box of 24 × 12."""


def names(labels: Iterable[str], most: int) -> str:
    """Return the first labels in one line, and how many there are.

    >>> names(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    every = list(labels)
    rest = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest
