"""Kernels keep the calendars of resources: worked by hand, and equal traces of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim import Scenario
from mecsim.model.calendars import LOST as LOSES
from mecsim.model.calendars import RESTARTS, Calendar, Calendars, calendars
from mecsim.model.model import Model, resolve
from mecsim.model.task_status import COMPLETED, LOST
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS, SchedulerPolicy, Source, drive
from mecsim.simulation.totals import Totals
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario
from tests.helpers.examples import examples
from tests.helpers.schedulers import Scripted
from tests.helpers.strategies import cases


def table(*rows: tuple[float, float]) -> Any:
    return np.array(rows, dtype=np.float64)


def simulated(model: Model, placements: list[list[int]], kernel: str) -> tuple[Totals, MemoryTrace]:
    spec, trace = SchedulerSpec.of(model), MemoryTrace()
    policy = SchedulerPolicy(Scripted(spec, placements=placements), "scripted")
    return drive(Source(model, spec, kernel, sinks=[trace]), policy), trace


def of_resources(model: Model, given_: Mapping[int, Calendar]) -> Calendars:
    entries = [(np.array([row]), calendar) for row, calendar in given_.items()]
    on_air = np.arange(model.resources.uplink, len(model.resources))
    return calendars(len(model.resources), entries, on_air)


def crowd(calendar: Calendar, cores: int = 1) -> Model:
    """Four tasks of 2 s at the only server at 0, 1, 2 and 3 s; their input takes no time."""
    spec = scenario(
        slots=4,
        dnn=chain([2], [0]),
        edge_servers=1,
        edge_server={"capacity": 1.0, "cores": cores},
        radio={"rate": 1.0},
    )
    model = resolve(spec)
    return replace(model, calendars=of_resources(model, {0: calendar}))


OUTAGE: Final = table((3.0, 10.0))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("calendar", "cores", "finish", "status"),
    [
        # Served 0–2; 2–3 and 10–11; 11–13; 13–15.
        (Calendar(outages=OUTAGE), 1, [2, 11, 13, 15], [0, 0, 0, 0]),
        # The second starts again at 10 s.
        (Calendar(outages=OUTAGE, rule=RESTARTS), 1, [2, 12, 14, 16], [0, 0, 0, 0]),
        # The second is in service and the third waits at 3 s; the fourth comes then, and waits.
        (Calendar(outages=OUTAGE, rule=LOSES), 1, [2, 3, 3, 12], [0, 2, 2, 0]),
        (Calendar(outages=OUTAGE, rule=LOSES, refuses=True), 1, [2, 3, 3, 3], [0, 2, 2, 2]),
        (Calendar(outages=OUTAGE, refuses=True), 1, [2, 11, 13, 3], [0, 0, 0, 2]),
        # A pause is no loss: the second resumes at 3 s, and is lost at 3.5 s with those that wait.
        (
            Calendar(outages=table((3.5, 10)), rule=LOSES, pauses=table((2.5, 3))),
            1,
            [2, 3.5, 3.5, 3.5],
            [0, 2, 2, 2],
        ),
        # It is lost where a failure begins when the pause ends; the fourth comes then, and waits.
        (
            Calendar(outages=OUTAGE, rule=LOSES, pauses=table((2.5, 3), (9, 11))),
            1,
            [2, 3, 3, 13],
            [0, 2, 2, 0],
        ),
        # Served again from 10 s, with a pause from 11 to 12 s: to 13 s, 15 s, 17 s.
        (
            Calendar(outages=OUTAGE, rule=RESTARTS, pauses=table((11, 12))),
            1,
            [2, 13, 15, 17],
            [0] * 4,
        ),
        # With two cores: 0–2; 1–3; 2–3 and 10–11; 10–12.
        (Calendar(outages=OUTAGE), 2, [2, 3, 11, 12], [0, 0, 0, 0]),
        (Calendar(outages=OUTAGE, rule=LOSES), 2, [2, 3, 3, 12], [0, 0, 2, 0]),
        # Half as fast from 1 s on: 1 s and 2 s; then 4 s each.
        (Calendar(steps=table((0, 1), (1, 0.5))), 1, [3, 7, 11, 15], [0, 0, 0, 0]),
    ],
)
def test_four_tasks_at_a_server(
    calendar: Calendar, cores: int, finish: list[int], status: list[int], kernel: str
) -> None:
    totals, trace = simulated(crowd(calendar, cores), [[1]], kernel)
    assert trace["tasks/finish_s"].tolist() == finish
    assert trace["tasks/status"].tolist() == status
    assert (totals.completed, totals.failed) == (status.count(COMPLETED), status.count(LOST))


@pytest.mark.parametrize("kernel", KERNELS)
def test_lost_task_has_no_delay_and_pays_for_the_work_done(kernel: str) -> None:
    """A device of 1 Hz with κ = 1: 1 J a cycle. The second task loses 1 of its 2 cycles."""
    spec = scenario(
        slots=2,
        dnn=chain([2], [0]),
        device={"capacity": 1.0},
        energy={"kappa": 1.0},
        edge_servers=1,
    )
    model = resolve(spec)
    lossy = Calendar(outages=OUTAGE, rule=LOSES)
    model = replace(model, calendars=of_resources(model, {1: lossy}))
    _, trace = simulated(model, [[0]], kernel)
    assert trace["tasks/energy_J"].tolist() == [2.0, 1.0]
    assert trace["tasks/status"].tolist() == [COMPLETED, LOST]
    assert trace["blocks/delay_s"][0] == 2.0
    assert np.isnan(trace["blocks/delay_s"][1])
    assert trace["hops/finish_s"].tolist() == [2.0, 3.0]
    assert trace["decisions/reward"].tolist() == [0.0, -2.0]


CHOICES: Final = (
    None,
    Calendar(steps=table((0, 1), (1.25, 0.3))),
    Calendar(steps=table((0, 0), (0.5, 1.7)), period_s=2.1),
    Calendar(outages=table((0.5, 1.0), (2.0, 3.5))),
    Calendar(outages=table((0.5, 1.0), (2.0, 3.5), (3.75, 7.0)), rule=RESTARTS),
    Calendar(outages=table((0, 1.0), (1.5, 2.0), (4.0, 6.0)), rule=LOSES),
    Calendar(outages=table((1.0, 2.0), (3.0, 4.0)), rule=LOSES, refuses=True),
    Calendar(outages=table((0.5, 1.0), (2.0, 3.5)), pauses=table((0.75, 2.5), (4.0, 5.0))),
    Calendar(outages=table((1.0, 2.0)), rule=LOSES, pauses=table((0.5, 1.0), (1.5, 3.0))),
    Calendar(outages=table((1.0, 2.0)), rule=RESTARTS, pauses=table((0.5, 1.25), (3.0, 4.0))),
    Calendar(
        steps=table((0, 2), (1, 0.1)), period_s=3.0, outages=table((0.25, 1.5)), rule=RESTARTS
    ),
)


@st.composite
def calendar_cases(draw: st.DrawFn) -> tuple[Model, list[list[int]]]:
    """The scenarios of :func:`cases` with calendars on a few of their resources."""
    spec, placements = draw(cases())
    model = resolve(spec)
    count = len(model.resources)
    chosen = draw(st.lists(st.sampled_from(CHOICES), min_size=count, max_size=count))
    given_ = {row: calendar for row, calendar in enumerate(chosen) if calendar is not None}
    return replace(model, calendars=of_resources(model, given_)), placements


@given(calendar_cases())
@settings(max_examples=examples(150), deadline=None, derandomize=True)
def test_both_kernels_give_equal_traces(case: tuple[Model, list[list[int]]]) -> None:
    model, placements = case
    one, other = (simulated(model, placements, kernel) for kernel in KERNELS)
    assert one[1].first_difference(other[1]) is None
    assert one[0].failed == other[0].failed
    total = one[1]["tasks/total_s"][one[1]["tasks/status"] == COMPLETED]
    assert all(math.isfinite(seconds) for seconds in total)
    assert one[0].released == one[0].completed + one[0].failed


def test_scenario_without_calendars_has_none() -> None:
    model = resolve(Scenario())
    assert len(model.calendars.of) == 0
