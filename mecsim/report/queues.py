"""Queues over time: how many services wait and are under way at the busiest resources."""

from __future__ import annotations

from typing import Final

import numpy as np

from mecsim.report.figures import DASHES, SERIES, dashes, hover, line_tags, make_figure
from mecsim.report.page import Chart, Key, Text
from mecsim.report.recording import MOST_QUEUES, Recording
from mecsim.support.text import number

SHOWN: Final = 5
"""Resources that are shown when the page is opened."""
WAITING: Final = "waiting"
SERVING: Final = "in service"


def queues(recording: Recording) -> list[Chart | Text]:
    """Return the figure of the queues, and a text about its resolution."""
    edges_s = recording.edges_s
    plot = make_figure("queues", "time (s)", "services, mean of an interval")
    names = [recording.names[row] for row in recording.busiest]
    keys = []
    for row, name in enumerate(names):
        colour, dash = SERIES[row % len(SERIES)], DASHES[row // len(SERIES) % len(DASHES)]
        keys.append(Key(name, colour, dashes(dash), shown=row < SHOWN))
        for choice, values in ((WAITING, recording.waiting), (SERVING, recording.serving)):
            line = plot.step(
                edges_s, np.append(values[row], values[row, -1:]), mode="after", name=name,
                line_color=colour, line_dash=dash or "solid", line_width=2,
                visible=choice == WAITING and row < SHOWN, tags=line_tags(name, choice),
            )  # fmt: skip
            hover(
                plot, [line], [("", "$name"), ("time", "$x{0,0.[00]} s"), (choice, "@y{0.[000]}")]
            )
    plot.y_range.only_visible = True
    plot.y_range.start = 0
    total = len(recording.summary.resources)
    note = (
        f"Each value is the time average over an interval of {number(float(edges_s[1]))} s "
        f"({len(edges_s) - 1} intervals). Resources are in order of their utilization."
    )
    if total > MOST_QUEUES:
        note += f" The {MOST_QUEUES} busiest of {total:,} resources that served are here."
    chart = Chart(
        "queues", "Queues over time",
        "Mean number of services that wait at each of the busiest resources over the run. The "
        "table of resources has the means of the whole run.",
        plot, keys, [WAITING, SERVING], "Show services",
    )  # fmt: skip
    return [chart, Text(note)]
