"""Random streams, arrivals, sizes and rates."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mecsim.model.model import Model, reseeded, resolve
from mecsim.model.random_streams import Stream, generator
from mecsim.model.workload import Slot, Tasks, chunks, slots
from mecsim.support.intervals import batch_means, mean_interval
from tests.helpers.builders import chain, scenario, simulate

NAMES = ("positions", "capacities", "rates", "arrivals", "sizes", "bursts", "sources")
Z = 4.0
"""Standard errors allowed: a right generator stays inside at 99.99% of the seeds."""


def drawn(seed: int = 0, **overrides: Any) -> list[Slot]:
    return list(slots(resolve(scenario(**overrides), seed)))


def uniform(seed: int, name: str, slot: int, number: int) -> NDArray[np.float64]:
    return Stream(seed, name).uniform(slot, np.array([number]))


def counts(workload: list[Slot]) -> NDArray[np.float64]:
    return np.array([len(slot.tasks) for slot in workload], dtype=float)


def column(workload: list[Slot], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(slot.tasks, name) for slot in workload])


def arrivals(process: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"arrivals": {"process": process, "rate": rate}} | more


# ---------------------------------------------------------------- streams


def test_streams_seeds_and_slots_all_differ() -> None:
    keys = [(seed, name, slot) for seed in (0, 1) for name in NAMES for slot in (0, 1)]
    first = [tuple(uniform(*key, 4).tolist()) for key in keys]
    assert len(set(first)) == len(keys)


@pytest.mark.statistical
def test_streams_are_independent() -> None:
    """Correlations of n pairs have the standard error 1/√n: also between neighbouring slots."""
    n = 20_000
    keys = [(7, name, slot) for name in NAMES for slot in (0, 1)] + [(8, "rates", 0)]
    correlations = np.corrcoef([uniform(*key, n) for key in keys])
    off = correlations[~np.eye(len(keys), dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(n)  # 5, for 105 pairs


def test_a_slot_of_a_stream_does_not_depend_on_what_was_read_before() -> None:
    sizes = Stream(3, "sizes")
    late = uniform(3, "sizes", 1000, 5).tolist()
    sizes.uniform(2, np.array([1001]))
    assert sizes.uniform(1000, np.array([5])).tolist() == late
    several = sizes.uniform(997, np.array([7, 0, 2, 9, 3]))
    assert several[9:14].tolist() == late  # more of them, between those of other slots
    assert several[18:].tolist() == uniform(3, "sizes", 1001, 3).tolist()


@pytest.mark.parametrize("process", ["slotted", "deterministic", "poisson"])
def test_a_longer_run_begins_like_a_shorter_one(process: str) -> None:
    more: dict[str, Any] = {
        "size_factor": {"distribution": "exponential", "per": "task"},
        "radio": {"rate": {"uniform": [1e6, 2e6]}},
        "devices": 3,
    }
    short, long = (drawn(**arrivals(process, 3.3, slots=k, **more)) for k in (5, 50))
    for one, other in zip(short, long[:5], strict=True):
        assert one.rate_bps.tolist() == other.rate_bps.tolist()
        for name in ("release_s", "device", "size"):
            values, others = getattr(one.tasks, name), getattr(other.tasks, name)
            assert values.tolist() == others.tolist()
            assert len(values) > 0


@pytest.mark.parametrize("hz", [{"uniform": [1e9, 2e9]}, 1e9])
def test_a_model_under_another_seed_is_the_one_resolved_under_it(hz: Any) -> None:
    spec = scenario(devices=7, device={"capacity": hz}, edge_server={"capacity": hz})
    made, resolved = reseeded(resolve(spec, 3), 5), resolve(spec, 5)
    assert made.seed == 5
    for name in (*vars(resolved), "speed", "capacity"):
        one, other = getattr(made, name), getattr(resolved, name)
        if isinstance(other, np.ndarray):
            assert np.array_equal(one, other, equal_nan=True)
            assert not one.flags.writeable
    assert isinstance(made, Model)
    assert not np.array_equal(made.gain, resolve(spec, 3).gain)


def test_capacities_of_servers_and_devices_are_different_draws() -> None:
    hz = {"capacity": {"uniform": [1e9, 2e9]}}
    model = resolve(scenario(devices=50, edge_servers=50, device=hz, edge_server=hz))
    assert len({*model.server_hz.tolist(), *model.device_hz.tolist()}) == 100


def test_what_a_scheduler_draws_shifts_nothing() -> None:
    spec = scenario(
        slots=20,
        devices=5,
        arrivals={"process": "mmpp", "rates": [1, 9], "mean_dwell": [3, 2]},
        dnn=chain([1e6, 1e6], [1e3, 1e3]),
        size_factor={"distribution": "lognormal", "sigma": 0.5, "per": "block"},
        radio={"fading": "rayleigh"},
        decision_epoch="per_task",
    )
    one = simulate(spec, "rpdi", seed=6).trace  # draws for every task
    other = simulate(spec, "fixed", {"placement": [1, 2]}, seed=6).trace
    another = simulate(spec, "rpdi", seed=7).trace
    assert one["decisions/placement"].tolist() != other["decisions/placement"].tolist()
    for path in ("slots/rate_bps", *(f"tasks/{c}" for c in ("release_s", "device", "size_factor"))):
        assert one[path].tolist() == other[path].tolist()
        assert one[path].tolist() != another[path].tolist()


@pytest.mark.statistical
def test_what_a_slot_brings_of_one_kind_tells_nothing_of_the_others() -> None:
    n = 4000
    workload = drawn(
        9,
        **arrivals("poisson", 20.0, slots=n),
        size_factor={"distribution": "uniform", "low": 0.5, "high": 1.5, "per": "task"},
        radio={"rate": {"uniform": [1e6, 2e6]}},
    )
    rows = [
        [len(s.tasks), s.tasks.release_s[0] - s.start_s, s.tasks.size[0, 0], s.rate_bps[0]]
        for s in workload
    ]
    correlations = np.corrcoef(np.array(rows).T)
    assert correlations[0, 1] < -0.2  # the more tasks, the earlier the first
    for one, other in ((0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        assert abs(correlations[one, other]) < Z / np.sqrt(n)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1, 12345678901234567890])
def test_uniform_numbers_are_those_of_numpys_philox(seed: int) -> None:
    key = np.array([seed, NAMES.index("sizes")], dtype=np.uint64)
    for slot, number in [(0, 1), (60, 5), (199, 8), (2**40, 10)]:
        bits = np.random.Philox(counter=[0, 0, 0, slot], key=key)
        expected = np.random.Generator(bits).random(number).tolist()
        assert uniform(seed, "sizes", slot, number).tolist() == expected
    key[1] = 5
    scheduler = np.random.Generator(np.random.Philox(key=key)).random(9)
    assert generator(seed, "scheduler").random(9).tolist() == scheduler.tolist()


def test_exponential_and_normal_numbers_follow_their_laws() -> None:
    """Kolmogorov and Smirnov: the greatest distance exceeds 2.23/√n once in 10,000 seeds."""
    n = 40_000
    counts = np.array([n // 2, n // 2])
    uniform = Stream(5, "sizes").uniform(3, counts)
    exponential = 1 - np.exp(-Stream(5, "rates").exponential(3, counts))
    normal = np.array([NormalDist().cdf(x) for x in Stream(5, "bursts").normal(3, counts).tolist()])
    for probabilities in (uniform, exponential, normal):
        above = np.arange(1, n + 1) / n - np.sort(probabilities)
        assert max(above.max(), 1 / n - above.min()) < 2.23 / np.sqrt(n)


# ---------------------------------------------------------------- arrivals


def test_slotted_arrivals_come_at_the_start_and_are_dealt_to_the_devices() -> None:
    workload = drawn(**arrivals("slotted", 2.5, slots=4, slot_length=0.5, devices=3))
    assert counts(workload).tolist() == [2, 3, 2, 3]
    assert [slot.tasks.release_s.tolist() for slot in workload] == [
        [0.0, 0.0],
        [0.5, 0.5, 0.5],
        [1.0, 1.0],
        [1.5, 1.5, 1.5],
    ]
    assert column(workload, "device").tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert [slot.tasks.first for slot in workload] == [0, 2, 5, 7]
    assert [slot.expected_tasks.tolist() for slot in workload] == [[2], [3], [2], [3]]


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0, 60.0])
def test_slotted_arrivals_are_as_many_as_they_should(rate: float) -> None:
    assert counts(drawn(**arrivals("slotted", rate, slots=40))).sum() == 40 * rate


@pytest.mark.parametrize(
    "rate",
    ["0.29", "0.07", "0.1", "1.1", "16667.7", "1e-3", "0.57", "1/3", "0.123456789012", "1e-12"],
)
def test_tasks_are_counted_by_the_rate_as_it_is_written(rate: str) -> None:
    """0.29 is 29/100: floating-point products give 28 tasks in 100 slots."""
    exact = Fraction(rate)
    n = 2000 if exact < 1000 else 100
    slotted = np.cumsum(counts(drawn(**arrivals("slotted", float(exact), slots=n))))
    assert slotted.tolist() == [k * exact // 1 for k in range(1, n + 1)]
    even = np.cumsum(counts(drawn(**arrivals("deterministic", float(exact), slots=n))))
    assert even.tolist() == [-(-k * exact // 1) for k in range(1, n + 1)]  # those before k


def test_a_task_at_the_start_of_a_slot_is_in_that_slot() -> None:
    workload = drawn(**arrivals("deterministic", 0.1, slots=1000, slot_length=0.3))
    released = [(slot.number, slot.tasks.release_s[0]) for slot in workload if len(slot.tasks)]
    assert released == [(10 * k, 10 * k * 0.3) for k in range(100)]


def test_deterministic_arrivals_are_evenly_spread() -> None:
    workload = drawn(**arrivals("deterministic", 2.5, slots=4, slot_length=0.5, devices=2))
    assert column(workload, "release_s") == pytest.approx(np.arange(10) * 0.2, abs=1e-15)
    assert counts(workload).tolist() == [3, 2, 3, 2]  # at 0, 0.2, 0.4 | 0.6, 0.8 | 1.0, …
    assert column(workload, "device").tolist() == [0, 1] * 5


PROCESSES: dict[str, dict[str, Any]] = {
    "slotted": {"rate": 6.5},
    "deterministic": {"rate": 6.7},
    "poisson": {"rate": 6.6},
    "mmpp": {"rates": [3, 30], "mean_dwell": [2.0, 0.4]},
}


@pytest.mark.parametrize("process", PROCESSES)
def test_tasks_are_released_in_order_in_their_slots(process: str) -> None:
    spec = {"process": process} | PROCESSES[process]
    workload = drawn(slots=200, slot_length=0.7, arrivals=spec, devices=4)
    first = 0
    for slot in workload:
        release = slot.tasks.release_s
        assert slot.start_s == slot.number * 0.7
        assert (np.diff(release) >= 0).all()
        assert ((release >= slot.start_s) & (release < (slot.number + 1) * 0.7)).all()
        assert slot.tasks.first == first
        assert slot.tasks.slot == slot.number
        first += len(release)
    assert first > 200
    assert set(column(workload, "device").tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("per", ["slot", "block"])
@pytest.mark.parametrize("process", PROCESSES)
def test_it_does_not_matter_how_many_slots_are_drawn_at_once(process: str, per: str) -> None:
    model = resolve(
        scenario(
            slots=80,
            devices=3,
            dnn=chain([1, 2], [3, 4]),
            arrivals={"process": process} | PROCESSES[process],
            size_factor={"distribution": "uniform", "low": 0.5, "high": 1.5, "per": per},
            radio={"fading": "rayleigh"},
        )
    )
    for length in (1, 7, 300):
        others = (slot for chunk in chunks(model, length=length) for slot in chunk.slots())
        for one, other in zip(slots(model), others, strict=True):
            for x, y in zip(of_slot(one), of_slot(other), strict=True):
                assert np.array_equal(x, y)


def of_slot(slot: Slot) -> list[Any]:
    number, start_s, tasks, *rest = slot
    of_tasks = (tasks.slot, tasks.first, tasks.release_s, tasks.device, tasks.size)
    return [number, start_s, *of_tasks, *rest]


@pytest.mark.parametrize("process", ["slotted", "deterministic", "poisson"])
def test_a_rate_of_zero_gives_no_tasks(process: str) -> None:
    workload = drawn(**arrivals(process, 0, slots=10))
    assert [len(slot.tasks) for slot in workload] == [0] * 10
    assert all(slot.expected_tasks == 0 for slot in workload)


@pytest.mark.statistical
def test_poisson_arrivals_have_the_mean_the_variance_and_the_spread_of_their_law() -> None:
    rate, n = 3.0, 4000
    workload = drawn(1, **arrivals("poisson", rate, slots=n, slot_length=0.5, devices=4))
    number = counts(workload)
    assert number.mean() == pytest.approx(rate, abs=Z * np.sqrt(rate / n))
    # index of dispersion: mean 1, standard error √(2 / (n - 1))
    assert number.var(ddof=1) / number.mean() == pytest.approx(1, abs=Z * np.sqrt(2 / (n - 1)))
    total = number.sum()
    release = column(workload, "release_s")
    share = release / 0.5 % 1.0  # uniform within a slot: standard error 1/√(12 n)
    assert share.mean() == pytest.approx(0.5, abs=Z / np.sqrt(12 * total))
    gaps = np.diff(release)  # exponential: the standard deviation is the mean
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=Z * np.sqrt(2 / total))
    of_device = np.bincount(column(workload, "device"))
    assert of_device == pytest.approx(total / 4, abs=Z * np.sqrt(total * 3 / 16))


@pytest.mark.statistical
def test_mmpp_arrivals_have_the_long_run_mean_and_come_in_bursts() -> None:
    """30 s of 2 and 10 s of 10 tasks a second: (30 · 2 + 10 · 10) / 40 = 4 a slot of 1 s."""
    spec = {"process": "mmpp", "rates": [2, 10], "mean_dwell": [30, 10]}
    workload = drawn(2, slots=40_000, arrivals=spec)
    number = counts(workload)
    interval = mean_interval(batch_means(number, 20), 0.999)
    assert interval.contains(4.0)
    assert not interval.contains(2.0)
    assert not interval.contains(6.0)  # the mean if the states lasted equally long
    assert {float(slot.expected_tasks[0]) for slot in workload} == {4.0}
    # variance of the rate: 0.75 · 2² + 0.25 · 10² - 4² = 12, so near 1 + 12/4 = 4 a slot
    assert 3.0 < number.var(ddof=1) / number.mean() < 5.0


@pytest.mark.statistical
def test_mmpp_arrivals_have_the_mean_of_the_long_run_in_every_slot() -> None:
    """3 s of 0 and 1 s of 10 tasks a second: 2.5 a slot of 1 s, also in the first."""
    spec = scenario(slots=3, arrivals={"process": "mmpp", "rates": [0, 10], "mean_dwell": [3, 1]})
    model, n = resolve(spec), 2000
    runs = np.array([[len(s.tasks) for s in slots(reseeded(model, k))] for k in range(n)])
    error = runs.std(axis=0) / np.sqrt(n)
    assert np.abs(runs.mean(axis=0) - 2.5).max() < Z * error.max()
    assert {float(slot.expected_tasks[0]) for slot in slots(model)} == {2.5}


@pytest.mark.slow
@pytest.mark.statistical
def test_mmpp_starts_in_a_state_as_often_as_it_is_there() -> None:
    """Of three states of 1, 2 and 5 days, slot 0 is in each in 1/8, 2/8 and 5/8 of the runs."""
    dwell, n = [86_400.0, 2 * 86_400.0, 5 * 86_400.0], 1500
    spec = {"process": "mmpp", "rates": [100, 200, 300], "mean_dwell": dwell}
    model = resolve(scenario(slots=1, arrivals=spec))
    tasks = [len(next(iter(slots(reseeded(model, seed)))).tasks) for seed in range(n)]
    state = np.clip(np.rint(np.array(tasks) / 100), 1, 3).astype(int) - 1
    share = np.bincount(state, minlength=3) / n
    assert share == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=Z * 0.5 / np.sqrt(n))


@pytest.mark.statistical
def test_mmpp_with_equal_rates_is_poisson() -> None:
    spec = {"process": "mmpp", "rates": [3, 3], "mean_dwell": [0.4, 1.3]}
    number = counts(drawn(3, slots=4000, arrivals=spec))
    assert number.mean() == pytest.approx(3, abs=Z * np.sqrt(3 / 4000))
    assert number.var(ddof=1) / number.mean() == pytest.approx(1, abs=Z * np.sqrt(2 / 3999))


def test_a_slice_of_tasks_keeps_their_numbers() -> None:
    tasks = Tasks(2, 10, np.arange(4.0), np.zeros(4, int), np.arange(4), np.ones((4, 1)), 4)
    part = tasks[1:3]
    assert (part.first, part.slot, part.in_slot, len(part)) == (11, 2, 4, 2)
    assert part.release_s.tolist() == [1.0, 2.0]


# ---------------------------------------------------------------- sizes

SIZES: dict[str, tuple[dict[str, Any], float]] = {  # and the variance
    "uniform": ({"low": 0.8, "high": 1.2}, 0.4**2 / 12),
    "exponential": ({}, 1.0),
    "lognormal": ({"sigma": 0.5}, np.exp(0.25) - 1),
}


@pytest.mark.statistical
@pytest.mark.parametrize("per", ["slot", "task", "block"])
@pytest.mark.parametrize("name", SIZES)
def test_size_factors_have_mean_one_and_are_drawn_per(name: str, per: str) -> None:
    more, variance = SIZES[name]
    spec = {"distribution": name, "per": per} | more
    dnn = chain([1, 1, 1], [1, 1, 1])
    workload = drawn(4, **arrivals("slotted", 3, slots=3000, size_factor=spec, dnn=dnn))
    sizes = [slot.tasks.size for slot in workload]
    assert {size.shape for size in sizes} == {(3, 3) if per == "block" else (3, 1)}
    assert {len(np.unique(size)) for size in sizes} == {{"slot": 1, "task": 3, "block": 9}[per]}
    values = np.unique(np.concatenate(sizes))
    assert values.size == 3000 * {"slot": 1, "task": 3, "block": 9}[per]
    assert (values > 0).all()
    assert values.mean() == pytest.approx(1, abs=Z * np.sqrt(variance / values.size))
    spread = Z * np.std((values - 1) ** 2) / np.sqrt(values.size)
    assert values.var() == pytest.approx(variance, abs=spread)
    if name == "uniform":
        assert values.min() >= 0.8
        assert values.max() <= 1.2


def test_a_constant_size_is_one() -> None:
    assert column(drawn(**arrivals("slotted", 3, slots=3)), "size").tolist() == [[1.0]] * 9


# ---------------------------------------------------------------- rates


def rates(seed: int = 0, devices: int = 50, n: int = 40, **radio: Any) -> NDArray[np.float64]:
    return np.array([s.rate_bps for s in drawn(seed, slots=n, devices=devices, radio=radio)])


@pytest.mark.statistical
def test_uniform_rates_are_drawn_anew_for_each_slot_or_once_a_run() -> None:
    low, high = 6.4e6, 16e6
    fresh = rates(rate={"uniform": [low, high]})
    once = rates(rate={"uniform": [low, high], "redraw": "run"})
    assert len(np.unique(fresh)) == 40 * 50
    assert len(np.unique(once)) == 50
    assert (once == once[0]).all()
    for values in (fresh, once[0]):
        assert low <= values.min() < values.max() <= high
        error = (high - low) / np.sqrt(12 * values.size)
        assert values.mean() == pytest.approx((low + high) / 2, abs=Z * error)


def test_a_given_rate_is_that_rate() -> None:
    assert (rates(rate=1.5e6) == 1.5e6).all()


def test_without_fading_a_device_keeps_the_rate_of_its_distance() -> None:
    values = rates()
    assert (values == values[0]).all()
    assert 0.83e6 <= values.min() / 8 < values.max() / 8 <= 2.0e6  # 310 to 750 m
    assert (rates(seed=1)[0] != values[0]).all()  # other positions


@pytest.mark.statistical
def test_rayleigh_fading_has_mean_one() -> None:
    """Its power is exponential: recovered from the rates by undoing Shannon's formula."""
    faded, plain = rates(fading="rayleigh"), rates()
    snr: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda r: np.expm1(  # noqa: E731
        r / 2e6 * np.log(2)
    )
    fading = snr(faded) / snr(plain)
    assert len(np.unique(fading)) == fading.size
    assert fading.mean() == pytest.approx(1, abs=Z / np.sqrt(fading.size))
    assert fading.var() == pytest.approx(1, abs=Z * np.sqrt(8 / fading.size))  # kurtosis 9
    assert (fading > 1).mean() == pytest.approx(np.exp(-1), abs=Z * 0.5 / np.sqrt(fading.size))


def test_rates_and_model_arrays_cannot_be_written() -> None:
    model = resolve(scenario(radio={"fading": "rayleigh"}))
    for slot in slots(model):
        assert not slot.rate_bps.flags.writeable
    assert not model.cycles.flags.writeable
    assert not model.serving_server.flags.writeable
