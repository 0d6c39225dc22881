"""Sums over a run, taken while it goes, and the summary made from them."""

from __future__ import annotations

import contextlib
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from mecsim.kernels.accounting import ServiceTotals, TaskTable
from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.model.task_status import CAUSES, COMPLETED
from mecsim.model.workload import arrival_rate
from mecsim.scenario.schema import Measurement, Mmpp, Poisson, RecordedTasks
from mecsim.simulation.metrics import (
    BoundGap,
    ClassSummary,
    Counted,
    ResourceUse,
    RunSummary,
    Statistics,
    quantiles,
)
from mecsim.simulation.saturation import is_overloaded
from mecsim.support.arrays import Floats, Ints
from mecsim.support.files import as_temporary_error
from mecsim.trace import Provenance
from mecsim.trace.schema import Rows

SPOOL_BYTES = 1 << 20
_WHAT: Final = "a temporary file of delays and energies"


class Spool:
    """A growing column of floats; beyond a megabyte it is kept in a temporary file.

    Percentiles are exact, and memory does not grow with the run until they are computed.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        weakref.finalize(self, _close, self._file)

    def append(self, values: Floats) -> None:
        """Add values at the end.

        Raises:
            OutputError: If the folder of temporary files is full.
        """
        with as_temporary_error(_WHAT):
            self._file.write(values.astype(np.float64).tobytes())

    def read(self) -> Floats:
        """Return all values."""
        with as_temporary_error(_WHAT):
            self._file.seek(0)  # writes what is buffered
        values = np.frombuffer(self._file.read())
        self._file.seek(0, 2)
        return values


def _close(file: tempfile.SpooledTemporaryFile[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk, which has been reported
        file.close()


class Tally:
    """Counts and distributions of tasks that have ended: of all that count, or of one class.

    Args:
        blocks: Number of blocks of a task of each class; shape (C,).
        deadline_s: The deadline of a task of each class, infinite without one; shape (C,).
        retries: Whether lost tasks are placed again.
    """

    COLUMNS = ("total_s", "edge_s", "local_s", "energy_J")

    def __init__(self, blocks: Ints, deadline_s: Floats, *, retries: bool) -> None:
        self._blocks, self._deadline_s = blocks, deadline_s
        self.retried: int | None = 0 if retries else None
        """Tasks that were placed again; None if none can be."""
        self._spools = {name: Spool() for name in self.COLUMNS}
        self.tasks = self.completed = self.late_blocks = 0
        self.failed_by_cause = dict.fromkeys(CAUSES.values(), 0)
        self._misses = self._blocks_completed = 0
        """Late blocks, and all blocks, of completed tasks."""
        self._missed = self._timed = 0
        """Tasks that did not complete by their deadline, and all tasks that have one."""

    def add(self, tasks: TaskTable, attempts: Ints | None = None) -> None:
        """Add tasks that have ended, with their numbers of attempts where lost ones are retried."""
        if self.retried is not None and attempts is not None:
            self.retried += int(np.count_nonzero(attempts > 1))
        completed = tasks.status == COMPLETED
        done = int(np.count_nonzero(completed))
        for name, spool in self._spools.items():
            values = getattr(tasks, name)
            spool.append(values if done == len(values) else values[completed])
        self.tasks += len(completed)
        self.completed += done
        for status, cause in CAUSES.items():
            self.failed_by_cause[cause] += int(np.count_nonzero(tasks.status == status))
        self.late_blocks += int(tasks.late_blocks.sum())
        self._misses += int(tasks.late_blocks[completed].sum())
        self._blocks_completed += int(self._blocks[tasks.class_[completed]].sum())
        self._missed += int(tasks.missed.sum())
        self._timed += int(np.count_nonzero(self._deadline_s[tasks.class_] < np.inf))

    @property
    def failed(self) -> int:
        """Failed tasks."""
        return sum(self.failed_by_cause.values())

    def values(self, name: str) -> Floats:
        """Return a column of :data:`COLUMNS` of the completed tasks."""
        return self._spools[name].read()

    def numbers(self) -> dict[str, Any]:
        """Return the numbers that the summaries of a run and of a class have."""
        names = ("total_delay_s", "edge_delay_s", "local_delay_s", "energy_J")
        return {
            "completed": self.completed,
            "failed": self.failed,
            "retried": self.retried,
            "late_blocks": self.late_blocks,
            "miss_ratio": _share(self._misses, self._blocks_completed),
            "deadline_miss_ratio": _share(self._missed, self._timed),
            **{
                name: Statistics.of(self.values(column))
                for name, column in zip(names, self.COLUMNS, strict=True)
            },
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


class Totals:
    """Sums over a run, taken while it goes.

    Tasks, delays, energies, costs and deadline misses are those of the tasks that count by the
    scenario's ``measurement``; services and tasks in flight are those of the whole run. Delays and
    energies are those of completed tasks.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        blocks = np.diff(model.first_block)
        deadline_s = np.array([each.deadline_s for each in model.classes])
        retries, several = len(model.retries) > 0, len(model.classes) > 1
        self._all = Tally(blocks, deadline_s, retries=retries)
        self._by_class = [
            Tally(blocks, deadline_s, retries=retries) for _ in model.classes if several
        ]
        self._costs = Spool()
        self.services = ServiceTotals.zeros(len(model.resources))
        self._in_minus_out = np.zeros(model.scenario.slots, dtype=np.int64)
        """Tasks released minus tasks that ended, in each slot."""
        self._released = np.zeros(model.scenario.slots, dtype=np.int64)
        """Tasks released in each slot."""
        self.released = self.ended = 0
        """Tasks of the whole run."""
        self._retries = 0
        """How often lost tasks of the whole run were placed again."""
        self._counted = np.zeros(2, dtype=np.int64)
        """Number of the first task that counts, and of the first one after these, as yet."""
        self.last_finish_s = 0.0

    def release(self, first_slot: int, counts: Ints, release_s: Floats) -> None:
        """Count the tasks that are released in consecutive slots, before any of them ends.

        Args:
            first_slot: The first of the slots.
            counts: Number of tasks in each; shape (slots,).
            release_s: When they are released, in order; shape (tasks,).
        """
        self._counted += np.searchsorted(release_s, self._model.scenario.counted_s)
        self._in_minus_out[first_slot : first_slot + len(counts)] += counts
        self._released[first_slot : first_slot + len(counts)] += counts
        self.released += int(counts.sum())

    def in_flight(self) -> Ints:
        """Return the number of tasks that had not ended at the end of each slot; shape (T,)."""
        return np.cumsum(self._in_minus_out)

    def _excess(self) -> Floats | None:
        """Return the tasks of each slot above the mean of a random process; None for others.

        It is None too where a class has recorded tasks, whose mean a model does not know.
        """
        scenario = self._model.nominal
        arrivals = [each.arrivals for each in scenario.classes]
        drawn = any(isinstance(each, (Poisson, Mmpp)) for each in arrivals)
        if not drawn or any(isinstance(each, RecordedTasks) for each in arrivals):
            return None
        return np.asarray(self._released - arrival_rate(scenario), dtype=np.float64)

    def add(self, tasks: TaskTable, attempts: Ints | None = None) -> None:
        """Add tasks that have ended: the next ones in the order of release.

        Args:
            tasks: The tasks.
            attempts: How often each was placed, where lost tasks are placed again; shape (n,).
        """
        if not len(tasks.status):
            return
        slot = tasks.finish_s / self._model.scenario.slot_length
        ended = slot[slot < len(self._in_minus_out)].astype(np.int64)
        self._in_minus_out -= np.bincount(ended, minlength=len(self._in_minus_out))
        self.last_finish_s = max(self.last_finish_s, float(tasks.finish_s.max()))
        begin, end = np.clip(self._counted - self.ended, 0, len(slot)).tolist()
        self.ended += len(slot)
        counted = tasks.of(slice(begin, end))
        self._costs.append(counted.cost)
        tries = None if attempts is None else attempts[begin:end]
        self._all.add(counted, tries)
        for number, tally in enumerate(self._by_class):
            mine = counted.class_ == number
            tally.add(counted.of(mine), None if tries is None else tries[mine])
        if attempts is not None:
            self._retries += int(attempts.sum()) - len(attempts)

    @property
    def completed(self) -> int:
        """Tasks that count and completed."""
        return self._all.completed

    @property
    def failed(self) -> int:
        """Failed tasks that count."""
        return self._all.failed

    @property
    def retried(self) -> int:
        """Tasks that count and were placed again."""
        return self._all.retried or 0

    def resource_rows(self) -> Rows:
        """Return the columns of ``/resources`` that grow with the run."""
        return {"busy_s": self.services.busy_s.copy(), "served": self.services.served.copy()}

    def horizon_s(self) -> float:
        """Return when the run ended: its last slot, or its last task if that is later."""
        return max(self._model.scenario.length_s, self.last_finish_s)

    def drained_s(self) -> float:
        """Return for how long the network drained after the last slot."""
        end_s = self.horizon_s()
        return float(equations.penalty(end_s, self._model.scenario.length_s, end_s))

    def reward(self) -> float:
        """Return minus the weighted cost of the tasks that count (Eq. 14).

        It is the reward of the episode where all tasks count.
        """
        return 0.0 - float(self._costs.read().sum())

    def resources(self) -> tuple[ResourceUse, ...]:
        """Return the use of every resource that served, the busiest first.

        Utilization and mean queue are over :meth:`horizon_s`.
        """
        names, horizon = self._model.resource_names(), self.horizon_s()
        busy_s, wait_s, served = self.services
        share = busy_s / (horizon * self._model.capacity)
        order = np.argsort(-share, kind="stable")
        return tuple(
            ResourceUse(
                name=names[r],
                utilization=float(share[r]),
                mean_queue=float(wait_s[r] / horizon),
                mean_wait_s=float(wait_s[r] / served[r]),
            )
            for r in order.tolist()
            if served[r]
        )

    def summary(
        self,
        scenario: str,
        made_by: Provenance,
        *,
        wall_s: float,
        trace: Path | None = None,
        lower_bound: BoundGap | None = None,
    ) -> RunSummary:
        """Return the numbers of the run.

        Args:
            scenario: The name of the scenario.
            made_by: Scheduler, seed and kernel of the run.
            wall_s: Wall-clock time of the run in seconds.
            trace: Path of the trace file, if one was written.
            lower_bound: The lower bound on the cost, if it was computed.
        """
        return RunSummary(
            scenario=scenario,
            scheduler=made_by.scheduler,
            seed=made_by.seed,
            kernel=made_by.kernel,
            tasks=int(self._counted[1] - self._counted[0]),
            **self._all.numbers(),
            failed_by_cause={cause: n for cause, n in self._all.failed_by_cause.items() if n},
            total_delay_quantiles_s=quantiles(self._all.values("total_s")),
            reward=self.reward(),
            resources=self.resources(),
            events=int(self.services.served.sum()) + self.released + self._retries,
            drained_s=self.drained_s(),
            overloaded=is_overloaded(self.in_flight(), self._excess()),
            wall_s=wall_s,
            trace=None if trace is None else str(trace),
            lower_bound=lower_bound,
            counted=self._counting(),
            classes=tuple(self._classes()),
        )

    def _classes(self) -> Iterator[ClassSummary]:
        """Yield the numbers of every class of tasks, where there are several."""
        for task_class, tally in zip(self._model.classes, self._by_class, strict=False):
            deadline_s = task_class.deadline_s
            yield ClassSummary(
                name=task_class.name,
                priority=task_class.priority,
                deadline_s=None if deadline_s == np.inf else deadline_s,
                tasks=tally.tasks,
                **tally.numbers(),
            )

    def _counting(self) -> Counted | None:
        scenario = self._model.scenario
        if scenario.measurement == Measurement():
            return None
        begin_s, end_s = scenario.counted_s
        return Counted(from_s=begin_s, to_s=min(end_s, scenario.length_s), released=self.released)
