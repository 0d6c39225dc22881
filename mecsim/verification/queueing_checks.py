"""Checks by confidence intervals: simulated stations against queueing theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from mecsim.support.arrays import Floats
from mecsim.support.intervals import Interval, mean_interval
from mecsim.verification import queueing
from mecsim.verification.check import Check, Effort, scenario_of, simulate

CONFIDENCE: Final = 0.999
"""Confidence of each interval, so that all hold together with about 99% (Bonferroni)."""

STATION: Final = """
{slot_length: 1000, arrivals: {process: poisson, rate: 800}, devices: 1, device: {capacity: 1e9},
size_factor: {distribution: exponential}, edge_servers: 1, edge_server: {capacity: 1e9},
dnn: {model: {flops: [1e9], parameter_bytes: [0], input_bits: [0]}}, wired: {rate: 1e6}}"""
"""One device and one server with mean services of 1 s; data of 0 bits takes no time."""


def queueing_checks() -> Iterator[Check]:
    """Yield all checks by intervals."""
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
    """Return the interval of a statistic of the sojourns of independent runs without warm-up."""
    described, values = scenario_of(STATION, *filter(None, changes.split("; "))), []
    slots = max(1, round(effort.tasks / described.model_dump()["arrivals"]["rate"]))
    described = described.model_copy(update={"slots": slots})
    for seed in range(effort.replications):
        trace, _ = simulate(described, placement, effort, seed)
        sojourns = trace["tasks/total_s"]
        values.append(float(statistic(sojourns[len(sojourns) // 10 :])))
    return mean_interval(values, CONFIDENCE)


def _blocks(cycles: list[float], bits: float = 0.0) -> str:
    nothing, same = [0.0] * len(cycles), [bits] * len(cycles)
    return f"dnn.model={{flops: {cycles}, parameter_bytes: {nothing}, input_bits: {same}}}"


def _sojourns() -> list[tuple[str, str, float, list[int], str]]:
    """Return name, formula, mean sojourn [s], placement, and overrides of ``STATION``."""
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
    failing = "{devices: all, mean_time_to_failure: 8 s, mean_time_to_repair: 2 s}"
    repaired = "n̄/λ of a server that fails and resumes [White]"
    down = queueing.mm1_breakdowns_sojourn(0.5, 1, 8, 2)
    sum3, sum2 = queueing.tandem_sojourn(0.7, [1, 1.25, 2]), 2 * queueing.mmc_sojourn(1.4, 1, 2)
    return [
        ("M/M/1, a device, ρ = 0.5", mm1, queueing.mm1_sojourn(0.5, 1), [0], half),
        ("M/M/1, a device, ρ = 0.8", mm1, queueing.mm1_sojourn(0.8, 1), [0], ""),
        ("M/M/1, an uplink, ρ = 0.7", mm1, alone, [1], uplink),
        ("M/M/1, a wired link, ρ = 0.7", mm1, alone, [2], link),
        ("M/M/1, each of 4 devices, ρ = 0.7", mm1, alone, [0], split),
        (
            "M/M/1 with breakdowns, a device, ρ = 0.5",
            repaired,
            down,
            [0],
            f"{half}; failures=[{failing}]",
        ),
        ("M/D/1, a device, ρ = 0.5", mg1, 1 + queueing.md1_wait(0.5, 1), [0], f"{half}; {equal}"),
        ("M/D/1, a device, ρ = 0.8", mg1, 1 + queueing.md1_wait(0.8, 1), [0], equal),
        ("M/G/1, lognormal sizes, ρ = 0.7", mg1, 1 + lognormal, [0], uneven),
        ("M/M/4, server of 30 devices, ρ = 0.8", mm4, queueing.mmc_sojourn(3.2, 1, 4), [1], four),
        ("Tandem, device and 2 servers", row, sum3, [0, 1, 2], row3),
        ("Tandem, 2 servers of 2 cores", row, sum2, [1, 2], f"{row2}; edge_servers=2"),
    ]
