"""The random streams of a run: one seed, independent streams, readable at any slot.

A stream is a counter-based generator (Philox): the seed and the stream's name form its key, the
slot is part of its counter. So the numbers of a slot do not depend on earlier draws, in this stream
or any other, and all schedulers under one seed get the same tasks and the same channels (common
random numbers).

The bits are those of numpy's Philox. All numbers are computed from them by exact operations and the
functions of `mecsim.support.portable_math`, so every CPU draws the same.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.support.arrays import Floats, Ints
from mecsim.support.jit import compiled
from mecsim.support.portable_math import log_each, normal_quantile_each

Words: TypeAlias = NDArray[np.uint64]

_STREAMS: Final = (
    "positions",
    "capacities",
    "rates",
    "arrivals",
    "sizes",
    "scheduler",
    "bursts",
    "sources",
    "failures",
    "waypoints",
)

MAX_SEED: Final = 2**64 - 1


class Stream:
    """A named stream of a seed.

    Each method draws ``counts[k]`` numbers from the start of slot ``first + k`` and returns them in
    one array, slot after slot. What a slot yields does not depend on the other slots; more numbers
    of a slot start with the same ones as fewer.
    """

    def __init__(self, seed: int, name: str, task_class: int = 0) -> None:
        """Open the stream ``name`` of a seed; each class of tasks has its own streams."""
        self._key = _key(seed, name, task_class)

    def uniform(self, first: int, counts: Ints) -> Floats:
        """Draw numbers that are uniform in [0, 1), multiples of 2^-53; shape (sum(counts),)."""
        return np.asarray((self._words(first, counts) >> np.uint64(11)) * 2.0**-53)

    def exponential(self, first: int, counts: Ints) -> Floats:
        """Draw exponential numbers of mean 1, above 0; shape (sum(counts),)."""
        return -log_each(self._inner(first, counts))

    def normal(self, first: int, counts: Ints) -> Floats:
        """Draw standard normal numbers; shape (sum(counts),)."""
        return normal_quantile_each(self._inner(first, counts))

    def _inner(self, first: int, counts: Ints) -> Floats:
        """Draw numbers uniform in (0, 1), odd multiples of 2^-53, for inversion."""
        return np.asarray(((self._words(first, counts) >> np.uint64(12)) + 0.5) * 2.0**-52)

    def _words(self, first: int, counts: Ints) -> Words:
        with np.errstate(over="ignore"):  # intended; reported where the compiler is off
            return _words(self._key, first, counts)


_MULTIPLIERS: Final = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL: Final = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS: Final = 10


@compiled
def _high_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """Return the upper half of the product of two 64-bit numbers."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    a_low, a_high, b_low, b_high = a & low, a >> half, b & low, b >> half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    return a_high * b_high + (middle >> half) + ((a_low * b_high + (middle & low)) >> half)


@compiled
def _words(key: Words, first: int, counts: Ints) -> Words:
    """Return the first ``counts[k]`` words of slot ``first + k``, slot after slot.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011: Philox4x64-10.
    """
    total = 0
    for count in counts:  # code that calls counts.sum() takes longer to load than a short run
        total += count
    words = np.empty(total, dtype=np.uint64)
    one, other = np.uint64(_MULTIPLIERS[0]), np.uint64(_MULTIPLIERS[1])
    end = 0
    for k in range(len(counts)):
        begin, end = end, end + counts[k]
        for at in range(begin, end, 4):
            # numpy counts before it draws; the slot is the highest of the counter's four numbers.
            a, b, c, d = (
                np.uint64(1 + (at - begin) // 4),
                np.uint64(0),
                np.uint64(0),
                np.uint64(first + k),
            )
            key_a, key_c = key[0], key[1]
            for _ in range(_ROUNDS):
                high_a, low_a = _high_product(one, a), one * a
                high_c, low_c = _high_product(other, c), other * c
                a, b, c, d = high_c ^ b ^ key_a, low_c, high_a ^ d ^ key_c, low_a
                key_a, key_c = key_a + np.uint64(_WEYL[0]), key_c + np.uint64(_WEYL[1])
            words[at] = a
            if at + 1 < end:
                words[at + 1] = b
            if at + 2 < end:
                words[at + 2] = c
            if at + 3 < end:
                words[at + 3] = d
    return words


def generator(seed: int, name: str) -> np.random.Generator:
    """Return a numpy generator of the named stream, from slot 0 on.

    It is for schedulers. Only its ``random`` and ``integers`` give the same on every CPU.
    """
    bits = np.random.Philox(0)  # without a seed it would ask the system for a random one
    state: Any = bits.state
    state["state"] = {"counter": np.zeros(4, dtype=np.uint64), "key": _key(seed, name)}
    bits.state = state
    return np.random.Generator(bits)


def _key(seed: int, name: str, task_class: int = 0) -> Words:
    return np.array([seed, (task_class << 32) + _STREAMS.index(name)], dtype=np.uint64)
