"""Metrics and the summary of a run."""

from __future__ import annotations

import json

import numpy as np
import pydantic
import pytest

from mecsim.simulation.metrics import METRICS, QUANTILES, RunSummary, Statistics, quantiles
from mecsim.simulation.run import run
from tests.helpers.builders import scenario


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return run(scenario(slots=2), "local", lower_bound=True).summary


def test_summary_as_json_and_back(summary: RunSummary) -> None:
    document = json.loads(json.dumps(summary.as_json(), allow_nan=False))
    printed = summary.model_copy(update={"total_delay_quantiles_s": None})
    assert RunSummary.model_validate(document) == printed
    without = summary.model_copy(update={"lower_bound": None}).as_json()
    assert document.keys() - without.keys() == {"lower_bound"}


def test_misses_of_blocks_and_of_tasks_are_told_apart(summary: RunSummary) -> None:
    assert " deadline misses (miss ratio" in summary.outcome
    timed = summary.model_copy(update={"deadline_miss_ratio": 0.25}).outcome
    assert "25% of tasks past their deadline, " in timed
    assert " deadline misses of blocks (miss ratio" in timed


def test_summary_is_frozen(summary: RunSummary) -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        summary.reward = 0.0  # type: ignore[misc]


def test_every_metric_is_a_number_of_the_summary(summary: RunSummary) -> None:
    document = summary.as_json()
    for name in METRICS:
        value = summary.metric(name)
        if name == "optimality_gap_percent":
            assert value == document["lower_bound"]["gap_percent"]
        else:
            metric = METRICS[name]
            found = document.get(metric.source or name)  # a deadline only where there is one
            assert value == (found[metric.statistic] if isinstance(found, dict) else found)


def test_statistics_by_hand() -> None:
    found = Statistics.of(np.arange(101.0))
    assert (found.mean, found.p50, found.p95, found.max) == (50, 50, 95, 100)
    assert set(vars(Statistics.of(np.empty(0))).values()) == {None}


def test_quantiles_by_hand() -> None:
    found = quantiles(np.arange(1001.0)[::-1])
    assert found == pytest.approx([1000 * each for each in QUANTILES], abs=1e-9)
    assert list(QUANTILES) == sorted(set(QUANTILES))
    assert quantiles(np.empty(0)) is None


def test_quantiles_contain_the_percentiles(summary: RunSummary) -> None:
    assert summary.total_delay_quantiles_s is not None
    at = dict(zip(QUANTILES, summary.total_delay_quantiles_s, strict=True))
    delay = summary.total_delay_s
    assert (at[0.5], at[0.95], at[0.99], at[1]) == (delay.p50, delay.p95, delay.p99, delay.max)
