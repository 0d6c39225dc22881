"""Where a slot has an epoch for each class of tasks: the class that replicas have come to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mecsim.kernels.epochs import EpochTable
from mecsim.kernels.rollout import expected_arrivals
from mecsim.model.model import Model
from mecsim.support.arrays import Floats, Ints


class SlotActions(NamedTuple):
    """The slots whose last class is among K placements of each of B replicas: at most S of them.

    A replica that is further in its slot may end more slots than others. The slots of a replica
    are the last ones of the S.
    """

    placements: Ints
    """Shape (B, S, C, M)."""
    left_out: Ints
    """How many of the S slots each replica does not have; shape (B,)."""
    at: Ints
    """Position of each placement among all epochs of the S slots; shape (B, K)."""

    def rewards(self, of_slots: Floats) -> Floats:
        """Return the rewards of the placements, shape (K, B), from those of slots, shape (B, S).

        The last class of a slot has all of it.
        """
        replicas, slots, classes = self.placements.shape[:3]
        rewards = np.zeros((replicas, (slots + 1) * classes))
        rewards[:, classes - 1 : slots * classes : classes] = of_slots
        return np.ascontiguousarray(np.take_along_axis(rewards, self.at, axis=1).T)


class SlotTurns:
    """The class that each of B replicas places next, and the placements of those before it.

    Args:
        replicas: B.
        classes: C.
        blocks: M, the largest number of blocks of a class.

    Attributes:
        number: The class; shape (B,).
        placed: Places for the tasks of each class of the present slot; shape (B, C, M).
    """

    def __init__(self, replicas: int, classes: int, blocks: int) -> None:
        self.number = np.zeros(replicas, dtype=np.int64)
        self.placed = np.zeros((replicas, classes, blocks), dtype=np.int64)

    def restart(self, rows: list[int] | NDArray[np.bool_]) -> None:
        """Return some replicas to the first class of a slot."""
        self.number[rows] = 0

    def take(self, places: Ints) -> SlotActions:
        """Take K placements of each replica, shape (K, B, M)."""
        count, replicas, blocks = places.shape
        classes = self.placed.shape[1]
        ends = (self.number + count) // classes  # slots of each replica that end
        slots = int(ends.max())
        row, left_out = np.arange(replicas)[:, None], slots - ends
        first = (left_out * classes)[:, None]
        at = first + self.number[:, None] + np.arange(count)
        every = np.zeros((replicas, (slots + 1) * classes, blocks), dtype=np.int64)
        every[row, first + np.arange(classes)] = self.placed
        every[row, at] = places.transpose(1, 0, 2)
        by_slot = every.reshape(replicas, slots + 1, classes, blocks)
        self.placed = by_slot[:, slots].copy()
        self.number = (self.number + count) % classes
        return SlotActions(np.ascontiguousarray(by_slot[:, :slots]), left_out, at)

    def known(
        self, table: EpochTable, rows: Ints, model: Model, *, before: bool = False
    ) -> EpochTable:
        """Return what schedulers know of the tasks of the present class and of those before it.

        Args:
            table: Table of slots.
            rows: Row of each replica's slot; shape (B,).
            model: The scenario.
            before: Whether to leave out the present class.

        Returns:
            A table with an epoch for each replica.
        """
        every, found, end = np.arange(len(rows)), [], self.number + (not before)
        for number in range(int(end.max())):
            of_class = table.of_class(rows, number, end > number)
            expected, _ = expected_arrivals(of_class, every, model.of_class(number))
            found.append(expected.with_class(number))
        return EpochTable.merged(found)

    def with_placed(self, places: Ints) -> Ints:
        """Return placements of all classes, given P of the present one; shape (B, P, C, M).

        Args:
            places: Shape (B, P, M).
        """
        every = np.repeat(self.placed[:, None], places.shape[1], axis=1)
        every[np.arange(len(places)), :, self.number] = places
        return every
