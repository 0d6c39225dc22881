"""The timeline of a window: services as bars, and a task followed from hop to hop."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from bokeh.models import (
    BooleanFilter,
    BoxZoomTool,
    CDSView,
    ColumnDataSource,
    FixedTicker,
    Range1d,
    TapTool,
)
from numpy.typing import NDArray

from mecsim.errors import InputError
from mecsim.model.model import KINDS
from mecsim.report.figures import HATCHES, PARTS, hover, line_tags, make_figure
from mecsim.report.page import Chart, Key, TaskPath, Text
from mecsim.report.recording import Recording, services_between
from mecsim.scenario.units import parse
from mecsim.support.arrays import Floats
from mecsim.support.text import number

MOST_SERVICES: Final = 3000
MOST_ROWS: Final = 60
ROW_HEIGHT: Final = 15
_TILTS: Final = dict(zip(PARTS, HATCHES, strict=False))
_NODE: Final = re.compile(r"\.(cpu|uplink|downlink)$")
"""What follows the name of a node in that of a resource."""
_LANES: Final = {"uplink": 0.33, "downlink": -0.33}
Columns: TypeAlias = dict[str, NDArray[Any]]


def parse_window(text: str) -> tuple[float, float]:
    """Return begin and end of a window in seconds.

    >>> parse_window("100s:2 min")
    (100.0, 120.0)

    Raises:
        InputError: It is not BEGIN:END with BEGIN < END.
    """
    wanted = "expected BEGIN:END, two times with BEGIN < END, such as 100s:120s"
    begin, colon, end = text.partition(":")
    try:
        window = parse(begin.strip(), "s"), parse(end.strip(), "s")
    except ValueError as error:
        raise InputError(f"--window: {text!r}: {error}; {wanted}") from error
    if not colon or not 0 <= window[0] < window[1] < np.inf:
        raise InputError(f"--window: {text!r}; {wanted}")
    return window


def timeline(
    recording: Recording, window: tuple[float, float] | None
) -> list[Chart | TaskPath | Text]:
    """Return the timeline of a window; by default that of the slot with the most tasks."""
    begin_s, end_s = window or _busy_window(recording)
    found, total = services_between(recording, begin_s, end_s, MOST_SERVICES)
    where = f"{number(begin_s)} s to {number(end_s)} s"
    if not total:
        return [Text(f"No service is in the window from {where}.", alert=True)]
    if total > MOST_SERVICES:
        end_s = float(found["start_s"][-1])
    rows = _rows(recording, found)
    plot = _draw(recording, found, rows, (begin_s, end_s))
    notes = [f"The window from {where} has {total:,} services."]
    if total > MOST_SERVICES:
        notes.append(f"The first {MOST_SERVICES:,} are drawn, up to {number(end_s)} s.")
    if rows.drawn < len(rows.y):
        notes.append(f"The {rows.drawn} busiest of {len(rows.y):,} nodes and links have a row.")
    notes.append(
        "Zoom with the tools above the figure. Select a service, or enter the number of a task, to "
        "follow the task: the line runs from enqueueing over start to finish at each resource, and "
        "its marks have the number of the block. Choose another window with --window."
    )
    kinds = np.unique(recording.model.resources.kind[found["resource"]])
    keys = [
        Key(f"{KINDS[kind]}s", PARTS[KINDS[kind]][0], hatch=_TILTS[KINDS[kind]] or " ")
        for kind in kinds
    ]
    chart = Chart(
        "timeline", f"Services from {number(begin_s)} s to {number(end_s)} s",
        "Services as bars over time, a row for each resource. The table below lists the hops of "
        "the chosen task.", plot, keys,
    )  # fmt: skip
    return [Text(" ".join(notes)), chart, TaskPath("timeline", _first_task(found))]


def _first_task(found: Columns) -> int:
    """Return the task with the most hops in the window, the first of equals."""
    return Counter(found["task"].tolist()).most_common(1)[0][0]


def _busy_window(recording: Recording) -> tuple[float, float]:
    """Return when the slot with the most tasks began, and when its tasks had ended."""
    released = recording.trace.read("slots", "released")
    if not len(released):
        return 0.0, max(recording.end_s, 1.0)
    slot = int(released.argmax())
    first = int(released[:slot].sum())
    finish_s = recording.trace.read("tasks", "finish_s", first, first + int(released[slot]))
    begin_s = float(recording.slot_s[slot])
    end_s = float(finish_s.max(initial=begin_s))
    return begin_s, end_s if end_s > begin_s else begin_s + recording.trace.scenario.slot_length


def _nodes(recording: Recording) -> NDArray[np.int64]:
    """Return the node of each resource: a server, a link, or a device with its radio."""
    places = recording.model.resources
    node = np.arange(len(places))
    for first in (places.uplink, places.downlink):
        node[first : first + places.devices] = places.device + np.arange(places.devices)
    node[places.link :] = places.servers + np.arange(places.links) - places.links  # below servers
    node[: places.servers] -= places.links + places.servers
    return node


@dataclass(frozen=True)
class _Rows:
    """The rows of the timeline: one for each node."""

    y: Mapping[int, float]
    """Position of the nodes; NaN for those without a row."""
    labels: Mapping[float, str]
    drawn: int


def _rows(recording: Recording, found: Columns) -> _Rows:
    """Return a row for the nodes that are busy longest."""
    node = _nodes(recording)[found["resource"]]
    names = dict(zip(node.tolist(), found["resource"].tolist(), strict=True))
    busy: Counter[int] = Counter(dict.fromkeys(names, 0))
    for each, seconds in zip(node.tolist(), _service_s(found).tolist(), strict=True):
        busy[each] += seconds
    chosen = sorted(each for each, _ in busy.most_common(MOST_ROWS))
    y = dict.fromkeys(names, float("nan"))
    y |= {each: -float(place) for place, each in enumerate(chosen)}
    labels = {y[each]: _short(_NODE.sub("", recording.names[names[each]])) for each in chosen}
    return _Rows(y, labels, len(chosen))


def _service_s(found: Columns) -> Any:
    return found["finish_s"] - found["start_s"]


def _lanes(recording: Recording, found: Columns) -> tuple[Floats, Floats]:
    """Return offset and height of each bar in its row.

    A device has its uplink above its processor, and its downlink below. The cores of a server have
    a lane each.
    """
    kind = recording.model.resources.kind[found["resource"]]
    offset = np.select([kind == KINDS.index(each) for each in _LANES], [*_LANES.values()], 0.0)
    height = np.where(kind == KINDS.index("device"), 0.4, np.where(offset != 0, 0.22, 0.8))
    free: dict[int, list[tuple[float, int]]] = {}
    columns = (found[name].tolist() for name in ("resource", "finish_s"))
    for row, (resource, finish_s) in enumerate(zip(*columns, strict=True)):
        lanes = int(recording.model.capacity[resource])
        if lanes > 1:
            taken = free.setdefault(resource, [(-np.inf, lane) for lane in range(lanes)])
            free_s, lane = heapq.heappop(taken)
            heapq.heappush(taken, (max(finish_s, free_s), lane))
            height[row] = 0.8 / lanes
            offset[row] = 0.4 - height[row] * (lane + 0.5)
    return offset, height


def _draw(recording: Recording, found: Columns, rows: _Rows, window: tuple[float, float]) -> Any:
    names, kind = recording.names, recording.model.resources.kind[found["resource"]]
    plot = make_figure(
        "timeline", "time (s)", "", 110 + ROW_HEIGHT * max(rows.drawn, 6),
        x_range=Range1d(*window), y_range=Range1d(-rows.drawn + 0.3, 0.7),
    )  # fmt: skip
    plot.yaxis.ticker = FixedTicker(ticks=list(rows.labels))
    plot.yaxis.major_label_overrides = dict(rows.labels)
    plot.yaxis.major_label_text_font_size = "11px"
    plot.yaxis.axis_label = None
    offset, height = _lanes(recording, found)
    node = _nodes(recording)[found["resource"]].tolist()
    source = ColumnDataSource(name="services", data={
        "task": found["task"].astype(np.int32), "block": found["block"].astype(np.int32),
        "enqueue": found["enqueue_s"], "start": found["start_s"], "finish": found["finish_s"],
        "wait": found["start_s"] - found["enqueue_s"], "service": _service_s(found),
        "number": found["block"].astype(np.int32),
        "y": np.array([rows.y[each] for each in node]) + offset, "height": height,
        "resource": [names[each] for each in found["resource"]],
    })  # fmt: skip
    bars = [_draw_bars(plot, source, KINDS[each], kind == each) for each in np.unique(kind)]
    _draw_path(plot)
    hover(plot, bars, [
        ("task", "@task"), ("block", "@number"), ("resource", "@resource"),
        ("wait", "@wait{0.[0000]} s"), ("service", "@service{0.[0000]} s"),
        ("from", "@start{0,0.[0000]} s"), ("to", "@finish{0,0.[0000]} s"),
    ])  # fmt: skip
    plot.add_tools(TapTool(renderers=bars), BoxZoomTool(dimensions="width"))
    return plot


def _draw_bars(plot: Any, source: ColumnDataSource, kind: str, rows: Any) -> Any:
    return plot.hbar(
        y="y", left="start", right="finish", height="height", source=source,
        view=CDSView(filter=BooleanFilter(booleans=rows.tolist())), fill_color=PARTS[kind][0],
        line_color="#ffffff", line_width=0.5, hatch_pattern=_TILTS[kind] or None,
        hatch_color="#000000", hatch_alpha=0.4, hatch_scale=6, nonselection_fill_alpha=0.45,
        nonselection_hatch_alpha=0.1, tags=line_tags(f"{kind}s"),
    )  # fmt: skip


def _draw_path(plot: Any) -> None:
    """Add the path of a task; the page fills it in."""
    path = ColumnDataSource({"x": [], "y": []}, name="path")
    starts = ColumnDataSource({"x": [], "y": [], "text": []}, name="path-starts")
    plot.line("x", "y", source=path, line_width=2).glyph.tags = ["ink"]
    plot.scatter("x", "y", source=starts, size=7).glyph.tags = ["ink"]
    plot.text(
        "x", "y", source=starts, text="text", x_offset=4, y_offset=-3, text_font_size="11px",
        text_font_style="bold",
    ).glyph.tags = ["ink"]  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"
