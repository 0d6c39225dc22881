"""The tables and lines that commands print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from mecsim.simulation.metrics import METRICS, PER_TASK, BoundGap, Counted, ResourceUse, RunSummary
from mecsim.support.text import number, value_text

if TYPE_CHECKING:
    from mecsim.dnn.measurement import Measurement
    from mecsim.study.report import Document
    from mecsim.study.summary import Entry, Versus


def summary_table(summary: RunSummary) -> Table:
    """Return delays and energy of a run with their percentiles."""
    table = Table(title=_title(summary), title_justify="left", box=None, pad_edge=False)
    (first, *others), *rows = summary.statistics()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _title(summary: RunSummary) -> Text:
    run, kernel = summary.title.rsplit(" (", 1)
    return Text.assemble((run, "bold"), f" ({kernel}")


def totals_line(summary: RunSummary) -> Text:
    """Return counts and reward of a run in one line."""
    line = Text(summary.outcome)
    line.highlight_regex(r"[\d,]+ failed", "red")
    line.highlight_regex(r"(?<=reward )-?[\d,.]*\d", "bold")
    return line


def classes_table(summary: RunSummary) -> Table:
    """Return the numbers of each class of tasks."""
    head, *rows = summary.of_classes()
    return plain_table(head, rows, "Classes of tasks")


OVERLOADED = "tasks in flight grow over the slots, so delays depend on the number of slots"


def overload_line(summary: RunSummary) -> Text | None:
    """Return a line about an overloaded run; None for other runs."""
    if not summary.overloaded:
        return None
    places = ", ".join(summary.longest_queues())
    return Text.assemble(("overloaded", "red"), f": {OVERLOADED}; most tasks wait at {places}")


def bound_line(bound: BoundGap) -> str:
    """Return the lower bound on the cost and the optimality gap of the run in one line."""
    gap = (
        ""
        if bound.gap_percent is None
        else f"; optimality gap of this run: {bound.gap_percent:,.1f}%"
    )
    return f"lower bound on the cost (no queueing): {bound.cost:,.1f}{gap}"


def resources_table(resources: Sequence[ResourceUse], count: int = 6) -> Table:
    """Return the busiest resources of a run."""
    table = Table(title="Busiest resources", title_justify="left", box=None, pad_edge=False)
    table.add_column("resource")
    for name in ("utilization", "mean queue", "mean wait (s)"):
        table.add_column(name, justify="right")
    for row in resources[:count]:
        share = f"{row.utilization:.1%}"
        table.add_row(row.name, share, number(row.mean_queue), number(row.mean_wait_s))
    return table


def speed_line(summary: RunSummary) -> str:
    """Return the wall-clock time of a run and the path of its trace."""
    wall, events = summary.wall_s, summary.events
    trace = f", trace in {summary.trace}" if summary.trace else ""
    return f"{events:,} events in {wall:.2f} s ({events / wall:,.0f} per second){trace}"


def comparison_table(summaries: Sequence[RunSummary]) -> Table:
    """Return runs next to each other, each number with its change from the first run."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for summary in summaries:
        table.add_column(summary.scheduler, justify="right", overflow="fold")
    for key in PER_TASK:
        for name in ("mean", "p95", "p99"):
            metric = METRICS[key]
            values = [getattr(getattr(summary, key), name) for summary in summaries]
            table.add_row(f"{metric.label}, {name} ({metric.unit})", *_with_change(values))
    for key in ("late_blocks", "miss_ratio", "deadline_miss_ratio", "failed", "reward"):
        values = [summary.metric(key) for summary in summaries]
        if key == "deadline_miss_ratio" and values.count(None) == len(values):
            continue
        table.add_row(METRICS[key].label, *_with_change(values))
    return table


def _with_change(values: Sequence[float | None]) -> list[str]:
    first = values[0]
    texts = [number(first)]
    for value in values[1:]:
        change = f" ({(value - first) / abs(first):+.1%})" if first and value is not None else ""
        texts.append(number(value) + change)
    return texts


def plain_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", text: int = 1
) -> Table:
    """Return a table whose first ``text`` columns are text and whose others are numbers."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for position, name in enumerate(head):
        table.add_column(name, justify="right" if position >= text else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def models_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the shipped models, from :func:`mecsim.dnn.graph.overview`."""
    head = ["model", "input", "layers", "max blocks", "stages", "MFLOP", "parameters (MB)"]
    counts = ("model", "input", "layers", "max_blocks", "stages")
    texts = [
        [
            *(str(row[key]) for key in counts),
            f"{row['flops'] / 1e6:,.1f}",
            f"{row['parameter_bytes'] / 1e6:,.2f}",
        ]
        for row in rows
    ]
    return plain_table(head, texts)


def layers_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the layers of a model and where it can be cut."""
    nodes = _measured(rows)
    head = ["layer", "MFLOP", "parameters (kB)", "output (kB)", "can cut after", *nodes.values()]
    texts = [
        [
            row["name"],
            f"{row['flops'] / 1e6:,.2f}",
            f"{row['parameter_bytes'] / 1e3:,.1f}",
            f"{row['output_bits'] / 8e3:,.1f}",
            row["cut"],
            *(f"{row['ms'][node]:,.3f}" for node in nodes),
        ]
        for row in rows
    ]
    return plain_table(head, texts, title)


def blocks_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the blocks of a task: layers, c_m, d_m, I_m, and measured times by type of node.

    A row names its class where there are several.
    """
    nodes, work = _measured(rows), ["c_m (Mcycles)"] if "cycles" in rows[0] else []
    of_classes = ["class"] if any("class" in row for row in rows) else []
    of_blocks = ["block", "layers", *work, "d_m (kB)", "I_m (kB)"]
    head = [*of_classes, *of_blocks, *nodes.values()]
    texts = [
        [
            *(row[name] for name in of_classes),
            str(row["block"]),
            row["layers"],
            *([f"{row['cycles'] / 1e6:,.2f}"] if work else []),
            f"{row['parameter_bytes'] / 1e3:,.1f}",
            f"{row['input_bits'] / 8e3:,.1f}",
            *(f"{row['ms'][node]:,.3f}" for node in nodes),
        ]
        for row in rows
    ]
    return plain_table(head, texts, title, text=2 + len(of_classes))


def _measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the heading of each measured type of node."""
    return {node: f"{node} (ms)" for node in rows[0].get("ms", ())}


def measurement_note(node: str, measurement: Measurement) -> str:
    """Return how the times of a type of node were obtained, and how they compare with a pass."""
    total = math.fsum(measurement.ms)
    parts = [f"{node}: {number(total)} ms in all"]
    if measurement.whole_ms:
        share = 100 * (total / measurement.whole_ms - 1)
        parts[0] += f" ({share:+.1f}% of a whole pass of {number(measurement.whole_ms)} ms)"
    parts.append(measurement.method)
    facts = ", ".join(f"{key} {value}" for key, value in measurement.machine.items())
    return "; ".join([*parts, facts] if facts else parts)


def devices_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the devices whose times of whole networks are shipped, and where these are from."""
    head = ["device", "as in the source", *(f"{network} (ms)" for network in _SHOWN)]
    texts = [
        [
            row["name"],
            row["description"],
            *(number(row["ms"].get(network)) for network in _SHOWN),
        ]
        for row in rows
    ]
    sources = ", ".join(dict.fromkeys(row["source"] for row in rows))
    title = f"mean time of a forward pass (all networks and settings: --json), from {sources}"
    return plain_table(head, texts, title, text=2)


_SHOWN: Final = ("mobilenet_v2", "resnet18", "resnet50", "vgg16")
"""Networks in the table of devices; there are more."""

MAX_SERVERS: Final = 20
"""Most servers in a table; a city has a thousand."""


MAX_LINKS: Final = 24
"""Most links in a table."""

MAX_MEMBERS: Final = 12
"""Most devices of a server that are listed."""


def coverage_table(rows: Sequence[Mapping[str, Any]], seed: int) -> Table:
    """Return which devices each server serves, how far they are and how fast their radio is."""
    head = ["server", "which devices", "x, y (m)", "devices", "distance (m)", "radio (Mbit/s)"]
    texts = [
        [
            row["name"],
            _which(row["members"]),
            ", ".join(f"{each:,.0f}" for each in row["position_m"] or ()) or "no radio",
            f"{row['devices']:,}",
            _span(row["distance_m"], 1),
            _span(row["rate_bps"], 1e6),
        ]
        for row in rows[:MAX_SERVERS]
    ]
    if len(rows) > MAX_SERVERS:
        texts.append([f"… {len(rows) - MAX_SERVERS:,} more with --json", *[""] * 5])
    title = f"Servers (seed {seed}, radio without fading)"
    return plain_table(head, texts, title, text=2)


def _which(members: Mapping[str, Sequence[int]]) -> str:
    """Return the devices of a server by group, or how many there are where they are many."""
    count = sum(len(numbers) for numbers in members.values())
    if count > MAX_MEMBERS:
        counts = ((len(numbers), name) for name, numbers in members.items())
        return ", ".join(f"{each:,} {name}{'s' if each > 1 else ''}" for each, name in counts)
    return "; ".join(
        f"{name} {', '.join(map(str, numbers))}" for name, numbers in members.items() if numbers
    )


def links_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the wired links; a range of rates and latencies where there are many."""
    head = ["from", "to", "rate (Mbit/s)", "latency (ms)"]
    shown = [[row["from"], row["to"], [row["rate_bps"]] * 2, [row["latency_s"]] * 2]
             for row in rows]  # fmt: skip
    if len(rows) > MAX_LINKS:
        bounds = [_bounds(row[key] for row in rows) for key in ("rate_bps", "latency_s")]
        shown = [[f"{len(rows):,} links (listed with --json)", "", *bounds]]
    texts = [[one, other, _span(rates, 1e6), _span(times, 1e-3)]
             for one, other, rates, times in shown]  # fmt: skip
    return plain_table(head, texts, "Wired links", text=2)


def _bounds(values: Iterable[float]) -> list[float]:
    found = list(values)
    return [min(found), max(found)]


def times_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return how long a task takes on an empty network, by place and group of devices.

    The rows are of one class of tasks, which they name if there are several.
    """
    groups = list(rows[0]["seconds"])
    texts = [
        [row["place"], *(_span(row["seconds"][group], 1) for group in groups)]
        for row in (*rows[:-1][: MAX_SERVERS + 1], rows[-1])
    ]
    if len(rows) > MAX_SERVERS + 2:
        more = [f"… {len(rows) - MAX_SERVERS - 2:,} more with --json", *[""] * len(groups)]
        texts.insert(-1, more)
    of_class = f" of {rows[0]['class']}" if "class" in rows[0] else ""
    deadline = rows[0].get("deadline_s")
    due = "" if deadline is None else f"; deadline {number(deadline)} s"
    title = f"Delay{of_class} without queues (s), by place{due}"
    return plain_table(["place", *groups], texts, title)


def _span(bounds: Sequence[float] | None, unit: float) -> str:
    if bounds is None:
        return number(None)
    low, high = (number(each / unit) for each in bounds)
    return low if low == high else f"{low} to {high}"


def checks_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return the outcomes of checks, with the columns that fit a terminal."""
    shown = [head.index(name) for name in ("check", "expected", "measured", "interval", "ok")]
    kept = [[row[position] for position in shown] for row in rows]
    return plain_table([head[position] for position in shown], kept)


def study_tables_of_classes(document: Document, metric: str, baseline: str) -> list[Table]:
    """Return :func:`study_table` for the classes of tasks, if there are several."""
    from mecsim.study.by_class import places_of_classes

    entries = places_of_classes(document.get("classes", []))
    if not any(each["metric"] == metric for each in entries):
        return []
    return [study_table(entries, metric, baseline, " by class of tasks")]


def study_table(summary: Sequence[Entry], metric: str, baseline: str, by: str = "") -> Table:
    """Return the means of a metric, and how each scheduler compares with the others.

    The tails are next to the total delay; their intervals are in the summary. ``by`` ends the
    title's name of the metric.
    """
    from mecsim.study.summary import overload_mark

    tails = _tails(summary) if metric == "total_delay_s" else {}

    shown = [each for each in summary if each["metric"] == metric]
    scenarios = {each["scenario"] for each in shown}
    keys = list(dict.fromkeys(key for each in shown for key in each["sweep"]))
    short = {key: key.rpartition(".")[2] for key in keys}
    clear = len(set(short.values())) == len(keys)
    others = list(dict.fromkeys([baseline, *(name for each in shown for name in each["vs"])]))

    def row(entry: Entry) -> list[str]:
        return [
            *([entry["scenario"]] if len(scenarios) > 1 else []),
            *(value_text(entry["sweep"].get(key, "")) for key in keys),
            overload_mark(entry),
            _with_half(entry["mean"], entry["ci95_low"], entry["ci95_high"]),
            *(_percent(entry["vs"].get(other), gap=other != baseline) for other in others),
            *(_scaled(means.get(_place(entry)), factor) for factor, means in tails.values()),
        ]

    texts = [
        *(["scenario"] if len(scenarios) > 1 else []),
        *(short[key] if clear else key for key in keys),
        "scheduler",
    ]
    numbers = [
        f"{METRICS[metric].axis}\nmean ± 95%",
        *(f"{'reduction vs' if other == baseline else 'gap to'}\n{other} (%)" for other in others),
        *tails,
    ]
    title = f"{METRICS[metric].label}{by}, {METRICS[metric].better} is better"
    return plain_table([*texts, *numbers], [row(each) for each in shown], title, text=len(texts))


def _tails(
    summary: Sequence[Entry],
) -> dict[str, tuple[int, dict[tuple[str, str, str], float | None]]]:
    """Return the columns of tails: head to the metric's factor, and its means by entry.

    Those of whole tasks are left out where no task has a deadline, or none failed.
    """
    columns = {
        "p95\n(s)": (1, "total_delay_p95_s"),
        "p99\n(s)": (1, "total_delay_p99_s"),
        "misses\n(%)": (100, "miss_ratio"),
        "past\ndeadline (%)": (100, "deadline_miss_ratio"),
        "failed\n(tasks)": (1, "failed"),
    }
    means = {
        head: (factor, {_place(each): each["mean"] for each in summary if each["metric"] == name})
        for head, (factor, name) in columns.items()
    }
    absent: dict[str, set[float | None]] = {
        "past\ndeadline (%)": {None},
        "failed\n(tasks)": {None, 0.0},
    }
    return {
        head: (factor, found)
        for head, (factor, found) in means.items()
        if head not in absent or not absent[head].issuperset(found.values())
    }


def _scaled(value: float | None, factor: int) -> str:
    return number(None if value is None else factor * value)


def _place(entry: Entry) -> tuple[str, str, str]:
    return entry["scenario"], str(entry["sweep"]), entry["scheduler"]


def study_notes(document: Document, metric: str, baseline: str) -> list[str]:
    """Return the lines below the table of a study: its baseline, which tasks count, marks."""
    marked = any(each["overloaded"] for each in document["summary"] if each["metric"] == metric)
    counted = [str(Counted(**row["counted"])) for row in document["rows"] if "counted" in row]
    return [
        f"baseline: {baseline}",
        *([f"counted: {'; '.join(dict.fromkeys(counted))}"] if counted else []),
        *([f"overloaded: {OVERLOADED}"] if marked else []),
    ]


def _with_half(mean: float | None, low: float | None, high: float | None) -> str:
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.2g}"
    return number(mean) + half


def _percent(versus: Versus | None, *, gap: bool) -> str:
    """Return the reduction in percent; the gap is its negative."""
    if versus is None or versus["percent"] is None:
        return ""
    low, high = versus["percent_ci95_low"], versus["percent_ci95_high"]
    half = "" if low is None or high is None else f" ± {_rounded((high - low) / 2)}"
    return _rounded(0.0 - versus["percent"] if gap else versus["percent"]) + half


def _rounded(percent: float) -> str:
    return f"{percent:,.0f}" if abs(percent) >= 100 else f"{percent:.1f}"


def training_table(summary: Mapping[str, Any]) -> Table:
    """Return the evaluations of a training."""
    rate = f"{summary['episodes']} episodes in {summary['wall_s']:.1f} s"
    how = "serial" if summary["serial"] else f"{summary['workers']} workers"
    title = (
        f"{summary['scheduler']} ({summary['preset']}) on {summary['scenario']}, "
        f"seed {summary['seed']}: {rate}, {how}"
    )
    rows = [[f"{row['episode']:.0f}", number(row["reward"])] for row in summary["curve"]]
    rows.append(["best", number(summary["validation_reward"])])
    table = plain_table(["episode", "reward (validation)"], rows)
    table.title = title
    return table
