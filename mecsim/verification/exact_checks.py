"""Checks that hold exactly: equations, queues, conservation laws, replay and both kernels."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from mecsim.model.model import Model, resolve
from mecsim.simulation.drive import KERNELS
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.run import run as run_scenario
from mecsim.support.arrays import Floats
from mecsim.support.files import temporary_folder
from mecsim.support.intervals import Interval
from mecsim.verification import queueing
from mecsim.verification.check import (
    Check,
    Effort,
    exactly,
    relative_gap,
    scenario_of,
    simulate,
    unequal,
)
from mecsim.verification.queueing_checks import STATION


def exact_checks() -> list[Check]:
    """Return all exact checks."""
    return [*_equations(), *_queues(), *_conservation(), *_reruns()]


_ONE_TASK: Final = """
{slots: 1, arrivals: {process: slotted, rate: 1}, dnn: {model: vgg16, blocks: 2}, devices: 1,
edge_servers: 3, edge_server: {capacity: [17.1e9, 14.2e9, 12.3e9]}, device: {capacity: 1.1e9},
radio: {rate: 1.1e7}, wired: {rate: 0.9e9}, return_result: true}"""
_HZ: Final = (1.1e9, 17.1e9, 14.2e9, 12.3e9)


def _equations() -> Iterator[Check]:
    known = "I/R (Eq. 5), c/f (Eq. 3), c/F (Eq. 6), summed (Eqs. 8, 9); κf²c (Eq. 4), p·I/R (Eq. 7)"
    how = "numbers that differ; one task, no queues, all 16 pairs of places of 2 blocks"
    for topology, latency_s in (("full_mesh", 0.0), ("line", 0.003)):
        name = f"Delays and energies, {topology.replace('_', ' ')} of 3 servers"
        yield Check(name, known, how, 0, partial(_every_pair, topology, latency_s))


def _every_pair(topology: str, latency_s: float, effort: Effort) -> Interval:
    changes = f"wired.topology={topology}", f"wired.latency={latency_s}"
    described, found, known = scenario_of(_ONE_TASK, *changes), [], []
    model, far = resolve(described), 2 if topology == "line" else 1
    for placement in np.ndindex(4, 4):
        trace, _ = simulate(described, placement, effort)
        found += [trace[f"blocks/{name}"] for name in ("finish_s", "delay_s", "energy_J")]
        known += _by_hand(model, placement, far, latency_s)
    return unequal(np.array(found), np.array(known))


def _by_hand(model: Model, placement: Sequence[int], far: int, lag_s: float) -> list[list[float]]:
    """Return finish, delay and energy of each block of a task released at 0 s (Eqs. 3 to 9)."""
    finish, energy, here = [0.0], [], 0
    for place, bits, cycles in zip(placement, model.input_bits, model.cycles, strict=True):
        finish.append(_sent(finish[-1], bits, here, place, far, lag_s) + cycles / _HZ[place])
        sending = 0.0 if here else 10 ** ((22 - 30) / 10) * (bits / 1.1e7)  # 22 dBm
        energy.append(sending if place else 1e-26 * (_HZ[0] * _HZ[0]) * cycles)
        here = place
    finish[-1] = _sent(finish[-1], model.result_bits[0], here, 0, far, lag_s)
    return [finish[1:], np.diff(finish).tolist(), energy]


def _sent(now: float, bits: float, here: int, place: int, far: int, lag_s: float) -> float:
    """Return when data arrives (Eq. 5); the device is at server 1, servers 1 and 3 are ``far``."""
    if here == place:
        return now
    now += 0.0 if here else bits / 1.1e7
    for _ in range(min(abs((here or 1) - (place or 1)), far)):
        now = now + bits / 0.9e9 + lag_s
    return now if place else now + bits / 1.1e7


def _queues() -> list[Check]:
    batch = "(n − 1)/2 · s for n = 7 equal tasks at each slot's start, s = 1/8 s"
    lindley = "start = max(arrival, finish of the task before) [Lindley]"
    served = "start = max(arrival, when the first server is free): FIFO, never idle before work"
    answer = queueing.slot_batch_wait(7, 0.125, 1.0)
    return [
        Check("Batches at slot starts", batch, "mean wait [s] of 140 tasks", answer, _batches),
        Check("One queue, every task", lindley, "times that differ, {tasks:,} tasks", 0, _lindley),
        Check("Every queue, every hop", served, "starts that differ, busy network", 0, _fifo),
    ]


def _batches(effort: Effort) -> Interval:
    constant = "size_factor={distribution: constant}", "arrivals={process: slotted, rate: 7}"
    described = scenario_of(STATION, *constant, "slots=20", "slot_length=1", "device.capacity=8e9")
    trace, _ = simulate(described, "local", effort)
    return exactly((trace["hops/start_s"] - trace["hops/enqueue_s"]).mean())


def _lindley(effort: Effort) -> Interval:
    trace, _ = simulate(scenario_of(STATION, f"slots={effort.tasks // 800}"), "local", effort)
    service = 1e9 * trace["tasks/size_factor"] / 1e9
    start = queueing.fifo_starts(trace["tasks/release_s"], service)
    found = np.array([trace["blocks/compute_start_s"], trace["tasks/finish_s"]])
    return unequal(found, np.array([start, start + service]))


def _fifo(effort: Effort) -> Interval:
    trace, _ = simulate(scenario_of(_BUSY), "rpdi", effort)
    order = np.lexsort([trace[f"hops/{name}"] for name in ("start_s", "enqueue_s", "resource")])
    columns = [trace[f"hops/{name}"][order] for name in ("resource", "enqueue_s", "finish_s")]
    free = [[-math.inf] * servers for servers in resolve(scenario_of(_BUSY)).capacity.tolist()]
    known = []
    for resource, enqueue, finish in zip(*(column.tolist() for column in columns), strict=True):
        known.append(max(enqueue, free[resource][0]))
        heapq.heapreplace(free[resource], finish)
    return unequal(trace["hops/start_s"][order], np.array(known))


_BUSY: Final = """
{slots: 20, decision_epoch: per_task, arrivals: {process: poisson, rate: 60}, devices: 8,
return_result: true, size_factor: {distribution: exponential, per: block},
radio: {fading: rayleigh}, dnn: {model: vgg16, blocks: 6, max_tolerated_delay: 0.5},
edge_server: {capacity: {uniform: [2e9, 4e9]}, cores: 2},
wired: {topology: ring, rate: 1e8, latency: 0.001}}"""


def _conservation() -> list[Check]:
    how = "greatest relative gap, to rounding; busy network of random placements"
    number = "L = λW for the tasks at it; utilization for those in service [Little]"
    parts = "total = local + edge = Σ L_m = finish − release = Σ (waiting + service + latency)"
    reward = "−Σ over slots of the mean over tasks of Σ (L_m + β·max(L_m − τ_m, 0)) (Eqs. 13, 14)"
    return [
        Check("Little's law, every resource", number, how, 0, _little),
        Check("Parts of the delay", parts, how, 0, _parts),
        Check("Reward of an episode", reward, how, 0, _reward),
    ]


def _little(effort: Effort) -> Interval:
    """Integrate the numbers of tasks over time and compare them with rates and mean times."""
    trace, summary = simulate(scenario_of(_BUSY), "rpdi", effort)
    names, found, known = resolve(scenario_of(_BUSY)).resource_names(), [], []
    horizon = max(20.0, float(trace["tasks/finish_s"].max()))
    for resource in summary.resources:
        number = names.index(resource.name)
        at = trace["hops/resource"] == number
        enqueue, start, finish = (trace[f"hops/{n}_s"][at] for n in ("enqueue", "start", "finish"))
        capacity = 2 if number < 4 else 1  # the cores of the servers
        served = int(trace["resources/served"][number - len(names)])
        busy = resource.utilization * capacity
        found += [_mean_number(enqueue, finish, horizon), _mean_number(start, finish, horizon)]
        known += [served / horizon * resource.mean_wait_s + busy, busy]
    return relative_gap(np.array(found), np.array(known))


def _mean_number(enter: Floats, leave: Floats, horizon_s: float) -> float:
    """Return the time average of a count that rises at ``enter`` and falls at ``leave``."""
    times = np.concatenate([enter, leave])
    order = np.argsort(times, kind="stable")
    count = np.cumsum(np.where(order < len(enter), 1, -1))
    return float(count[:-1] @ np.diff(times[order])) / horizon_s


def _parts(effort: Effort) -> Interval:
    trace, _ = simulate(scenario_of(_BUSY), "rpdi", effort)
    latency = 0.001 * (trace["hops/resource"] >= resolve(scenario_of(_BUSY)).resources.link)
    spent = trace["hops/finish_s"] - trace["hops/enqueue_s"] + latency
    total, release = trace["tasks/total_s"], trace["tasks/release_s"]
    wholes = [
        trace["tasks/edge_s"] + trace["tasks/local_s"],
        np.bincount(trace["blocks/task"], trace["blocks/delay_s"]),
        trace["tasks/finish_s"] - release,
        np.bincount(trace["hops/task"], spent),
    ]
    return relative_gap(np.array(wholes), np.broadcast_to(total, (len(wholes), len(release))))


def _reward(effort: Effort) -> Interval:
    trace, summary = simulate(scenario_of(_BUSY), "rpdi", effort)
    late = np.bincount(trace["blocks/task"], np.maximum(trace["blocks/delay_s"] - 0.5, 0.0))
    cost, slot = trace["tasks/total_s"] + late, trace["tasks/slot"]
    known = -(np.bincount(slot, cost) / np.maximum(np.bincount(slot), 1)).sum()
    found = np.array([trace["decisions/reward"].sum(), summary.reward])
    return relative_gap(found, np.full(2, known))


def _reruns() -> Iterator[Check]:
    same, known = "a run is a function of scenario, decisions and seed", "the same trace, every bit"
    yield Check("Replay from a trace", same, "differences; 10 slots, greedy", 0, _replay)
    for one, other in pairwise(KERNELS):
        how, measure = "differences; busy network", partial(_kernels, one, other)
        yield Check(f"Kernels {one} and {other}", known, how, 0, measure)


def _replay(effort: Effort) -> Interval:
    with temporary_folder() as folder:
        path = folder / "run.h5"
        run_scenario(scenario_of("slots: 10"), "greedy", out=path, kernel=effort.kernel)
        found = replay_trace(path, kernel=effort.kernel)
    return exactly(found.difference is not None or not (found.complete and found.rows["hops"]))


def _kernels(one: str, other: str, effort: Effort) -> Interval:
    busy, kernels = scenario_of(_BUSY), (effort._replace(kernel=name) for name in (one, other))
    (trace, _), (again, _) = (simulate(busy, "rpdi", kernel) for kernel in kernels)
    return exactly(trace.first_difference(again) is not None)
