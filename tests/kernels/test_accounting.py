"""Batteries, rewards and totals: worked by hand, and the same however the run is cut up."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mecsim import Scenario
from mecsim.kernels.reward import exact_sum
from mecsim.simulation.run import run
from mecsim.trace.schema import MemoryTrace
from tests.helpers.builders import Run, chain, scenario, simulate
from tests.helpers.examples import examples
from tests.helpers.schedulers import LISTENING, SCRIPTED

NAN = math.nan


def same(values: Any, expected: list[float]) -> bool:
    """Equal, NaN where NaN is expected."""
    return bool(np.array_equal(np.asarray(values, dtype=float), expected, equal_nan=True))


# ---------------------------------------------------------------- a battery, worked by hand


def test_a_battery_runs_out() -> None:
    """κ·f²·c at 2 Hz, κ = 1: 4 J a cycle; blocks of 1 and 2 cycles: 4 and 8 J, 0.5 and 1 s."""
    spec = scenario(
        slots=4,
        slot_length=10.0,
        dnn=chain([1, 2], [1, 1], max_tolerated_delay=0.75),
        device={"capacity": 2.0, "battery": 20.0},
        energy={"kappa": 1.0},
        reward={"beta": 2.0},
    )
    summary, trace = simulate(spec, SCRIPTED, {"placements": [[0, 0], [0, 0], [0, 0], [1, 1]]})
    # 20 - 12 = 8; task 1: 8 - 4 = 4, its block 2 would need 8 J; tasks 2 and 3 are refused
    assert trace["slots/energy_remaining_J"].tolist() == [[20.0], [8.0], [4.0], [4.0]]
    assert trace["tasks/status"].tolist() == [0, 1, 1, 1]
    assert trace["tasks/finish_s"].tolist() == [1.5, 10.5, 20.0, 30.0]
    assert trace["tasks/total_s"].tolist() == [1.5, 0.5, 0.0, 0.0]
    assert trace["tasks/local_s"].tolist() == [1.5, 0.5, 0.0, 0.0]
    assert trace["tasks/energy_J"].tolist() == [12.0, 4.0, 0.0, 0.0]
    assert trace["tasks/late_blocks"].tolist() == [1, 0, 0, 0]  # 1 s > 0.75 s
    assert same(trace["blocks/ready_s"], [0, 0.5, 10, 10.5, 20, NAN, 30, NAN])
    assert same(trace["blocks/compute_start_s"], [0, 0.5, 10, NAN, NAN, NAN, NAN, NAN])
    assert same(trace["blocks/finish_s"], [0.5, 1.5, 10.5, NAN, NAN, NAN, NAN, NAN])
    assert same(trace["blocks/delay_s"], [0.5, 1.0, 0.5, NAN, NAN, NAN, NAN, NAN])
    assert trace["blocks/energy_J"].tolist() == [4, 8, 4, 0, 0, 0, 0, 0]
    assert trace["blocks/node"].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]  # as decided
    assert trace["hops/task"].tolist() == [0, 0, 1]
    # block 2 of task 0 is 0.25 s late: 0.5 + (1 + 2 · 0.25); task 1: 0.5
    assert trace["decisions/reward"].tolist() == [-2.0, -0.5, 0.0, 0.0]
    assert summary["reward"] == -2.5
    counts = {key: summary[key] for key in ("tasks", "completed", "failed", "late_blocks")}
    assert counts == {"tasks": 4, "completed": 1, "failed": 3, "late_blocks": 1}
    assert summary["miss_ratio"] == 0.5  # of the two blocks of the task that completed
    assert summary["total_delay_s"]["mean"] == 1.5
    assert summary["energy_J"]["max"] == 12.0


def test_what_the_battery_just_affords_is_done() -> None:
    spec = scenario(
        dnn=chain([3], [1]),
        device={"capacity": 2.0, "battery": 12.0},
        energy={"kappa": 1.0},
        slots=3,
        slot_length=2.0,
    )
    _, trace = simulate(spec, "local")
    assert trace["tasks/status"].tolist() == [0, 1, 1]
    assert trace["slots/energy_remaining_J"].tolist() == [[12.0], [0.0], [0.0]]


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize(
    ("battery", "task", "affords"),
    [
        (0.3, 0.1, 3),
        (0.7, 0.1, 7),
        (0.1, 1e-4, 1_000),
        pytest.param(1.0, 1e-4, 10_000, marks=pytest.mark.slow),
        (0.3 * (1 - 1e-9), 0.1, 2),  # what is missing is no rounding
    ],
)
def test_a_battery_that_exactly_suffices_is_used_up(
    battery: float, task: float, affords: int, kernel: str
) -> None:
    """Energies of the tasks are subtracted one by one, and each difference is rounded."""
    spec = scenario(
        slots=affords + 2,
        dnn=chain([1], [1]),
        device={"capacity": 1.0, "battery": battery},
        energy={"kappa": task},
        arrivals={"process": "slotted", "rate": 1},
    )
    summary, trace = simulate(spec, "local", kernel=kernel)
    assert (summary["completed"], summary["failed"]) == (affords, 2)
    remaining = trace["slots/energy_remaining_J"][:, 0]
    assert (remaining >= 0).all()
    assert remaining[-1] == pytest.approx(battery - affords * task, abs=1e-9 * battery)


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
def test_an_empty_battery_affords_nothing_however_little(kernel: str) -> None:
    """Each hop takes less than the rounding that a battery allows for."""
    spec = scenario(
        slots=4,
        dnn=chain([1, 1e-15], [1, 1]),
        device={"capacity": 1.0, "battery": 2.0},
        energy={"kappa": 1.0},
        arrivals={"process": "slotted", "rate": 1},
    )
    summary, trace = simulate(spec, "local", kernel=kernel)
    assert (summary["completed"], summary["failed"]) == (1, 3)
    assert trace["slots/energy_remaining_J"][:, 0].tolist()[2:] == [0.0, 0.0]


def test_nothing_of_a_spent_device_goes_on_and_others_do() -> None:
    """Task 0 of device 0 is at the server when task 2 of device 0 spends the battery."""
    spec = scenario(
        slots=2,
        slot_length=2.0,
        decision_epoch="per_task",
        dnn=chain([4, 4, 4], [1, 1, 1]),
        arrivals={"process": "slotted", "rate": 2},
        edge_servers=1,
        edge_server={"capacity": 1.0, "cores": 2},
        devices=2,
        device={"capacity": 1.0, "battery": 5.0},
        radio={"rate": 1.0, "transmit_power": 1.0},
        energy={"kappa": 1.0},
    )
    placements = [[1, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]]
    _, trace = simulate(spec, SCRIPTED, {"placements": placements})
    # tasks 0, 1: up until 1 s (1 J); block 1 at a core each, 1 to 5 s
    # task 3: up from 2 to 3 s (1 J); waits there; block 1 from 5 to 9 s, while task 0 runs block 2;
    #   back at 10 s, where block 2 needs 4 J: refused, device 1 has 3 J
    # task 2: 2 to 6 s for the 4 J that device 0 has left; block 2 is refused at 6 s
    # task 0: refused when its block 2 is done, at 9 s
    # task 1: block 2 from 9 to 13 s, and then refused
    assert trace["tasks/device"].tolist() == [0, 1, 0, 1]
    hops = {name: trace[f"hops/{name}"].tolist() for name in ("task", "start_s", "finish_s")}
    rows = list(zip(*hops.values(), strict=True))
    assert [row[1:] for row in rows if row[0] == 0] == [(0, 1), (1, 5), (5, 9)]
    assert [row[1:] for row in rows if row[0] == 1] == [(0, 1), (1, 5), (9, 13)]
    assert [row[1:] for row in rows if row[0] == 2] == [(2, 6)]
    assert [row[1:] for row in rows if row[0] == 3] == [(2, 3), (5, 9), (9, 10)]
    assert trace["tasks/finish_s"].tolist() == [9.0, 13.0, 6.0, 10.0]
    assert trace["tasks/status"].tolist() == [1, 1, 1, 1]
    assert trace["tasks/energy_J"].tolist() == [1.0, 1.0, 4.0, 1.0]


# ---------------------------------------------------------------- rewards


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize("scheduler", ["local", LISTENING])
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_rewards_by_hand(kernel: str, scheduler: str, epoch: str) -> None:
    """Two tasks of 1 s a slot at one device, τ = 1.5 s, β = 1; the last epoch has the rest."""
    heard: list[tuple[int, float]] = []
    options = {"placements": [[0]], "heard": heard} if scheduler == LISTENING else {}
    # delays 1, 2, 2, 3; the first ends at 1 s, when slot 1 begins, and belongs to slot 0
    # costs 1, 2 + 0.5, 2 + 0.5, 3 + 1.5
    for how, known in (("sum", [-1.0, -9.5]), ("mean", [-0.5, -4.75])):
        spec = scenario(
            slots=2,
            decision_epoch=epoch,
            dnn=chain([1], [1], max_tolerated_delay=1.5),
            arrivals={"process": "slotted", "rate": 2},
            device={"capacity": 1.0},
            reward={"aggregation": how},
        )
        heard.clear()
        summary, trace = simulate(spec, scheduler, options, kernel=kernel)
        rewards = trace["decisions/reward"]
        if epoch == "per_task":  # two epochs at the start of each slot; the second has the cost
            assert rewards[::2].tolist() == [0.0, 0.0]
            rewards = rewards[1::2]
        assert rewards.tolist() == known
        assert summary["reward"] == sum(known)
        assert [reward for _, reward in heard if reward] == (known if heard else [])


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
def test_slots_of_different_sizes_weigh_the_same(kernel: str) -> None:
    """1.5 tasks a slot: 1, 2, 1 and 2 tasks of 1 s, one after the other; slots of 10 s."""
    spec = scenario(
        slots=4,
        slot_length=10.0,
        dnn=chain([1], [1]),
        arrivals={"process": "slotted", "rate": 1.5},
        device={"capacity": 1.0},
    )
    summary, trace = simulate(spec, "local", kernel=kernel)
    assert trace["slots/released"].tolist() == [1, 2, 1, 2]
    assert trace["decisions/reward"].tolist() == [-1.0, -1.5, -1.0, -1.5]
    assert summary["reward"] == -5.0


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize("scheduler", ["local", LISTENING])
def test_a_cost_is_divided_by_the_tasks_of_its_own_slot(kernel: str, scheduler: str) -> None:
    """One task in slot 0 and two in slot 1, of 3 s each; they end at 3, 6 and 9 s, in slot 1."""
    spec = scenario(
        slots=2,
        dnn=chain([3], [1], max_tolerated_delay=9),
        arrivals={"process": "slotted", "rate": 1.5},
        device={"capacity": 1.0},
    )
    heard: list[tuple[int, float]] = []
    options = {"placements": [[0]], "heard": heard} if scheduler == LISTENING else {}
    _, trace = simulate(spec, scheduler, options, kernel=kernel)
    # delays 3, 5 and 8
    assert trace["decisions/reward"].tolist() == [0.0, -(3 / 1 + (5 + 8) / 2)]
    assert heard in ([], list(enumerate(trace["decisions/reward"].tolist())))


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_the_mean_times_the_tasks_is_the_sum_where_slots_have_as_many(epoch: str) -> None:
    """In a crowded network too: every task has the same weight."""
    rewards = []
    for how in ("mean", "sum"):
        reward = {"beta": 1.7, "aggregation": how}
        arrivals = {"process": "slotted", "rate": 9}
        spec = crowded(decision_epoch=epoch, reward=reward, arrivals=arrivals)
        _, trace = simulate(spec, SCRIPTED, {"placements": PLACEMENTS}, seed=6)
        rewards.append(trace["decisions/reward"])
    assert rewards[0] * 9 == pytest.approx(rewards[1], rel=1e-12)
    assert len(set(rewards[1].tolist())) > 3


def crowded(**overrides: Any) -> Scenario:
    """Queues everywhere, late blocks, tasks that fail."""
    base: dict[str, Any] = {
        "slots": 30,
        "dnn": chain([3e8, 5e8, 4e8], [2e5, 9e5, 3e5], max_tolerated_delay=[0.4, 0.9, 0.5]),
        "size_factor": {"distribution": "exponential", "per": "block"},
        "arrivals": {"process": "poisson", "rate": 9},
        "edge_servers": 3,
        "edge_server": {"capacity": 1.3e9, "cores": 2},
        "devices": 4,
        "device": {"battery": 120.0},
        "radio": {"rate": {"uniform": [4e6, 9e6]}},
        "wired": {"topology": "line", "rate": 5e6, "latency": 0.01},
        "reward": {"beta": 1.7},
        "return_result": True,
    }
    return scenario(**(base | overrides))


PLACEMENTS = [[0, 1, 2], [3, 3, 0], [0, 0, 0], [1, 2, 3], [2, 0, 1]]
TIED = {
    "size_factor": {"distribution": "constant"},
    "arrivals": {"process": "slotted", "rate": 5},
    "dnn": chain([5e8, 0, 1e9], [4e6, 2e6, 0], max_tolerated_delay=0.25),
    "device": {"capacity": 1e9, "battery": 1e4},
    "radio": {"rate": 8e6},
    "edge_server": {"capacity": 2e9},
    "wired": {"rate": 8e6},
}


def weights(trace: MemoryTrace, how: str) -> Any:
    """Of every task: 1, or 1 / n if n tasks are released in its slot."""
    slot = trace["tasks/slot"]
    return 1.0 / np.bincount(slot)[slot] if how == "mean" else np.ones(len(slot))


@pytest.mark.parametrize("how", ["mean", "sum"])
@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("ties", [{}, TIED], ids=["random times", "many ties"])
def test_rewards_add_up_to_minus_the_cost_of_all_tasks(
    epoch: str, ties: dict[str, Any], how: str
) -> None:
    reward = {"beta": 1.7, "aggregation": how}
    spec = crowded(decision_epoch=epoch, reward=reward, **ties)
    summary, trace = simulate(spec, SCRIPTED, {"placements": PLACEMENTS}, seed=3)
    tolerated = spec.dnn.max_tolerated_delay
    delay = trace["blocks/delay_s"].reshape(-1, 3)
    cost = delay + 1.7 * np.maximum(delay - np.array(tolerated), 0)
    cost *= weights(trace, how)[:, None]
    assert (delay > np.array(tolerated)).any()
    assert trace["decisions/reward"].sum() == pytest.approx(-np.nansum(cost), rel=1e-12)
    assert summary["reward"] == pytest.approx(-np.nansum(cost), rel=1e-12)
    assert np.nansum(delay) == pytest.approx(trace["tasks/total_s"].sum(), rel=1e-12)


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
@pytest.mark.parametrize("ties", [{}, TIED], ids=["random times", "many ties"])
def test_the_hook_hears_the_reward_that_is_recorded(epoch: str, ties: dict[str, Any]) -> None:
    spec, heard = crowded(decision_epoch=epoch, **ties), list[tuple[int, float]]()
    _, trace = simulate(spec, LISTENING, {"placements": PLACEMENTS, "heard": heard}, seed=3)
    rewards = trace["decisions/reward"].tolist()
    assert heard == list(enumerate(rewards))
    assert len(rewards) == (30 if epoch == "per_slot" else len(trace["tasks/slot"]))
    assert len(set(rewards)) > 3
    if not ties:
        assert 0 < trace["tasks/status"].sum() < len(trace["tasks/status"])


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_rewards_go_to_the_epoch_in_which_a_block_finishes(how: str) -> None:
    """Recomputed block by block: the last epoch that began before the finish."""
    spec = crowded(decision_epoch="per_task", reward={"beta": 1.7, "aggregation": how})
    _, trace = simulate(spec, SCRIPTED, {"placements": PLACEMENTS}, seed=4)
    began, finish = trace["decisions/time_s"], trace["blocks/finish_s"]
    delay = trace["blocks/delay_s"].reshape(-1, 3)
    cost = delay + 1.7 * np.maximum(delay - [0.4, 0.9, 0.5], 0)
    cost = (cost * weights(trace, how)[:, None]).reshape(-1)
    rewards = [0.0] * len(began)
    for time, lost in zip(finish.tolist(), cost.tolist(), strict=True):
        if not math.isnan(time):
            rewards[sum(b < time for b in began) - 1] -= lost
    assert trace["decisions/reward"] == pytest.approx(rewards, rel=1e-12, abs=1e-12)


# ---------------------------------------------------------------- deadlines met exactly


@pytest.mark.parametrize("kernel", ["simpy", "compiled"])
@pytest.mark.parametrize("scheduler", ["local", LISTENING])
def test_a_delay_of_exactly_tau_is_in_time(kernel: str, scheduler: str) -> None:
    """The clock rounds at finish and at ready; no task waits, and each takes 0.1 s."""
    spec = scenario(
        slots=1000,
        dnn=chain([1e8], [1e6], max_tolerated_delay=0.1),
        device={"capacity": 1e9},
    )
    options: dict[str, Any] = {}
    if scheduler == LISTENING:
        options = {"placements": [[0]], "heard": []}
    summary, trace = simulate(spec, scheduler, options, kernel=kernel)
    assert summary["late_blocks"] == trace["tasks/late_blocks"].sum() == 0
    assert trace["blocks/delay_s"].tolist() == (
        (trace["blocks/finish_s"] - trace["blocks/ready_s"]).tolist()
    )
    assert (trace["blocks/delay_s"] > 0.1).any()  # by rounding
    assert trace["decisions/reward"].tolist() == (0.0 - trace["blocks/delay_s"]).tolist()


def test_a_queue_that_ends_exactly_at_tau_is_in_time() -> None:
    """The last of 60 tasks of 0.1 s waits for 59 others: 6 s."""
    spec = scenario(
        slots=20,
        slot_length=7.0,
        arrivals={"process": "slotted", "rate": 60},
        dnn=chain([1e8], [1e6], max_tolerated_delay=6.0),
        device={"capacity": 1e9},
    )
    summary, trace = simulate(spec, "local")
    assert summary["late_blocks"] == 0
    assert (trace["blocks/delay_s"] > 6.0).any()  # by rounding


def test_a_run_that_ends_with_its_last_slot_does_not_drain() -> None:
    """(12 · 0.1) + 0.1 is rounded above 13 · 0.1."""
    spec = scenario(slots=13, slot_length=0.1, dnn=chain([1e8], [1e6]), device={"capacity": 1e9})
    summary, trace = simulate(spec, "local")
    assert trace["tasks/finish_s"].max() > 13 * 0.1
    assert summary["drained_s"] == 0.0


def test_a_delay_just_above_tau_is_late() -> None:
    """1e-9 s beyond the deadline, at up to 1000 s."""
    spec = scenario(
        slots=1000,
        dnn=chain([1e8 + 1], [1e6], max_tolerated_delay=0.1),
        device={"capacity": 1e9},
    )
    summary, trace = simulate(spec, "local")
    assert summary["late_blocks"] == 1000
    delay_s = trace["blocks/delay_s"]
    assert trace["decisions/reward"].tolist() == (0.0 - (delay_s + (delay_s - 0.1))).tolist()


# ---------------------------------------------------------------- the summary's resources


def test_resources_of_the_summary_by_hand() -> None:
    """Three tasks go up from 0 to 3 s, and are computed for 4 s each at two cores: until 11 s."""
    spec = scenario(
        dnn=chain([4], [3]),
        arrivals={"process": "slotted", "rate": 4},
        edge_servers=1,
        edge_server={"capacity": 1.0, "cores": 2},
        devices=3,
        radio={"rate": 1.0},
    )
    summary, trace = simulate(spec, "fixed", {"placement": [1]})
    # at the server: tasks 0 and 1 from 3 to 7 s, task 2 from 7 to 11 s; task 3 is up from 3 to 6 s
    # behind task 0 of its device, and computed from 7 to 11 s in parallel with task 2
    assert trace["tasks/finish_s"].tolist() == [7.0, 7.0, 11.0, 11.0]
    server, *uplinks = summary["resources"]  # the busiest first
    assert server == {
        "name": "es1.cpu",
        "utilization": 16 / (2 * 11),  # four times 4 s, of two cores for 11 s
        "mean_queue": (4 + 1) / 11,  # task 2 waits from 3 to 7 s, task 3 from 6 to 7 s
        "mean_wait_s": 5 / 4,
    }
    used = {entry["name"]: (entry["utilization"], entry["mean_wait_s"]) for entry in uplinks}
    assert used == {
        "device0.uplink": (6 / 11, 1.5),  # 3 s for task 3, none for task 0
        "device1.uplink": (3 / 11, 0.0),
        "device2.uplink": (3 / 11, 0.0),
    }
    assert summary["events"] == 8 + 4  # hops and releases


# ---------------------------------------------------------------- accounting by pieces


def in_pieces(monkeypatch: pytest.MonkeyPatch, hops: int, epoch: str) -> Run:
    monkeypatch.setattr("mecsim.simulation.session.BATCH_HOPS", hops)
    return simulate(crowded(decision_epoch=epoch), SCRIPTED, {"placements": PLACEMENTS}, seed=5)


@pytest.mark.parametrize("epoch", ["per_slot", "per_task"])
def test_results_do_not_depend_on_the_size_of_the_pieces(
    monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    one, all_ = (in_pieces(monkeypatch, hops, epoch) for hops in (1, 10**9))
    assert one.summary == all_.summary
    assert len(all_.trace.paths()) > 25
    for path in all_.trace.paths():
        a, b = one.trace[path], all_.trace[path]
        assert a.dtype == b.dtype
        assert a.shape == b.shape, path
        assert np.array_equal(a, b, equal_nan=True), path
    assert one.trace.first_difference(all_.trace) is None


# ---------------------------------------------------------------- nothing to account for


@pytest.mark.parametrize("process", ["slotted", "deterministic", "poisson"])
@pytest.mark.parametrize("scheduler", [SCRIPTED, LISTENING])
def test_a_run_without_tasks(process: str, scheduler: str) -> None:
    spec = scenario(slots=3, arrivals={"process": process, "rate": 0})
    options: dict[str, Any] = {"placements": [[1]]}
    if scheduler == LISTENING:
        options["heard"] = []
    summary, trace = simulate(spec, scheduler, options)
    assert (summary["tasks"], summary["events"], summary["resources"]) == (0, 0, [])
    assert summary["reward"] == 0.0
    assert summary["total_delay_s"]["mean"] is None
    assert trace["decisions/reward"].tolist() == [0.0, 0.0, 0.0]
    assert trace["slots/released"].tolist() == [0, 0, 0]
    assert trace["tasks/total_s"].shape == (0,)


@pytest.mark.parametrize("hops", [1, 10**9])
def test_slots_without_tasks_earn_nothing(monkeypatch: pytest.MonkeyPatch, hops: int) -> None:
    """Also where, as here at first, there is nothing but such slots to account for."""
    monkeypatch.setattr("mecsim.simulation.session.BATCH_HOPS", hops)
    arrivals = {"process": "slotted", "rate": 0.5}
    spec = scenario(slots=5, arrivals=arrivals, device={"capacity": 4.0})
    heard: list[tuple[int, float]] = []
    _, trace = simulate(spec, LISTENING, {"placements": [[0]], "heard": heard})
    assert heard == [(0, 0.0), (1, -0.25), (2, 0.0), (3, -0.25), (4, 0.0)]
    assert trace["decisions/reward"].tolist() == [reward for _, reward in heard]


def test_a_run_closes_its_spools() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(scenario(), "local", memory=MemoryTrace())
    assert [str(warning.message) for warning in caught] == []


# ---------------------------------------------------------------- sums that are rounded once

HALF_WAY = [  # the last one decides, also where products with it are zero
    [1.0, 2.0**-53, 2.0**-106],
    [1.0, 2.0**-53, -(2.0**-106)],
    [1.0 + 2.0**-52, 2.0**-53, -(2.0**-106)],
    [-1.0, -(2.0**-53), -(2.0**-106)],
    [2.0**-600, 2.0**-653, 2.0**-706],
    [2.0**-600, 2.0**-653, -(2.0**-706)],
]


@pytest.mark.parametrize(
    "values",
    [
        *HALF_WAY,
        [],
        [-0.0],
        [0.1] * 10,
        [1e300, 1.0, -1e300, -1.0],
        [1e16, 1.0, 1e-16] * 7,
        [5e-324, -5e-324, 5e-324],
        [1.0, 1e100, 1.0, -1e100] * 1000,
    ],
)
def test_sums_are_rounded_once(values: list[float]) -> None:
    assert exact_sum(np.array(values, dtype=np.float64)) == math.fsum(values)


@given(st.lists(st.floats(-1e300, 1e300) | st.integers(-99, 99).map(float), max_size=60))
@settings(max_examples=examples(200), deadline=None, derandomize=True)
def test_sums_of_any_numbers_are_rounded_once(values: list[float]) -> None:
    for signed in (values, [*values, *(-value for value in values[::2])]):
        assert exact_sum(np.array(signed, dtype=np.float64)) == math.fsum(signed)


@pytest.mark.parametrize("exponents", [1, 20, 700])
def test_sums_of_many_scales_are_rounded_once(exponents: int) -> None:
    rng = np.random.default_rng(exponents)
    for count in range(2, 400, 7):
        values = rng.standard_normal(count) * 2.0 ** rng.integers(-exponents, exponents, count)
        values = np.concatenate([values, -values[::2] * (1 + 2.0**-50)])
        assert exact_sum(values) == math.fsum(values.tolist())
