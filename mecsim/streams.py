"""One seed a run, split into independent streams that can be read at any slot.

A stream is a counter-based generator (Philox): the seed and the stream's name make its key, the
slot its counter. So a slot's numbers do not depend on what was drawn before, in this stream or in
any other, and all schedulers under one seed meet the same tasks on the same channels.
"""

from __future__ import annotations

from typing import Final

import numpy as np

_STREAMS: Final = ("positions", "capacities", "rates", "arrivals", "sizes", "scheduler", "bursts")

MAX_SEED: Final = 2**64 - 1


def stream(seed: int, name: str, slot: int = 0) -> np.random.Generator:
    """Return the generator of the named stream at the start of ``slot``."""
    key = np.array([seed, _STREAMS.index(name)], dtype=np.uint64)
    counter = np.array([0, 0, 0, slot], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
