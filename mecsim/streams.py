"""One seed a run, split into independent streams that can be read at any slot.

A stream is a counter-based generator (Philox): the seed and the stream's name make its key, the
slot its counter. So a slot's numbers do not depend on what was drawn before, in this stream or in
any other, and all schedulers under one seed meet the same tasks on the same channels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

_STREAMS: Final = ("positions", "capacities", "rates", "arrivals", "sizes", "scheduler", "bursts")

MAX_SEED: Final = 2**64 - 1


class Stream:
    """A named stream of a seed, to be read at one slot after another."""

    def __init__(self, seed: int, name: str) -> None:
        key = np.array([seed, _STREAMS.index(name)], dtype=np.uint64)
        self._bits = np.random.Philox(key=key, counter=np.zeros(4, dtype=np.uint64))
        self._start: Any = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, slot: int) -> np.random.Generator:
        """Return the stream's one generator, put to the start of ``slot``."""
        self._start["state"]["counter"][3] = slot
        self._bits.state = self._start  # a tenth of the time of a new generator
        return self._generator


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of the named stream, which is read from its start."""
    return Stream(seed, name).at(0)
