"""The numbers of a run that people compare: their names, labels and units, and the summary."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mecsim.model.task_status import BATTERY_SPENT, CAUSES
from mecsim.support.arrays import Bools, Floats, Ints, without_scale
from mecsim.support.text import finite, number


class Metric(NamedTuple):
    """How a metric is shown.

    >>> METRICS["energy_J"].axis
    'energy per task (J)'
    """

    label: str
    unit: str
    better: Literal["lower", "higher"]
    per_task: bool = False
    """A distribution over the completed tasks of a run, not one number per run."""
    source: str = ""
    """The metric per task of whose distribution this is a statistic."""
    statistic: str = "mean"
    """The field of :class:`Statistics` that is compared."""

    @property
    def axis(self) -> str:
        """The label with the unit in parentheses, where there is a unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS: Final = {
    "total_delay_s": Metric("total delay", "s", "lower", per_task=True),
    **{
        f"total_delay_{name}_s": Metric(
            f"total delay, {name}", "s", "lower", source="total_delay_s", statistic=name
        )
        for name in ("p50", "p95", "p99")
    },
    "edge_delay_s": Metric("delay at servers", "s", "lower", per_task=True),
    "local_delay_s": Metric("delay at devices", "s", "lower", per_task=True),
    "energy_J": Metric("energy per task", "J", "lower", per_task=True),
    "reward": Metric("reward", "", "higher"),
    "late_blocks": Metric("deadline misses", "blocks", "lower"),
    "miss_ratio": Metric("deadline-miss ratio", "", "lower"),
    "deadline_miss_ratio": Metric("task deadline-miss ratio", "", "lower"),
    "failed": Metric("failed tasks", "", "lower"),
    "optimality_gap_percent": Metric("optimality gap", "%", "lower"),
}
"""All metrics by name.

``miss_ratio`` is about the deadlines of blocks, ``deadline_miss_ratio`` about those of whole tasks.
The latter exists only for scenarios with a ``deadline``, the optimality gap only for runs with a
lower bound.
"""

PER_TASK: Final = tuple(name for name, metric in METRICS.items() if metric.per_task)
"""Metrics that are distributions over tasks: :class:`Statistics` in a summary."""

QUANTILES: Final = (
    *(k / 100 for k in range(95)),
    *(k / 1000 for k in range(950, 990, 5)),
    *(k / 1000 for k in range(990, 1001)),
)
"""Probabilities of the quantiles that a comparison keeps of each run, finer in the tail."""


class _Numbers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statistics(_Numbers):
    """A distribution over the completed tasks of a run; all None if no task completed.

    >>> import numpy as np
    >>> Statistics.of(np.array([1.0, 2.0, 6.0])).mean
    3.0
    """

    mean: float | None = None
    std: float | None = None
    """Standard deviation of the population (divided by n)."""
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: Floats) -> Statistics:
        """Return the statistics of ``values``, shape (n,), in their unit."""
        if not len(values):
            return cls()
        p50, p95, p99 = np.percentile(values, [50, 95, 99]).tolist()
        small, scale = without_scale(values)
        mean, std = scale * float(small.mean()), scale * float(small.std())
        return cls(mean=mean, std=std, p50=p50, p95=p95, p99=p99, max=float(values.max()))


def quantiles(values: Floats) -> tuple[float, ...] | None:
    """Return the quantiles of ``values``, shape (n,), at :data:`QUANTILES`; None if n = 0.

    >>> import numpy as np
    >>> quantiles(np.array([1.0, 3.0]))[50]
    2.0
    """
    return tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else None


def completed_between(status: Ints, release_s: Floats, window_s: tuple[float, float]) -> Bools:
    """Return which tasks completed and were released in a window.

    >>> import numpy as np
    >>> completed_between(np.array([0, 1, 0]), np.array([1.0, 2.0, 3.0]), (0.0, 3.0)).tolist()
    [True, False, False]

    Args:
        status: 0 for completed tasks; shape (n,).
        release_s: When the tasks were released; shape (n,).
        window_s: The first time that counts, and the first one that does not any more.
    """
    return (status == 0) & (release_s >= window_s[0]) & (release_s < window_s[1])


class ResourceUse(_Numbers):
    """How busy a resource (a processor, an uplink or a wired link) was during a run."""

    name: str
    utilization: float
    """Busy time divided by capacity and by the length of the run."""
    mean_queue: float
    """Mean number of services that wait, over the length of the run."""
    mean_wait_s: float
    """Mean wait before service, over all services."""


class BoundGap(_Numbers):
    """The lower bound on the cost of a run, and how far above it the run is."""

    cost: float
    """Sum over the tasks of the least cost on an idle network."""
    gap_percent: float | None
    """Optimality gap of the run in percent; None if a task failed or was placed again, or the bound
    is 0."""


class Counted(_Numbers):
    """Which tasks of a run count, by the scenario's ``measurement``."""

    from_s: float
    """The first time of release that counts."""
    to_s: float
    """Tasks released from this time on do not count."""
    released: int
    """All tasks of the run."""

    def __str__(self) -> str:
        """Return a line for people."""
        return f"tasks released from {self.from_s:,.10g} s to {self.to_s:,.10g} s"


class ClassSummary(_Numbers):
    """The numbers of one class of tasks of a run, of the tasks that count."""

    name: str
    priority: str
    deadline_s: float | None
    """None without a deadline."""
    tasks: int
    completed: int
    failed: int
    retried: int | None = None
    """See :attr:`RunSummary.retried`."""
    total_delay_s: Statistics
    edge_delay_s: Statistics
    local_delay_s: Statistics
    energy_J: Statistics
    late_blocks: int
    miss_ratio: float | None
    deadline_miss_ratio: float | None


class RunSummary(_Numbers):
    """The numbers of a run, as ``mecsim run --json`` prints them.

    Tasks, delays, energy, deadline misses, reward and lower bound are those of the tasks that
    count; delays and energy those of the completed ones. Resources, events, draining and overload
    are those of the whole run. Times are in seconds.
    """

    scenario: str
    scheduler: str
    seed: int
    kernel: str
    tasks: int
    """Tasks released that count."""
    completed: int
    failed: int
    failed_by_cause: dict[str, int] = {}
    """Failed tasks by cause (:data:`mecsim.model.task_status.CAUSES`), without those of 0 tasks."""
    retried: int | None = None
    """Tasks that were placed again after a loss, completed or not; None where none can be."""
    total_delay_s: Statistics
    edge_delay_s: Statistics
    local_delay_s: Statistics
    energy_J: Statistics
    late_blocks: int
    """Blocks whose delay exceeds their deadline."""
    miss_ratio: float | None = None
    """Deadline-miss ratio: the share of late blocks among all blocks of completed tasks."""
    deadline_miss_ratio: float | None = None
    """The share of tasks that did not complete by the ``deadline`` of a whole task, among those
    that have one; None where none has."""
    reward: float
    """Minus the cost of the tasks (Eq. 14)."""
    resources: tuple[ResourceUse, ...]
    """All resources that served, the busiest first."""
    events: int
    drained_s: float
    """Time from the end of the last slot to the end of the last task."""
    overloaded: bool | None
    """Whether the tasks in flight grow over the slots; None if there are too few slots."""
    wall_s: float
    trace: str | None
    """Path of the trace file; None if none was written."""
    lower_bound: BoundGap | None = None
    """None unless the run was asked for it."""
    scheduler_reason: str | None = None
    """Why the scheduler was chosen, if none was named."""
    counted: Counted | None = None
    """Which tasks count; None for all."""
    classes: tuple[ClassSummary, ...] = ()
    """The numbers of each class of tasks, where there are several."""
    total_delay_quantiles_s: tuple[float, ...] | None = Field(None, exclude=True, repr=False)
    """Quantiles of the total delay at :data:`QUANTILES`; None if no task completed."""

    @property
    def title(self) -> str:
        """What was run, in one line."""
        return f"{self.scheduler} on {self.scenario}, seed {self.seed} ({self.kernel} kernel)"

    @property
    def outcome(self) -> str:
        """Counts and reward in one line."""
        causes = ", ".join(f"{count:,} {cause}" for cause, count in self.failed_by_cause.items())
        failed = f"{self.failed:,} failed ({causes}), " if self.failed else ""
        retried = f"{self.retried:,} placed again, " if self.retried else ""
        missed = self.deadline_miss_ratio
        late = "" if missed is None else f"{number(100 * missed)}% of tasks past their deadline, "
        of_what = "" if missed is None else " of blocks"
        drained = number(self.drained_s)
        after = f", last task done {drained} s after the last slot" if self.drained_s else ""
        return (
            f"{self.completed:,} of {self.tasks:,} tasks completed, {failed}{retried}"
            f"{late}{self.late_blocks:,} deadline misses{of_what}{self._misses}, "
            f"reward {self.reward:,.1f}{after}"
        )

    @property
    def counting(self) -> str | None:
        """Which tasks count, in one line; None for all."""
        if self.counted is None:
            return None
        return f"counted: {self.counted}, {self.tasks:,} of {self.counted.released:,}"

    def longest_queues(self) -> list[str]:
        """Return the resources with the longest mean queues, at most five, the longest first."""
        found = sorted(self.resources, key=lambda each: -each.mean_queue)[:5]
        return [each.name for each in found if each.mean_queue > 0.1 * found[0].mean_queue]

    @property
    def _misses(self) -> str:
        return "" if self.miss_ratio is None else f" (miss ratio {number(100 * self.miss_ratio)}%)"

    def statistics(self) -> list[list[str]]:
        """Return delays and energy with their percentiles as the cells of a table, head first."""
        names = list(Statistics.model_fields)
        rows = [
            [METRICS[key].axis.replace(" per task", "")]
            + [number(getattr(getattr(self, key), name)) for name in names]
            for key in PER_TASK
        ]
        return [["per task", *names], *rows]

    def of_classes(self) -> list[list[str]]:
        """Return the numbers of each class of tasks as the cells of a table, head first."""
        head = ["class", "tasks", "completed", "delay (s)", "p95 (s)", "energy (J)", "deadline (s)",
                "past it (%)"]  # fmt: skip
        rows = [
            [
                each.name,
                f"{each.tasks:,}",
                f"{each.completed:,}",
                number(each.total_delay_s.mean),
                number(each.total_delay_s.p95),
                number(each.energy_J.mean),
                number(each.deadline_s),
                number(
                    None if each.deadline_miss_ratio is None else 100 * each.deadline_miss_ratio
                ),
            ]
            for each in self.classes
        ]
        return [head, *rows]

    def as_json(self) -> dict[str, Any]:
        """Return the document that ``mecsim run --json`` prints; see :func:`finite` for null."""
        optional = ("lower_bound", "scheduler_reason", "counted", "deadline_miss_ratio", "classes")
        exclude = {name for name in (*optional, "retried") if getattr(self, name) in (None, ())}
        if set(self.failed_by_cause) <= {CAUSES[BATTERY_SPENT]}:  # then ``failed`` says it all
            exclude.add("failed_by_cause")
        document: dict[str, Any] = finite(self.model_dump(mode="json", exclude=exclude))
        if self.retried is None:
            for each in document.get("classes", ()):
                del each["retried"]
        return document

    def metric(self, name: str) -> float | None:
        """Return a metric of :data:`METRICS` as one number: the mean where it is per task."""
        if name == "optimality_gap_percent":
            return None if self.lower_bound is None else self.lower_bound.gap_percent
        value = getattr(self, METRICS[name].source or name)
        found: float | None = value
        if isinstance(value, Statistics):
            found = getattr(value, METRICS[name].statistic)
        return found
