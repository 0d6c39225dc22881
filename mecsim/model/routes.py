"""Routes of least transfer time over the wired links."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mecsim.model.topology import Links
from mecsim.support.arrays import Floats, Ints

PAIRS_AT_ONCE: Final = 1 << 19
"""Most pairs of a link and a target that are handled together; bounds memory."""


def next_links(links: Links, servers: int, bits: float) -> Ints:
    """Return the routes of least transfer time, as a table of next links.

    The time of a hop is bits / rate + latency (Eq. 5), summed from the target outwards. Of equally
    fast next hops the one to the lowest-numbered server is taken. Where a hop's time is lost in
    rounding, so that both its ends seem equally far, it is taken only to a server that is fewer
    hops away; so no route has a cycle.

    Args:
        links: Sorted by (source, target); they lead from every server to every other.
        servers: N, the number of servers.
        bits: Size of the transfer.

    Returns:
        The link that data at server i takes next on its way to server j, −1 where i = j; shape
        (N, N).

    Example:
        >>> from mecsim.model.topology import wired_links
        >>> from mecsim.scenario.schema import Wired
        >>> links = wired_links(Wired(topology="line"), 3)
        >>> next_links(links, 3, bits=1e6)  # from server 0 to server 2: first over link 0
        array([[-1,  0,  0],
               [ 1, -1,  2],
               [ 3,  3, -1]])
    """
    table = np.full((servers, servers), -1, dtype=np.int64)
    if len(links) == servers * (servers - 1) and _equal_links(links):  # a full mesh: go straight
        table[links.source, links.target] = np.arange(len(links))
        return table
    bits = max(bits, 1.0)  # an empty transfer takes the route of one bit
    seconds = links.seconds(bits)
    at_once = max(1, PAIRS_AT_ONCE // max(1, len(links)))
    for first in range(0, servers if len(links) else 0, at_once):
        targets = np.arange(first, min(first + at_once, servers))
        left_s, hops = _least_times(links, seconds, servers, targets)
        table[:, targets] = _next_links_to(links, seconds, left_s, hops).T
    return table


def _least_times(
    links: Links, seconds: Floats, servers: int, targets: Ints
) -> tuple[Floats, NDArray[np.int32]]:
    """Return the least time from each server to each of T targets, and its least number of hops.

    Shapes (T, N). Bellman and Ford's algorithm, backwards from the targets: round k tries the
    links into the servers whose time fell in round k − 1, for all targets together. So the round
    in which a time is found is the least number of hops of all routes that take it.
    """
    into = np.argsort(links.target, kind="stable")
    source, hop_s = links.source[into], seconds[into]
    count = np.bincount(links.target, minlength=servers)
    begin = np.cumsum(count) - count
    left_s = np.full(len(targets) * servers, np.inf)  # of (target, server), row by row
    hops = np.zeros(len(left_s), dtype=np.int32)
    tried = np.empty(len(left_s), dtype=np.int64)
    nearer = np.arange(len(targets)) * servers + targets
    left_s[nearer] = 0.0
    for round_ in itertools.count(1):
        end = nearer % servers
        many = count[end]
        first = np.repeat(begin[end] - np.cumsum(many) + many, many)
        link = first + np.arange(len(first))
        start = np.repeat(nearer - end, many) + source.take(link)
        time_s = np.repeat(left_s[nearer], many) + hop_s.take(link)
        better = np.flatnonzero(time_s < left_s.take(start))
        start, time_s = start.take(better), time_s.take(better)
        if not len(start):
            break
        np.minimum.at(left_s, start, time_s)
        attempt = np.arange(len(start))
        tried[start] = attempt
        nearer = start[tried[start] == attempt]  # each once: the last of several attempts
        hops[nearer] = round_
    return left_s.reshape(-1, servers), hops.reshape(-1, servers)


def _next_links_to(links: Links, seconds: Floats, left_s: Floats, hops: NDArray[np.int32]) -> Ints:
    """Return the link that each server takes next towards each target, or −1; shape (T, N)."""
    here, there = left_s.take(links.source, axis=1), left_s.take(links.target, axis=1)
    nearer = (there < here) | (hops.take(links.target, axis=1) < hops.take(links.source, axis=1))
    best = nearer & (there + seconds == here)
    number = np.where(best, np.arange(len(links)), len(links))
    first = np.searchsorted(links.source, np.arange(left_s.shape[1]))
    lowest = np.minimum.reduceat(number, first, axis=1)
    return np.where(lowest < len(links), lowest, -1)


def _equal_links(links: Links) -> bool:
    return (
        bool(np.ptp(links.rate_bps) == 0 and np.ptp(links.latency_s) == 0) if len(links) else True
    )


def route_tables(links: Links, servers: int, bits: Floats) -> tuple[Ints, Ints]:
    """Return the distinct route tables of several transfers.

    Args:
        links: As for :func:`next_links`. If all are equal, there is one table.
        servers: N, the number of servers.
        bits: Sizes of the transfers; shape (B,).

    Returns:
        The tables, shape (K, N, N), and the index of the table of each transfer, shape (B,).
    """
    if _equal_links(links):
        return next_links(links, servers, 1.0)[None], np.zeros(len(bits), dtype=np.int64)
    sizes, size_of = np.unique(bits, return_inverse=True)
    tables = np.empty((len(sizes), servers, servers), dtype=np.int64)
    distinct, table_of = 0, []
    for size in sizes.tolist():
        new = tables[distinct]
        new[:] = next_links(links, servers, size)
        table_of.append(next(k for k in range(distinct + 1) if np.array_equal(tables[k], new)))
        distinct = max(distinct, table_of[-1] + 1)
    return tables[:distinct], np.array(table_of)[size_of]
