"""Delays and costs of blocks on an empty network, and the cheapest placement there.

Without queues a block's delay depends only on its own place and on that of the block before it
(Eqs. 3, 5 and 6). So the cost of a placement is a sum over its blocks, and dynamic programming
finds the cheapest of all (N + 1)^M placements exactly (Viterbi, 1967).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from mecsim.model import equations
from mecsim.model.model import Model
from mecsim.model.topology import Links
from mecsim.support.arrays import Floats, Ints

PIECE: Final = 1 << 16
"""Numbers in one piece of work, so that they stay in the processor's cache."""


@dataclass(frozen=True)
class Work:
    """What n tasks bring: their devices, servers, rates and sizes."""

    device: Ints
    """Device of each task; shape (n,)."""
    serving_server: Ints
    """Server of each task's device; shape (n,)."""
    rate_bps: Floats
    """Radio rate of each task's device in bits per second; shape (n,)."""
    size: Floats
    """Size factors: one for all blocks, or one for each; shape (1, n) or (M, n)."""

    def __len__(self) -> int:
        return len(self.device)

    def __getitem__(self, tasks: slice) -> Work:
        of_devices = self.device[tasks], self.serving_server[tasks], self.rate_bps[tasks]
        return Work(*of_devices, self.size[:, tasks])


class EmptyNetwork:
    """Delays and costs of blocks on a network without queues; P = N + 1 places.

    Args:
        model: The network and its DNN.
        speedup: By how much each resource is faster than nominal, shape (R,); by default it is not.
    """

    def __init__(self, model: Model, speedup: Floats | None = None) -> None:
        self._model, self._speedup = model, speedup
        self._beta = model.scenario.reward.beta
        self._returns_result = model.scenario.return_result
        self._servers = np.arange(model.servers)[:, None]

    def costs(self, work: Work) -> Floats:
        """Return the cost L + β·max(L − τ, 0) of each block (Eqs. 13 and 14).

        Args:
            work: The tasks.

        Returns:
            The cost of block m at place j after block m − 1 at place i; shape (M, P, P, n), by m,
            i and j. The input of the first block is at the device, so only its row i = 0 is
            meaningful. The last block's cost includes the return of the result.
        """
        seconds = self.delays(work)
        tolerated_s = self._model.tolerated_s[:, None, None, None]
        tardiness_s = equations.penalty(seconds, tolerated_s, seconds)
        return np.asarray(equations.cost(seconds, tardiness_s, self._beta))

    def delays(self, work: Work) -> Floats:
        """Return the delay L of each block in seconds; shape and axes as :meth:`costs`."""
        bits = self._bits(work.size)
        wired = self._wired(work, bits)
        spec = self._model.scenario.radio
        radio = equations.transfer_delay(bits, work.rate_bps, spec.headers, spec.overhead)
        radio = np.asarray(radio)[:, None]
        wired[:, 0, 1:] += radio
        wired[:, 1:, 0] += radio
        delay = wired[:-1]
        cpus = self._at_places(self._model.resources.device + work.device)
        compute_s = self._model.compute.seconds(cpus, work.size)
        delay += (compute_s if self._speedup is None else compute_s / self._speedup[cpus])[:, None]
        if self._returns_result:
            delay[-1] += wired[-1, :, 0]
        return delay

    def pieces(self, tasks: int) -> Iterator[slice]:
        """Cut ``tasks`` tasks into slices of about ``PIECE`` costs each."""
        step = max(1, PIECE // (self._model.blocks * (self._model.servers + 1) ** 2))
        return (slice(first, first + step) for first in range(0, tasks, step))

    def _bits(self, size: Floats) -> Floats:
        """Return the bits of each block's input and, last, of the result; shape (M + 1, n)."""
        input_bits, result_bits = self._model.input_bits[:, None], self._model.result_bits[0]
        return np.concatenate([input_bits * size, result_bits * size[-1:]])

    def _wired(self, work: Work, bits: Floats) -> Floats:
        """Return the time over wired links from place to place; shape (M + 1, P, P, n).

        Data at a device enters and leaves the wired network at the device's server.
        """
        at = self._at_places(work.serving_server)
        per_bit, latency = (table[:, at[:, None], at] for table in self._tables)
        seconds = per_bit[self._model.route]
        seconds *= bits[:, None, None]
        seconds += latency[self._model.route]
        return seconds

    def _at_places(self, at_device: Ints) -> Ints:
        """Return a number for place 0 of each of n tasks, then the servers' own; shape (P, n)."""
        shape = self._model.servers, len(at_device)
        return np.concatenate([at_device[None], np.broadcast_to(self._servers, shape)])

    @cached_property
    def _tables(self) -> tuple[Floats, Floats]:
        """Seconds per bit, and other time, over each route between servers; shapes (K, N, N).

        Transfer times are linear in the bits (Eq. 5), and a route does not depend on a task's size.
        """
        links, servers = self._model.links, np.arange(self._model.servers)
        per_bit_s = np.asarray(equations.transfer_delay(1.0, links.rate_bps, links.headers))
        if self._speedup is not None:
            per_bit_s = per_bit_s / self._speedup[self._model.resources.link :]
        hops = per_bit_s, links.latency_s + links.overhead_s
        per_bit, latency = (
            np.stack([route_sums(links, table, hop, servers) for table in self._model.next_link])
            for hop in hops
        )
        return per_bit, latency


def route_sums(links: Links, table: Ints, hop_s: Floats, source: Ints) -> Floats:
    """Return the sum of a value of links over routes.

    Args:
        links: The L links.
        table: The next links, see :func:`mecsim.model.routes.next_links`; shape (N, N).
        hop_s: The value of each link, such as seconds; shape (L,).
        source: The servers at which the routes begin; shape (S,).

    Returns:
        The sum over the route from each source to every server; shape (S, N).
    """
    target = np.arange(len(table))
    here = np.repeat(source[:, None], len(target), axis=1)
    total = np.zeros(here.shape)
    while (away := here != target).any():
        link = table[here, target][away]
        total[away] += hop_s[link]
        here[away] = links.target[link]
    return total


def costs_to_go(costs: Floats) -> Floats:
    """Return the least cost of all blocks from m on, after block m − 1 at each place.

    Args:
        costs: See :meth:`EmptyNetwork.costs`; shape (M, P, P, n).

    Returns:
        The costs; shape (M + 1, P, n). The least cost of a whole task is at [0, 0].
    """
    blocks, places, _, tasks = costs.shape
    to_go = np.zeros((blocks + 1, places, tasks))
    for block in range(blocks - 1, -1, -1):
        np.min(costs[block] + to_go[block + 1], axis=1, out=to_go[block])
    return to_go


def cheapest_chain(costs: Floats) -> Ints:
    """Return the placement of least total cost for each task.

    Args:
        costs: Cost of block m at place j after block m − 1 at place i, see
            :meth:`EmptyNetwork.costs`; shape (M, P, P, n).

    Returns:
        The placements; shape (n, M). Of equally good places the lowest-numbered is taken, block
        by block from the first.

    Example:
        >>> costs = np.array([[[5.0, 1.0], [0.0, 0.0]], [[1.0, 9.0], [2.0, 4.0]]])
        >>> cheapest_chain(costs[..., None])  # 1 for block 0 at place 1, then 2 at place 0
        array([[1, 0]])
    """
    to_go = costs_to_go(costs)
    here = np.zeros(costs.shape[-1], dtype=np.int64)
    placement = np.empty((len(here), len(costs)), dtype=np.int64)
    task = np.arange(len(here))
    for block, cost in enumerate(costs):
        here = (cost[here, :, task].T + to_go[block + 1]).argmin(axis=0)
        placement[:, block] = here
    return placement
