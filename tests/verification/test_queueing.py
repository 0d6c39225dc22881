"""The closed forms against work by hand, each other, scipy and a simulated queue."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mecsim.support.intervals import Interval, batch_means, mean_interval, t_quantile
from mecsim.verification import queueing

loads = st.floats(0.01, 0.95)
speeds = st.floats(1e-3, 1e9)
gaps = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=50)


def timeline(drawn: list[tuple[float, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrivals from gaps, and services."""
    table = np.array(drawn)
    return np.cumsum(table[:, 0]), table[:, 1]


# ------------------------------------------------------------------ single stations


def test_mm1_by_hand() -> None:
    """8 jobs/s at 10 jobs/s: rho = 0.8, 1 / (10 - 8) = 0.5 s, 0.1 s of it in service."""
    assert queueing.mm1_sojourn(8.0, 10.0) == 0.5
    assert queueing.mm1_wait(8.0, 10.0) == pytest.approx(0.4, rel=1e-15)
    assert queueing.mm1_wait(0.0, 10.0) == 0.0


def test_mm1_with_breakdowns_is_the_stationary_mean_of_its_markov_chain() -> None:
    """States (jobs up to 200, up or down); Little's law turns the mean of jobs into a sojourn."""
    arriving, serving, failing, repairing = 0.5, 1.0, 1 / 20, 1 / 5
    jobs = np.arange(201)
    rates = np.zeros((201, 2, 201, 2))
    for up in (0, 1):
        rates[jobs[:-1], up, jobs[1:], up] = arriving
    rates[jobs, 1, jobs, 0], rates[jobs, 0, jobs, 1] = failing, repairing
    rates[jobs[1:], 1, jobs[:-1], 1] = serving
    generator = rates.reshape(402, 402)
    generator -= np.diag(generator.sum(axis=1))
    equations = np.vstack([generator.T, np.ones(402)])
    share = np.linalg.lstsq(equations, np.append(np.zeros(402), 1.0))[0].reshape(201, 2)
    mean = float((jobs @ share).sum()) / arriving
    assert queueing.mm1_breakdowns_sojourn(0.5, 1.0, 20.0, 5.0) == pytest.approx(mean, rel=1e-4)
    assert queueing.mm1_breakdowns_sojourn(0.5, 1.0, 20.0, 5.0) == pytest.approx(6.0)


def test_mm1_sojourn_quantile_by_hand() -> None:
    assert queueing.mm1_sojourn_quantile(8.0, 10.0, 0.0) == 0.0
    assert queueing.mm1_sojourn_quantile(8.0, 10.0, 0.5) == pytest.approx(0.5 * math.log(2))
    assert queueing.mm1_sojourn_quantile(8.0, 10.0, 0.95) == pytest.approx(1.497866, abs=1e-6)


def test_md1_by_hand() -> None:
    """8 jobs/s of 0.1 s: 0.8 · 0.1 / (2 · 0.2) = 0.2 s."""
    assert queueing.md1_wait(8.0, 0.1) == pytest.approx(0.2, rel=1e-14)


def test_mg1_by_hand() -> None:
    """1 job/s uniform in [0, 1] s: E[S²] = 1/3, so (1/3) / (2 · 0.5) = 1/3 s; scv = 1/3."""
    assert queueing.mg1_wait(1.0, 0.5, 1 / 3) == pytest.approx(1 / 3, rel=1e-15)
    assert queueing.mg1_wait_scv(1.0, 0.5, 1 / 3) == pytest.approx(1 / 3, rel=1e-15)


def test_erlang_c_by_hand() -> None:
    """2 jobs/s, 3 servers of 1 job/s: p0 = 1 / (1 + 2 + 2 + 4) = 1/9, C = 3 · (8/6) · p0 = 4/9."""
    assert queueing.erlang_c(2.0, 1.0, 3) == pytest.approx(4 / 9, rel=1e-15)
    assert queueing.mmc_wait(2.0, 1.0, 3) == pytest.approx(4 / 9, rel=1e-15)
    assert queueing.mmc_sojourn(2.0, 1.0, 3) == pytest.approx(13 / 9, rel=1e-15)
    assert queueing.erlang_c(0.0, 1.0, 3) == 0.0


@given(loads, st.integers(1, 40))
@settings(deadline=None)
def test_erlang_c_equals_factorials(load: float, servers: int) -> None:
    offered = load * servers
    tail = offered**servers / math.factorial(servers) / (1 - load)
    states = math.fsum(offered**k / math.factorial(k) for k in range(servers))
    assert queueing.erlang_c(offered, 1.0, servers) == pytest.approx(
        tail / (states + tail), rel=1e-9
    )


def test_erlang_c_does_not_overflow() -> None:
    """At a = 9900, c = 10 000 every power would; Halfin and Whitt (1981) give the limit, β = 1."""
    beta = (1 - 0.99) * math.sqrt(10_000)
    limit = 1 / (1 + beta * scipy.stats.norm.cdf(beta) / scipy.stats.norm.pdf(beta))
    assert queueing.erlang_c(9900.0, 1.0, 10_000) == pytest.approx(limit, rel=0.01)


def test_batches_by_hand() -> None:
    """1 batch/s of 3 jobs at 6 jobs/s, worked another way: a batch is one job of M/G/1.

    Its work is Erlang: mean 1/2, second moment 1/4 + 3/36 = 1/3, so it waits (1/3) / (2 · 1/2);
    inside it a job waits for 0, 1 or 2 others: 1/6 on average. Together 1/2 s.
    """
    assert queueing.mxm1_wait(1.0, 3.0, 9.0, 6.0) == pytest.approx(0.5, rel=1e-15)
    assert queueing.mg1_wait(1.0, 1 / 2, 1 / 3) + 1 / 6 == pytest.approx(0.5, rel=1e-15)


@given(loads, speeds)
@settings(deadline=None)
def test_special_cases_agree(load: float, speed: float) -> None:
    rate, mean = load * speed, 1 / speed
    wait = pytest.approx(queueing.mm1_wait(rate, speed), rel=1e-9)
    assert queueing.mg1_wait_scv(rate, mean, 1.0) == wait
    assert queueing.mg1_wait(rate, mean, 2 * mean**2) == wait
    assert queueing.mmc_wait(rate, speed, 1) == wait
    assert queueing.mxm1_wait(rate, 1.0, 1.0, speed) == wait
    assert 2 * queueing.md1_wait(rate, mean) == wait
    assert queueing.mg1_wait_scv(rate, mean, 0.0) == queueing.md1_wait(rate, mean)
    assert queueing.erlang_c(rate, speed, 1) == pytest.approx(load, rel=1e-9)
    assert queueing.mm1_wait(rate, speed) + mean == pytest.approx(queueing.mm1_sojourn(rate, speed))


@given(loads, speeds, st.integers(1, 30))
@settings(deadline=None)
def test_one_fast_server_against_many(load: float, speed: float, servers: int) -> None:
    rate, near = load * speed, 1 + 1e-9
    assert queueing.mm1_sojourn(rate, speed) <= near * queueing.mmc_sojourn(
        rate, speed / servers, servers
    )
    assert queueing.mmc_wait(rate, speed / servers, servers) <= near * queueing.mm1_wait(
        rate, speed
    )


def test_slot_batch_by_hand() -> None:
    """4 jobs of 0.25 s wait 0, 0.25, 0.5 and 0.75 s."""
    assert queueing.slot_batch_wait(4, 0.25, 1.0) == 0.375
    assert queueing.slot_batch_wait(1, 1.0, 1.0) == 0.0


@given(st.integers(1, 20), st.integers(0, 64), st.integers(1, 5))
@settings(deadline=None)
def test_slot_batch_equals_recursion(jobs: int, ticks: int, slots: int) -> None:
    service = ticks / 64  # a power of two: nothing is rounded
    arrivals = np.repeat(np.arange(slots) * 20.0, jobs)
    waits = queueing.lindley(arrivals, np.full(jobs * slots, service))
    assert waits.mean() == pytest.approx(queueing.slot_batch_wait(jobs, service, 20.0), rel=1e-14)


# ------------------------------------------------------------------ networks


def test_feedback_by_hand() -> None:
    """1 job/s, half of them return: 2 jobs/s at 4 jobs/s, 0.5 s a visit, 2 visits a job."""
    one = queueing.jackson([1.0], [[0.5]], [4.0])
    assert one.arrival_rates.tolist() == [2.0]
    assert one.sojourns_s.tolist() == [0.5]
    assert one.network_sojourn_s == 1.0


def test_network_by_hand() -> None:
    """1 job/s at station 0, then 1, then half leave: 2 jobs/s each; 2 · 0.5 s + 2 · 1 s = 3 s."""
    network = queueing.jackson([1.0, 0.0], [[0.0, 1.0], [0.5, 0.0]], [4.0, 3.0])
    assert network.arrival_rates == pytest.approx([2.0, 2.0], rel=1e-15)
    assert network.sojourns_s == pytest.approx([0.5, 1.0], rel=1e-15)
    assert network.network_sojourn_s == pytest.approx(3.0, rel=1e-15)


def test_tandem_by_hand() -> None:
    """0.5 s at 8 of 10 jobs/s, then 13/9 · (1/4) s at 8 jobs/s with three servers of 4 jobs/s."""
    assert queueing.tandem_sojourn(8.0, [10.0, 10.0]) == pytest.approx(1.0, rel=1e-15)
    sojourn = queueing.tandem_sojourn(8.0, [10.0, 4.0], [1, 3])
    assert sojourn == pytest.approx(0.5 + 13 / 36, rel=1e-14)


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=4, max_size=4))
@settings(deadline=None)
def test_network_flow_is_conserved(weights: list[list[float]]) -> None:
    routing = np.array(weights) * 0.9 / 4
    external = np.array([1.0, 2.0, 0.0, 4.0])
    rates = queueing.traffic_rates(external, routing)
    assert rates == pytest.approx(external + rates @ routing, rel=1e-9)
    assert rates @ (1 - routing.sum(axis=1)) == pytest.approx(7.0, rel=1e-9)


# ------------------------------------------------------------------ one server, job by job


def test_lindley_by_hand() -> None:
    arrivals, services = [0.0, 1.0, 2.0, 6.0], [3.0, 1.0, 1.0, 1.0]
    assert queueing.fifo_starts(arrivals, services).tolist() == [0.0, 3.0, 4.0, 6.0]
    assert queueing.lindley(arrivals, services).tolist() == [0.0, 2.0, 2.0, 0.0]
    assert queueing.lindley([], []).tolist() == []


@given(gaps)
@settings(deadline=None)
def test_lindley_recursion(drawn: list[tuple[float, float]]) -> None:
    arrivals, services = timeline(drawn)
    waits = queueing.lindley(arrivals, services)
    steps = np.maximum(0, waits[:-1] + services[:-1] - np.diff(arrivals))
    assert waits[0] == 0
    assert waits[1:] == pytest.approx(steps, rel=1e-9, abs=1e-9)


def test_little_by_hand() -> None:
    """2 s and 3 s of presence in 4 s; then only what lies inside the horizon."""
    assert queueing.little_number([0.0, 1.0], [2.0, 4.0], 4.0) == 1.25
    assert queueing.little_number([-1.0, 1.0, 9.0], [1.0, math.inf, 9.5], 4.0) == 1.0


@given(gaps)
@settings(deadline=None)
def test_littles_law_on_recursion(drawn: list[tuple[float, float]]) -> None:
    """The area under N(t), step by step, is the number of jobs times their mean sojourn."""
    arrivals, services = timeline(drawn)
    departures = queueing.fifo_starts(arrivals, services) + services
    horizon = float(departures.max()) + 1.0
    moments = sorted({0.0, *arrivals.tolist(), *departures.tolist(), horizon})
    area = math.fsum(
        (after - now) * float(((arrivals <= now) & (now < departures)).sum())
        for now, after in pairwise(moments)
    )
    number = queueing.little_number(arrivals, departures, horizon)
    sojourn = float((queueing.lindley(arrivals, services) + services).mean())
    assert number == pytest.approx(area / horizon, rel=1e-9, abs=1e-9)
    assert number == pytest.approx(len(drawn) / horizon * sojourn, rel=1e-9, abs=1e-9)


# ------------------------------------------------------------------ statistics


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 9, 10, 19, 29, 100, 199, 999, 1000, 1001, 10**6])
def test_t_quantile_equals_scipy(df: int) -> None:
    shares = [1e-4, 0.01, 0.3, 0.5, 0.75, 0.9, 0.975, 0.995, 0.9999]
    ours = [t_quantile(share, df) for share in shares]
    assert ours == pytest.approx(np.asarray(scipy.stats.t.ppf(shares, df)), rel=1e-9, abs=1e-9)
    assert ours != pytest.approx(np.asarray(scipy.stats.norm.ppf(shares)), rel=1e-9, abs=1e-9)


def test_t_quantile_by_hand() -> None:
    """df = 1 is Cauchy, tan(π (p - 1/2)); df = 2 is (2p - 1) / √(2 p (1 - p)); a printed table."""
    assert t_quantile(0.75, 1) == pytest.approx(1.0, rel=1e-14)
    assert t_quantile(0.9, 2) == pytest.approx(0.8 / math.sqrt(0.18), rel=1e-14)
    assert t_quantile(0.975, 10) == pytest.approx(2.228, abs=5e-4)
    assert t_quantile(0.025, 10) == -t_quantile(0.975, 10)


def test_mean_interval_by_hand() -> None:
    """1 … 5: mean 3, standard error √2.5 / √5, times t = 2.776445 for 4 degrees of freedom."""
    low, mean, high = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert high - mean == pytest.approx(1.963243, abs=1e-6)
    assert mean - low == pytest.approx(high - mean, rel=1e-12)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0, 2.0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(0.5, 0.999))
@settings(deadline=None)
def test_mean_interval_equals_scipy(values: list[float], confidence: float) -> None:
    interval = mean_interval(values, confidence)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = scipy.stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * error
    assert interval.high - interval.low == pytest.approx(2 * half, rel=1e-9, abs=1e-6)
    assert interval.contains(float(np.mean(values)))


def test_interval_contains() -> None:
    interval = Interval(1.0, 2.0, 3.0)
    assert [interval.contains(x) for x in (1.0, 2.0, 3.0)] == [True] * 3
    assert [interval.contains(x) for x in (0.999, 3.001, math.nan)] == [False] * 3


@pytest.mark.statistical
def test_mean_interval_coverage() -> None:
    """2000 samples of 10: 95% ± 1.5 (three standard errors); the wrong mean is 1.5 σ away."""
    samples = np.random.default_rng(1).normal(7.0, 2.0, (2000, 10))
    intervals = [mean_interval(sample) for sample in samples]
    assert np.mean([i.contains(7.0) for i in intervals]) == pytest.approx(0.95, abs=0.015)
    assert np.mean([i.contains(10.0) for i in intervals]) < 0.05
    narrow = [mean_interval(sample, 0.5) for sample in samples]
    assert np.mean([i.contains(7.0) for i in narrow]) == pytest.approx(0.5, abs=0.034)


def test_batch_means_by_hand() -> None:
    assert batch_means([9.0, 1.0, 3.0, 5.0, 7.0], 2).tolist() == [2.0, 6.0]
    assert batch_means([1.0, 2.0], 2).tolist() == [1.0, 2.0]


# ------------------------------------------------------------------ a simulated queue

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
SERVICES: dict[str, tuple[Draw, float]] = {  # mean 1 s, and what theory says at 0.6 jobs/s
    "exponential": (lambda rng, n: rng.exponential(1.0, n), queueing.mm1_wait(0.6, 1.0)),
    "constant": (lambda _, n: np.ones(n), queueing.md1_wait(0.6, 1.0)),
    "uniform": (lambda rng, n: rng.uniform(0.0, 2.0, n), queueing.mg1_wait(0.6, 1.0, 4 / 3)),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", SERVICES)
def test_simulated_queue_matches_its_formula(name: str) -> None:
    rng, n = np.random.default_rng(1), 200_000
    arrivals = np.cumsum(rng.exponential(1 / 0.6, n))
    waits = queueing.lindley(arrivals, SERVICES[name][0](rng, n))
    interval = mean_interval(batch_means(waits[5000:], 20), 0.99)
    assert {other for other, (_, wait) in SERVICES.items() if interval.contains(wait)} == {name}


@pytest.mark.statistical
def test_simulated_mm1_quantile() -> None:
    rng, n = np.random.default_rng(2), 200_000
    services = rng.exponential(1.0, n)
    waits = queueing.lindley(np.cumsum(rng.exponential(2.0, n)), services)
    late = (waits + services)[5000:] > queueing.mm1_sojourn_quantile(0.5, 1.0, 0.9)
    interval = mean_interval(batch_means(late, 20), 0.99)
    assert interval.contains(0.1)
    assert not interval.contains(0.11)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("rate", [1.0, 1.5])
@pytest.mark.parametrize(
    "unstable",
    [
        lambda rate: queueing.mm1_wait(rate, 1.0),
        lambda rate: queueing.mm1_sojourn(rate, 1.0),
        lambda rate: queueing.mm1_sojourn_quantile(rate, 1.0, 0.5),
        lambda rate: queueing.md1_wait(rate, 1.0),
        lambda rate: queueing.mg1_wait(rate, 1.0, 2.0),
        lambda rate: queueing.mg1_wait_scv(rate, 1.0, 2.0),
        lambda rate: queueing.erlang_c(rate, 0.25, 4),
        lambda rate: queueing.mmc_wait(rate, 0.25, 4),
        lambda rate: queueing.mmc_sojourn(rate, 0.25, 4),
        lambda rate: queueing.mxm1_wait(rate, 2.0, 4.0, 2.0),
        lambda rate: queueing.tandem_sojourn(rate, [2.0, 1.0]),
        lambda rate: queueing.jackson([rate / 2], [[0.5]], [1.0]),
    ],
)
def test_unstable_queue_rejected(unstable: Callable[[float], object], rate: float) -> None:
    with pytest.raises(ValueError, match=rf"utilisation is {rate:g}, must be below 1"):
        unstable(rate)


@given(speeds)
@settings(deadline=None)
def test_full_load_is_unstable(speed: float) -> None:
    for wait in (queueing.mm1_wait, queueing.mm1_sojourn):
        with pytest.raises(ValueError, match="utilisation is 1"):
            wait(speed, speed)
    with pytest.raises(ValueError, match="utilisation is 1"):
        queueing.mmc_wait(3 * speed, speed, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: queueing.mm1_wait(-1.0, 1.0), "arrival_rate is -1.0, must be at least 0"),
        (lambda: queueing.mm1_wait(math.nan, 1.0), "arrival_rate is nan"),
        (lambda: queueing.mm1_wait(1.0, 0.0), "service_rate is 0.0, must be above 0"),
        (lambda: queueing.mm1_wait(1.0, math.inf), "service_rate is inf"),
        (lambda: queueing.mm1_sojourn_quantile(1.0, 2.0, 1.0), r"probability is 1.0, .* \[0, 1\)"),
        (lambda: queueing.mg1_wait(1.0, 0.0, 0.0), "mean_s is 0.0"),
        (lambda: queueing.mg1_wait(1.0, 0.5, 0.2), "second_moment_s2 is 0.2, .* 0.25"),
        (lambda: queueing.mg1_wait_scv(1.0, 0.5, -0.1), "scv is -0.1"),
        (lambda: queueing.md1_wait(1.0, -0.5), "mean_s is -0.5"),
        (
            lambda: queueing.erlang_c(1.0, 1.0, 0),
            "servers is 0, must be a whole number of at least",
        ),
        (lambda: queueing.mxm1_wait(1.0, 0.5, 1.0, 9.0), "size_mean is 0.5, must be at least 1"),
        (lambda: queueing.mxm1_wait(1.0, 2.0, 3.0, 9.0), "size_m2 is 3.0, .* 4.0"),
        (lambda: queueing.slot_batch_wait(0, 1.0, 1.0), "jobs is 0"),
        (lambda: queueing.slot_batch_wait(5, 0.25, 1.0), "1.25 s of work, .* slot of 1.0 s"),
        (lambda: queueing.traffic_rates([], np.zeros((0, 0))), r"shapes are \(0,\)"),
        (lambda: queueing.traffic_rates([1.0], [[0.0, 1.0]]), r"must be \(K,\) and \(K, K\)"),
        (lambda: queueing.traffic_rates([-1.0], [[0.0]]), "external_rates is -1.0"),
        (lambda: queueing.traffic_rates([1.0], [[math.nan]]), "routing is nan"),
        (lambda: queueing.traffic_rates([1.0, 1.0], [[0.6, 0.6], [0.0, 0.0]]), "row 0 .* to 1.2"),
        (lambda: queueing.traffic_rates([1.0, 1.0], [[0, 1], [1, 0]]), "spectral radius 1"),
        (lambda: queueing.jackson([0.0], [[0.0]], [1.0]), "sum of external_rates is 0"),
        (lambda: queueing.jackson([1.0], [[0.0]], [2.0, 2.0]), "number 2 and 2, must be 1"),
        (lambda: queueing.tandem_sojourn(1.0, [2.0, 2.0], [1]), "number 2 and 1, must be 2"),
        (lambda: queueing.tandem_sojourn(1.0, []), "shapes are"),
        (lambda: queueing.lindley([0.0], [1.0, 2.0]), r"arrival_s, service_s: shapes are"),
        (lambda: queueing.lindley([1.0, 0.0], [1.0, 1.0]), "arrival_s must be finite and never"),
        (lambda: queueing.lindley([0.0, math.nan], [1.0, 1.0]), "arrival_s must be finite"),
        (lambda: queueing.lindley([0.0], [-1.0]), "service_s is -1.0"),
        (lambda: queueing.lindley([0.0], [math.inf]), "service_s is inf"),
        (lambda: queueing.little_number([1.0], [0.0], 1.0), "departure_s must be at or after"),
        (lambda: queueing.little_number([0.0], [math.nan], 1.0), "departure_s must be at or after"),
        (lambda: queueing.little_number([0.0], [1.0], 0.0), "horizon_s is 0.0"),
        (lambda: mean_interval([1.0]), "1 values given, must be at least 2"),
        (lambda: mean_interval([1.0, math.nan]), "2 values given, must be .* finite"),
        (lambda: mean_interval([1.0, 2.0], 1.0), "confidence is 1.0"),
        (lambda: mean_interval([1.0, 2.0], 0.0), "confidence is 0.0"),
        (lambda: mean_interval([[1.0, 2.0]]), r"values: shapes are \[\(1, 2\)\]"),
        (lambda: batch_means([1.0, 2.0], 3), "batches is 3, must be at most the 2 values"),
        (lambda: batch_means([1.0, 2.0], 1), "batches is 1, .* at least 2"),
        (lambda: t_quantile(0.0, 3), "probability is 0.0"),
        (lambda: t_quantile(1.0, 3), "probability is 1.0"),
        (lambda: t_quantile(0.9, 0), "df is 0"),
    ],
)
def test_wrong_argument_message(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
