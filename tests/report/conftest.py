"""Runs and comparisons that the reports of these tests are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import answer

HOSTILE = "</script><b>&\"'; $(x)"
"""A name that must neither end a script nor become markup."""
LONG = "z" * 120


def entry(scheduler: str, mean: float, sweep: Any, metric: str = "total_delay_s") -> dict[str, Any]:
    """An entry of a summary."""
    return {
        "scenario": f"{LONG} & co", "sweep": {"edge_servers": sweep}, "scheduler": scheduler,
        "metric": metric, "seeds": 3, "mean": mean, "ci95_low": mean - 1, "ci95_high": mean + 1,
        "overloaded": 0, "vs": {},
    }  # fmt: skip


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison with hostile names, a failure and no runs."""
    folder = tmp_path_factory.mktemp("compared")
    summary = [
        entry(scheduler, mean + sweep, sweep)
        for sweep in (2, 4)
        for scheduler, mean in ((HOSTILE, 20.123456789), ("greedy", 3.5), ("rpdi", 100.25))
    ]
    failed = [{"scenario": HOSTILE, "sweep": {}, "job": HOSTILE, "cause": "<i>no</i>"}]
    document = {"rows": [], "summary": summary, "failed": failed}
    (folder / "comparison.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace whose file has a hostile name, next to the JSON document of its run."""
    path = tmp_path_factory.mktemp("runs") / "a<b>&\"';.h5"
    found = answer(
        "run", "vgg16_4es", "--scheduler", "rpdi", "--set", "slots=2", "--out", str(path),
        "--set", "arrivals.rate=9", "--set", "devices=6", "--kernel", "compiled",
    )  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(found))
    return path
