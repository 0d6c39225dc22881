"""Tasks that count: those released between the warm-up and the cool-down of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.scenario.loading import from_json, load, with_overrides
from mecsim.simulation.metrics import RunSummary, Statistics
from mecsim.simulation.replay import replay
from mecsim.simulation.run import run
from mecsim.study.jobs import execute, make_job
from mecsim.study.statistics import improvement
from mecsim.support.intervals import Interval
from mecsim.trace.schema import MemoryTrace
from mecsim.verification import queueing
from mecsim.verification.check import scenario_of
from mecsim.verification.queueing_checks import STATION
from tests.helpers.builders import chain, scenario

LATE_S = 2.75


def queue(**measurement: float) -> Scenario:
    """A task every second, each of 1.5 s at the device: they take 1.5, 2, 2.5, 3 and 3.5 s."""
    dnn = chain([3], [1], max_tolerated_delay=LATE_S)
    return scenario(slots=5, dnn=dnn, device={"capacity": 2.0}, measurement=measurement)


@pytest.mark.parametrize(
    ("warm_up", "cool_down", "delays"),
    [
        (0.0, 0.0, [1.5, 2, 2.5, 3, 3.5]),
        (1.5, 0.0, [2.5, 3, 3.5]),
        (2.0, 0.0, [2.5, 3, 3.5]),  # a task released at 2 s counts
        (0.0, 1.0, [1.5, 2, 2.5, 3]),  # one released at 5 - 1 = 4 s does not
        (1.5, 1.5, [2.5, 3]),
        (3.5, 1.0, []),
    ],
)
def test_counts_by_hand(warm_up: float, cool_down: float, delays: list[float]) -> None:
    spec = queue(warm_up=warm_up, cool_down=cool_down)
    found = run(spec, "local", lower_bound=True).summary
    assert found.total_delay_s == Statistics.of(np.array(delays))
    assert (found.tasks, found.completed) == (len(delays), len(delays))
    late = [each for each in delays if each > LATE_S]
    assert found.late_blocks == len(late)
    assert found.miss_ratio == (len(late) / len(delays) if delays else None)
    assert found.reward == -sum(delays) - sum(each - LATE_S for each in late)
    each = run(queue(), "local", lower_bound=True).summary
    assert found.lower_bound is not None
    assert each.lower_bound is not None
    assert found.lower_bound.cost == pytest.approx(each.lower_bound.cost * len(delays) / 5)
    assert (found.events, found.drained_s, found.resources) == (
        each.events,
        each.drained_s,
        each.resources,
    )
    whole = warm_up == cool_down == 0
    line = f"counted: tasks released from {warm_up:g} s to {5 - cool_down:g} s, {len(delays)} of 5"
    assert found.counting == (None if whole else line)


def test_least_delay_is_that_of_tasks_that_count() -> None:
    """The least delay of a task is in proportion to its size, wherever it runs."""
    drawn = {"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "task"}
    spec = scenario(slots=5, dnn=chain([3], [1]), size_factor=drawn)
    least = []
    for warm_up in (0, 2):
        counting = with_overrides(spec, [f"measurement.warm_up={warm_up}"])
        (outcome,) = execute([make_job("bound", counting, "", {}, 0)])
        assert outcome.result is not None
        least.append(outcome.result["total_delay_s"])
    size = run(spec, "local").tasks["size_factor"]
    assert least[1] / least[0] == pytest.approx(size[2:].mean() / size.mean())


def test_plot_of_the_tasks_that_count() -> None:
    pytest.importorskip("matplotlib")
    axes = run(queue(warm_up=1.5, cool_down=1), "local").plot()
    assert sorted(set(axes.lines[0].get_xdata().tolist())) == [2.5, 3]  # type: ignore[union-attr]


BATTERIES: dict[str, Any] = {
    "slots": 12,
    "devices": 5,
    "dnn": {"blocks": 3, "max_tolerated_delay": 0.05},
    "arrivals": {"process": "poisson", "rate": 6.5},
    "size_factor": {"distribution": "exponential", "per": "task"},
    "device": {"battery": 20},
    "measurement": {"warm_up": 2.3, "cool_down": 1.8},
}


def from_rows(rows: MemoryTrace) -> dict[str, Any]:
    """What a summary has, from the rows of a trace."""
    release_s = rows["tasks/release_s"]
    counted = (release_s >= 2.3) & (release_s < 12 - 1.8)
    done = counted & (rows["tasks/status"] == 0)
    found: dict[str, Any] = {
        name: Statistics.of(rows[f"tasks/{column}"][done])
        for name, column in (("total_delay_s", "total_s"), ("energy_J", "energy_J"))
    }
    late = rows["tasks/late_blocks"]
    return found | {
        "tasks": counted.sum(),
        "completed": done.sum(),
        "failed": (counted & ~done).sum(),
        "late_blocks": late[counted].sum(),
        "miss_ratio": late[done].sum() / (3 * done.sum()),
    }


@pytest.mark.parametrize("decision_epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize(
    ("scheduler", "options"), [("greedy", {}), ("fixed", {"placement": [0, 0, 1]})]
)
def test_all_ways_to_run_count_the_same(
    decision_epoch: str, scheduler: str, options: dict[str, Any], tmp_path: Path
) -> None:
    spec = Scenario.model_validate(BATTERIES | {"decision_epoch": decision_epoch})
    rows, path = MemoryTrace(), tmp_path / "trace.h5"
    first = run(spec, scheduler, options, memory=rows).summary
    ways = [
        run(spec, scheduler, options, kernel="compiled").summary,
        run(spec, scheduler, options, kernel="compiled", memory=MemoryTrace()).summary,
        run(spec, scheduler, options, out=path).summary,
        replay(path, kernel="compiled").summary,
    ]

    def numbers(summary: RunSummary) -> dict[str, Any]:
        machine = {"wall_s", "kernel", "trace", "scenario", "scheduler_reason"}
        return summary.model_dump(exclude=machine) | {"tail": summary.total_delay_quantiles_s}

    assert all(numbers(each) == numbers(first) for each in ways)
    known = from_rows(rows)
    assert {name: getattr(first, name) for name in known} == known
    assert 0 < first.failed < first.tasks < len(rows["tasks/status"])


def test_what_counts_is_in_the_scenario_only_where_it_is_given() -> None:
    plain = load("vgg16_4es")
    assert '"measurement"' not in plain.canonical_json()
    assert with_overrides(plain, ["measurement.warm_up=0"]).sha256() == plain.sha256()
    given = load("vgg16_4es", ["measurement.warm_up=50 s"])
    assert from_json(given.canonical_json(), "trace") == given
    assert given.sha256() != plain.sha256()
    assert given.sha256_of_slots() == plain.sha256_of_slots()  # policies stay valid


@pytest.mark.slow
def test_warm_up_removes_the_bias_of_an_empty_start() -> None:
    """M/M/1 with ρ = 0.7, 120 s from empty; the deficit decays with (1 - √ρ)² a second."""
    answer = queueing.mm1_sojourn(0.7, 1)

    def mean(warm_up: int) -> Interval:
        spec = scenario_of(
            STATION, "slots=1", "slot_length=120", "arrivals.rate=84",
            f"measurement.warm_up={warm_up}",
        )  # fmt: skip
        runs = [
            run(spec, "fixed", {"placement": [0]}, seed=seed, kernel="compiled").summary
            for seed in range(800)
        ]
        counts = np.array([[each.completed for each in runs]], dtype=np.float64)
        sums = counts * [each.total_delay_s.mean or 0.0 for each in runs]
        ratio = improvement(sums, counts)
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        return Interval(*(1 - percent / 100 for percent in (ratio.high, ratio.percent, ratio.low)))

    biased, counted = mean(0), mean(90)
    assert biased.high < answer
    assert counted.contains(answer)
    assert abs(counted.mean - answer) < abs(biased.mean - answer)
