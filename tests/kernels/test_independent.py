"""Independent programs: textbook SimPy and an event list give every time, Ciw the same means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pytest

from mecsim import Scenario
from mecsim.kernels.simpy_kernel import SimpyKernel, _Task
from mecsim.model.model import Model, resolve
from mecsim.simulation import drive
from mecsim.simulation.run import run as run_scenario
from mecsim.support.intervals import Interval, mean_interval
from mecsim.trace.schema import MemoryTrace
from tests.helpers.reference_programs import Hop, Route, ciw_tandem, event_driven, textbook_simpy

OPEN: Final[dict[str, Any]] = {
    "slots": 20,
    "arrivals": {"process": "poisson", "rate": 50.0},
    "size_factor": {"distribution": "exponential", "per": "block"},
    "dnn": {"model": "vgg16", "blocks": 3},
    "edge_servers": 3,
    "edge_server": {"capacity": [9e9, 12e9, 15e9]},
    "devices": 5,
    "radio": {"rate": {"uniform": [5e6, 2e7]}},
    "wired": {"topology": "full_mesh", "rate": 5e7, "latency": 0.002},
    "return_result": True,
}
"""Continuous draws everywhere, so that no two tasks ever meet at the same time."""

TIED: Final[dict[str, Any]] = OPEN | {
    "arrivals": {"process": "slotted", "rate": 24.0},
    "size_factor": {"distribution": "constant"},
    "edge_server": {"capacity": 8e9, "cores": 2},
    "radio": {"rate": 1e7},
}
"""Equal tasks released together at equal devices: ties are the rule."""

PLACEMENTS: Final = [(0, 1, 2), (1, 2, 3), (3, 1, 3), (2, 2, 2), (2, 0, 1), (0, 0, 0), (0, 3, 0)]


def simulated(
    values: dict[str, Any], scheduler: str, options: dict[str, Any], seed: int
) -> tuple[Model, MemoryTrace]:
    scenario, trace = Scenario.model_validate(values), MemoryTrace()
    run_scenario(scenario, scheduler, options, seed=seed, memory=trace)
    return resolve(scenario, seed), trace


def routes(model: Model, trace: MemoryTrace) -> list[Route]:
    """The hops of every task, from the decisions and draws that are on record."""
    epoch, device, size = (trace[f"tasks/{name}"] for name in ("slot", "device", "size_factor"))
    size = np.broadcast_to(size.reshape(len(size), -1), (len(size), model.blocks))
    rate, placement = trace["slots/rate_bps"], trace["decisions/placement"]
    return [
        list(crossed(model, int(d), placement[e].tolist(), float(rate[e, d]), s.tolist()))
        for e, d, s in zip(epoch, device, size, strict=True)
    ]


def crossed(
    model: Model, device: int, placement: Sequence[int], rate_bps: float, size: Sequence[float]
) -> Iterator[Hop]:
    """What a task crosses in a full mesh (Eqs. 3, 5, 6)."""
    row, serving_server = (
        {name: r for r, name in enumerate(model.resource_names())},
        int(model.serving_server[device]),
    )
    stops = [*placement, 0]  # last, the result goes back to the device
    bits = [*model.input_bits.tolist(), *model.result_bits.tolist()]
    here = 0
    for m, place in enumerate(stops):
        amount = bits[m] * size[min(m, len(size) - 1)]
        source, target = here or serving_server + 1, place or serving_server + 1
        if here != place and not here:
            yield row[f"device{device}.uplink"], amount / rate_bps, 0.0
        if here != place and source != target:
            yield row[f"es{source}-es{target}"], amount / 5e7, 0.002
        if here != place and not place:
            yield row[f"device{device}.downlink"], amount / rate_bps, 0.0
        if m < model.blocks:
            hertz = float(model.server_hz[place - 1]) if place else 1e9
            name = f"es{place}.cpu" if place else f"device{device}.cpu"
            yield row[name], float(model.cycles[m]) * size[m] / hertz, 0.0
        here = place


def textbook_differences(model: Model, trace: MemoryTrace) -> int:
    """How many tasks have a service that ends at another time, compared with ==."""
    release = trace["tasks/release_s"].tolist()
    finishes = textbook_simpy(release, routes(model, trace), model.capacity.tolist())
    found = np.split(trace["hops/finish_s"], np.flatnonzero(np.diff(trace["hops/task"])) + 1)
    assert len(found) == len(finishes) > 500
    assert [times[-1] for times in found] == trace["tasks/finish_s"].tolist()
    return sum(times.tolist() != known for times, known in zip(found, finishes, strict=True))


@pytest.mark.parametrize("placement", PLACEMENTS, ids=str)
def test_textbook_simpy_gives_every_time_of_every_task(placement: tuple[int, ...]) -> None:
    model, trace = simulated(OPEN, "fixed", {"placement": list(placement)}, seed=len(placement))
    assert textbook_differences(model, trace) == 0
    delay = trace["tasks/finish_s"] - trace["tasks/release_s"]
    assert np.abs(trace["tasks/total_s"] / delay - 1).max() < 1e-9
    assert (trace["hops/start_s"] > trace["hops/enqueue_s"]).mean() > 0.05  # there are queues


@pytest.mark.parametrize("seed", range(4))
def test_textbook_simpy_agrees_on_random_placements(seed: int) -> None:
    assert textbook_differences(*simulated(OPEN, "rpdi", {}, seed)) == 0


def event_differences(model: Model, trace: MemoryTrace) -> int:
    """How many times (of joining a queue, of start, of finish) differ, compared with ==."""
    release = trace["tasks/release_s"].tolist()
    history = event_driven(release, routes(model, trace), model.capacity.tolist())
    known = np.array([hop for task in history for hop in task])
    found = np.stack([trace[f"hops/{name}_s"] for name in ("enqueue", "start", "finish")], axis=1)
    assert found.shape == known.shape
    return int((found != known).sum())


@pytest.mark.parametrize("seed", range(6))
def test_an_event_list_agrees_where_ties_are_the_rule(seed: int) -> None:
    model, trace = simulated(TIED, "rpdi", {}, seed)
    at = np.stack([trace["hops/resource"].astype(float), trace["hops/enqueue_s"]])
    assert np.unique(at, axis=1).shape[1] < 0.95 * at.shape[1]  # some enter a queue together
    assert event_differences(model, trace) == 0


def test_the_comparisons_fail_where_the_kernel_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    class DoubleBooked(SimpyKernel):
        def __init__(self, model: Model) -> None:
            super().__init__(model)
            self._cores |= {0: [0.0, 0.0]}

    class Backwards(SimpyKernel):
        """Ties go to the task with the highest number."""

        def submit(self, hops: Any) -> None:
            super().submit(hops)
            for _, _, _, event in self._clock._queue:
                if isinstance(event, _Task):
                    event.number = -abs(event.number)

    placement = {"placement": [1, 2, 1]}
    monkeypatch.setattr(drive, "make_kernel", lambda name, model: DoubleBooked(model))
    assert textbook_differences(*simulated(OPEN, "fixed", placement, 0)) > 0
    monkeypatch.setattr(drive, "make_kernel", lambda name, model: Backwards(model))
    assert event_differences(*simulated(TIED, "fixed", placement, 0)) > 0


# ------------------------------------------------------------------ Ciw

TANDEM: Final[dict[str, Any]] = {
    "slots": 4,
    "slot_length": 1000.0,
    "arrivals": {"process": "poisson", "rate": 700.0},
    "size_factor": {"distribution": "exponential", "per": "block"},
    "dnn": {"model": {"flops": [1e9, 1e9], "parameter_bytes": [0, 0], "input_bits": [0, 0]}},
    "edge_servers": 1,
    "edge_server": {"capacity": 0.5e9, "cores": 2},
    "devices": 1,
}
"""Poisson arrivals of 0.7/s at a device of rate 1/s, then a server of two cores of rate 0.5/s."""
RUNS: Final = 10


def mean_sojourn(seed: int) -> float:
    _, trace = simulated(TANDEM, "fixed", {"placement": [0, 1]}, seed)
    return float(trace["tasks/total_s"][trace["tasks/release_s"] >= 400.0].mean())


def against_ciw(server_rate: float) -> Interval:
    """The difference of independent replications, which is 0 if the means are the same."""
    ours = [mean_sojourn(seed) for seed in range(RUNS)]
    theirs = [ciw_tandem(0.7, [1.0, server_rate], [1, 2], 4000.0, 400.0, s) for s in range(RUNS)]
    return mean_interval(np.subtract(ours, theirs), 0.99)


@pytest.mark.slow
@pytest.mark.statistical
def test_ciw_gives_the_same_mean_of_a_tandem() -> None:
    difference = against_ciw(0.5)
    assert difference.contains(0.0)
    assert difference.high - difference.low < 2.0  # of a mean of 7.2 s


@pytest.mark.slow
@pytest.mark.statistical
def test_ciw_gives_another_mean_of_another_tandem() -> None:
    assert not against_ciw(0.65).contains(0.0)
