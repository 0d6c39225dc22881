"""Known answers of queueing theory.

Times are in seconds, rates in jobs per second. A *wait* is the time in the queue before service, a
*sojourn* is wait plus service. λ is an arrival rate, μ the service rate of one server, rho the
utilisation. Every function raises :class:`ValueError`, with the value and its limit, if an argument
is out of range or the queue is unstable (rho of 1 or more).

References:
    * [Kleinrock] L. Kleinrock, Queueing Systems, vol. 1: Theory, Wiley, 1975.
    * [Gross] D. Gross, C. M. Harris, Fundamentals of Queueing Theory, 3rd ed., Wiley, 1998.
    * [Jackson] J. R. Jackson, Networks of waiting lines, Operations Research 5(4), 1957.
    * [Little] J. D. C. Little, A proof for the queuing formula L = λW, Oper. Res. 9(3), 1961.
    * [Lindley] D. V. Lindley, Queues with a single server, Proc. Camb. Phil. Soc. 48, 1952.
    * [White] H. White, L. S. Christie, Queuing with preemptive priorities or with breakdown,
      Operations Research 6(1), 1958.
    * [Law] A. M. Law, Simulation Modeling and Analysis, 5th ed., McGraw-Hill, 2015, ch. 9.
    * [A&S] M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions, 1964, ch. 26.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mecsim.support.arrays import Floats
from mecsim.support.intervals import as_vectors, check_whole


def mm1_wait(arrival_rate: float, service_rate: float) -> float:
    """Return the mean wait [s] in M/M/1: rho / (μ - λ). [Kleinrock] §3.2.

    >>> mm1_wait(0.5, 1.0)
    1.0
    """
    return _load(arrival_rate, service_rate) / (service_rate - arrival_rate)


def mm1_sojourn(arrival_rate: float, service_rate: float) -> float:
    """Return the mean sojourn [s] in M/M/1: 1 / (μ - λ). [Kleinrock] §3.2.

    >>> mm1_sojourn(0.5, 1.0)
    2.0
    """
    _load(arrival_rate, service_rate)
    return 1 / (service_rate - arrival_rate)


def mm1_breakdowns_sojourn(
    arrival_rate: float, service_rate: float, mean_up_s: float, mean_down_s: float
) -> float:
    """Return the mean sojourn [s] in M/M/1 whose server breaks down and resumes after repair.

    Times from repair to failure and back are exponential, whether the server works or not. [White]

    >>> round(mm1_breakdowns_sojourn(0.5, 1.0, 1.0, 1e-12), 9)  # repaired at once
    2.0

    Args:
        arrival_rate: λ.
        service_rate: μ while the server is up.
        mean_up_s: Mean time to failure.
        mean_down_s: Mean time to repair.
    """
    failing, repairing = 1 / mean_up_s, 1 / mean_down_s
    both = failing + repairing
    _load(arrival_rate, service_rate * repairing / both)
    rho = arrival_rate / service_rate
    jobs = rho * (both * both + failing * service_rate) / (both * (repairing - rho * both))
    return jobs / arrival_rate


def mm1_sojourn_quantile(arrival_rate: float, service_rate: float, probability: float) -> float:
    """Return a quantile of the sojourn [s] in FIFO M/M/1. [Gross] ch. 2.

    The sojourn is exponential with rate μ - λ, so the quantile is -ln(1 - p) / (μ - λ).

    Args:
        arrival_rate: λ.
        service_rate: μ.
        probability: p, the fraction of jobs with a shorter sojourn, in [0, 1).
    """
    if not 0 <= probability < 1:
        raise ValueError(f"probability is {probability}, must be in [0, 1)")
    return -math.log1p(-probability) * mm1_sojourn(arrival_rate, service_rate)


def mg1_wait(arrival_rate: float, mean_s: float, second_moment_s2: float) -> float:
    """Return the mean wait [s] in FIFO M/G/1: λ E[S²] / (2 (1 - rho)) (Pollaczek-Khinchine).

    [Kleinrock] §5.6; [Gross] ch. 5.

    Args:
        arrival_rate: λ.
        mean_s: Mean service E[S] [s].
        second_moment_s2: E[S²] [s²], at least E[S]².
    """
    load = _load(arrival_rate * _positive("mean_s", mean_s), 1.0)
    _check_moments("second_moment_s2", mean_s, second_moment_s2)
    return arrival_rate * second_moment_s2 / (2 * (1 - load))


def mg1_wait_scv(arrival_rate: float, mean_s: float, scv: float) -> float:
    """Return :func:`mg1_wait` [s] for a squared coefficient of variation Var[S] / E[S]²."""
    return mg1_wait(arrival_rate, mean_s, mean_s**2 * (1 + _nonnegative("scv", scv)))


def md1_wait(arrival_rate: float, service_s: float) -> float:
    """Return the mean wait [s] in FIFO M/D/1, with constant service."""
    return mg1_wait_scv(arrival_rate, service_s, 0.0)


def erlang_c(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Return the probability that a job waits in M/M/c (Erlang's C). [Gross] ch. 2.

    Computed from Erlang's B by the recursion B[k] = a B[k-1] / (k + a B[k-1]) with a = λ/μ, which
    needs no factorial and neither overflows nor cancels. [Kleinrock] §3.5.

    >>> erlang_c(0.5, 1.0, 1)
    0.5

    Args:
        arrival_rate: λ.
        service_rate: μ, of one server.
        servers: c, a whole number of at least 1.
    """
    load = _load(arrival_rate, check_whole("servers", servers, 1) * service_rate)
    offered, blocked = arrival_rate / service_rate, 1.0
    for busy in range(1, servers + 1):
        blocked = offered * blocked / (busy + offered * blocked)
    return blocked / (1 - load * (1 - blocked))


def mmc_wait(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Return the mean wait [s] in M/M/c: C / (cμ - λ), see :func:`erlang_c`. [Gross] ch. 2."""
    return erlang_c(arrival_rate, service_rate, servers) / (servers * service_rate - arrival_rate)


def mmc_sojourn(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Return the mean sojourn [s] in M/M/c: :func:`mmc_wait` plus 1/μ."""
    return mmc_wait(arrival_rate, service_rate, servers) + 1 / service_rate


def mxm1_wait(batch_rate: float, size_mean: float, size_m2: float, service_rate: float) -> float:
    """Return the mean wait [s] of a job in M^[X]/M/1, with arrivals in batches. [Gross] ch. 3.

    (E[X²]/E[X] - 1 + 2 rho) / (2μ (1 - rho)), where rho = λ E[X] / μ. The sojourn is 1/μ more.

    Args:
        batch_rate: λ [batches/s].
        size_mean: Mean size of a batch E[X], at least 1.
        size_m2: E[X²], at least E[X]².
        service_rate: μ.
    """
    if not size_mean >= 1:
        raise ValueError(f"size_mean is {size_mean}, must be at least 1: no batch is empty")
    load = _load(batch_rate * size_mean, service_rate)
    _check_moments("size_m2", size_mean, size_m2)
    return (size_m2 / size_mean - 1 + 2 * load) / (2 * service_rate * (1 - load))


def slot_batch_wait(jobs: int, service_s: float, slot_s: float) -> float:
    """Return the mean wait [s] of n equal jobs that arrive together at the start of each slot.

    Job k = 0 … n-1 waits k s at one FIFO server that is idle before, so the mean is (n - 1) s / 2.

    >>> slot_batch_wait(3, 0.1, 1.0)
    0.1

    Args:
        jobs: n, at least 1.
        service_s: s [s].
        slot_s: Length of a slot [s], at least n s.
    """
    work = check_whole("jobs", jobs, 1) * _nonnegative("service_s", service_s)
    if not work <= _positive("slot_s", slot_s):
        raise ValueError(f"a batch is {work} s of work, must be at most the slot of {slot_s} s")
    return (jobs - 1) / 2 * service_s


class Jackson(NamedTuple):
    """Stationary means of an open network of K stations; see :func:`jackson`."""

    arrival_rates: Floats
    """Arrival rate of each station [jobs/s], from outside and from other stations, shape (K,)."""
    sojourns_s: Floats
    """Mean sojourn [s] of one visit to each station, shape (K,)."""
    network_sojourn_s: float
    """Mean time [s] from entering the network to leaving it."""


def traffic_rates(external_rates: ArrayLike, routing: ArrayLike) -> Floats:
    """Return the total arrival rate of each station: the solution of λ = e + λ P.

    [Jackson]; [Gross] ch. 4.

    Args:
        external_rates: Arrival rates e from outside [jobs/s], shape (K,).
        routing: P, shape (K, K): the probability that a job that leaves station i goes to j. The
            rest of a row to 1 is the probability of leaving the network; every job must be able to.

    Returns:
        The rates λ [jobs/s], shape (K,).
    """
    external, matrix = np.asarray(external_rates, float), np.asarray(routing, float)
    if external.ndim != 1 or matrix.shape != (external.size, external.size) or not external.size:
        raise ValueError(f"shapes are {external.shape} and {matrix.shape}, must be (K,) and (K, K)")
    _check_entries("external_rates", external)
    _check_entries("routing", matrix)
    if (rows := matrix.sum(axis=1)).max() > 1 + 1e-12:
        raise ValueError(f"row {rows.argmax()} of routing sums to {rows.max()}, must be at most 1")
    if (radius := float(np.abs(np.linalg.eigvals(matrix)).max())) > 1 - 1e-9:
        raise ValueError(f"routing has spectral radius {radius}, must be below 1: jobs never leave")
    # The solver may round a rate of zero to just below it.
    return np.maximum(np.linalg.solve(np.eye(external.size) - matrix.T, external), 0.0)


def jackson(
    external_rates: ArrayLike,
    routing: ArrayLike,
    service_rates: Sequence[float],
    servers: Sequence[int] | None = None,
) -> Jackson:
    """Return mean times in an open network of FIFO M/M/c stations with random routing.

    Each station behaves like an M/M/c with the arrival rate λ[k] of :func:`traffic_rates`. By
    Little's law the time in the network is the sum of λ[k] W[k] divided by the sum of the external
    rates. [Jackson]; [Gross] ch. 4.

    Args:
        external_rates: Arrival rates from outside [jobs/s], shape (K,); not all 0.
        routing: Routing probabilities, shape (K, K), see :func:`traffic_rates`.
        service_rates: Service rate of one server of each station [jobs/s], K numbers.
        servers: Number of servers of each station, K numbers; 1 each if None.
    """
    rates = traffic_rates(external_rates, routing)
    counts = [1] * len(service_rates) if servers is None else list(servers)
    if not len(service_rates) == len(counts) == len(rates):
        sizes = f"{len(service_rates)} and {len(counts)}"
        raise ValueError(f"service_rates and servers number {sizes}, must be {len(rates)} each")
    total = _positive("sum of external_rates", float(np.sum(external_rates)))
    stations = zip(rates.tolist(), service_rates, counts, strict=True)
    sojourns = np.array([mmc_sojourn(*station) for station in stations])
    return Jackson(rates, sojourns, float(rates @ sojourns) / total)


def tandem_sojourn(
    arrival_rate: float, service_rates: Sequence[float], servers: Sequence[int] | None = None
) -> float:
    """Return the mean time [s] through M/M/c stations in a row, with Poisson arrivals at the first.

    The output of an M/M/c is Poisson (Burke, Oper. Res. 4(6), 1956), so the sojourns add. A special
    case of :func:`jackson`, which describes the arguments.
    """
    external, routing = np.zeros(len(service_rates)), np.eye(len(service_rates), k=1)
    external[:1] = arrival_rate
    return jackson(external, routing, service_rates, servers).network_sojourn_s


def fifo_starts(arrival_s: ArrayLike, service_s: ArrayLike) -> Floats:
    """Return the start of service of each job at one FIFO server that is idle at first.

    start = max(arrival, free), then free = start + service: one addition per job, so a simulator
    with the same additions gives the same bits.

    >>> fifo_starts([0.0, 1.0], [3.0, 1.0]).tolist()
    [0.0, 3.0]

    Args:
        arrival_s: Arrival times [s] in order, shape (n,).
        service_s: Service times [s], shape (n,).

    Returns:
        Start times [s], shape (n,).
    """
    arrivals, services = as_vectors(arrival_s=arrival_s, service_s=service_s)
    _check_entries("service_s", services)
    if not (np.isfinite(arrivals).all() and (np.diff(arrivals) >= 0).all()):
        raise ValueError("arrival_s must be finite and never decrease: sort the jobs by arrival")
    starts, free = [], -math.inf
    for arrival, service in zip(arrivals.tolist(), services.tolist(), strict=True):
        starts.append(max(arrival, free))
        free = starts[-1] + service
    return np.array(starts, dtype=float)


def lindley(arrival_s: ArrayLike, service_s: ArrayLike) -> Floats:
    """Return the wait of each job at one FIFO server: W[k+1] = max(0, W[k] + S[k] - A[k]).

    [Lindley]. Equal to :func:`fifo_starts` minus ``arrival_s``; see there for the arguments.
    """
    return fifo_starts(arrival_s, service_s) - np.asarray(arrival_s, dtype=np.float64)


def little_number(arrival_s: ArrayLike, departure_s: ArrayLike, horizon_s: float) -> float:
    """Return the mean number of jobs present over [0, horizon]: ∫ N(t) dt / horizon. [Little].

    Equal to λ W if all jobs arrive and depart within the horizon.

    Args:
        arrival_s: Arrival times [s], shape (n,).
        departure_s: Departure times [s], shape (n,), not before the arrivals; may be infinite.
        horizon_s: Length of the observation [s].
    """
    arrivals, departures = as_vectors(arrival_s=arrival_s, departure_s=departure_s)
    if not (departures >= arrivals).all():
        raise ValueError("every departure_s must be at or after its arrival_s, and neither NaN")
    horizon = _positive("horizon_s", horizon_s)
    present = np.clip(departures, 0, horizon) - np.clip(arrivals, 0, horizon)
    return float(present.sum()) / horizon


def _load(arriving: float, capacity: float) -> float:
    """Return the utilisation rho. Raises ``ValueError`` at 1 and above."""
    load = _nonnegative("arrival_rate", arriving) / _positive("service_rate", capacity)
    if load >= 1:
        raise ValueError(f"utilisation is {load:.6g}, must be below 1: the queue grows without end")
    return load


def _check_moments(name: str, mean: float, second_moment: float) -> None:
    if not mean**2 * (1 - 1e-12) <= _nonnegative(name, second_moment):
        raise ValueError(f"{name} is {second_moment}, must be at least the mean squared, {mean**2}")


def _check_entries(name: str, values: Floats) -> None:
    for value in (values.min(initial=0), values.max(initial=0)):
        _nonnegative(f"an entry of {name}", float(value))


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}, must be above 0 and finite")
    return value


def _nonnegative(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}, must be at least 0 and finite")
    return value
