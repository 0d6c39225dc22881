"""From the accounts of a run to the numbers that people compare."""

from __future__ import annotations

import tempfile
import weakref
from typing import Any

import numpy as np

from mecsim.kernels.accounting import ServiceTotals, TaskTable
from mecsim.model.model import Model
from mecsim.support.arrays import Floats
from mecsim.trace.schema import Rows

SPOOL_BYTES = 1 << 20


class Spool:
    """A column of floats that grows; beyond a megabyte it lies in a temporary file.

    So percentiles are exact, and until they are asked for memory does not grow with the run.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def append(self, values: Floats) -> None:
        """Add values at the end."""
        self._file.write(values.astype(np.float64).tobytes())

    def read(self) -> Floats:
        """Return all values."""
        self._file.seek(0)
        values = np.frombuffer(self._file.read())
        self._file.seek(0, 2)
        return values


def statistics(values: Floats) -> dict[str, float | None]:
    """Return mean, standard deviation (of the population), percentiles and maximum."""
    if not len(values):
        return dict.fromkeys(("mean", "std", "p50", "p95", "p99", "max"))
    p50, p95, p99 = np.percentile(values, [50, 95, 99]).tolist()
    mean, std, top = (float(f(values)) for f in (np.mean, np.std, np.max))
    return {"mean": mean, "std": std, "p50": p50, "p95": p95, "p99": p99, "max": top}


class Totals:
    """Sums over a run, taken as it goes. Delays and energies are those of completed tasks."""

    METRICS = ("total_s", "edge_s", "local_s", "energy_J")

    def __init__(self, model: Model) -> None:
        self._model = model
        self._spools = {name: Spool() for name in self.METRICS}
        self._costs = Spool()
        self.services = ServiceTotals.zeros(len(model.resources))
        self.released = self.completed = self.failed = self.late_blocks = 0
        self.last_finish_s = 0.0

    def add(self, tasks: TaskTable) -> None:
        """Add tasks that have ended."""
        if not len(tasks.status):
            return
        completed = tasks.status == 0
        done = int(np.count_nonzero(completed))
        for name, spool in self._spools.items():
            values = getattr(tasks, name)
            spool.append(values if done == len(values) else values[completed])
        self._costs.append(tasks.cost)
        self.completed += done
        self.failed += len(completed) - done
        self.late_blocks += int(tasks.late_blocks.sum())
        self.last_finish_s = max(self.last_finish_s, float(tasks.finish_s.max()))

    def resource_rows(self) -> Rows:
        """Return the columns of ``/resources`` that grow with the run."""
        return {"busy_s": self.services.busy_s.copy(), "served": self.services.served.copy()}

    def horizon_s(self) -> float:
        """Return when the run ended: its last slot, or its last task if that is later."""
        return max(self._last_slot_end_s, self.last_finish_s)

    def drained_s(self) -> float:
        """Return for how long the network drained after the last slot."""
        return self.horizon_s() - self._last_slot_end_s

    @property
    def _last_slot_end_s(self) -> float:
        return self._model.scenario.slots * self._model.scenario.slot_length

    def reward(self) -> float:
        """Return the reward of the episode: minus the cost of all tasks (Eq. 14)."""
        return 0.0 - float(self._costs.read().sum())

    def resources(self) -> list[dict[str, Any]]:
        """Return utilization and queue of every resource that served, the busiest first.

        Utilization and mean queue (those waiting) are over :meth:`horizon_s`.
        """
        names, horizon = self._model.resource_names(), self.horizon_s()
        busy_s, wait_s, served = self.services
        share = busy_s / (horizon * self._model.capacity)
        order = np.argsort(-share, kind="stable")
        return [
            {
                "name": names[r],
                "utilization": float(share[r]),
                "mean_queue": float(wait_s[r] / horizon),
                "mean_wait_s": float(wait_s[r] / served[r]),
            }
            for r in order.tolist()
            if served[r]
        ]

    def summary(self) -> dict[str, Any]:
        """Return the numbers of a run as ``mecsim run --json`` prints them."""
        return {
            "tasks": self.released,
            "completed": self.completed,
            "failed": self.failed,
            "total_delay_s": statistics(self._spools["total_s"].read()),
            "edge_delay_s": statistics(self._spools["edge_s"].read()),
            "local_delay_s": statistics(self._spools["local_s"].read()),
            "energy_J": statistics(self._spools["energy_J"].read()),
            "late_blocks": self.late_blocks,
            "reward": self.reward(),
            "resources": self.resources(),
            "events": int(self.services.served.sum()) + self.released,
            "drained_s": self.drained_s(),
        }
