"""Radio rates that vary within transfers: by hand, and against a small program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings

from mecsim import Scenario
from mecsim.errors import ScenarioError
from mecsim.model import workload
from mecsim.model.model import reseeded, resolve, with_slot_rates
from mecsim.scenario.schema import Energy
from mecsim.scheduler.spec import SchedulerSpec
from mecsim.simulation.drive import KERNELS, SchedulerPolicy, Source, drive
from mecsim.simulation.lower_bound import LowerBound
from mecsim.simulation.replay import replay, replay_with
from mecsim.simulation.run import run
from mecsim.support.arrays import Floats
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import SCRIPTED, Scripted
from tests.helpers.strategies import cases

VARIES: Final = {"varies_within_transfers": True}
DRAWN: Final = {"rate": {"uniform": [1.0, 4.0], "redraw": "slot"}, "transmit_power": 2.0, **VARIES}


def followed(
    spec: Scenario,
    rates: Sequence[Sequence[float]],
    placements: Sequence[Sequence[int]],
    kernel: str = "simpy",
) -> tuple[MemoryTrace, Scripted]:
    """A run in which the devices have given rates in each slot."""
    model = with_slot_rates(resolve(spec), np.array(rates, dtype=np.float64))
    scheduler = Scripted(SchedulerSpec.of(model), placements=placements)
    trace = MemoryTrace()
    source = Source(model, scheduler.spec, kernel, sinks=[trace])
    drive(source, SchedulerPolicy(scheduler, "scripted"))
    return trace, scheduler


def sending(**more: Any) -> Scenario:
    """A task of 3 bits at the start of each of four slots of 1 s; computing takes no time."""
    base = {"slots": 4, "dnn": chain([0], [3]), "edge_servers": 1, "radio": DRAWN}
    return scenario(**(base | more))


ONE: Final = [[1.0], [4.0], [2.0], [1.0]]


# ---------------------------------------------------------------- by hand


@pytest.mark.parametrize("kernel", KERNELS)
def test_transfers_take_on_the_rate_of_each_slot(kernel: str) -> None:
    """The first sends 1 bit by 1 s and 2 in 0.5 s; the second 2 by 2 s and 1 in 0.5 s.

    The third sends 1 by 3 s, and the rate of the last slot holds: 2 in 2 s, the fourth 3 in 3 s.
    """
    trace, scheduler = followed(sending(), ONE, [[1]], kernel)
    assert trace["tasks/finish_s"].tolist() == [1.5, 2.5, 5.0, 8.0]
    assert trace["tasks/energy_J"].tolist() == [3.0, 2.0, 5.0, 6.0]
    assert trace["slots/rate_bps"].tolist() == ONE
    # Work ahead at the rate of the slot: 2 bits at 4 bit/s, 1 bit at 2 and 2 bits at 1.
    backlogs = [float(seen.uplink_backlog_s[0]) for seen in scheduler.seen]
    assert backlogs == [0.0, 0.5, 0.5, 2.0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_by_default_a_transfer_keeps_the_rate_of_its_release(kernel: str) -> None:
    """3 s, then 0.75 s, 1.5 s and 3 s, one after the other."""
    radio = {key: value for key, value in DRAWN.items() if key not in VARIES}
    spec = sending(radio=radio)
    assert resolve(spec).slot_rates is None
    kept = workload.RecordedWorkload(
        (slot.tasks for slot in workload.slots(resolve(spec))), {0: 1.0}, rates=map(np.array, ONE)
    )
    model, trace = resolve(spec), MemoryTrace()
    scheduler = Scripted(SchedulerSpec.of(model), placements=[[1]])
    source = Source(model, scheduler.spec, kernel, kept, [trace])
    drive(source, SchedulerPolicy(scheduler, "scripted"))
    assert trace["tasks/finish_s"].tolist() == [3.0, 3.75, 5.25, 8.25]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_result_returns_at_the_rates_of_then(kernel: str) -> None:
    """3 bits up to 1.5 s and 2 s of work; 4 bits down from 3.5 s: 0.5 by 4 s, 3.5 at 1 bit/s."""
    spec = sending(
        dnn=chain([2], [3], 4.0), edge_server={"capacity": 1.0, "cores": 4}, return_result=True
    )
    trace, _ = followed(spec, ONE, [[1]], kernel)
    assert trace["hops/finish_s"].tolist()[:3] == [1.5, 3.5, 7.5]
    assert trace["tasks/energy_J"].tolist()[0] == 3.0
    literal = spec.model_copy(update={"energy": Energy(literal_eq7=True)})
    trace, _ = followed(literal, ONE, [[1]], kernel)
    assert trace["tasks/energy_J"].tolist()[0] == 11.0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("work", "finish_s", "energy_j"),
    [
        # 0.5 bits by 0.5 s, and from 1 s on 2.5 at 4 bit/s: 1.125 s on the air.
        ("resumes", 1.625, 2.25),
        # Again from 1 s: 3 bits in 0.75 s, after 0.5 s in vain.
        ("restarts", 1.75, 2.5),
        ("lost", 0.5, 1.0),
    ],
)
def test_outages_of_a_device(work: str, finish_s: float, energy_j: float, kernel: str) -> None:
    failure = {"devices": [0], "at": [[0.5, 1.0]], "work": work}
    trace, _ = followed(sending(failures=[failure]), ONE, [[1]], kernel)
    assert trace["tasks/finish_s"].tolist()[0] == finish_s
    assert trace["tasks/energy_J"].tolist()[0] == energy_j


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_retry_is_sent_at_the_rates_of_its_slots(kernel: str) -> None:
    """The first is lost at 0.5 s, and sent again from 1 to 1.75 s, before the second."""
    failure = {"devices": [0], "at": [[0.5, 1.0]], "work": "lost"}
    trace, _ = followed(sending(failures=[failure], retries=1), ONE, [[1]], kernel)
    assert trace["hops/finish_s"].tolist()[:3] == [0.5, 1.75, 1.75]
    assert trace["tasks/attempts"].tolist()[:2] == [2, 1]
    assert trace["tasks/finish_s"].tolist()[:2] == [1.75, 3.0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_headers_and_deadlines(kernel: str) -> None:
    """6 bits with headers until 2.5 s, too late for the server, and for the second to be sent."""
    radio = DRAWN | {"headers": 1.0}
    trace, _ = followed(sending(radio=radio, deadline=1.0, drop_late=True), ONE, [[1]], kernel)
    assert trace["tasks/finish_s"].tolist()[:2] == [2.5, 2.0]
    assert trace["tasks/status"].tolist()[:2] == [3, 3]
    assert trace["hops/finish_s"].tolist()[:1] == [2.5]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_handover_moves_what_is_under_way_to_the_rate_of_the_new_server(kernel: str) -> None:
    """It ends at the server of its release, at the rates of the slots.

    18 bits at 1 bit/s until 10 s, none for 3 s, and 8 at 4 bit/s: 15 s. Server 1 works for 1 s.
    """
    spec = scenario(
        slots=2,
        slot_length=10.0,
        edge_server={"positions": [[0, 0], [1000, 0]], "coverage_radius": 750.0, "capacity": 1.0},
        mobility=[{"points": [[0, 0, 0, 0], [10, 0, 1000, 0]], "handover": 3.0}],
        radio={"bandwidth": 1.0, "transmit_power": 2.0, **VARIES},
        dnn=chain([1], [18]),
    )
    trace, _ = followed(spec, [[1.0], [4.0]], [[1]], kernel)
    assert trace["slots/serving_server"].tolist() == [[0], [1]]
    names = [resolve(spec).resource_names()[row] for row in trace["hops/resource"].tolist()[:2]]
    assert names == ["device0.uplink", "es1.cpu"]
    assert trace["hops/finish_s"].tolist()[:2] == [15.0, 16.0]
    assert trace["tasks/energy_J"].tolist()[0] == 24.0


def test_path_gain_of_a_moving_device_holds_for_transfers_under_way() -> None:
    """What is sent is the integral of the rates of the slots, which fall."""
    spec = scenario(
        slots=4,
        edge_servers=1,
        mobility=[{"points": [[0, 0, 10, 0], [4, 0, 700, 0]]}],
        radio={"bandwidth": 1.0, **VARIES},
        dnn=chain([0], [100]),
    )
    trace = simulate(spec, SCRIPTED, {"placements": [[1]]}).trace
    finish_s, rates = trace["tasks/finish_s"][0], trace["slots/rate_bps"][:, 0]
    assert (np.diff(rates) < 0).all()
    assert finish_s == pytest.approx(transfer(0.0, 100.0, rates, 1.0), rel=1e-14)
    assert finish_s > 2


def test_devices_without_changes_have_no_calendar() -> None:
    """A given rate, one that is drawn once, and one that follows a series; the fourth fades."""
    series = {"steps": [[0, 1e6], [2, 3e6]]}
    rates: list[dict[str, Any]] = [
        {"rate": 1e6},
        {"rate": {"uniform": [1e6, 2e6], "redraw": "run"}},
        {"rate": series},
    ]
    groups = [{"name": f"g{n}", **rate} for n, rate in enumerate([*rates, {"fading": "rayleigh"}])]
    model = resolve(scenario(slots=3, devices=groups, radio=VARIES))
    assert model.slot_rates is not None
    assert model.slot_rates.devices.tolist() == [3]
    timed, first = np.flatnonzero(model.calendars.of["timed"]), model.resources.uplink
    assert timed.tolist() == [first + 2, first + 3, first + 6, first + 7]
    assert model.calendars.of["by_slot"][timed].tolist() == [0, 1, 0, 1]
    assert resolve(scenario(slots=3, radio=VARIES)).slot_rates is None


# ---------------------------------------------------------------- against a small program


def transfer(now_s: float, bits: float, rates: Floats, length_s: float) -> float:
    """The end of a transfer that begins at a time, slot by slot; the last slot does not end."""
    while True:
        slot = min(int(now_s / length_s), len(rates) - 1)
        end_s = (slot + 1) * length_s if slot + 1 < len(rates) else math.inf
        if now_s + bits / rates[slot] <= end_s:
            return now_s + bits / float(rates[slot])
        bits -= rates[slot] * (end_s - now_s)
        now_s = end_s


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_program_gives_the_same_times(seed: int, kernel: str) -> None:
    """Up from a device to a server with a core for each task, and down to the device again."""
    up_bits, down_bits, work_s, length_s = 2e5, 1.2e5, 0.3, 0.5
    spec = scenario(
        slots=40,
        slot_length=length_s,
        devices=3,
        dnn=chain([work_s, 0], [up_bits, down_bits]),
        edge_servers=1,
        edge_server={"capacity": 1.0, "cores": 1000},
        device={"capacity": 1.0},
        radio={"bandwidth": "50 kHz", "fading": "rayleigh", **VARIES},
        arrivals={"process": "poisson", "rate": 2},
    )
    trace = simulate(spec, SCRIPTED, {"placements": [[1, 0]]}, seed, kernel).trace
    device, rates = trace["tasks/device"], trace["slots/rate_bps"]
    expected, across_slots = np.empty(len(device)), 0
    for number in range(3):
        up_s = down_s = 0.0
        for task in np.flatnonzero(device == number):  # in, and so out, first come, first served
            begin_s = max(trace["tasks/release_s"][task], up_s)
            up_s = transfer(begin_s, up_bits, rates[:, number], length_s)
            across_slots += int(begin_s / length_s) < int(up_s / length_s)
            begin_s = max(up_s + work_s, down_s)
            expected[task] = down_s = transfer(begin_s, down_bits, rates[:, number], length_s)
    assert len(expected) > 50
    assert across_slots > 20
    assert trace["tasks/finish_s"] == pytest.approx(expected, rel=1e-13)
    assert expected.max() > 40 * length_s  # some end after the last slot


# ---------------------------------------------------------------- the rest of the project


FADING: Final[dict[str, Any]] = {
    "slots": 30,
    "dnn": chain([3e8, 5e8], [1e6, 9e5], max_tolerated_delay=0.5),
    "arrivals": {"process": "poisson", "rate": 4},
    "edge_servers": 2,
    "devices": 3,
    "radio": {"bandwidth": "1 MHz", "fading": "rayleigh", **VARIES},
    "return_result": True,
}


def with_changing_rates(values: dict[str, Any]) -> dict[str, Any]:
    """A scenario of :func:`cases` whose radio rates vary within transfers."""
    radio = values["radio"] | VARIES
    radio.pop("overhead", None)
    return values | {"radio": radio}


@given(cases())
@settings(max_examples=examples(100), deadline=None, derandomize=True)
def test_both_kernels_give_equal_traces(case: tuple[Scenario, list[list[int]]]) -> None:
    spec, placements = case
    spec = Scenario.model_validate(with_changing_rates(spec.model_dump(mode="json")))
    one, other = (
        simulate(spec, SCRIPTED, {"placements": placements}, kernel=kernel) for kernel in KERNELS
    )
    assert one.trace.first_difference(other.trace) is None
    assert one.summary == other.summary | {"kernel": one.summary["kernel"]}


@pytest.mark.parametrize("scheduler", ["greedy", "single-cut", "lookahead"])
def test_replays_are_exact(scheduler: str, tmp_path: Path) -> None:
    options = {"budget": 9} if scheduler == "lookahead" else {}
    result = run(scenario(**FADING), scheduler, options, seed=3, out=tmp_path / "t.h5")
    for kernel in KERNELS:
        assert replay(tmp_path / "t.h5", kernel=kernel).difference is None
    again = replay_with(tmp_path / "t.h5", scheduler, options)
    assert again.summary.reward == result.summary.reward


def test_another_scenario_takes_the_recorded_rates(tmp_path: Path) -> None:
    """With other ones, its runs have another reward."""
    other = scenario(**FADING | {"radio": FADING["radio"] | {"bandwidth": "2 MHz"}})
    reward = run(scenario(**FADING), "edge", seed=3, out=tmp_path / "t.h5").summary.reward
    assert replay_with(tmp_path / "t.h5", "edge", scenario=other).summary.reward == reward
    assert run(other, "edge", seed=3).summary.reward != reward


def test_rates_depend_on_the_seed_and_not_on_the_length_of_the_run() -> None:
    model, longer = (resolve(scenario(**FADING | {"slots": n}), 1) for n in (30, 90))
    other = reseeded(longer, 2)
    assert model.slot_rates is not None
    assert longer.slot_rates is not None
    assert other.slot_rates is not None
    assert np.array_equal(model.slot_rates.rate_bps, longer.slot_rates.rate_bps[:30])
    assert not np.array_equal(other.slot_rates.rate_bps, longer.slot_rates.rate_bps)
    again = reseeded(other, 1)
    assert np.array_equal(again.calendars.steps, longer.calendars.steps)
    drawn = np.stack([slot.rate_bps for slot in workload.slots(longer)])
    assert np.array_equal(drawn, longer.slot_rates.rate_bps)


def test_rollouts_know_the_rates_to_come() -> None:
    """As of series. At 0 s, 3 bits take 1.5 s; at 1 s, they wait until 1.5 s and take 1 s.

    Then the task under way has its delay of 1.5 s, too.
    """
    found: list[list[float]] = []

    class Asking(Scripted):
        uses_rollouts = True

        def decide(self, observation: Any) -> Any:
            found.append(observation.what_if([[1], [0]]).cost.tolist())
            return super().decide(observation)

    model = with_slot_rates(
        resolve(sending(device={"capacity": 1.0}, reward={"beta": 0.0})), np.array(ONE)
    )
    for kernel in KERNELS:
        found.clear()
        scheduler = Asking(SchedulerSpec.of(model), placements=[[1]])
        drive(Source(model, scheduler.spec, kernel), SchedulerPolicy(scheduler, "asking"))
        assert found[:2] == [[1.5, 0.0], [1.5 + 1.5, 1.5]]


def test_lower_bound_assumes_the_best_slot_to_come() -> None:
    """3 bits at 4 bit/s at best in slots 0 and 1, then at 2 and 1 bit/s."""
    model = with_slot_rates(
        resolve(sending(device={"capacity": 1e-9}, dnn=chain([1], [3]))), np.array(ONE)
    )
    bound = LowerBound(model)
    costs = [float(bound.costs(slot.tasks, slot)[0]) for slot in workload.slots(model)]
    compute_s = 1 / 15e9
    assert costs == pytest.approx([0.75 + compute_s] * 2 + [1.5 + compute_s, 3 + compute_s])


@pytest.mark.parametrize(
    "scheduler", ["greedy", "edge", "single-cut", "schedulers.viterbi:Viterbi"]
)
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_no_task_costs_less_than_its_bound(scheduler: str, epoch: str) -> None:
    spec = scenario(**FADING | {"decision_epoch": epoch, "reward": {"beta": 0.0}})
    model = resolve(spec, 4)
    bound = LowerBound(model)
    least = np.concatenate([bound.costs(s.tasks, s) for s in workload.slots(model)])
    trace = simulate(spec, scheduler, seed=4).trace
    assert len(least) > 80
    assert (trace["tasks/total_s"] >= least * (1 - 1e-12)).all()


def test_runs_that_need_too_much_memory_are_refused() -> None:
    spec = scenario(slots=10_000_000, devices=50_000, radio={"fading": "rayleigh", **VARIES})
    with pytest.raises(ScenarioError, match=r"radio\.varies_within_transfers: needs the rates of"):
        resolve(spec)


def test_scenarios_without_it_keep_their_hashes() -> None:
    assert "varies_within_transfers" not in scenario().canonical_json()
    assert scenario(radio=VARIES).sha256() != scenario().sha256()
