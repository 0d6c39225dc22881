"""The results that claims are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mecsim.paper.curves import episodes_to_converge, final_reward
from mecsim.study import statistics
from mecsim.study.summary import CurvePoint, Row, Sample, metric
from mecsim.study.sweep import Point
from mecsim.support.arrays import Floats


class MissingError(Exception):
    """The runs that a claim is about are missing or have no number."""


@dataclass(frozen=True)
class Evidence:
    """The results of the figures' studies, by figure and study."""

    rows: Mapping[str, Sequence[Row]]
    """``fig8.servers`` to its runs."""
    curves: Mapping[str, Sequence[CurvePoint]]
    """``fig8.servers`` to its learning curves."""

    def points(self, where: str, scenario: str | None = None) -> list[Point]:
        """Return the points of a study, in their order."""
        found: list[Point] = []
        for row in self.rows.get(where, ()):
            if row["sweep"] not in found and scenario in (None, row["scenario"]):
                found.append(row["sweep"])
        return found

    def samples(
        self, where: str, name: str, competitors: Sequence[str], point: Point, scenario: str
    ) -> list[Floats]:
        """Return a metric of each scheduler as a sample (T, E), on the seeds that all share.

        Args:
            where: Figure and study, as ``fig8.servers``.
            name: The metric.
            competitors: Labels of the schedulers.
            point: The point of the sweep.
            scenario: The scenario.

        Returns:
            One sample per scheduler; all learners have the same number of trainings.

        Raises:
            MissingError: One of the schedulers was not run.
        """
        found = [self._sample(where, name, each, point, scenario) for each in competitors]
        seeds = sorted(set.intersection(*(set(statistics.complete_seeds(each)) for each in found)))
        if not seeds:
            at = f" at {', '.join(str(value) for value in point.values())}" if point else ""
            raise MissingError(f"not run: {', '.join(competitors)}, not all, in {where}{at}")
        return statistics.truncated(*(statistics.matrix(each, seeds) for each in found))

    def _sample(
        self, where: str, name: str, competitor: str, point: Point, scenario: str
    ) -> Sample:
        if name in ("final_reward", "episodes_to_converge"):
            return self._trained(where, name, competitor, scenario)
        return {
            (row["training_seed"] or 0, row["seed"]): value
            for row in self.rows.get(where, ())
            if (row["scheduler"], row["sweep"], row["scenario"]) == (competitor, point, scenario)
            and (value := metric(row, name)) is not None
        }

    def _trained(self, where: str, name: str, competitor: str, scenario: str) -> Sample:
        curves: dict[int, list[tuple[float, float]]] = {}
        for row in self.curves.get(where, ()):
            if (row["scheduler"], row["scenario"]) == (competitor, scenario):
                pair = row["episode"], row["reward"]
                curves.setdefault(row["training_seed"], []).append(pair)
        if name == "final_reward":
            return {(seed, 0): final_reward(curve) for seed, curve in curves.items()}
        found = {(seed, 0): episodes_to_converge(curve) for seed, curve in curves.items()}
        if late := sum(math.isinf(each) for each in found.values()):
            last = max(curve[-1][0] for curve in curves.values())
            raise MissingError(
                f"{late} of {len(found)} trainings of {competitor} did not converge by the end, "
                f"after {last:.0f} episodes"
            )
        return found
