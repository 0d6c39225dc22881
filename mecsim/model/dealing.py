"""Which device releases each task of a class: all equally, or by weights of their groups."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from mecsim.support.arrays import Floats, Ints
from mecsim.support.exact import whole_weights


class Dealing:
    """The devices of the tasks of a class.

    A group releases the share of the tasks that its weight has of all weights, and each of its
    devices the same number.

    Args:
        group: Group of every device; shape (D,).
        weights: Weight of every group, 0 for groups that release no task; empty for equal devices.
    """

    def __init__(self, group: Ints, weights: tuple[float, ...]) -> None:
        self._devices = len(group)
        self._members = [np.flatnonzero(group == each) for each in range(len(weights))]
        self._weights = weights

    @property
    def weighted(self) -> bool:
        """Whether devices are not all equal."""
        return bool(self._weights)

    @property
    def devices(self) -> Ints:
        """Devices that release tasks, in order."""
        if not self._weights:
            return np.arange(self._devices)
        some = [own for own, weight in zip(self._members, self._weights, strict=True) if weight > 0]
        return np.sort(np.concatenate(some))

    def in_turn(self, numbers: Ints) -> Ints:
        """Return the devices of tasks that are dealt in turn, by their numbers; shape (n,).

        Groups take their turns in a pattern that repeats after as many tasks as their weights, as
        whole numbers without a common divisor, add up to. Each task goes to the group that is
        furthest behind its share, the first of equals.
        """
        if not self._weights:
            return numbers % self._devices
        pattern, before = self._pattern
        whole, at = np.divmod(numbers, len(pattern))
        device = np.empty(len(numbers), dtype=np.int64)
        for number, members in enumerate(self._members):
            mine = pattern[at] == number
            turn = whole[mine] * np.count_nonzero(pattern == number) + before[at[mine]]
            device[mine] = members[turn % len(members)]
        return device

    @cached_property
    def _pattern(self) -> tuple[Ints, Ints]:
        """Return the group of each task of the pattern, and the group's tasks before it."""
        turns = whole_weights(self._weights)
        total, taken = sum(turns), np.zeros(len(turns), dtype=np.int64)
        pattern, before = np.empty((2, total), dtype=np.int64)
        share = np.array(turns)
        for task in range(total):
            group = int(np.argmax(share * (task + 1) - taken * total))
            pattern[task], before[task] = group, taken[group]
            taken[group] += 1
        return pattern, before

    def drawn(self, uniform: Floats) -> Ints:
        """Return the devices of tasks by a number in [0, 1) each; shape (n,)."""
        if not self._weights:
            return (uniform * self._devices).astype(np.int64)
        total = math.fsum(self._weights)
        ends = np.cumsum([weight / total for weight in self._weights])
        last = max(number for number, weight in enumerate(self._weights) if weight > 0)
        group = np.minimum(np.searchsorted(ends, uniform, side="right"), last)
        device = np.empty(len(uniform), dtype=np.int64)
        for number, members in enumerate(self._members):
            mine = group == number
            share = self._weights[number] / total
            within = (uniform[mine] - (ends[number] - share)) / share if share else uniform[mine]
            row = np.clip((within * len(members)).astype(np.int64), 0, max(len(members) - 1, 0))
            device[mine] = members[row]
        return device
