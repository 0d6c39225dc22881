"""Delays of tasks as distributions: by part of the network, and by groups of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker
from numpy.typing import NDArray

from mecsim.model.model import KINDS
from mecsim.report.figures import PARTS, dashes, hover, line_tags, make_figure
from mecsim.report.page import Cell, Chart, Key, Table, Text, quantity
from mecsim.report.recording import Recording
from mecsim.simulation.metrics import Statistics
from mecsim.support.arrays import Floats, Ints

POINTS: Final = 199
"""Points of a distribution."""
UP_TO: Final = 0.99
"""Share of the tasks that a distribution shows: the slowest would take most of its axis."""
MOST_GROUPS: Final = 20
TOTAL: Final = "total delay"
Groups: TypeAlias = list[tuple[str, int, Statistics]]
"""Label, number of tasks and delays of groups."""


@dataclass(frozen=True)
class Grouping:
    """Groups of tasks."""

    title: str
    labels: Sequence[str]
    code: NDArray[np.int64]
    """The group of each task as an index into the labels."""


def delays(recording: Recording) -> list[Chart | Table | Text]:
    """Return the distributions of delays by part and by group."""
    if not recording.completed.any():
        return [Text("No task completed, so there are no delays.", alert=True)]
    note = f"Distributions are of every {recording.every}th task." if recording.every > 1 else ""
    blocks: list[Chart | Table | Text] = [_distribution(recording), _parts_table(recording)]
    for grouping in groupings(recording):
        found = _statistics(grouping, recording)
        blocks += [_boxes(grouping, found, recording), _group_table(grouping, found)]
    return [*([Text(note)] if note else []), *blocks]


def _distribution(recording: Recording) -> Chart:
    """Return the share of tasks by delay: total and per part, whole or waiting or service only."""
    plot = make_figure("delays", "delay of a task (s)", "share of completed tasks")
    done, parts = recording.completed, recording.parts
    share = np.linspace(0, UP_TO, POINTS)
    keys = []
    choices = {
        "waiting and service": parts.wait_s + parts.service_s,
        "waiting": parts.wait_s,
        "service": parts.service_s,
    }
    total_s = recording.sample("total_s")[done]
    for choice, values in choices.items():
        curves = {TOTAL: total_s} if choice == "waiting and service" else {}
        used = {kind: values[done, KINDS.index(kind)] for kind in PARTS}
        curves |= {
            f"{kind}s": part for kind, part in used.items() if _visited(recording, kind).any()
        }
        for label, seconds in curves.items():
            colour, _, dash = PARTS.get(label[:-1], ("#7f7f7f", "", ""))
            line = plot.line(
                np.quantile(seconds, share), share, line_color=colour, line_width=2, name=label,
                line_dash=dash or "solid", tags=line_tags(label, choice),
                visible=choice == "waiting and service",
            )  # fmt: skip
            if label == TOTAL:
                line.glyph.tags = [*line.glyph.tags, "ink"]
            hover(
                plot, [line], [("", "$name"), ("delay", "$x{0,0.[000]} s"), ("share", "$y{0.0%}")]
            )
            keys.append(Key(label, colour, dashes(dash)))
    plot.x_range.only_visible = True
    return Chart(
        "delays", f"Delay of a task, by part of the network (up to {UP_TO:.0%} of the tasks)",
        "Cumulative distribution of the delay of completed tasks: in total, and at devices, "
        "uplinks, links and servers. The tables below have the quantiles.",
        plot, list({key.label: key for key in keys}.values()), list(choices), "Show",
    )  # fmt: skip


def _visited(recording: Recording, kind: str) -> NDArray[np.bool_]:
    column = KINDS.index(kind)
    found: NDArray[np.bool_] = recording.parts.service_s[recording.completed, column] > 0
    return found


def _parts_table(recording: Recording) -> Table:
    """Return means of waiting and service, per part."""
    done, parts = recording.completed, recording.parts
    rows: list[list[Cell | str]] = []
    total = float(recording.sample("total_s")[done].mean())
    for kind in PARTS:
        wait, service = (
            float(each[done, KINDS.index(kind)].mean(dtype=np.float64))
            for each in (parts.wait_s, parts.service_s)
        )
        if wait + service > 0:
            share = (wait + service) / total if total else 0.0
            rows.append([f"{kind}s", quantity(wait), quantity(service), quantity(wait + service),
                         quantity(share, f"{share:.1%}")])  # fmt: skip
    head = ["part", "mean wait (s)", "mean service (s)", "mean delay (s)", "share of total delay"]
    return Table("Delay of a task by part", head, rows, name="parts")


def groupings(recording: Recording) -> Iterator[Grouping]:
    """Yield the groups by which delays are shown: by class where a trace has classes."""
    if len(recording.model.classes) > 1:
        names = [each.name for each in recording.model.classes]
        yield Grouping("task class", names, recording.sample("class").astype(np.int64))
    yield _by_placement(recording)
    serving = _serving_servers(recording)
    model, device = recording.model, recording.sample("device").astype(np.int64)
    yield Grouping("serving server", model.server_names("ES "), serving)
    if model.device_groups:
        yield Grouping("group of devices", list(model.device_groups), model.device_group[device])
    yield Grouping("device", model.device_names("device "), device)


def _serving_servers(recording: Recording) -> Ints:
    """Return the server of each task's device when the task was released."""
    model, device = recording.model, recording.sample("device").astype(np.int64)
    if model.mobility is None:
        return model.serving_server[device]
    return model.mobility.servers_of(device, recording.sample("slot").astype(np.int64))


def _by_placement(recording: Recording) -> Grouping:
    """Return the tasks by where their blocks ran."""
    edge, local = recording.sample("edge_s") > 0, recording.sample("local_s") > 0
    labels = ["all at the device", "all at servers", "device and servers"]
    return Grouping("placement", labels, np.where(edge & local, 2, np.where(edge, 1, 0)))


def _statistics(grouping: Grouping, recording: Recording) -> Groups:
    """Return label, tasks and statistics of the groups with the largest mean delays."""
    done = recording.completed
    code, total_s = grouping.code[done], recording.sample("total_s")[done]
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], np.arange(len(grouping.labels) + 1))
    found = []
    for group in np.flatnonzero(np.diff(bounds)).tolist():
        delays_s: Floats = total_s[order[bounds[group] : bounds[group + 1]]]
        found.append((grouping.labels[group], len(delays_s), Statistics.of(delays_s)))
    return sorted(found, key=lambda each: -(each[2].mean or 0.0))


def _group_table(grouping: Grouping, found: Groups) -> Table:
    names = list(Statistics.model_fields)
    rows: list[list[Cell | str]] = [
        [label, quantity(tasks, f"{tasks:,}"),
         *(quantity(getattr(statistics, name)) for name in names)]
        for label, tasks, statistics in found[:MOST_GROUPS]
    ]  # fmt: skip
    cut = f", the {MOST_GROUPS} slowest of {len(found):,}" if len(found) > MOST_GROUPS else ""
    head = [grouping.title, "tasks", *names]
    name = f"by-{grouping.title.replace(' ', '-')}"
    return Table(f"Total delay (s) by {grouping.title}{cut}", head, rows, name=name, wide=False)


def _boxes(grouping: Grouping, found: Groups, recording: Recording) -> Chart:
    """Return boxes from the first to the third quartile, with whiskers from p5 to p95."""
    labels = [label for label, _, _ in found[:MOST_GROUPS]]
    plot = make_figure(
        "boxes", "total delay (s)", "", 105 + 26 * len(labels), y_range=(-len(labels) + 0.4, 0.6)
    )
    plot.ygrid.visible = False
    plot.yaxis.ticker = FixedTicker(ticks=[-place for place in range(len(labels))])
    plot.yaxis.major_label_overrides = {-place: label for place, label in enumerate(labels)}
    _draw_boxes(plot, grouping, labels, recording)
    return Chart(
        f"boxes-{grouping.title.replace(' ', '-')}",
        f"Total delay by {grouping.title} (5, 25, 50, 75, 95%)",
        "Boxes from the 25th to the 75th percentile with the median, whiskers from the 5th to the "
        "95th. The table next to it has the numbers.",
        plot, wide=False,
    )  # fmt: skip


def _draw_boxes(plot: Any, grouping: Grouping, labels: Sequence[str], recording: Recording) -> None:
    done = recording.completed
    code, total_s = grouping.code[done], recording.sample("total_s")[done]
    number = {label: place for place, label in enumerate(grouping.labels)}
    q = np.array([
        np.quantile(total_s[code == number[label]], [0.05, 0.25, 0.5, 0.75, 0.95])
        for label in labels
    ])  # fmt: skip
    source = ColumnDataSource({
        "y": -np.arange(len(labels), dtype=float), "label": list(labels),
        **{f"p{p}": q[:, place] for place, p in enumerate((5, 25, 50, 75, 95))},
    })  # fmt: skip
    whiskers = plot.segment("p5", "y", "p95", "y", source=source)
    boxes = plot.hbar(
        y="y", left="p25", right="p75", height=0.5, source=source, fill_color="#56B4E9",
        line_color="#0072B2",
    )  # fmt: skip
    plot.scatter(
        "p50", "y", source=source, marker="dash", angle=np.pi / 2, size=14, line_width=3,
        line_color="black",
    )  # fmt: skip
    whiskers.glyph.tags = ["ink"]
    hover(plot, [boxes, whiskers], [
        ("", "@label"), ("median", "@p50{0.[000]} s"),
        ("25% to 75%", "@p25{0.[000]} to @p75{0.[000]} s"),
        ("5% to 95%", "@p5{0.[000]} to @p95{0.[000]} s"),
    ])  # fmt: skip
