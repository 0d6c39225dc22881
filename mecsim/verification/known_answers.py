"""The known-answer suite: what theory and the equations say, against what a run gives.

Every answer is worked out here or in :mod:`mecsim.verification.queueing`, never by the code on trial; every run is
an ordinary scenario under an installed scheduler. A mean is met if it lies in the interval of
independent replications (seeds 0, 1, …; the first tenth of each run, which begins empty, left out).
All else is met to the last bit, or to rounding where sums are taken in another order. References
are those of :mod:`mecsim.verification.queueing`; equation numbers are those of Li et al., "Distributed DNN
Inference with Fine-grained Model Partitioning in Mobile Edge Computing Networks".
"""

from __future__ import annotations

import heapq
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from mecsim.model.model import Model, resolve
from mecsim.scenario import yaml_source
from mecsim.scenario.loading import validate
from mecsim.scenario.schema import Scenario
from mecsim.simulation.drive import KERNELS, Progress
from mecsim.simulation.replay import replay as replay_trace
from mecsim.simulation.run import run as run_scenario
from mecsim.support.arrays import Floats
from mecsim.support.intervals import Interval, mean_interval
from mecsim.trace.schema import Column, MemoryTrace
from mecsim.verification import queueing

CONFIDENCE: Final = 0.999
"""Of each interval, so that all of them hold together with about 99% (Bonferroni)."""
ROUNDING: Final = 1e-9
"""What sums taken in another order may differ by, relatively."""
HEADER: Final = ("check", "known answer", "expected", "measured", "interval", "ok", "note")


class Effort(NamedTuple):
    """How much is simulated, in tasks of each replication, and on what."""

    replications: int
    tasks: int
    kernel: str


@dataclass(frozen=True)
class Outcome:
    """A check that has been made; it is met if ``low`` ≤ ``expected`` ≤ ``high``."""

    name: str
    expected: float
    measured: float
    low: float
    high: float
    ok: bool
    note: str
    """What was measured, and on how much."""
    known: str
    """The formula and its source."""


@dataclass(frozen=True)
class Check:
    """A known answer (the formula and its source) and the way to measure it."""

    name: str
    known: str
    how: str
    """What is measured; may name the fields of :class:`Effort` in braces."""
    expected: float
    measure: Callable[[Effort], Interval]

    def outcome(self, effort: Effort) -> Outcome:
        """Measure, and compare with the known answer."""
        low, mean, high = interval = self.measure(effort)
        ok, note = interval.contains(self.expected), self.how.format_map(effort._asdict())
        return Outcome(self.name, self.expected, mean, low, high, ok, note, self.known)


def checks() -> list[Check]:
    """Return all checks: first those that are exact, then those by intervals."""
    return [*_equations(), *_queues(), *_wholes(), *_reruns(), *_stations()]


def run_checks(
    progress: Progress | None = None, quick: bool = False, kernel: str = "simpy"
) -> list[Outcome]:
    """Make all checks; if ``quick``, with wider intervals. ``progress`` gets checks done, to do."""
    effort = Effort(10, 8_000, kernel) if quick else Effort(20, 40_000, kernel)
    todo, outcomes = checks(), []
    for check in todo:
        outcomes.append(check.outcome(effort))
        if progress is not None:
            progress(len(outcomes), len(todo))
    return outcomes


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the outcomes as plain text, one tuple each, in the columns of ``HEADER``."""
    return [(o.name, o.known, *_numbers(o), "yes" if o.ok else "NO", o.note) for o in outcomes]


def _numbers(o: Outcome) -> tuple[str, str, str]:
    interval = f"{o.low:.5g} to {o.high:.5g}" if o.low < o.high else "exact"
    return f"{o.expected:.5g}", f"{o.measured:.5g}", interval


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a Markdown table, one row each."""
    cells = [HEADER, ("---",) * len(HEADER), *rows(outcomes)]
    made_by = f"Made by `mecsim verify --out FILE` with mecsim {version('mecsim')}.\n\n"
    return f"# Known answers\n\n{made_by}" + "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _scenario(text: str, *overrides: str) -> Scenario:
    document = yaml_source.parse(text, "mecsim.verification.known_answers")
    for override in overrides:
        yaml_source.assign(document, override)
    return validate(document)


def _run(
    described: Scenario, scheduler: str | Sequence[int], effort: Effort, seed: int = 0
) -> tuple[MemoryTrace, dict[str, Any]]:
    """Run under a scheduler or with a fixed placement; return trace and summary."""
    trace, options, kernel = MemoryTrace(), {}, effort.kernel
    if not isinstance(scheduler, str):
        scheduler, options = "fixed", {"placement": list(scheduler)}
    result = run_scenario(described, scheduler, options, seed=seed, kernel=kernel, memory=trace)
    return trace, result.summary


def _exactly(value: float) -> Interval:
    return Interval(float(value), float(value), float(value))


def _unequal(found: Column, known: Column) -> Interval:
    """How many numbers of two columns differ in any bit; infinitely many if none is compared."""
    alike = found.shape == known.shape and found.size > 0
    return _exactly((found != known).sum() if alike else math.inf)


def _gap(found: Column, known: Column) -> Interval:
    """The greatest relative difference of two columns, give or take rounding."""
    alike = found.shape == known.shape and found.size > 0
    gap = float(np.max(np.abs(found - known) / np.abs(known))) if alike else math.inf
    return Interval(gap - ROUNDING, gap, gap + ROUNDING)


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
    described, found, known = _scenario(_ONE_TASK, *changes), [], []
    model, far = resolve(described), 2 if topology == "line" else 1
    for placement in np.ndindex(4, 4):
        trace, _ = _run(described, placement, effort)
        found += [trace[f"blocks/{name}"] for name in ("finish_s", "delay_s", "energy_J")]
        known += _by_hand(model, placement, far, latency_s)
    return _unequal(np.array(found), np.array(known))


def _by_hand(model: Model, placement: Sequence[int], far: int, lag_s: float) -> list[list[float]]:
    """Finish, delay and energy of each block of one task that is released at 0 s (Eqs. 3 to 9)."""
    finish, energy, here = [0.0], [], 0
    for place, bits, cycles in zip(placement, model.input_bits, model.cycles, strict=True):
        finish.append(_sent(finish[-1], bits, here, place, far, lag_s) + cycles / _HZ[place])
        sending = 0.0 if here else 10 ** ((22 - 30) / 10) * (bits / 1.1e7)  # 22 dBm
        energy.append(sending if place else 1e-26 * (_HZ[0] * _HZ[0]) * cycles)
        here = place
    finish[-1] = _sent(finish[-1], model.result_bits, here, 0, far, lag_s)
    return [finish[1:], np.diff(finish).tolist(), energy]


def _sent(now: float, bits: float, here: int, place: int, far: int, lag_s: float) -> float:
    """When data is at its place (Eq. 5); the device is at server 1, servers 1 and 3 are ``far``."""
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
    described = _scenario(_STATION, *constant, "slots=20", "slot_length=1", "device.capacity=8e9")
    trace, _ = _run(described, "local", effort)
    return _exactly((trace["hops/start_s"] - trace["hops/enqueue_s"]).mean())


def _lindley(effort: Effort) -> Interval:
    trace, _ = _run(_scenario(_STATION, f"slots={effort.tasks // 800}"), "local", effort)
    service = 1e9 * trace["tasks/size_factor"] / 1e9
    start = queueing.fifo_starts(trace["tasks/release_s"], service)
    found = np.array([trace["blocks/compute_start_s"], trace["tasks/finish_s"]])
    return _unequal(found, np.array([start, start + service]))


def _fifo(effort: Effort) -> Interval:
    trace, _ = _run(_scenario(_BUSY), "rpdi", effort)
    order = np.lexsort([trace[f"hops/{name}"] for name in ("start_s", "enqueue_s", "resource")])
    columns = [trace[f"hops/{name}"][order] for name in ("resource", "enqueue_s", "finish_s")]
    free = [[-math.inf] * servers for servers in resolve(_scenario(_BUSY)).capacity.tolist()]
    known = []
    for resource, enqueue, finish in zip(*(column.tolist() for column in columns), strict=True):
        known.append(max(enqueue, free[resource][0]))
        heapq.heapreplace(free[resource], finish)
    return _unequal(trace["hops/start_s"][order], np.array(known))


_BUSY: Final = """
{slots: 20, decision_epoch: per_task, arrivals: {process: poisson, rate: 60}, return_result: true, devices: 8,
size_factor: {distribution: exponential, per: block}, radio: {fading: rayleigh},
dnn: {model: vgg16, blocks: 6, max_tolerated_delay: 0.5},
edge_server: {capacity: {uniform: [2e9, 4e9]}, cores: 2},
wired: {topology: ring, rate: 1e8, latency: 0.001}}"""


def _wholes() -> list[Check]:
    how = "greatest relative gap, to rounding; busy network of random placements"
    number = "L = λW for the tasks at it; utilization for those in service [Little]"
    parts = "total = local + edge = Σ L_m = finish − release = Σ (waiting + service + latency)"
    reward = "−Σ (L_m + β·max(L_m − τ_m, 0)) over all tasks (Eqs. 13, 14)"
    return [
        Check("Little's law, every resource", number, how, 0, _little),
        Check("Parts of the delay", parts, how, 0, _parts),
        Check("Reward of an episode", reward, how, 0, _reward),
    ]


def _little(effort: Effort) -> Interval:
    """Integrate the numbers of tasks over time, and compare with rates and mean times."""
    trace, summary = _run(_scenario(_BUSY), "rpdi", effort)
    names, found, known = resolve(_scenario(_BUSY)).resource_names(), [], []
    horizon = max(20.0, float(trace["tasks/finish_s"].max()))
    for resource in summary["resources"]:
        number = names.index(resource["name"])
        at = trace["hops/resource"] == number
        enqueue, start, finish = (trace[f"hops/{n}_s"][at] for n in ("enqueue", "start", "finish"))
        capacity = 2 if number < 4 else 1  # the cores of the servers
        served = int(trace["resources/served"][number - len(names)])
        busy = resource["utilization"] * capacity
        found += [_mean_number(enqueue, finish, horizon), _mean_number(start, finish, horizon)]
        known += [served / horizon * resource["mean_wait_s"] + busy, busy]
    return _gap(np.array(found), np.array(known))


def _mean_number(enter: Floats, leave: Floats, horizon_s: float) -> float:
    """Mean over time of a count that goes up at ``enter`` and down at ``leave``."""
    times = np.concatenate([enter, leave])
    order = np.argsort(times, kind="stable")
    count = np.cumsum(np.where(order < len(enter), 1, -1))
    return float(count[:-1] @ np.diff(times[order])) / horizon_s


def _parts(effort: Effort) -> Interval:
    trace, _ = _run(_scenario(_BUSY), "rpdi", effort)
    latency = 0.001 * (trace["hops/resource"] >= resolve(_scenario(_BUSY)).resources.link)
    spent = trace["hops/finish_s"] - trace["hops/enqueue_s"] + latency
    total, release = trace["tasks/total_s"], trace["tasks/release_s"]
    wholes = [
        trace["tasks/edge_s"] + trace["tasks/local_s"],
        np.bincount(trace["blocks/task"], trace["blocks/delay_s"]),
        trace["tasks/finish_s"] - release,
        np.bincount(trace["hops/task"], spent),
    ]
    return _gap(np.array(wholes), np.broadcast_to(total, (len(wholes), len(release))))


def _reward(effort: Effort) -> Interval:
    trace, summary = _run(_scenario(_BUSY), "rpdi", effort)
    late = np.maximum(trace["blocks/delay_s"] - 0.5, 0.0)
    found = np.array([trace["decisions/reward"].sum(), summary["reward"]])
    return _gap(found, np.full(2, -trace["tasks/total_s"].sum() - late.sum()))


def _reruns() -> Iterator[Check]:
    same, known = "a run is a function of scenario, decisions and seed", "the same trace, every bit"
    yield Check("Replay from a trace", same, "differences; 10 slots, greedy", 0, _replay)
    for one, other in pairwise(KERNELS):
        how, measure = "differences; busy network", partial(_kernels, one, other)
        yield Check(f"Kernels {one} and {other}", known, how, 0, measure)


def _replay(effort: Effort) -> Interval:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        run_scenario(_scenario("slots: 10"), "greedy", out=path, kernel=effort.kernel)
        found = replay_trace(path, kernel=effort.kernel)
    return _exactly(found.difference is not None or not (found.complete and found.rows["hops"]))


def _kernels(one: str, other: str, effort: Effort) -> Interval:
    busy, kernels = _scenario(_BUSY), (effort._replace(kernel=name) for name in (one, other))
    (trace, _), (again, _) = (_run(busy, "rpdi", kernel) for kernel in kernels)
    return _exactly(trace.first_difference(again) is not None)


_STATION: Final = """
{slot_length: 1000, arrivals: {process: poisson, rate: 800}, devices: 1, device: {capacity: 1e9},
size_factor: {distribution: exponential}, edge_servers: 1, edge_server: {capacity: 1e9},
dnn: {model: {flops: [1e9], parameter_bytes: [0], input_bits: [0]}}, wired: {rate: 1e6}}"""
"""Services of 1 s in the mean at a device or server; data of no bits takes no time."""


def _stations() -> Iterator[Check]:
    how = "{replications} runs of {tasks:,} tasks"
    for name, known, answer, placement, changes in _sojourns():
        measure = partial(_replicate, changes, placement, lambda sojourn: sojourn.mean())
        yield Check(name, known, f"mean sojourn [s], {how}", answer, measure)
    below = queueing.mm1_sojourn_quantile(0.8, 1.0, 0.95)
    measure = partial(_replicate, "", [0], lambda sojourn: (sojourn <= below).mean())
    known = "0.95 stay below −ln(0.05)/(μ − λ) [Gross] ch. 2"
    yield Check("M/M/1, 95th percentile, ρ = 0.8", known, f"share of tasks, {how}", 0.95, measure)


def _replicate(
    changes: str, placement: list[int], statistic: Callable[[Floats], Any], effort: Effort
) -> Interval:
    """Apply a statistic to the sojourns of independent runs, each without its warm-up."""
    described, values = _scenario(_STATION, *filter(None, changes.split("; "))), []
    slots = max(1, round(effort.tasks / described.model_dump()["arrivals"]["rate"]))
    described = described.model_copy(update={"slots": slots})
    for seed in range(effort.replications):
        trace, _ = _run(described, placement, effort, seed)
        sojourns = trace["tasks/total_s"]
        values.append(float(statistic(sojourns[len(sojourns) // 10 :])))
    return mean_interval(values, CONFIDENCE)


def _blocks(cycles: list[float], bits: float = 0.0) -> str:
    nothing, same = [0.0] * len(cycles), [bits] * len(cycles)
    return f"dnn.model={{flops: {cycles}, parameter_bytes: {nothing}, input_bits: {same}}}"


def _sojourns() -> list[tuple[str, str, float, list[int], str]]:
    """Name, formula, mean sojourn [s], placement, and what changes in ``_STATION``."""
    mm1, mm4 = "1/(μ − λ) [Kleinrock] §3.2", "1/μ + C(4, λ/μ)/(4μ − λ) [Gross] ch. 2"
    mg1, row = "E[S] + λE[S²]/(2(1 − ρ)) [Kleinrock] §5.6", "Σ of the stations' sojourns [Jackson]"
    half, load, split = (f"arrivals.rate={rate}" for rate in ("500", "700", "2800; devices=4"))
    equal = "size_factor.distribution=constant"
    four = "devices=30; edge_server.cores=4; arrivals.rate=3200"
    uneven = f"{load}; size_factor.distribution=lognormal; size_factor.sigma=0.8"
    uplink = f"{load}; {_blocks([0], 1e6)}; radio.rate=1e6"
    link = f"{load}; {_blocks([0], 1e6)}; radio.rate=1e15; edge_servers=2"
    row3 = f"{load}; {_blocks([1e9, 8e8, 5e8])}; size_factor.per=block; edge_servers=2"
    row2 = f"edge_server.cores=2; arrivals.rate=1400; {_blocks([1e9] * 2)}; size_factor.per=block"
    alone, lognormal = (
        queueing.mm1_sojourn(0.7, 1),
        queueing.mg1_wait_scv(0.7, 1, math.expm1(0.8**2)),
    )
    sum3, sum2 = queueing.tandem_sojourn(0.7, [1, 1.25, 2]), 2 * queueing.mmc_sojourn(1.4, 1, 2)
    return [
        ("M/M/1, a device, ρ = 0.5", mm1, queueing.mm1_sojourn(0.5, 1), [0], half),
        ("M/M/1, a device, ρ = 0.8", mm1, queueing.mm1_sojourn(0.8, 1), [0], ""),
        ("M/M/1, an uplink, ρ = 0.7", mm1, alone, [1], uplink),
        ("M/M/1, a wired link, ρ = 0.7", mm1, alone, [2], link),
        ("M/M/1, each of 4 devices, ρ = 0.7", mm1, alone, [0], split),
        ("M/D/1, a device, ρ = 0.5", mg1, 1 + queueing.md1_wait(0.5, 1), [0], f"{half}; {equal}"),
        ("M/D/1, a device, ρ = 0.8", mg1, 1 + queueing.md1_wait(0.8, 1), [0], equal),
        ("M/G/1, lognormal sizes, ρ = 0.7", mg1, 1 + lognormal, [0], uneven),
        ("M/M/4, server of 30 devices, ρ = 0.8", mm4, queueing.mmc_sojourn(3.2, 1, 4), [1], four),
        ("Tandem, device and 2 servers", row, sum3, [0, 1, 2], row3),
        ("Tandem, 2 servers of 2 cores", row, sum2, [1, 2], f"{row2}; edge_servers=2"),
    ]
