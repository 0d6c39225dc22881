"""Decisions over time: the share of blocks at the device and at each server."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from bokeh.models import ColumnDataSource, NumeralTickFormatter

from mecsim.model.model import Model
from mecsim.report.figures import HATCHES, SERIES, hover, line_tags, make_figure
from mecsim.report.page import Cell, Chart, Key, Table, Text, quantity
from mecsim.report.recording import Recording, intervals
from mecsim.simulation.recorded import class_column
from mecsim.support.arrays import Floats, Ints
from mecsim.support.text import number
from mecsim.trace.values import pieces

BINS: Final = 80
MOST_PLACES: Final = 8
"""The device and the servers with the most blocks; the other servers are one place."""
ALL: Final = "all blocks"


def decisions(recording: Recording) -> list[Chart | Table | Text]:
    """Return the figure and the table of the decisions."""
    total = recording.trace.length("decisions")
    if not total:
        return [Text("The trace has no decisions.", alert=True)]
    counts, edges_s = _counts(recording, total)
    chosen, labels = _places(counts, recording.model.server_names("ES "))
    counts = _merged(counts, chosen)
    names = _names(recording.model)
    width = number(float(edges_s[1] - edges_s[0]))
    note = (
        f"{total:,} decisions, in {len(edges_s) - 1} intervals of {width} s. A decision places "
        f"every block of {_unit(recording)}."
    )
    return [Text(note), _chart(counts, edges_s, labels, names), _table(counts, labels, names)]


def _names(model: Model) -> list[str]:
    """Return the names of the blocks of all classes of tasks."""
    numbers = [m for each in model.classes for m in range(each.blocks)]
    classes = [each.name for each in model.classes for _ in range(each.blocks)]
    return [
        f"{f'{of}, ' if len(model.classes) > 1 else ''}block {number}: {name}"
        for of, number, name in zip(classes, numbers, model.block_names, strict=True)
    ]


def _unit(recording: Recording) -> str:
    per_task = recording.trace.scenario.decision_epoch == "per_task"
    of_class = " that are of one class" if len(recording.model.classes) > 1 else ""
    return "one task" if per_task else f"all tasks of a slot{of_class}"


def _counts(recording: Recording, total: int) -> tuple[Ints, Floats]:
    """Return how often each block was placed at each place; shape (intervals, B, N + 1).

    The blocks are those of all classes of tasks, class after class.
    """
    trace, model = recording.trace, recording.model
    last_s = float(trace.read("decisions", "time_s", total - 1, total)[0])
    edges_s = intervals(len(recording.slot_s), trace.scenario.slot_length, last_s, BINS)
    last = len(edges_s) - 2
    found = np.zeros((last + 1, len(model.cycles), model.servers + 1), dtype=np.int64)
    for begin, end in pieces(total):
        placement = trace.read("decisions", "placement", begin, end)
        class_ = class_column(trace, "decisions", begin, end)
        time_s = trace.read("decisions", "time_s", begin, end)
        interval = np.clip(np.searchsorted(edges_s, time_s, side="right") - 1, 0, last)
        for row, (first, stop) in enumerate(pairwise(model.first_block.tolist())):
            mine = class_ == row
            of_class = interval[mine, None], np.arange(first, stop), placement[mine, : stop - first]
            np.add.at(found, of_class, 1)
    return found, edges_s


def _places(counts: Ints, names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the places that are shown by themselves, and the labels of all that are shown."""
    share = counts.sum(axis=(0, 1))
    servers = [int(n) + 1 for n in np.argsort(-share[1:], kind="stable") if share[n + 1]]
    shown = sorted(servers if len(servers) < MOST_PLACES else servers[: MOST_PLACES - 1])
    rest = len(servers) - len(shown)
    labels = ["device", *(names[n - 1] for n in shown)]
    return [0, *shown], [*labels, *([f"{rest:,} other servers"] if rest else [])]


def _merged(counts: Ints, chosen: Sequence[int]) -> Ints:
    others = counts.sum(axis=2) - counts[:, :, chosen].sum(axis=2)
    shown = counts[:, :, chosen]
    return np.concatenate([shown, others[:, :, None]], axis=2) if others.any() else shown


def _chart(counts: Ints, edges_s: Floats, labels: Sequence[str], names: Sequence[str]) -> Chart:
    plot = make_figure("decisions", "time (s)", "share of blocks", y_range=(0, 1))
    plot.yaxis.formatter = NumeralTickFormatter(format="0%")
    plot.xgrid.visible = False
    views: dict[str, Any] = {ALL: counts.sum(axis=1)}
    views |= {name: counts[:, block] for block, name in enumerate(names)}
    for view, placed in views.items():
        every = placed.sum(axis=1, keepdims=True)
        share = np.divide(placed, every, out=np.zeros(placed.shape), where=every > 0)
        _draw(plot, share, edges_s, labels, view)
    keys = [
        Key(label, SERIES[place % len(SERIES)], hatch=HATCHES[place] or " ")
        for place, label in enumerate(labels)
    ]
    return Chart(
        "decisions", "Where the blocks were placed, over time",
        "Share of blocks at the device and at each server in each interval of time. The table "
        "below has the shares of the whole run, block by block.",
        plot, keys, list(views), "Blocks",
    )  # fmt: skip


def _draw(plot: Any, share: Floats, edges_s: Floats, labels: Sequence[str], view: str) -> None:
    top = np.cumsum(share, axis=1)
    for place, label in enumerate(labels):
        source = ColumnDataSource({
            "left": edges_s[:-1], "right": edges_s[1:], "top": top[:, place],
            "bottom": top[:, place] - share[:, place], "share": share[:, place],
        })  # fmt: skip
        bars = plot.quad(
            left="left", right="right", top="top", bottom="bottom", source=source, name=label,
            fill_color=SERIES[place % len(SERIES)], line_color=None,
            hatch_pattern=HATCHES[place] or None, hatch_color="#000000", hatch_alpha=0.5,
            hatch_scale=9, tags=line_tags(label, view), visible=view == ALL,
        )  # fmt: skip
        hover(plot, [bars], [
            ("", "$name"), ("from", "@left{0,0.[00]} s"), ("to", "@right{0,0.[00]} s"),
            ("share", "@share{0.0%}"),
        ])  # fmt: skip


def _table(counts: Ints, labels: Sequence[str], names: Sequence[str]) -> Table:
    every = counts.sum(axis=0)
    rows: list[list[Cell | str]] = []
    for name, placed in zip([*names, ALL], [*every, every.sum(axis=0)], strict=True):
        shares = (placed / max(int(placed.sum()), 1)).tolist()
        rows.append([name, *(quantity(each, f"{each:.1%}") for each in shares)])
    return Table("Share of decisions by place", ["block", *labels], rows, name="placements")
