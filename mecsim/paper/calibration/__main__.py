"""Search, judge and write: ``python -m mecsim.paper.calibration``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from mecsim.paper.calibration.criterion import Candidate, fitted
from mecsim.paper.calibration.page import Calibration, page, search_table, trend_table
from mecsim.paper.calibration.sensitivity import SEEDS, episode, excess_percent, moved, steps
from mecsim.paper.calibration.settings import grid
from mecsim.paper.calibration.trends import trends
from mecsim.study.report_tables import as_csv
from mecsim.support.files import write_whole

FOLDER: Final = Path("results")
WORKERS: Final = 2

_From = TypeVar("_From")
_To = TypeVar("_To")


def choose(candidates: Iterable[Candidate]) -> Candidate:
    """Return the candidate nearest to the targets of those that the page's rule admits."""
    admitted = [
        each
        for each in candidates
        if each.meets_levels and each.uses_devices and each.setting.pattern != "alike"
    ]
    return min(admitted, key=lambda each: each.distance)


def calibrate() -> Calibration:
    """Search the grid, and look at the trends of all settings that meet the levels."""
    with ProcessPoolExecutor(WORKERS) as pool:

        def each(work: Callable[[_From], _To], of: Iterable[_From], what: str) -> list[_To]:
            found: list[_To] = []
            for result in pool.map(work, items := list(of)):
                found.append(result)
                sys.stderr.write(f"\r{what}: {len(found)} of {len(items)}")
            sys.stderr.write("\n")
            return found

        candidates = each(fitted, grid(), "settings")
        meeting = [candidate for candidate in candidates if candidate.meets_levels]
        nearest = choose(meeting)
        chosen = nearest.setting
        return Calibration(
            candidates=candidates,
            chosen=nearest,
            trends=each(trends, [candidate.setting for candidate in meeting], "trends"),
            moved=each(partial(moved, chosen), steps(chosen), "steps"),
            episodes=each(partial(episode, chosen), SEEDS, "episodes"),
            excess_percent=excess_percent(replace(chosen, edge_servers=6), nearest.six.placement),
        )


def main() -> None:
    """Write the page and the tables."""
    found = calibrate()
    write_whole(FOLDER / "calibration.csv", as_csv(search_table(found)))
    write_whole(FOLDER / "calibration_trends.csv", as_csv(trend_table(found)))
    write_whole(FOLDER / "calibration.md", page(found))


if __name__ == "__main__":
    main()
