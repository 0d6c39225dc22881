"""The map of the network: servers, devices and links with their utilization."""

from __future__ import annotations

from typing import Final

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, LinearColorMapper, NumeralTickFormatter
from bokeh.plotting import figure

from mecsim.model.model import Model
from mecsim.report.figures import hover, make_figure
from mecsim.report.page import Chart, Key, Text
from mecsim.report.recording import Recording
from mecsim.support.arrays import Floats, Ints

MOST_DEVICES: Final = 1500
MOST_SERVERS: Final = 400
MOST_LINKS: Final = 1500
MOST_LABELS: Final = 24
PALETTE: Final = ("#f6e8a0", "#f2c45a", "#e8963a", "#d0602f", "#a0323c", "#6b1d4f")
"""From idle to busy; numbers, sizes and labels say the same."""


def network_map(recording: Recording) -> list[Chart | Text]:
    """Return the map, and a text about what is left out."""
    model, use = recording.model, _utilization(recording)
    servers, devices = _server_places(model), model.device_xy
    plot = make_figure("map", "x (m)", "y (m)", 460, match_aspect=True)
    colours = LinearColorMapper(palette=list(PALETTE), low=0.0, high=1.0)
    shown_servers = _busiest(use[: model.servers], MOST_SERVERS)
    shown_devices = _busiest(use[model.servers :][: model.devices], MOST_DEVICES)
    links = _draw_links(plot, model, use, servers, set(shown_servers.tolist()))
    _draw_devices(plot, model, use, servers, devices, shown_devices, colours)
    _draw_servers(plot, model, use, servers, shown_servers, colours)
    plot.add_layout(
        ColorBar(color_mapper=colours, title="utilization", height=8, background_fill_color=None,
                 formatter=NumeralTickFormatter(format="0.[0]%")), "below",
    )  # fmt: skip
    keys = [
        Key("servers", "#5a646e", marker="square", hollow=True),
        Key("devices", "#5a646e", marker="circle", hollow=True),
        Key("wired links", "#5a7d9a"),
        Key("device to server", "#8a949e", dash=(2, 3)),
    ]
    left_out = _left_out(model, len(shown_servers), len(shown_devices), links)
    chart = Chart(
        "map",
        "Map of the network",
        f"Positions of {len(shown_servers)} servers and {len(shown_devices)} devices; colour, size "
        "and label give their utilization, also in the table of resources.",
        plot,
        keys,
    )
    return [chart, *([Text(left_out)] if left_out else [])]


def _utilization(recording: Recording) -> Floats:
    number = {name: row for row, name in enumerate(recording.names)}
    use = np.zeros(len(recording.names))
    for each in recording.summary.resources:
        use[number[each.name]] = each.utilization
    return use


def _busiest(use: Floats, most: int) -> Ints:
    """Return the numbers of the resources with the largest utilization."""
    return np.argsort(-use, kind="stable")[:most]


def _server_places(model: Model) -> Floats:
    """Return where servers are drawn, in metres; those without a radio stand above the others."""
    places, nowhere = model.server_xy.copy(), ~model.radio
    if nowhere.any():
        every = np.concatenate([places[model.radio], model.device_xy])
        (left, low), (right, high) = every.min(axis=0), every.max(axis=0)
        count = np.count_nonzero(nowhere)
        places[nowhere, 0] = left + (right - left) * (np.arange(count) + 1) / (count + 1)
        places[nowhere, 1] = high + max(0.2 * (high - low), 100.0)
    return places


def _draw_servers(
    plot: figure,
    model: Model,
    use: Floats,
    servers: Floats,
    shown: Ints,
    colours: LinearColorMapper,
) -> None:
    names, full = model.server_names("ES "), model.server_names("edge server ")
    labels = [
        f"{names[n]}: {use[n]:.0%}" if rank < MOST_LABELS else "" for rank, n in enumerate(shown)
    ]
    source = ColumnDataSource({
        "x": servers[shown, 0], "y": servers[shown, 1], "use": use[shown], "label": labels,
        "name": [full[n] for n in shown], "size": 12 + 16 * use[shown],
    })  # fmt: skip
    squares = plot.scatter(
        "x", "y", source=source, size="size", marker="square", line_color="#4a4a4a",
        fill_color={"field": "use", "transform": colours}, tags=["line:servers"],
    )  # fmt: skip
    plot.text(
        "x", "y", source=source, text="label", y_offset=-14, text_align="center",
        text_font_size="12px", tags=["line:servers", "ink"],
    )  # fmt: skip
    hover(plot, [squares], [("", "@name"), ("utilization", "@use{0.0%}")])


def _draw_devices(
    plot: figure,
    model: Model,
    use: Floats,
    servers: Floats,
    devices: Floats,
    shown: Ints,
    colours: LinearColorMapper,
) -> None:
    serving = servers[model.serving_server[shown]]
    plot.segment(
        devices[shown, 0], devices[shown, 1], serving[:, 0], serving[:, 1],
        line_color="#8a949e", line_alpha=0.5, line_dash=[2, 3], tags=["line:device to server"],
    )  # fmt: skip
    names, full = model.device_names("device "), model.server_names("edge server ")
    places = model.resources
    own = use[places.device + shown]
    source = ColumnDataSource({
        "x": devices[shown, 0], "y": devices[shown, 1], "use": own,
        "uplink": use[places.uplink + shown], "size": 5 + 9 * own,
        "name": [names[d] for d in shown],
        "server": [full[n] for n in model.serving_server[shown]],
    })  # fmt: skip
    circles = plot.scatter(
        "x", "y", source=source, size="size", marker="circle", line_color="#4a4a4a",
        fill_color={"field": "use", "transform": colours}, tags=["line:devices"],
    )  # fmt: skip
    hover(plot, [circles], [
        ("", "@name"), ("processor", "@use{0.0%}"), ("uplink", "@uplink{0.0%}"),
        ("served by", "@server"),
    ])  # fmt: skip


def _draw_links(plot: figure, model: Model, use: Floats, servers: Floats, shown: set[int]) -> int:
    """Draw each pair of servers that a link joins; return how many pairs there are."""
    pairs: dict[tuple[int, int], float] = {}
    ends = zip(model.links.source.tolist(), model.links.target.tolist(), strict=True)
    for number, (one, other) in enumerate(ends):
        pair = min(one, other), max(one, other)
        pairs[pair] = max(pairs.get(pair, 0.0), float(use[model.resources.link + number]))
    drawn = sorted((pair for pair in pairs if set(pair) <= shown), key=lambda pair: -pairs[pair])[
        :MOST_LINKS
    ]
    if not drawn:
        return len(pairs)
    names = model.server_names("ES ")
    one, other = (servers[list(each)] for each in zip(*drawn, strict=True))
    share = np.array([pairs[pair] for pair in drawn])
    source = ColumnDataSource({
        "x0": one[:, 0], "y0": one[:, 1], "x1": other[:, 0], "y1": other[:, 1],
        "use": share, "width": 1.5 + 6 * share,
        "name": [f"{names[i]} and {names[j]}" for i, j in drawn],
    })  # fmt: skip
    lines = plot.segment(
        "x0", "y0", "x1", "y1", source=source, line_width="width", line_color="#5a7d9a",
        tags=["line:wired links"],
    )  # fmt: skip
    hover(plot, [lines], [("link", "@name"), ("busier direction", "@use{0.0%}")])
    return len(pairs)


def _left_out(model: Model, servers: int, devices: int, links: int) -> str:
    counts = (
        (servers, model.servers, "servers"),
        (devices, model.devices, "devices"),
        (min(links, MOST_LINKS), links, "links"),
    )
    cut = [f"the {shown:,} busiest of {all_:,} {what}" for shown, all_, what in counts
           if shown < all_]  # fmt: skip
    nowhere = "" if model.radio.all() else "Servers without a radio are drawn above the others."
    return " ".join(filter(None, [f"The map shows {', '.join(cut)}." if cut else "", nowhere]))
