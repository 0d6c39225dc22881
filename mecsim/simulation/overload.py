"""Stop a run whose work in flight would take all memory.

Where more work arrives than the resources can serve, the tasks in flight grow until the run ends,
and the memory that they take grows with them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mecsim.errors import OverloadedError
from mecsim.kernels.state import END_HOP, END_TASK, FIRST_HOP, FIRST_TASK, State, read_backlog
from mecsim.model.model import Model
from mecsim.support import memory
from mecsim.support.arrays import Floats

HOP_IN_STATE: Final = 128
"""Bytes of a hop in flight in the compiled kernel's buffers, its share of its task included: 40, or
120 while a buffer is doubled."""
HOP_IN_SESSION: Final = 320
"""Bytes of a hop in flight in a session, whose kernel keeps tables of hops: 290 with SimPy."""
FIRST_CHECK: Final = 1 << 20
"""Hops in flight below which the available memory is not read."""
GROWTH: Final = 1.25
"""Growth of the hops in flight after which it is read again."""


class OverloadGuard:
    """Compares the memory of the work in flight with a limit, now and then as the work grows.

    Args:
        model: The resolved scenario, for the names of its resources.
        bytes_per_hop: Memory that a hop in flight takes.
    """

    def __init__(self, model: Model, bytes_per_hop: int) -> None:
        self._model, self._bytes_per_hop = model, bytes_per_hop
        limit_hops = memory.limit_bytes() / self._bytes_per_hop
        self.next_check = min(FIRST_CHECK, limit_hops)
        """Hops in flight from which :meth:`check` does something."""

    def check(self, hops: int, tasks: int, slot: int, backlog_s: Floats) -> None:
        """Raise ``OverloadedError`` if the work in flight takes more memory than it may.

        Args:
            hops: Number of hops of the tasks in flight.
            tasks: Number of tasks in flight.
            slot: The present slot.
            backlog_s: Backlog of every resource; shape (R,).
        """
        if hops < self.next_check:
            return
        self.next_check = GROWTH * hops
        used = hops * self._bytes_per_hop
        limit = memory.limit_bytes(used)
        if used <= limit:
            return
        longest = int(backlog_s.argmax())
        raise OverloadedError(
            f"overloaded: in slot {slot} {tasks:,} tasks are in flight and take about "
            f"{_size(used)} of memory; the longest backlog is {backlog_s[longest]:,.0f} s, at "
            f"{self._model.resource_names()[longest]}. Expected: at most {_size(limit)}. Try: a "
            f"lower arrival rate, another placement, or a larger {memory.VARIABLE} (bytes)"
        )

    def check_state(self, state: State, more: tuple[int, int], slot: int, now_s: float) -> None:
        """Check a network in the compiled kernel before it gets room for more work.

        Args:
            state: The network.
            more: Number of tasks and of hops to make room for.
            slot: The present slot.
            now_s: The time.
        """
        counters = state.counters.tolist()
        hops = counters[END_HOP] - counters[FIRST_HOP] + more[1]
        if hops < self.next_check:
            return
        backlog_s = np.empty(len(state.last))
        read_backlog(state, now_s, backlog_s)
        self.check(hops, counters[END_TASK] - counters[FIRST_TASK] + more[0], slot, backlog_s)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
