"""How far a run on real nodes was from its plan: decisions, releases, padded services."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mecsim.support.arrays import Floats
from mecsim.testbed.messages import Release
from mecsim.testbed.pool import ScenarioClock

LATE_SHARE: Final = 0.05
"""An execution of a block is late that takes longer than planned by more than this share."""


class Lateness:
    """Sums over a run, in real seconds."""

    def __init__(self, clock: ScenarioClock) -> None:
        self._clock = clock
        self._woke_at: float | None = None
        self._decision_s: list[float] = []
        self._wake_s, self._polls_s = _Largest(), _Largest()
        self._release_s = _Largest()
        self._computed = self._late = 0
        self.failures: dict[str, dict[str, Any]] = {}
        """When and why nodes ended, by name."""

    def woke(self, at: float, planned_at: float) -> None:
        """Note that an epoch has begun."""
        self._woke_at = at
        self._wake_s.add(max(0.0, at - planned_at))

    def submitted(self, at: float) -> None:
        """Note that the epoch's tasks are placed."""
        if self._woke_at is not None:
            self._decision_s.append(at - self._woke_at)
        self._woke_at = None

    def polled(self, took_s: float) -> None:
        """Note that all nodes have reported their state."""
        self._polls_s.add(took_s)

    def served(self, release: Release, hop: int, late_s: float, took_s: float) -> None:
        """Note a service that has ended.

        Args:
            release: The task.
            hop: Its hop.
            late_s: How late the node began it, in real seconds.
            took_s: How long the service took in real seconds.
        """
        if hop == 0:
            self._release_s.add(max(0.0, late_s))
        way = release.hops[hop]
        if way.target is None:
            self._computed += 1
            self._late += took_s > (1.0 + LATE_SHARE) * way.service_s * self._clock.stretch

    @property
    def late_share(self) -> float:
        """The share of executions of blocks that took longer than planned."""
        return self._late / max(self._computed, 1)

    def facts(self) -> dict[str, Any]:
        """Return the numbers for the trace."""
        return {
            "decision_s": _statistics(np.array(self._decision_s)),
            "poll_s": self._polls_s.facts(),
            "late_epoch_s": self._wake_s.facts(),
            "late_release_s": self._release_s.facts(),
            "late_executions": self.late_share,
            "failures": self.failures,
        }


class _Largest:
    """Mean and maximum of values."""

    def __init__(self) -> None:
        self._count, self._sum, self._max = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self._count += 1
        self._sum += value
        self._max = max(self._max, value)

    def facts(self) -> dict[str, float] | None:
        """Return the statistics, None if there are no values."""
        return {"mean": self._sum / self._count, "max": self._max} if self._count else None


def _statistics(values: Floats) -> dict[str, float] | None:
    if not len(values):
        return None
    mean, p95 = float(values.mean()), float(np.quantile(values, 0.95))
    return {"mean": mean, "p95": p95, "max": float(values.max())}
