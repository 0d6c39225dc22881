"""Ways around wired links that have failed; compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from mecsim.model import equations
from mecsim.model.calendar_visits import last_at
from mecsim.model.calendars import Records
from mecsim.model.topology import Links
from mecsim.support.arrays import Bools, Floats, Ints, read_only
from mecsim.support.jit import compiled

_transfer_delay = cast(Callable[..., float], compiled(equations.transfer_delay))


@compiled
def find_down(
    failing: Ints, of: Records, outages: Floats, first: int, now_s: float, down: Bools
) -> bool:
    """Find the links that are down at a time; return whether any is.

    Args:
        failing: Numbers of the links that can fail; shape (F,).
        of: See :class:`mecsim.model.calendars.Calendars`.
        outages: See :class:`mecsim.model.calendars.Calendars`.
        first: Resource number of the first link.
        now_s: The time.
        down: Filled in for links that can fail; shape (L,).
    """
    any_down = False
    for i in range(len(failing)):
        link = failing[i]
        begin, end = of[first + link]["outage"], of[first + link]["outage_end"]
        row = last_at(outages, begin, end, 0, now_s)
        down[link] = row >= begin and now_s < outages[row, 1]
        any_down |= down[link]
    return any_down


@compiled
def crosses(next_link: Ints, link_target: Ints, down: Bools, server: int, target: int) -> bool:
    """Return whether a route crosses a link that is down.

    Args:
        next_link: The route table; shape (N, N).
        link_target: The receiving server of every link; shape (L,).
        down: Which links are down; shape (L,).
        server: Where the route begins.
        target: Where it ends.
    """
    while server != target:
        link = next_link[server, target]
        if down[link]:
            return True
        server = link_target[link]
    return False


@compiled
def link_seconds(
    bits: float, rate_bps: Floats, latency_s: Floats, headers: float, overhead_s: float
) -> Floats:
    """Return the time of a transfer over every link; see :meth:`Links.seconds`."""
    seconds = np.empty(len(rate_bps))
    for link in range(len(rate_bps)):
        sent_s = _transfer_delay(bits, rate_bps[link], headers, overhead_s)
        seconds[link] = sent_s + latency_s[link]
    return seconds


@compiled
def way_around(
    source: Ints,
    target: Ints,
    seconds: Floats,
    down: Bools,
    next_link: Ints,
    to: int,
    found: Ints,
) -> None:
    """Find the next link of every server on its way to one server, around links that are down.

    Routes are those of :func:`mecsim.model.routes.next_links` without these links. Where they leave
    no way, the next link is that of the usual route, which waits for the repair.

    Args:
        source: The sending server of every link, sorted by (source, target); shape (L,).
        target: The receiving server of every link; shape (L,).
        seconds: The time of the transfer over every link; shape (L,).
        down: Which links are down; shape (L,).
        next_link: The usual route table; shape (N, N).
        to: The server at which routes end.
        found: Filled in; shape (N,).
    """
    servers, links = len(found), len(source)
    left_s, hops = np.full(servers, np.inf), np.zeros(servers, np.int64)
    left_s[to] = 0.0
    round_, better = 0, True
    while better:  # Bellman and Ford's algorithm, backwards
        round_ += 1
        better, before_s = False, left_s.copy()
        for link in range(links):
            i, j = source[link], target[link]
            if not down[link] and before_s[j] < np.inf:
                time_s = before_s[j] + seconds[link]
                if time_s < left_s[i]:
                    left_s[i], hops[i], better = time_s, round_, True
    found[:] = next_link[:, to]
    for link in range(links - 1, -1, -1):  # the lowest of equally fast ones is the last to be taken
        i, j = source[link], target[link]
        if not down[link] and left_s[j] < np.inf and i != to:
            time_s = left_s[j] + seconds[link]
            if time_s == left_s[i] and (left_s[j] < left_s[i] or hops[j] < hops[i]):
                found[i] = link


def around(links: Links, bits: float, down: Bools, usual: Ints) -> Ints:
    """Return the route table around links that are down; see :func:`way_around`.

    Args:
        links: Sorted by (source, target).
        bits: Size of the transfer; an empty one takes the route of one bit.
        down: Which links are down; shape (L,).
        usual: The usual route table; shape (N, N).

    Returns:
        The table, read-only; shape (N, N).
    """
    table, seconds = usual.copy(), links.seconds(max(bits, 1.0))
    for to in range(len(usual)):
        way_around(links.source, links.target, seconds, down, usual, to, table[:, to])
    return read_only(table)
