"""Metrics and the summary of a run."""

from __future__ import annotations

import json

import numpy as np
import pydantic
import pytest

from mecsim.simulation.metrics import METRICS, PER_TASK, RunSummary, Statistics
from mecsim.simulation.run import run
from tests.helpers.builders import scenario


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return run(scenario(slots=2), "local", lower_bound=True).summary


def test_summary_as_json_and_back(summary: RunSummary) -> None:
    document = json.loads(json.dumps(summary.as_json(), allow_nan=False))
    assert RunSummary.model_validate(document) == summary
    without = summary.model_copy(update={"lower_bound": None}).as_json()
    assert document.keys() - without.keys() == {"lower_bound"}


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
            assert value == (document[name]["mean"] if name in PER_TASK else document[name])


def test_statistics_by_hand() -> None:
    found = Statistics.of(np.arange(101.0))
    assert (found.mean, found.p50, found.p95, found.max) == (50, 50, 95, 100)
    assert set(vars(Statistics.of(np.empty(0))).values()) == {None}
