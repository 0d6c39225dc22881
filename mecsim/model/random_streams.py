"""One seed a run, split into independent streams that can be read at any slot.

A stream is a counter-based generator (Philox): the seed and the stream's name make its key, the
slot its counter. So a slot's numbers do not depend on what was drawn before, in this stream or in
any other, and all schedulers under one seed meet the same tasks on the same channels.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mecsim.support.arrays import Floats
from mecsim.support.jit import compiled

Keys: TypeAlias = NDArray[np.uint64]

_STREAMS: Final = ("positions", "capacities", "rates", "arrivals", "sizes", "scheduler", "bursts")

MAX_SEED: Final = 2**64 - 1


class Stream:
    """A named stream of a seed, to be read at one slot after another."""

    def __init__(self, seed: int, name: str) -> None:
        self._key = np.array([seed, _STREAMS.index(name)], dtype=np.uint64)

    def at(self, slot: int) -> np.random.Generator:
        """Return the stream's one generator, put to the start of ``slot``."""
        self._start["state"]["counter"][3] = slot
        self._bits.state = self._start  # a tenth of the time of a new generator
        return self._generator

    @cached_property
    def whole(self) -> np.random.Generator:
        """The generator at the stream's start, to be read on and on."""
        return self.at(0)

    @cached_property
    def _bits(self) -> np.random.Philox:
        return np.random.Philox(0)  # without a seed it would ask the system for a random one

    @cached_property
    def _generator(self) -> np.random.Generator:
        return np.random.Generator(self._bits)

    @cached_property
    def _start(self) -> Any:
        state: Any = self._bits.state
        state["state"] = {"counter": np.zeros(4, dtype=np.uint64), "key": self._key}
        return state

    def first(self, slots: range) -> Floats:
        """Return the first number of every slot, uniform in [0, 1); shape (len(slots),)."""
        with np.errstate(over="ignore"):  # meant, and told of where the compiler is off
            return _first_numbers(self._key, slots.start, len(slots))


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
def _first_numbers(key: Keys, first: int, count: int) -> Floats:
    """Return the first number of slots in a row, as numpy's generator gives it, at once.

    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011: Philox4x64-10.
    """
    numbers = np.empty(count)
    one, other = np.uint64(_MULTIPLIERS[0]), np.uint64(_MULTIPLIERS[1])
    for i in range(count):
        # numpy counts before it draws; the slot is the highest of the counter's four numbers.
        a, b, c, d = np.uint64(1), np.uint64(0), np.uint64(0), np.uint64(first + i)
        key_a, key_c = key[0], key[1]
        for _ in range(_ROUNDS):
            high_a, low_a = _high_product(one, a), one * a
            high_c, low_c = _high_product(other, c), other * c
            a, b, c, d = high_c ^ b ^ key_a, low_c, high_a ^ d ^ key_c, low_a
            key_a, key_c = key_a + np.uint64(_WEYL[0]), key_c + np.uint64(_WEYL[1])
        numbers[i] = np.float64(a >> np.uint64(11)) / 2.0**53
    return numbers


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of the named stream, which is read from its start."""
    return Stream(seed, name).whole
