"""JSON documents of runs whose numbers are too large to square, or for a float."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mecsim.cli.output import Output
from mecsim.errors import OutputError
from mecsim.simulation import totals
from mecsim.simulation.metrics import Statistics
from mecsim.study import statistics
from mecsim.support.text import number
from tests.helpers.batches import in_this_process
from tests.helpers.cli import answer

FAR = """
slots: 3
dnn:
  model: {flops: [1e9], input_bits: [1e6], output_bits: 8, parameter_bytes: [4]}
arrivals: {process: slotted, rate: 5}
size_factor: {distribution: uniform, low: 0.8, high: 1.2}
edge_servers: 1
edge_server: {coverage_radius: 10000 km}
devices: 2
device: {distance: [999 km, 1000 km]}
radio: {path_loss_intercept_db: 100, path_loss_slope_db: 500, transmit_power: -200 dBm}
"""
"""A network with delays of 1e169 s: their squares overflow."""


@pytest.fixture
def far(tmp_path: Path) -> str:
    (tmp_path / "far.yaml").write_text(FAR)
    return str(tmp_path / "far.yaml")


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
def test_run(kernel: str, far: str) -> None:
    found = answer("run", far, "--no-trace", "--scheduler", "edge", "--kernel", kernel)
    delays = found["total_delay_s"]
    assert 0 < delays["std"] < delays["max"]


def test_compare(far: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    found = answer(
        "compare", far, "--schedulers", "edge,local", "--baseline", "local", "--seeds", "3",
        "--jobs", "1", "--no-figures", "--lower-bound", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    (delay,) = (
        each
        for each in found["summary"]
        if (each["scheduler"], each["metric"]) == ("edge", "total_delay_s")
    )
    assert 1e168 < delay["ci95_high"] - delay["ci95_low"] < 1e171
    json.loads((tmp_path / "out" / "comparison.json").read_text())


def test_check(far: str) -> None:
    assert answer("check", far)["scenario"]["radio"]["path_loss_slope_db"] == 500


def test_statistics_of_a_run() -> None:
    values = np.array([1.0, 2.0, 6.0])
    usual = Statistics.of(values).model_dump()
    assert usual["std"] == np.std(values)
    for scale in (2.0**1020, 2.0**-1000):
        large = Statistics.of(values * scale).model_dump()
        assert large == {name: value * scale for name, value in usual.items()}
    assert Statistics.of(np.full(4, 1.7e308)).mean == 1.7e308


@pytest.mark.parametrize("shape", [(1, 4), (3, 4)])
def test_intervals_of_a_comparison(shape: tuple[int, int]) -> None:
    sample = np.random.default_rng(1).normal(size=shape)
    usual, scale = statistics.estimate(sample), 2.0**1000
    assert statistics.estimate(sample * scale) == tuple(
        None if end is None else end * scale for end in usual
    )


def test_a_number_that_no_float_holds_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "a": math.inf,
        "b": [(1.5, -math.inf)],
        "c": {"d": math.nan},
        "e": np.float64("inf"),
    }
    Output(json=True, quiet=False).report(document, list)
    found = json.loads(capsys.readouterr().out)
    assert found == {"a": None, "b": [[1.5, None]], "c": {"d": None}, "e": None}
    assert [number(value) for value in (math.inf, math.nan)] == ["inf", "–"]


def test_full_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the folder, what was written and the variable that chooses the folder."""
    monkeypatch.setattr(totals, "SPOOL_BYTES", 8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    spool = totals.Spool()
    with pytest.raises(
        OutputError, match=r"gone: a temporary file of delays and energies .* TMPDIR"
    ):
        spool.append(np.zeros(100))
