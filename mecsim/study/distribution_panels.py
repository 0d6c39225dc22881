"""Panels with the distribution of the total delay over tasks, from rows or from a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from mecsim.errors import InputError
from mecsim.simulation.metrics import QUANTILES, completed_between
from mecsim.study import statistics
from mecsim.study.axis_labels import AS_THEY_ARE, Names, metric_axis
from mecsim.study.comparison_panels import point_title, titles
from mecsim.study.panel import Distribution, Line, Panel
from mecsim.study.summary import Row
from mecsim.support.arrays import Bools, Floats, Ints
from mecsim.trace import TraceFile
from mecsim.trace.values import pieces

Place: TypeAlias = tuple[str, str]
Sample: TypeAlias = dict[tuple[int, int], Floats]
METRIC: Final = "total_delay_s"
"""The metric whose quantiles a comparison keeps."""
COLUMNS: Final = {
    "total_delay_s": "total_s",
    "edge_delay_s": "edge_s",
    "local_delay_s": "local_s",
    "energy_J": "energy_J",
}
"""Metrics per task to their columns in a trace."""
_OF_HOPS: Final = ("task", "resource", "enqueue_s", "start_s", "finish_s")
_Y_LABELS: Final[Mapping[Distribution, str]] = {
    "cdf": "share of completed tasks",
    "tail": "share of tasks above",
}
_MOST_POINTS: Final = 1000
"""Points of a line from a trace: more cannot be seen."""
_KINDS: Final = {"device": "device", "uplink": "uplink", "link": "wired link", "server": "server",
                 "downlink": "downlink"}  # fmt: skip
"""Kinds of resources in the order in which a task meets them."""


def distribution_panels(
    rows: Sequence[Row], which: Distribution, names: Names = AS_THEY_ARE
) -> list[Panel]:
    """Return one panel per scenario and point, with the mean quantiles of the runs.

    A quantile at a probability is the mean over the seeds, with its 95% interval. Empty if no row
    has quantiles: earlier versions of mecsim did not store them.
    """
    samples = quantile_samples(rows)
    places = [(scenario, point_title(json.loads(p), names)) for scenario, p in samples]
    return [
        Panel(
            [_mean(label, each, which, names.get(label, "")) for label, each in found.items()],
            metric_axis(METRIC, names),
            _Y_LABELS[which],
            title,
            distribution=which,
        )
        for title, found in zip(titles(places, names), samples.values(), strict=True)
    ]


def quantile_samples(rows: Sequence[Row]) -> dict[Place, dict[str, Sample]]:
    """Return the quantiles of the runs by place, then by scheduler, then by seeds.

    A place is a scenario and a point of the sweep as JSON; seeds are those of training (0 for none)
    and of the workload.
    """
    samples: dict[Place, dict[str, Sample]] = {}
    for row in rows:
        values = row.get("total_delay_quantiles_s")
        if values and len(values) == len(QUANTILES):
            place = row["scenario"], json.dumps(row["sweep"])
            seeds = row["training_seed"] or 0, row["seed"]
            of_schedulers = samples.setdefault(place, {})
            of_schedulers.setdefault(row["scheduler"], {})[seeds] = np.array(values)
    return samples


def _mean(label: str, sample: Sample, which: Distribution, name: str) -> Line:
    """Return the mean quantiles of runs, each with its interval."""
    seeds = statistics.complete_seeds(dict.fromkeys(sample, 0.0))
    chosen = [
        statistics.estimate(
            statistics.matrix({key: float(q[at]) for key, q in sample.items()}, seeds)
        )
        for at in range(len(QUANTILES))
    ]
    x = [each.mean for each in chosen]
    low, high = [each.low for each in chosen], [each.high for each in chosen]
    return _shares(Line(label, x, QUANTILES, low, high, name=name), which)


def _shares(line: Line, which: Distribution) -> Line:
    """Return a line of a CDF as it is, or as one of the shares above, which never are 0."""
    if which == "cdf":
        return line
    kept = [at for at, y in enumerate(line.y) if y < 1]
    return replace(
        line,
        x=[line.x[at] for at in kept],
        y=[1 - line.y[at] for at in kept],
        low=[line.low[at] for at in kept],
        high=[line.high[at] for at in kept],
    )


def trace_distribution(
    path: Path, metric: str, which: Distribution, names: Names = AS_THEY_ARE
) -> Panel:
    """Return the distribution of a metric over the completed tasks of a trace.

    Raises:
        InputError: No task completed.
        TraceError: The file is no trace, or it is damaged.
    """
    with TraceFile(path) as trace:
        values = trace.read("tasks", COLUMNS[metric])[_counted(trace)]
        scheduler = trace.made_by.scheduler
    if not len(values):
        raise InputError(f"{path}: no task completed; a distribution needs at least one")
    every = np.sort(values)
    tail = len(every) - np.geomspace(1, len(every), _MOST_POINTS)
    body = np.linspace(0, len(every) - 1, _MOST_POINTS)
    ranks = np.unique(np.concatenate([body, tail]).astype(np.int64))
    shares = ((ranks + 1) / len(every)).tolist()
    none = [None] * len(ranks)
    line = Line(scheduler, every[ranks].tolist(), shares, none, none, name=names.get(scheduler, ""))
    return Panel(
        [_shares(line, which)],
        metric_axis(metric, names),
        _Y_LABELS[which],
        path.stem,
        distribution=which,
    )


def _counted(trace: TraceFile) -> Bools:
    """Return which tasks completed and count by the scenario's ``measurement``."""
    status, release_s = (trace.read("tasks", name) for name in ("status", "release_s"))
    return completed_between(status, release_s, trace.scenario.counted_s)


def _spent(trace: TraceFile, counted: Bools) -> tuple[Floats, Floats, Ints]:
    """Return by resource the time that counted tasks wait and are served, and all hops."""
    count = trace.length("resources")
    waiting_s, service_s, hops = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    for begin, end in pieces(trace.length("hops")):
        task, resource, enqueue_s, start_s, finish_s = (
            trace.read("hops", name, begin, end) for name in _OF_HOPS
        )
        hops += np.bincount(resource, minlength=count)
        mine = counted[task]
        where = resource[mine]
        waiting_s += np.bincount(where, (start_s - enqueue_s)[mine], count)
        service_s += np.bincount(where, (finish_s - start_s)[mine], count)
    return waiting_s, service_s, hops


def trace_parts(path: Path, names: Names = AS_THEY_ARE) -> Panel:
    """Return the mean time of a task at each kind of resource, waiting and in service, as bars.

    Raises:
        InputError: No task completed.
        TraceError: The file is no trace, or it is damaged.
    """
    with TraceFile(path) as trace:
        counted = _counted(trace)
        waiting_s, service_s, hops = _spent(trace, counted)
        kinds = trace.read("resources", "kind").astype("U")
    if not counted.any():
        raise InputError(f"{path}: no task completed; parts of the delay need at least one")
    of_kind = {each: kinds == each for each in _KINDS}
    shown = [each for each in _KINDS if hops[of_kind[each]].any()]
    places, none = [_KINDS[each] for each in shown], [None] * len(shown)
    lines = [
        Line(
            name, places,
            [float(spent[of_kind[each]].sum()) / int(counted.sum()) for each in shown],
            none, none, name=names.get(name, ""),
        )
        for name, spent in {"waiting": waiting_s, "service": service_s}.items()
    ]  # fmt: skip
    return Panel(lines, "resource", "mean time per task (s)", path.stem, bars=True, additive=True)
