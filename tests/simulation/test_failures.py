"""Failures and rates over time in whole runs: by hand, and against a formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.model import workload
from mecsim.model.calendars import available
from mecsim.model.model import reseeded, resolve
from mecsim.scenario.loading import load
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.replay import replay
from mecsim.simulation.run import run
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.schedulers import SCRIPTED, Scripted

# ---------------------------------------------------------------- rates over time


@pytest.mark.parametrize("kernel", KERNELS)
def test_transfer_goes_on_at_the_new_rate(kernel: str) -> None:
    """6 bits at 2 bit/s for 2 s, then at 1/2 bit/s: 2 + 4 s. Power 3 W: 18 J. Then 1 s of work."""
    spec = scenario(
        dnn=chain([1], [6]),
        edge_server={"capacity": 1.0},
        radio={"rate": {"steps": [[0, 2.0], [2, 0.5]], "nominal": 1.0}, "transmit_power": 3.0},
    )
    trace = simulate(spec, SCRIPTED, {"placements": [[1]]}, kernel=kernel).trace
    assert trace["hops/finish_s"].tolist() == [6.0, 7.0]
    assert trace["tasks/energy_J"].tolist() == [18.0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_links_and_processors_follow_their_own_series(kernel: str) -> None:
    """A link of the list has 1 bit/s and then 4; the other ones have 2. A server stands still."""
    spec = scenario(
        dnn=chain([1, 4], [0, 6]),
        edge_server={"capacity": {"steps": [[0, 1.0], [4, 0.0], [10, 2.0]]}},
        device={"positions": [[0, 0]], "capacity": 1.0},
        radio={"rate": 1.0},
        wired={
            "topology": "explicit",
            "rate": 2.0,
            "links": [{"from": 1, "to": 2, "rate": {"steps": [[0, 1.0], [3, 4.0]]}}],
        },
        edge_servers=2,
        devices=1,
    )
    trace = simulate(spec, SCRIPTED, {"placements": [[1, 2]]}, kernel=kernel).trace
    # Server 1 from 0 to 1 s; the link from 1 s: 2 bits until 3 s and 4 more until 4 s; server 2 has
    # 4 cycles from 10 s on, at 2 Hz.
    assert trace["hops/start_s"].tolist() == [0.0, 0.0, 1.0, 10.0]
    assert trace["hops/finish_s"].tolist() == [0.0, 1.0, 4.0, 12.0]


def test_schedulers_see_the_rate_at_the_start_of_a_slot() -> None:
    """Where it is 0, the least rate above 0."""
    steps = [[0, 2.0], [0.5, 7.0], [1.5, 0.0], [2.5, 5.0]]
    spec = scenario(slots=4, devices=2, radio={"rate": {"steps": steps}})
    rates = [slot.rate_bps.tolist() for slot in workload.slots(resolve(spec))]
    assert rates == [[2.0, 2.0], [7.0, 7.0], [2.0, 2.0], [5.0, 5.0]]


def test_scenario_of_a_trace_needs_no_file_of_a_series(tmp_path: Path) -> None:
    (tmp_path / "wifi.csv").write_text("time_s,rate_mbit_s\n0,10\n1,2\n", encoding="utf-8")
    file = tmp_path / "s.yaml"
    file.write_text(
        "slots: 4\ndevices: 2\ndnn: {blocks: 2}\narrivals: {process: slotted, rate: 2}\n"
        "radio: {rate: {series: wifi.csv, end: repeat}}\n"
        "failures: [{servers: all, mean_time_to_failure: 1 s, mean_time_to_repair: 1 s}]\n",
        encoding="utf-8",
    )
    run(load(file), "edge", seed=3, out=tmp_path / "t.h5")
    (tmp_path / "wifi.csv").unlink()
    assert replay(tmp_path / "t.h5", kernel="compiled").difference is None


def test_lower_bound_assumes_the_highest_rates() -> None:
    """1 bit at 4 bit/s at best and 1 cycle at 2 Hz: 0.75 s, in the second slot exactly."""
    spec = scenario(
        slots=2,
        edge_server={"capacity": {"steps": [[0, 0.5], [1, 2.0]]}},
        device={"capacity": 1e-3},
        radio={"rate": {"steps": [[0, 1.0], [1, 4.0]]}},
        edge_servers=1,
        reward={"beta": 0.0},
    )
    bound, model = LowerBound(resolve(spec)), resolve(spec)
    for slot in workload.slots(model):
        bound.add(slot)
    assert bound.total == 1.5
    assert simulate(spec, SCRIPTED, {"placements": [[1]]}).summary["reward"] == -(1.5 + 1.0)


# ---------------------------------------------------------------- failures


FAILING: dict[str, Any] = {"mean_time_to_failure": 6.0, "mean_time_to_repair": 2.0}


def test_outages_depend_on_the_seed_and_not_on_the_length_of_the_run() -> None:
    spec = scenario(slots=50, failures=[{"servers": "all", **FAILING}])
    model, longer = resolve(spec, 1), resolve(spec.model_copy(update={"slots": 500}), 1)
    rows = [model.calendars.outages[a:b] for a, b in _outage_rows(model)]
    assert len(rows) == 2
    assert not np.array_equal(rows[0], rows[1])
    for (a, b), own in zip(_outage_rows(longer), rows, strict=True):
        assert np.array_equal(longer.calendars.outages[a:b][: len(own)], own)
    assert all((own[:, 0] < 50).all() for own in rows)
    other = reseeded(model, 2).calendars.outages
    assert not np.array_equal(other, model.calendars.outages)
    assert np.array_equal(reseeded(model, 1).calendars.outages, model.calendars.outages)


def _outage_rows(model: Any) -> list[tuple[int, int]]:
    of = model.calendars.of
    return [(int(r["outage"]), int(r["outage_end"])) for r in of[: model.servers]]


@pytest.mark.slow
def test_availability_is_that_of_the_means() -> None:
    """MTTF / (MTTF + MTTR) = 3/4, within four standard deviations of the mean of 1000 servers."""
    spec = scenario(slots=400, edge_servers=1000, failures=[{"servers": "all", **FAILING}])
    model = resolve(spec)
    outages = np.minimum(model.calendars.outages[:, :2], 400.0)
    up = 1 - np.diff(outages, axis=1).sum() / (1000 * 400)
    # After a renewal at 0 the availability is A + (1 − A)·exp(−t/6 − t/2).
    exact = 0.75 + 0.25 * (1 - math.exp(-400 * (1 / 6 + 1 / 2))) / (1 / 6 + 1 / 2) / 400
    variance = 2 * 0.75 * 0.25 / (1 / 6 + 1 / 2) / 400 / 1000
    assert abs(up - exact) < 4 * math.sqrt(variance)


def test_observation_shows_what_is_up() -> None:
    spec = scenario(
        slots=3,
        devices=2,
        failures=[
            {"servers": [2], "at": [[0.5, 1.5]]},
            {"devices": [0], "at": [[0, 1]]},
            {"links": [[2, 1]], "at": [[2, 3]]},
        ],
    )
    seen: list[Any] = []
    run(spec, lambda s: Scripted(s, placements=[[0]], seen=seen))
    assert [o.server_available.tolist() for o in seen] == [[True] * 2, [True, False], [True] * 2]
    assert [o.device_available.tolist() for o in seen] == [[False, True], [True] * 2, [True] * 2]
    assert [o.link_available.tolist() for o in seen] == [[True] * 2, [True] * 2, [False] * 2]
    assert np.isinf(seen[1].place_backlog_s).tolist() == [False, False, True]
    assert available(resolve(scenario()).calendars, 4, 0.0).all()


@pytest.mark.parametrize("scheduler", ["greedy", "single-cut"])
def test_estimators_avoid_places_that_are_down(scheduler: str) -> None:
    """Server 2 is the fastest by far; while it is down, all goes elsewhere."""
    spec = scenario(
        slots=3,
        slot_length=100.0,
        dnn=chain([10, 10], [1, 1]),
        edge_server={"capacity": [1.0, 5.0]},
        device={"capacity": 0.1},
        radio={"rate": 1e3},
        wired={"rate": 1e6},
        failures=[{"servers": [2], "at": [[90, 190]]}, {"servers": [1], "at": [[180, 300]]}],
    )
    placements = simulate(spec, scheduler).trace["decisions/placement"]
    assert 2 not in placements[1]
    assert 1 not in placements[2]


def test_estimators_decide_where_all_is_down() -> None:
    every = [{"servers": "all", "devices": "all", "at": [[0, 5]]}]
    for scheduler in ("greedy", "single-cut", "lookahead"):
        assert run(scenario(failures=every), scheduler).summary.completed == 1


@pytest.mark.parametrize("work", ["resumes", "restarts", "lost"])
@pytest.mark.parametrize("arrivals", ["wait", "fail"])
def test_every_task_ends_once(work: str, arrivals: str) -> None:
    """Released = completed + failed by cause, with batteries that run out as well."""
    spec = load(Path("scenarios/small_battery.yaml").name.removesuffix(".yaml"), ["slots=20"])
    failure = {"work": work, "arrivals": arrivals, **FAILING}
    failures = [{"servers": [1, 2], **failure}, {"devices": "all", **failure}]
    spec = Scenario.model_validate(spec.model_dump() | {"failures": failures})
    found = run(spec, "rpdi", kernel="compiled", seed=4).summary
    assert found.tasks == found.completed + sum(found.failed_by_cause.values())
    assert ("outage" in found.failed_by_cause) == (work == "lost" or arrivals == "fail")
    assert found.failed == sum(found.failed_by_cause.values())


def test_summary_names_the_causes() -> None:
    spec = scenario(failures=[{"devices": "all", "at": [[0, 1]], "arrivals": "fail"}])
    summary = run(spec, "local").summary
    assert "0 of 1 tasks completed, 1 failed (1 outage)" in summary.outcome
    assert summary.as_json()["failed_by_cause"] == {"outage": 1}
    assert "failed_by_cause" not in run(scenario(), "local").summary.as_json()
