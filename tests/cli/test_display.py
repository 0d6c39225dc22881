"""Tables name what matters of whole tasks: deadlines, failures."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mecsim.cli import display
from mecsim.cli.output import show
from mecsim.study.summary import Entry

MEANS = {
    "total_delay_s": 2.0, "total_delay_p95_s": 3.0, "total_delay_p99_s": 4.0, "miss_ratio": 0.25,
}  # fmt: skip


def compared(**means: float | None) -> list[Entry]:
    entries: list[dict[str, Any]] = [
        {
            "scenario": "lab", "sweep": {}, "scheduler": "greedy", "metric": metric, "seeds": 2,
            "mean": mean, "ci95_low": None, "ci95_high": None, "vs": {}, "overloaded": 0,
        }
        for metric, mean in (MEANS | means).items()
    ]  # fmt: skip
    return cast("list[Entry]", entries)


def columns(entries: list[Entry]) -> list[str]:
    table = display.study_table(entries, "total_delay_s", "greedy")
    return [str(column.header).replace("\n", " ") for column in table.columns][-2:]


def test_late_and_failed_tasks_are_next_to_the_delay(capsys: pytest.CaptureFixture[str]) -> None:
    entries = compared(deadline_miss_ratio=0.5, failed=145.0)
    assert columns(entries) == ["past deadline (%)", "failed (tasks)"]
    show(display.study_table(entries, "total_delay_s", "greedy"))
    assert capsys.readouterr().out.splitlines()[-1].split()[-5:] == ["3", "4", "25", "50", "145"]


@pytest.mark.parametrize("more", [{}, {"deadline_miss_ratio": None, "failed": 0.0}])
def test_columns_without_deadlines_and_failures(more: dict[str, float | None]) -> None:
    assert columns(compared(**more)) == ["p99 (s)", "misses (%)"]


def test_the_deadline_is_in_the_title_of_times() -> None:
    row = {"place": "device", "seconds": {"devices": [1.0, 1.0]}}
    assert display.times_table([row, row]).title == "Delay without queues (s), by place"
    named = row | {"class": "detect", "deadline_s": 0.3}
    title = "Delay of detect without queues (s), by place; deadline 0.3 s"
    assert display.times_table([named, named]).title == title
