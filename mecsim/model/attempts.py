"""Attempts: where lost tasks are placed again, a kernel sees each attempt as a separate task."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mecsim.support.arrays import Floats, Ints


class Attempts(NamedTuple):
    """Which attempt at which task each of n tasks of a batch is; shape (n,) each."""

    task: Ints
    """Number of the task in the run, from 0."""
    number: Ints
    """The attempt, from 1."""
    first_s: Floats
    """When the task was released, from which its deadline counts."""
    ready_s: Floats
    """From when the first block counts: the end of the last block that an earlier attempt finished,
    or the release of the task."""
    slot: Ints
    """The slot of the task's release."""
    in_slot: Ints
    """Number of tasks released in that slot."""

    def of(self, rows: slice) -> Attempts:
        """Return some of them."""
        columns: list[Any] = [column[rows] for column in self]
        return Attempts(*columns)

    @classmethod
    def joined(cls, parts: list[Attempts]) -> Attempts:
        """Return the attempts of several batches, one after the other."""
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return cls(*columns)
