"""Overloaded runs are told from stable ones by the trend of the tasks in flight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim.model.model import resolve
from mecsim.simulation.recorded import recorded_summary
from mecsim.simulation.run import run
from mecsim.simulation.saturation import MIN_SLOTS, is_overloaded
from mecsim.simulation.totals import Totals
from mecsim.study.comparison_panels import comparison_panels
from mecsim.study.summary import overload_mark
from mecsim.trace import TraceFile
from tests.helpers.batches import in_this_process
from tests.helpers.builders import chain, scenario
from tests.helpers.cli import answer, mecsim
from tests.helpers.schedulers import LISTENING

SLOTS = 200


def mm1(load: float, seed: int) -> np.ndarray[Any, Any]:
    """Customers of an M/M/1 queue, 10 arrivals a slot, at the end of each slot."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / 10, 12 * SLOTS))
    services = rng.exponential(load / 10, len(arrivals))
    ends, end = np.empty(len(arrivals)), 0.0
    for k, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
        ends[k] = end = max(arrival, end) + service
    times = np.arange(1, SLOTS + 1)
    return np.searchsorted(arrivals, times, "right") - np.searchsorted(ends, times, "right")


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9, 0.95])
def test_stable_queues_are_not_overloaded(load: float) -> None:
    assert not any(is_overloaded(mm1(load, seed)) for seed in range(100))


def test_a_queue_without_drift_is_rarely_called_overloaded() -> None:
    """At most twice the level of 0.1%: more than 2 of 200 have a probability below 1%."""
    assert sum(bool(is_overloaded(mm1(1.0, seed))) for seed in range(200)) <= 2


def test_overloaded_queues_are() -> None:
    assert all(is_overloaded(mm1(2.0, seed)) for seed in range(50))
    assert sum(bool(is_overloaded(mm1(1.3, seed))) for seed in range(50)) >= 35


def bursty(load: float, burst: int, seed: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Tasks in flight and tasks above the mean, of a queue that serves about 50 tasks a slot.

    In a quarter of the time, in bursts of exponential length, 2.5 times as many tasks arrive as on
    average.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.exponential([[burst, 3 * burst]] * 200).ravel()[int(rng.random() > 0.25) :]
    bursts = np.arange(len(lengths)) % 2 == (len(lengths) % 2)
    high = bursts[np.searchsorted(np.cumsum(lengths), np.arange(3 * SLOTS), "right")]
    released = rng.poisson(50 * load * np.where(high, 2.5, 0.5))
    steps = np.cumsum(released - rng.poisson(50, 3 * SLOTS))
    return steps - np.minimum(np.minimum.accumulate(steps), 0), released - 50 * load


@pytest.mark.parametrize("burst", [20, 60, 100, 200])
@pytest.mark.parametrize("load", [0.8, 0.95])
def test_bursts_of_a_stable_network_are_no_overload(load: float, burst: int) -> None:
    assert not any(is_overloaded(*bursty(load, burst, seed)) for seed in range(100))


@pytest.mark.parametrize(("load", "burst", "least"), [(1.3, 20, 30), (2.0, 20, 65), (2.0, 60, 40)])
def test_bursts_do_not_hide_overload(load: float, burst: int, least: int) -> None:
    assert sum(bool(is_overloaded(*bursty(load, burst, seed))) for seed in range(100)) >= least


@pytest.mark.parametrize(
    ("arrivals", "mean"),
    [
        ({"process": "poisson", "rate": 9}, 9.0),
        ({"process": "mmpp", "rates": [4, 19], "mean_dwell": [20, 10]}, 9.0),
        ({"process": "slotted", "rate": 9}, None),
    ],
)
def test_tasks_above_the_mean(
    arrivals: dict[str, Any], mean: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run and its trace are judged by the same numbers."""
    seen: list[Any] = []
    monkeypatch.setattr(
        "mecsim.simulation.totals.is_overloaded", lambda _, excess: seen.append(excess)
    )
    path = tmp_path / "run.h5"
    run(one_server(9, arrivals=arrivals), "fixed", {"placement": [1]}, kernel="compiled", out=path)
    with TraceFile(path) as trace:
        recorded_summary(trace, resolve(trace.scenario, trace.made_by.seed))
        released = trace.read("slots", "released")
    expected = None if mean is None else (released - mean).tolist()
    assert [each if each is None else each.tolist() for each in seen] == [expected, expected]


@pytest.mark.parametrize(
    ("in_flight", "expected"),
    [
        (np.zeros(40), False),  # drained slots
        (np.full(40, 60), False),
        (np.minimum(60 * np.arange(40), 600), False),  # settles after ten slots
        (np.minimum(60 * np.arange(40), 1500), False),  # settles in the second half
        (np.maximum(60 * np.arange(-30, 10), 0), False),  # a late burst
        (1000 + np.arange(40), False),  # hardly grows
        (3 * np.arange(1, 41), True),
        (np.arange(40, 0, -1), False),
        (np.arange(MIN_SLOTS - 1), None),
        (np.arange(MIN_SLOTS), True),
    ],
)
def test_known_trends(in_flight: np.ndarray[Any, Any], expected: bool | None) -> None:
    assert is_overloaded(in_flight.astype(np.int64)) is expected


def one_server(rate: int, **changes: Any) -> Any:
    """Tasks of 0.1 s each that are released together every second, all at one server."""
    base: dict[str, Any] = {
        "slots": 40,
        "slot_length": 1.0,
        "dnn": chain([1e8], [1]),
        "arrivals": {"process": "slotted", "rate": rate},
        "edge_server": {"capacity": 1e9},
        "radio": {"rate": 1e9},
    }
    return scenario(**(base | changes))


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize("listening", [False, True])
def test_tasks_in_flight(kernel: str, listening: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 tasks a second can be served. Of 12 two more wait at the end of each slot."""
    seen: list[list[int]] = []
    real = Totals.in_flight

    def noted(self: Totals) -> np.ndarray[Any, Any]:
        seen.append(real(self).tolist())
        return real(self)

    monkeypatch.setattr(Totals, "in_flight", noted)
    name = LISTENING if listening else "fixed"
    options = {"placements": [[1]] * 40, "heard": []} if listening else {"placement": [1]}
    for rate, grows in ((8, False), (12, True)):
        summary = run(one_server(rate), name, options, kernel=kernel).summary
        assert summary.overloaded is grows
        if not grows:
            assert seen[-1] == [0] * 40
        else:  # 0.1 s and the time on the radio: nine and a part are served in a second
            steps = np.diff([0, *seen[-1]])
            assert set(steps[1:].tolist()) <= {2, 3}


def test_a_short_run_cannot_be_judged() -> None:
    assert run(one_server(12, slots=10), "fixed", {"placement": [1]}).summary.overloaded is None


YAML = """\
slots: 40
dnn: {model: vgg16, blocks: 6}
arrivals: {process: slotted, rate: 20}
edge_server: {capacity: 1 GHz}
"""


def test_the_commands_say_it(tmp_path: Path) -> None:
    path = tmp_path / "over.yaml"
    path.write_text(YAML, encoding="utf-8")
    shown = mecsim("run", str(path), "--scheduler", "edge", "--no-trace", "--kernel", "compiled")
    assert "\noverloaded: tasks in flight grow over the slots, so delays depend" in shown.stdout
    assert "; most tasks wait at es" in shown.stdout
    calm = ("--set", "arrivals.rate=0.01", "--no-trace", "--kernel", "compiled")
    shown = mecsim("run", str(path), "--scheduler", "edge", *calm)
    assert "overloaded" not in shown.stdout
    assert answer("run", str(path), "--scheduler", "edge", *calm)["overloaded"] is False


def test_the_comparison_marks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    path, out = tmp_path / "over.yaml", tmp_path / "out"
    path.write_text(YAML, encoding="utf-8")
    command = (
        "compare", str(path), "--schedulers", "edge,fixed", "--option",
        "fixed.placement=[0,0,0,0,0,0]", "--seeds", "2", "--jobs", "1", "--out", str(out),
        "--set", "device.capacity=900 GHz", "--no-figures",
    )  # fmt: skip
    shown = mecsim(*command).stdout
    assert "edge (overloaded)" in shown
    assert "fixed (overloaded" not in shown
    assert "\nbaseline: edge\noverloaded: tasks in flight grow over the slots" in shown
    document = answer(*command, "--resume")
    assert [each["overloaded"] for each in document["rows"]] == [True, True, False, False]
    entries = [each for each in document["summary"] if each["metric"] == "total_delay_s"]
    assert [each["overloaded"] for each in entries] == [2, 0]
    assert list(entries[1]["vs"]) == ["edge"]
    (panel,) = comparison_panels(entries, "total_delay_s")
    assert list(panel.remarks) == ["overloaded in some runs: edge"]
    assert overload_mark(entries[0] | {"overloaded": 1}) == "edge (1 overloaded)"
    assert (out / "rows.csv").read_text().splitlines()[0].count("overloaded") == 1


@pytest.mark.parametrize(
    "name", ["alexnet", "bursty", "small_battery", "vgg16_4es", "vgg16_loaded"]
)
def test_shipped_scenarios_are_not_overloaded(name: str) -> None:
    short = ("--set", "slots=60", "--kernel", "compiled", "--no-trace")
    path = f"scenarios/{name}.yaml"
    assert answer("run", path, "--scheduler", "greedy", *short)["overloaded"] is False
    if name == "vgg16_loaded":  # docs/schedulers.md says so
        for each in ("apdi", "edge", "local"):
            assert answer("run", path, "--scheduler", each, *short)["overloaded"] is True
