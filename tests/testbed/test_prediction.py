"""Predictions of measured runs whose services last a known time longer than the simulated ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import mecsim
from mecsim import Prediction, Scenario, load, predict
from mecsim.errors import InputError, ScenarioError, TraceError
from mecsim.simulation.replay import replay, replay_with
from mecsim.testbed.prediction import is_measured
from mecsim.trace import TraceFile
from tests.helpers.builders import chain, scenario
from tests.helpers.measured import measured_trace

PLACED = ("fixed", {"placement": [0, 1]})
"""The first block at the device, the second at the first server."""
TIMES = {"device": 0.1, "uplink": 0.2, "server": 0.3}
"""Seconds of the services of a task of :func:`tandem`."""


def tandem(**changes: Any) -> Scenario:
    """A task every second, which nothing delays: 0.1 s at the device, 0.2 s sent, 0.3 s served."""
    return scenario(
        **{
            "slots": 200,
            "dnn": chain([1e9, 3e9], [8, 2e6]),
            "arrivals": {"process": "deterministic", "rate": 1},
            "device": {"capacity": "10 GHz"},
            "edge_server": {"capacity": "10 GHz"},
            "radio": {"rate": "10 Mbit/s"},
        }
        | changes
    )


@pytest.fixture(scope="module")
def slow_uplink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace in which sending takes half as long again."""
    path = tmp_path_factory.mktemp("traces") / "t.h5"
    return measured_trace(path, tandem(), *PLACED, factors={"device0.uplink": 1.5})


def test_one_slow_part(slow_uplink: Path) -> None:
    found = predict(slow_uplink)
    assert (found.tasks, found.scored, found.from_s, found.to_s) == (200, 200, 0, 200)
    parts = {each.name: each for each in found.parts}
    assert list(parts) == ["device", "uplink", "server"]
    for name, seconds in TIMES.items():
        longer = 1.5 if name == "uplink" else 1.0
        for pair in (parts[name].mean, parts[name].p50, parts[name].p95, parts[name].service):
            assert pair.measured == pytest.approx(longer * seconds)
            assert pair.predicted == pytest.approx(seconds)
            assert pair.error_percent == pytest.approx(100 * (1 / longer - 1), abs=1e-9)
        assert parts[name].wait.measured == pytest.approx(0, abs=1e-12)
        assert parts[name].mape_percent == pytest.approx(100 * (1 - 1 / longer), abs=1e-9)
        assert parts[name].tasks == 200
    assert found.total.mean.measured == pytest.approx(0.7)
    assert found.total.mean.error_percent == pytest.approx(-100 / 7)
    assert found.total.mean_error_ci95 == pytest.approx((-100 / 7, -100 / 7))  # all tasks are equal


def test_utilization_of_the_window(slow_uplink: Path) -> None:
    found = predict(slow_uplink, after_s=100)
    assert found.scored == 100
    shares = {each.name: each.utilization for each in found.resources}
    assert list(shares)[2] == "device0.cpu"  # the least busy
    measured = {name: each.measured for name, each in shares.items()}
    assert measured == pytest.approx({"device0.uplink": 0.3, "es1.cpu": 0.3, "device0.cpu": 0.1})
    assert shares["device0.uplink"].error_percent == pytest.approx(-100 / 3)


def test_waiting_and_service_apart(tmp_path: Path) -> None:
    """Two tasks at once; the second waits behind the first at each resource."""
    two = tandem(slots=1, arrivals={"process": "slotted", "rate": 2})
    found = predict(measured_trace(tmp_path / "t.h5", two, *PLACED, factors={"es1.cpu": 2.0}))
    # Arrivals at the server: 0.3 s and 0.5 s. Ends: 0.9 s and 1.5 s, predicted 0.6 s and 0.9 s.
    assert found.total.mean.measured == pytest.approx(1.2)
    assert found.total.mean.error_percent == pytest.approx(100 * (0.75 / 1.2 - 1))
    assert found.total.mape_percent == pytest.approx(100 * (1 / 3 + 2 / 5) / 2)
    assert found.total.p95.measured == pytest.approx(0.9 + 0.95 * 0.6)
    assert found.total.mean_error_ci95 is None  # too few tasks
    server = found.parts[-1]
    assert (server.wait.measured, server.wait.predicted) == pytest.approx((0.2, 0.05))
    assert (server.service.measured, server.service.predicted) == pytest.approx((0.6, 0.3))
    assert server.mean.measured == pytest.approx(0.8)
    uplink = found.parts[1]
    assert (uplink.wait.measured, uplink.wait.predicted) == pytest.approx((0.05, 0.05))


def test_latency_belongs_to_the_link(tmp_path: Path) -> None:
    wired = {"rate": "1 Gbit/s", "latency": "50 ms"}
    far = {"placement": [0, 2]}
    trace = measured_trace(tmp_path / "t.h5", tandem(slots=3, wired=wired), "fixed", far)
    (link,) = [each for each in predict(trace).parts if each.name == "link"]
    assert link.mean.measured == pytest.approx(0.052)
    assert link.service.measured == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("name", "changes", "kernel"),
    [
        ("vgg16_loaded", ["slots=3", "decision_epoch=per_task"], "compiled"),
        ("bursty", ["slots=3"], "simpy"),
        ("lab", ["slots=3", "failures.0.at=[[1 s, 2 s]]", "measurement={warm_up: 1 s}"], "simpy"),
    ],
)
def test_a_run_as_planned_is_predicted_exactly(
    name: str, changes: list[str], kernel: str, tmp_path: Path
) -> None:
    """Random rates, moving devices, classes, drops and failures: all are as recorded."""
    found = predict(measured_trace(tmp_path / "t.h5", load(name, changes), seed=3), kernel=kernel)
    assert found.failed_measured == found.failed_predicted
    assert bool(found.failed_measured) == (name == "lab")
    for each in (found.total, *found.parts, *found.classes):
        for pair in (each.mean, each.p50, each.p95):
            assert pair.measured == pair.predicted
        assert each.mape_percent == 0
    assert {each.utilization.error_percent for each in found.resources} == {0.0}
    assert [each.name for each in found.classes] == (
        ["detect", "classify"] if name == "lab" else []
    )


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace in which service at the server takes twice as long."""
    path = tmp_path_factory.mktemp("traces") / "t.h5"
    return measured_trace(path, tandem(), *PLACED, factors={"es1.cpu": 2.0})


def test_another_scenario_explains_the_measurement(slow_server: Path) -> None:
    assert predict(slow_server).total.mape_percent == pytest.approx(100 * 0.3 / 0.9)
    found = predict(slow_server, tandem(edge_server={"capacity": "5 GHz"}))
    assert found.total.mape_percent == pytest.approx(0, abs=1e-9)
    assert found.resources[0].utilization.predicted == pytest.approx(0.6)


def test_rates_and_servers_are_the_recorded_ones(slow_uplink: Path) -> None:
    """The other scenario has another radio rate, and a device that is closer to the server es2."""
    positions = [[0, 0], [500, 0]]
    here, there = (
        tandem(
            edge_server={"capacity": "10 GHz", "positions": positions},
            device={"capacity": "10 GHz", "positions": [[x, 0]]},
            radio={"rate": rate},
        )
        for x, rate in ((10, "10 Mbit/s"), (490, "20 Mbit/s"))
    )
    trace = measured_trace(slow_uplink.parent / "near.h5", here, *PLACED)
    found = predict(trace, there)
    assert [each.name for each in found.parts] == ["device", "uplink", "server"]
    assert found.total.mape_percent == 0


@pytest.mark.parametrize(("after_s", "scored"), [(None, 120), (150, 50)])
def test_tasks_that_were_fitted_are_not_scored(
    after_s: float | None, scored: int, slow_server: Path
) -> None:
    found = predict(slow_server, calibrated_on(slow_server), after_s=after_s)
    assert (found.scored, found.calibrated_until_s) == (scored, 80)
    assert found.from_s == 200 - scored


def test_fitted_tasks_cannot_be_asked_for(slow_server: Path) -> None:
    with pytest.raises(InputError, match=r"after: 50 s, but .* until 80 s; allowed: 80 s or later"):
        predict(slow_server, calibrated_on(slow_server), after_s=50)


def test_a_scenario_from_another_trace_is_scored_on_all_tasks(
    slow_server: Path, tmp_path: Path
) -> None:
    scenario = calibrated_on(slow_server)
    other = Path(shutil.copy(slow_server, tmp_path / "other.h5"))
    with h5py.File(other, "r+") as file:
        file.attrs["created_utc"] = "2001-02-03T04:05:06+00:00"
    found = predict(other, scenario)
    assert (found.scored, found.calibrated_until_s) == (200, None)


def calibrated_on(trace: Path) -> Scenario:
    """The scenario as if it had been calibrated on the first 80 s of a trace."""
    with TraceFile(trace) as file:
        created = str(file.attributes()["created_utc"])
    origin = {"trace": trace.name, "created_utc": created, "until": 80.0}
    return tandem(testbed={"calibrated": origin})


def test_what_counts_by_the_scenario_is_scored(tmp_path: Path) -> None:
    counted = tandem(measurement={"warm_up": "20 s", "cool_down": "30 s"})
    found = predict(measured_trace(tmp_path / "t.h5", counted, *PLACED))
    assert (found.from_s, found.to_s, found.scored) == (20, 170, 150)
    assert predict(found.trace, after_s=60).scored == 110


def test_lost_tasks_are_counted_and_not_scored(tmp_path: Path) -> None:
    trace = measured_trace(tmp_path / "t.h5", tandem(), *PLACED, lost={3, 150, 151})
    found = predict(trace, after_s=100)
    assert (found.scored, found.failed_measured, found.failed_predicted) == (98, {"outage": 2}, {})
    assert found.total.mape_percent == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="none of 200 tasks completed"):
        predict(measured_trace(tmp_path / "u.h5", tandem(), *PLACED, lost=range(200)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 100}, "slots: 100 here, 200 in .*t.h5; allowed: the same"),
        ({"slot_length": "2 s"}, "slot_length: 2 s here, 1 s in"),
        ({"edge_servers": 3}, "edge_servers: 3 here, 2 in"),
        ({"devices": 2}, "devices: 2 here, 1 in"),
        ({"decision_epoch": "per_task"}, "decision_epoch: per_task here, per_slot in"),
        ({"dnn": chain([1e9], [8])}, r"dnn: \[1\] blocks here, \[2\] blocks in"),
        (
            {"edge_servers": [{"name": "rack", "count": 2}], "edge_server": {}},
            "edge_servers: 2 × rack. here, 2 × es in",
        ),
    ],
)
def test_other_scenarios_that_do_not_fit(
    changes: dict[str, Any], message: str, slow_uplink: Path
) -> None:
    for use in (predict, lambda trace, given: replay_with(trace, "greedy", scenario=given)):
        with pytest.raises(ScenarioError, match=message):
            use(slow_uplink, tandem(**changes))


def test_times_that_are_no_times_of_the_run(slow_uplink: Path) -> None:
    for after_s in (-1.0, 200.0):
        with pytest.raises(InputError, match=f"after: {after_s:g} s; allowed: from 0 s to below"):
            predict(slow_uplink, after_s=after_s)
    with pytest.raises(InputError, match=r"no task was released from 199.5 s to 200 s"):
        predict(slow_uplink, after_s=199.5)
    with pytest.raises(InputError, match="kernel: 'testbed' is not known; allowed: simpy, comp"):
        predict(slow_uplink, kernel="testbed")


def test_only_measured_traces_are_predicted(tmp_path: Path) -> None:
    mecsim.run(tandem(slots=2), *PLACED, out=tmp_path / "t.h5")
    assert not is_measured(tmp_path / "t.h5")
    with pytest.raises(TraceError, match=r"t.h5: was simulated \(simpy kernel\), not measured"):
        predict(tmp_path / "t.h5")


def test_measured_traces_are_not_repeated(slow_uplink: Path) -> None:
    assert is_measured(slow_uplink)
    with pytest.raises(TraceError, match="was measured, so no simulation repeats it exactly"):
        replay(slow_uplink)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"complete": False}, "is the trace of a run that was cut short; allowed: complete"),
        ({"hops/task": 10**6}, "column /hops/task is not in order from 0 to 199"),
        ({"hops/task": -1}, "column /hops/task is not in order from 0 to 199"),
        ({"tasks/total_s": np.nan}, "column /tasks/total_s has no time for a completed task"),
        ({"hops/enqueue_s": np.nan}, "group /hops lacks times of a completed task"),
        ({"hops/resource": 99}, "column /hops/resource holds others than"),
    ],
)
def test_damaged_traces(
    change: dict[str, Any], message: str, slow_uplink: Path, tmp_path: Path
) -> None:
    damaged = Path(shutil.copy(slow_uplink, tmp_path / "damaged.h5"))
    with h5py.File(damaged, "r+") as file:
        for name, value in change.items():
            if name in file.attrs:
                file.attrs[name] = value
            else:
                file[name][7] = value
    with pytest.raises(TraceError, match=message):
        predict(damaged)


def test_another_scheduler_on_a_measured_trace(slow_uplink: Path, tmp_path: Path) -> None:
    """Its tasks are the measured ones, and its times those of the simulation."""
    options = {"placement": [0, 0]}
    found = replay_with(slow_uplink, "fixed", options, out=tmp_path / "o.h5").summary
    assert (found.kernel, found.tasks) == ("simpy", 200)
    assert found.total_delay_s.mean == pytest.approx(0.4)
    assert replay(tmp_path / "o.h5").difference is None


def test_the_document_is_json(slow_uplink: Path) -> None:
    found = predict(slow_uplink)
    document = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert document["total"]["mean"]["error_percent"] == pytest.approx(-100 / 7)
    assert set(document) == set(Prediction.model_fields) - {"measured_run", "simulated_run"}
    assert "measured_quantiles_s" not in document["total"]
    assert found.measured_run.kernel == "testbed"
    assert found.measured_run.total_delay_s.mean == pytest.approx(0.7)
    assert found.simulated_run.total_delay_s.mean == pytest.approx(0.6)
